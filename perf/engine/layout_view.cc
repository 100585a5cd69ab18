// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What a layout says, as vectors: the calls of the C API that ask for a number and then for each item by its index.
#include "perf/engine/layout_view.h"

#include "perf/engine/error.h"

namespace reshard::perf {

std::vector<TensorView> tensors_of(reshard_layout_t layout) {
  std::int64_t count = 0;
  check(reshard_layout_num_tensors(layout, &count), "reading a layout");
  std::vector<TensorView> tensors;
  for (std::int64_t i = 0; i < count; ++i) {
    reshard_tensor_info_t info;
    reshard_tensor_info_init(&info);
    check(reshard_layout_get_tensor(layout, i, &info), "reading a tensor of a layout");
    TensorView view{info.name, info.dtype, {info.shape, info.shape + info.num_dims}, info.group};
    check(reshard_layout_get_scales(layout, i, &view.scale_kind, &view.scales), "reading the scales of a tensor");
    tensors.push_back(std::move(view));
  }
  return tensors;
}

std::vector<reshard_buffer_info_t> buffers_of(reshard_layout_t layout, std::int32_t rank) {
  std::int64_t count = 0;
  check(reshard_layout_num_buffers(layout, rank, &count), "reading the buffers of a rank");
  std::vector<reshard_buffer_info_t> buffers(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    reshard_buffer_info_t* info = &buffers[static_cast<std::size_t>(i)];
    reshard_buffer_info_init(info);
    check(reshard_layout_get_buffer(layout, rank, i, info), "reading a buffer of a rank");
  }
  return buffers;
}

std::vector<reshard_block_t> blocks_of(reshard_layout_t layout, std::int32_t rank, std::int64_t tensor) {
  std::int64_t count = 0;
  check(reshard_layout_num_blocks(layout, rank, tensor, &count), "reading the blocks of a rank");
  std::vector<reshard_block_t> blocks(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    reshard_block_t* block = &blocks[static_cast<std::size_t>(i)];
    reshard_block_init(block);
    check(reshard_layout_get_block(layout, rank, tensor, i, block), "reading a block of a rank");
  }
  return blocks;
}

LocalShape local_shape_of(reshard_layout_t layout, std::int32_t rank, std::int64_t tensor, std::size_t num_dims) {
  std::int32_t is_present = 0;
  std::int64_t extents[RESHARD_MAX_DIMS] = {};
  check(reshard_layout_get_local_shape(layout, rank, tensor, &is_present, extents), "reading a local shape");
  return {is_present != 0, {extents, extents + num_dims}};
}

}  // namespace reshard::perf
