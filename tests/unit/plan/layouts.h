// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <vector>

#include "src/layout/layout.h"
#include "src/plan/plan.h"

namespace reshard::testing {

/// A tensor on ranks first .. first + replicas * shards - 1: `replicas` groups, each cut into `shards` chunks of `dim`.
inline void add_sharded(ModelLayout* layout, const Tensor& tensor, std::int32_t first, std::int64_t replicas,
                        std::int64_t shards, int dim = 0) {
  const std::int64_t id = *layout->add_tensor(tensor);
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(replicas * shards));
  std::iota(ranks.begin(), ranks.end(), first);
  Placement placement;
  placement.mesh = *Mesh::create({{"dp", replicas}, {"tp", shards}}, ranks);
  placement.dims.resize(tensor.shape.size());
  if (!tensor.shape.empty()) {
    Split split;
    split.num_parts = shards;
    at(placement.dims, dim).map = std::make_shared<const DimMap>(*make_dim_map(at(tensor.shape, dim), {split}));
    at(placement.dims, dim).axes = {1};
  }
  placement.buffer = layout->add_buffer(tensor.name, tensor.dtype);
  ASSERT_TRUE(layout->place(id, placement).ok());
}

/// One tensor from `src_replicas` x `src_shards` ranks to the `dst_replicas` x `dst_shards` ranks after them.
inline Result<Plan> plan_tp(const std::vector<std::int64_t>& shape, std::int64_t src_replicas, std::int64_t src_shards,
                            std::int64_t dst_replicas, std::int64_t dst_shards,
                            const PlanOptions& options = PlanOptions()) {
  const auto num_src = static_cast<std::int32_t>(src_replicas * src_shards);
  const auto num_ranks = static_cast<std::int32_t>(num_src + dst_replicas * dst_shards);
  auto src = std::make_shared<ModelLayout>(num_ranks);
  auto dst = std::make_shared<ModelLayout>(num_ranks);
  add_sharded(src.get(), {"w", DType::kBF16, shape, 0}, 0, src_replicas, src_shards);
  add_sharded(dst.get(), {"w", DType::kBF16, shape, 0}, num_src, dst_replicas, dst_shards);
  return create_plan(src, dst, options);
}

}  // namespace reshard::testing
