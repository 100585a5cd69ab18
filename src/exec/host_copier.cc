// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <new>
#include <utility>

#include "src/exec/copier.h"

namespace reshard {

void HostCopier::share_staging(const Copier& older) {
  const auto* other = dynamic_cast<const HostCopier*>(&older);
  if (other == nullptr) return;
  staging_ = other->staging_;
  staging_bytes_ = other->staging_bytes_;
}

Result<std::byte*> HostCopier::allocate_staging(std::size_t size_bytes) {
  if (staging_ != nullptr && staging_bytes_ >= size_bytes) return staging_.get();
  staging_bytes_ = size_bytes;
  staging_.reset(new (std::nothrow) std::byte[size_bytes]);
  if (staging_ == nullptr) {
    return Status{RESHARD_ERR_OUT_OF_MEMORY, fmt::format("no memory for {} bytes of staging", size_bytes)};
  }
  return staging_.get();
}

CopyBatch HostCopier::add(CopyList copies, StoreHint hint) {
  if (copies.empty()) return CopyBatch::kNone;
  batches_.push_back({std::move(copies), hint});
  return static_cast<CopyBatch>(batches_.size() - 1);
}

/// The two share the list's table, which neither changes any more.
std::optional<CopyBatch> HostCopier::take(const Copier& older, CopyBatch batch) {
  const auto* other = dynamic_cast<const HostCopier*>(&older);
  if (other == nullptr) return std::nullopt;
  return batch == CopyBatch::kNone ? batch : add(other->of(batch).copies, other->of(batch).hint);
}

CopyBatch HostCopier::add(ScaleList scales) {
  if (scales.empty()) return CopyBatch::kNone;
  batches_.push_back({{}, StoreHint::kAuto, std::move(scales)});
  return static_cast<CopyBatch>(batches_.size() - 1);
}

Status HostCopier::begin(void* stream) {
  if (stream == nullptr) return {};
  return invalid_argument("a stream was given, and the buffers are host memory; pass NULL");
}

Status HostCopier::advance(CopyJob* job, bool* moved) {
  if (job->is_done) return {};
  *moved = true;
  const Batch& batch = of(job->batch);
  if (!batch.scales.empty()) {
    job->is_done = batch.scales.run_some(&job->scales, kPieceBytes);
    return {};
  }
  job->is_done = batch.copies.run_some(&job->position, kPieceBytes, batch.hint);
  return {};
}

}  // namespace reshard
