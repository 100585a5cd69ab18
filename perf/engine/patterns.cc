// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Rows of the report: a model has thousands of tensors and few kinds of them. To time a kind alone its tensors are
// copied into layouts of their own, over the memory that the job has anyway, so that no weights are allocated or filled
// again.
#include "perf/engine/patterns.h"

#include <unordered_map>

#include "perf/engine/error.h"
#include "perf/engine/layout_view.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

std::int64_t add_tensor(reshard_layout_t layout, const TensorView& tensor) {
  reshard_tensor_desc_t desc;
  reshard_tensor_desc_init(&desc);
  desc.name = tensor.name.c_str();
  desc.dtype = tensor.dtype;
  desc.num_dims = static_cast<std::int32_t>(tensor.shape.size());
  desc.shape = tensor.shape.data();
  desc.group = tensor.group;
  std::int64_t index = 0;
  check(reshard_layout_add_tensor(layout, &desc, &index), "adding a tensor of a pattern");
  return index;
}

/// Copies what `rank` holds of the tensors. Returns the ids of the buffers there: [old] = new.
std::unordered_map<std::int64_t, std::int64_t> copy_rank(reshard_layout_t from,
                                                         const std::vector<std::int64_t>& tensors, std::int32_t rank,
                                                         reshard_layout_t to) {
  std::unordered_map<std::int64_t, std::int64_t> new_ids;
  const std::vector<reshard_buffer_info_t> buffers = buffers_of(from, rank);
  std::unordered_map<std::int64_t, const reshard_buffer_info_t*> info_of;
  for (const reshard_buffer_info_t& info : buffers) info_of.emplace(info.id, &info);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (reshard_block_t block : blocks_of(from, rank, tensors[i])) {
      const auto [found, is_new] = new_ids.try_emplace(block.buffer);
      if (is_new) {
        const reshard_buffer_info_t* info = info_of.at(block.buffer);
        check(reshard_layout_add_buffer(to, rank, info->name, info->size_bytes, &found->second), "adding a buffer");
      }
      block.tensor = static_cast<std::int64_t>(i);
      block.buffer = found->second;
      check(reshard_layout_add_block(to, &block), "adding a block of a pattern");
    }
  }
  return new_ids;
}

}  // namespace

std::vector<Pattern> group_by_pattern(const std::vector<TensorPair>& tensors) {
  std::vector<Pattern> patterns;
  std::unordered_map<std::string, std::size_t> index_of_name;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string name = name_pattern(tensors[i].name);
    const auto [found, is_new] = index_of_name.try_emplace(name, patterns.size());
    if (is_new) patterns.push_back({name, {}});
    patterns[found->second].tensors.push_back(i);
  }
  return patterns;
}

SubLayout extract_tensors(reshard_layout_t layout, const std::vector<std::int64_t>& tensors, std::int32_t rank,
                          const Arena& arena) {
  std::int32_t num_ranks = 0;
  check(reshard_layout_num_ranks(layout, &num_ranks), "reading the rank count");
  reshard_layout_t created = nullptr;
  check(reshard_layout_create(num_ranks, &created), "creating the layout of a pattern");
  SubLayout sub{Layout(created), {}};
  const std::vector<TensorView> all = tensors_of(layout);
  for (const std::int64_t tensor : tensors) add_tensor(created, all[static_cast<std::size_t>(tensor)]);
  // The layout describes all ranks, since every rank plans for itself; addresses it needs only of this one.
  for (std::int32_t r = 0; r < num_ranks; ++r) {
    const auto new_ids = copy_rank(layout, tensors, r, created);
    if (r != rank) continue;
    for (const auto& [old_id, new_id] : new_ids) {
      reshard_buffer_t buffer = arena.binding_buffer(old_id);
      buffer.id = new_id;
      sub.buffers.push_back(buffer);
    }
  }
  return sub;
}

}  // namespace reshard::perf
