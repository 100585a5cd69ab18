// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Layouts that each rank describes for itself, brought together into one that all ranks have. A rank's own part is
// first isolated (as rank 0 of a world of one), which is what is sent, then merged in the order of ranks: all ranks
// number buffers and tensors alike, which makes their digests, and so their plans, equal.
#include "src/layout/merge.h"

#include <fmt/format.h>

namespace reshard {
namespace {

/// Adds the blocks that one rank has of tensor `from` of `source`, as `rank`'s of tensor `to`. Buffers keep their
/// order, so a buffer's id differs by `first_buffer` only.
Status copy_blocks(const ModelLayout& source, std::int64_t from, std::int32_t rank, std::int64_t first_buffer,
                   std::int64_t to, ModelLayout* target) {
  for (const RankBlock& given : source.rank_blocks(from)) {
    Block block = given.block;
    block.tensor = to;
    block.buffer += first_buffer;
    RESHARD_TRY(target->add_block(rank, block));
  }
  return {};
}

Status copy_buffers(const ModelLayout& source, std::int32_t rank, ModelLayout* target) {
  for (const Buffer& buffer : source.buffers()) {
    RESHARD_TRY([[maybe_unused]] const std::int64_t id, target->add_rank_buffer(rank, buffer.name, buffer.size_bytes));
  }
  return {};
}

/// The tensor's index in the merged layout, added when it is new there.
Result<std::int64_t> merge_tensor(const Tensor& tensor, std::int32_t rank, ModelLayout* merged) {
  const std::int64_t known = merged->find_tensor(tensor.name);
  if (known < 0) return merged->add_tensor(tensor);
  const Tensor& other = at(merged->tensors(), known);
  if (other.shape == tensor.shape && other.dtype == tensor.dtype && other.group == tensor.group) return known;
  return Status(
      RESHARD_ERR_LAYOUT_MISMATCH,
      fmt::format("rank {} describes tensor \"{}\" as {} [{}] in group {} and a lower rank as {} [{}] in group {}",
                  rank, tensor.name, name(tensor.dtype), fmt::join(tensor.shape, ", "), tensor.group, name(other.dtype),
                  fmt::join(other.shape, ", "), other.group));
}

Status check_own(const ModelLayout& local, std::int32_t rank) {
  for (const Buffer& buffer : local.buffers()) {
    if (buffer.rank == rank || buffer.rank < 0) continue;  // placements are refused with their tensors
    return invalid_argument(
        fmt::format("buffer \"{}\" is on rank {}; rank {} describes its own", buffer.name, buffer.rank, rank));
  }
  for (std::int64_t t = 0; t < std::ssize(local.tensors()); ++t) {
    if (local.placements(t).empty()) continue;
    return invalid_argument(fmt::format("tensor \"{}\" is placed on a mesh; only explicit blocks are exchanged",
                                        at(local.tensors(), t).name));
  }
  return {};
}

/// Scales by the names of their tensors, since numbers differ from rank to rank. A rank that knows of a tensor knows of
/// its scales, too: they say what its bytes mean.
Status merge_scales(const ModelLayout& source, std::int32_t rank, const std::vector<bool>& was_known,
                    ModelLayout* merged) {
  for (std::int64_t t = 0; t < std::ssize(source.tensors()); ++t) {
    const std::string& tensor = at(source.tensors(), t).name;
    const std::int64_t to = merged->find_tensor(tensor);
    Scales scales = source.scales(t);
    if (scales.tensor >= 0) scales.tensor = merged->find_tensor(at(source.tensors(), scales.tensor).name);
    if (merged->scales(to) == scales) continue;
    if (at(was_known, t)) {
      const auto text = [&](const Scales& s) {
        return s.tensor < 0
                   ? std::string("without scales")
                   : fmt::format("with scales {} in \"{}\"", name(s.kind), at(merged->tensors(), s.tensor).name);
      };
      return {RESHARD_ERR_LAYOUT_MISMATCH, fmt::format("rank {} describes tensor \"{}\" {} and a lower rank {}", rank,
                                                       tensor, text(scales), text(merged->scales(to)))};
    }
    RESHARD_TRY(merged->set_scales(to, scales));
  }
  return {};
}

}  // namespace

Result<ModelLayout> isolate(const ModelLayout& local, std::int32_t rank) {
  RESHARD_TRY(check_own(local, rank));
  ModelLayout isolated(1);
  RESHARD_TRY(copy_buffers(local, 0, &isolated));
  for (std::int64_t t = 0; t < std::ssize(local.tensors()); ++t) {
    RESHARD_TRY(const std::int64_t to, isolated.add_tensor(at(local.tensors(), t)));
    RESHARD_TRY(copy_blocks(local, t, 0, 0, to, &isolated));
  }
  const std::vector<bool> was_known(local.tensors().size());
  if (local.has_scales()) RESHARD_TRY(merge_scales(local, rank, was_known, &isolated));
  return isolated;
}

Status merge(const ModelLayout& isolated, std::int32_t rank, ModelLayout* merged) {
  const auto first_buffer = std::ssize(merged->buffers());
  RESHARD_TRY(copy_buffers(isolated, rank, merged));
  std::vector<bool> was_known;
  for (const Tensor& tensor : isolated.tensors()) was_known.push_back(merged->find_tensor(tensor.name) >= 0);
  for (std::int64_t t = 0; t < std::ssize(isolated.tensors()); ++t) {
    RESHARD_TRY(const std::int64_t to, merge_tensor(at(isolated.tensors(), t), rank, merged));
    RESHARD_TRY(copy_blocks(isolated, t, rank, first_buffer, to, merged));
  }
  if (isolated.has_scales() || merged->has_scales()) RESHARD_TRY(merge_scales(isolated, rank, was_known, merged));
  return {};
}

}  // namespace reshard
