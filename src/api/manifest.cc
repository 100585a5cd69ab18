// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/manifest.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/api/error.h"
#include "src/api/handles.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::guard;

struct reshard_manifest {
  std::shared_ptr<const Plan> plan;  // has the names
  std::vector<ManifestTensor> tensors;
};

namespace {

/// Element `index` of a list; RESHARD_ERR_INVALID_ARGUMENT naming what it is a list of.
template <typename T>
Result<const T*> element(const std::vector<T>& list, std::int64_t index, const char* what) {
  if (index >= 0 && index < std::ssize(list)) return &at(list, index);
  return invalid_argument(fmt::format("{} {} does not exist; there are {}", what, index, list.size()));
}

}  // namespace

extern "C" {

void reshard_manifest_tensor_init_sized(reshard_manifest_tensor_t* tensor, size_t struct_size) {
  reshard::api::init_struct(tensor, struct_size);
}

void reshard_manifest_piece_init_sized(reshard_manifest_piece_t* piece, size_t struct_size) {
  reshard::api::init_struct(piece, struct_size);
}

reshard_status_t reshard_manifest_create(reshard_plan_t plan, int32_t rank, reshard_manifest_t* manifest) {
  if (manifest != nullptr) *manifest = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(plan, "plan"));
    RESHARD_TRY(check_not_null(manifest, "manifest"));
    if (rank < 0 || rank >= plan->plan->num_ranks) {
      return invalid_argument(fmt::format("rank {} does not exist; the plan has {}", rank, plan->plan->num_ranks));
    }
    *manifest = new reshard_manifest{plan->plan, make_manifest(*plan->plan, rank)};
    return {};
  });
}

void reshard_manifest_destroy(reshard_manifest_t manifest) {
  delete manifest;
}

reshard_status_t reshard_manifest_num_tensors(reshard_manifest_t manifest, int64_t* num_tensors) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(manifest, "manifest"));
    RESHARD_TRY(check_not_null(num_tensors, "num_tensors"));
    *num_tensors = std::ssize(manifest->tensors);
    return {};
  });
}

reshard_status_t reshard_manifest_get_tensor(reshard_manifest_t manifest, int64_t index,
                                             reshard_manifest_tensor_t* tensor) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(manifest, "manifest"));
    RESHARD_TRY(check_struct(tensor, "reshard_manifest_tensor_t"));
    RESHARD_TRY(const ManifestTensor* entry, element(manifest->tensors, index, "tensor"));
    tensor->name = at(manifest->plan->dst->tensors(), entry->tensor).name.c_str();
    tensor->tensor = entry->tensor;
    tensor->group = at(manifest->plan->groups, entry->group);
    tensor->num_pieces = std::ssize(entry->pieces);
    tensor->num_elements = entry->num_elements;
    tensor->written_bytes = entry->written_bytes;
    tensor->zero_bytes = entry->zero_bytes;
    tensor->untouched_bytes = entry->untouched_bytes;
    tensor->is_converted = entry->is_converted ? 1 : 0;
    return {};
  });
}

reshard_status_t reshard_manifest_get_piece(reshard_manifest_t manifest, int64_t index, int64_t piece,
                                            reshard_manifest_piece_t* info) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(manifest, "manifest"));
    RESHARD_TRY(check_struct(info, "reshard_manifest_piece_t"));
    RESHARD_TRY(const ManifestTensor* entry, element(manifest->tensors, index, "tensor"));
    RESHARD_TRY(const ManifestPiece* found, element(entry->pieces, piece, "piece"));
    info->source = at(manifest->plan->src->tensors(), found->source).name.c_str();
    info->source_rank = found->source_rank;
    info->from_rank = found->from_rank;
    info->num_elements = found->box.num_elements();
    const auto num_dims = static_cast<std::size_t>(found->box.num_dims);
    for (std::size_t d = 0; d < RESHARD_MAX_DIMS; ++d) {
      info->begin[d] = d < num_dims ? found->box.begin.values[d] : 0;
      info->end[d] = d < num_dims ? found->box.end.values[d] : 0;
    }
    return {};
  });
}

}  // extern "C"
