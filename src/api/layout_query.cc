// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Reading layouts. A layout has placements, not blocks: those of a rank are computed when they are asked for. Callers
// ask for a number and then for one after the other, so the handle keeps what each rank asked for last
// (reshard_layout::read_blocks).
#include <fmt/format.h>

#include <algorithm>

#include "src/api/error.h"
#include "src/api/handles.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::guard;

namespace {

Status check_tensor(reshard_layout_t layout, std::int64_t tensor) {
  RESHARD_TRY(check_not_null(layout, "layout"));
  const auto count = static_cast<std::int64_t>(layout->layout->tensors().size());
  if (tensor >= 0 && tensor < count) return {};
  return invalid_argument(fmt::format("tensor {} does not exist; there are {}", tensor, count));
}

Status check_rank(reshard_layout_t layout, std::int32_t rank) {
  RESHARD_TRY(check_not_null(layout, "layout"));
  if (rank >= 0 && rank < layout->layout->num_ranks()) return {};
  return invalid_argument(
      fmt::format("rank {} does not exist; ranks are 0 to {}", rank, layout->layout->num_ranks() - 1));
}

void copy_dims(const Dims& dims, std::int64_t* out) {
  std::copy(dims.values, dims.values + RESHARD_MAX_DIMS, out);
}

/// By name and not by cast: the numbers of the public header are promised, those inside are not.
reshard_block_kind_t to_kind(BlockKind kind) {
  switch (kind) {
    case BlockKind::kData:
      return RESHARD_BLOCK_DATA;
    case BlockKind::kZero:
      return RESHARD_BLOCK_ZERO;
    case BlockKind::kUntouched:
      return RESHARD_BLOCK_UNTOUCHED;
  }
  return RESHARD_BLOCK_UNTOUCHED;
}

/// Dims beyond the tensor's own are 0 in what is handed out.
void write_block(std::int32_t rank, const Block& found, reshard_block_t* block) {
  block->kind = to_kind(found.kind);
  block->rank = rank;
  block->tensor = found.tensor;
  block->buffer = found.buffer;
  copy_dims(found.box.begin, block->begin);
  copy_dims(found.box.end, block->end);
  copy_dims(found.local_begin, block->local_begin);
  block->offset_bytes = found.offset_bytes;
  copy_dims(found.strides_bytes, block->strides_bytes);
}

}  // namespace

extern "C" {

void reshard_buffer_info_init_sized(reshard_buffer_info_t* info, size_t struct_size) {
  reshard::api::init_struct(info, struct_size);
}
void reshard_tensor_info_init_sized(reshard_tensor_info_t* info, size_t struct_size) {
  reshard::api::init_struct(info, struct_size);
}

reshard_status_t reshard_layout_num_ranks(reshard_layout_t layout, int32_t* num_ranks) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_not_null(num_ranks, "num_ranks"));
    *num_ranks = layout->layout->num_ranks();
    return {};
  });
}

reshard_status_t reshard_layout_num_tensors(reshard_layout_t layout, int64_t* num_tensors) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_not_null(num_tensors, "num_tensors"));
    *num_tensors = static_cast<int64_t>(layout->layout->tensors().size());
    return {};
  });
}

reshard_status_t reshard_layout_get_tensor(reshard_layout_t layout, int64_t tensor, reshard_tensor_info_t* info) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_tensor(layout, tensor));
    RESHARD_TRY(check_struct(info, "reshard_tensor_info_t"));
    const Tensor& found = at(layout->layout->tensors(), tensor);
    info->name = found.name.c_str();
    info->dtype = static_cast<reshard_dtype_t>(found.dtype);
    info->num_dims = static_cast<int32_t>(found.shape.size());
    std::fill(info->shape, info->shape + RESHARD_MAX_DIMS, 0);
    std::copy(found.shape.begin(), found.shape.end(), info->shape);
    info->group = found.group;
    return {};
  });
}

reshard_status_t reshard_layout_get_scales(reshard_layout_t layout, int64_t tensor, reshard_scale_kind_t* kind,
                                           int64_t* scales) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_tensor(layout, tensor));
    RESHARD_TRY(check_not_null(kind, "kind"));
    RESHARD_TRY(check_not_null(scales, "scales"));
    const Scales& found = layout->layout->scales(tensor);
    *kind = static_cast<reshard_scale_kind_t>(found.kind);
    *scales = found.tensor;
    return {};
  });
}

reshard_status_t reshard_layout_find_tensor(reshard_layout_t layout, const char* name, int64_t* tensor) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_not_null(name, "name"));
    RESHARD_TRY(check_not_null(tensor, "tensor"));
    *tensor = layout->layout->find_tensor(name);
    return {};
  });
}

reshard_status_t reshard_layout_num_buffers(reshard_layout_t layout, int32_t rank, int64_t* num_buffers) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_rank(layout, rank));
    RESHARD_TRY(check_not_null(num_buffers, "num_buffers"));
    return layout->read_buffers(rank, [&](const std::vector<std::int64_t>& buffers) -> Status {
      *num_buffers = static_cast<int64_t>(buffers.size());
      return {};
    });
  });
}

reshard_status_t reshard_layout_get_buffer(reshard_layout_t layout, int32_t rank, int64_t index,
                                           reshard_buffer_info_t* info) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_rank(layout, rank));
    RESHARD_TRY(check_struct(info, "reshard_buffer_info_t"));
    return layout->read_buffers(rank, [&](const std::vector<std::int64_t>& buffers) -> Status {
      if (index < 0 || index >= static_cast<std::int64_t>(buffers.size())) {
        return invalid_argument(
            fmt::format("buffer {} of rank {} does not exist; there are {}", index, rank, buffers.size()));
      }
      info->id = at(buffers, index);
      info->name = at(layout->layout->buffers(), info->id).name.c_str();
      info->size_bytes = layout->layout->buffer_size_bytes(rank, info->id);
      return {};
    });
  });
}

reshard_status_t reshard_layout_get_local_shape(reshard_layout_t layout, int32_t rank, int64_t tensor,
                                                int32_t* is_present, int64_t* local_shape) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_rank(layout, rank));
    RESHARD_TRY(check_tensor(layout, tensor));
    RESHARD_TRY(check_not_null(is_present, "is_present"));
    RESHARD_TRY(check_not_null(local_shape, "local_shape"));
    Dims shape;
    *is_present = layout->layout->local_shape(rank, tensor, &shape) ? 1 : 0;
    copy_dims(shape, local_shape);
    return {};
  });
}

reshard_status_t reshard_layout_num_blocks(reshard_layout_t layout, int32_t rank, int64_t tensor, int64_t* num_blocks) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_rank(layout, rank));
    RESHARD_TRY(check_tensor(layout, tensor));
    RESHARD_TRY(check_not_null(num_blocks, "num_blocks"));
    return layout->read_blocks(rank, tensor, [&](const std::vector<Block>& blocks) -> Status {
      *num_blocks = static_cast<int64_t>(blocks.size());
      return {};
    });
  });
}

reshard_status_t reshard_layout_get_block(reshard_layout_t layout, int32_t rank, int64_t tensor, int64_t index,
                                          reshard_block_t* block) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_rank(layout, rank));
    RESHARD_TRY(check_tensor(layout, tensor));
    RESHARD_TRY(check_struct(block, "reshard_block_t"));
    return layout->read_blocks(rank, tensor, [&](const std::vector<Block>& blocks) -> Status {
      if (index < 0 || index >= static_cast<std::int64_t>(blocks.size())) {
        return invalid_argument(fmt::format("block {} of tensor {} on rank {} does not exist; there are {}", index,
                                            tensor, rank, blocks.size()));
      }
      write_block(rank, at(blocks, index), block);
      return {};
    });
  });
}

/// All blocks of a rank in one call; with capacity 0 only their number. The array may be too long but never too short:
/// a part of the blocks is no layout.
reshard_status_t reshard_layout_get_blocks(reshard_layout_t layout, int32_t rank, int64_t capacity,
                                           reshard_block_t* blocks, int64_t* num_blocks) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_rank(layout, rank));
    RESHARD_TRY(check_not_null(num_blocks, "num_blocks"));
    if (capacity < 0) return invalid_argument(fmt::format("capacity is {}; give 0 or more", capacity));
    if (capacity > 0) RESHARD_TRY(check_struct(blocks, "reshard_block_t"));
    std::vector<Block> found;
    for (std::int64_t t = 0; t < std::ssize(layout->layout->tensors()); ++t) {
      const std::vector<Block> of_tensor = layout->layout->blocks(rank, t);
      found.insert(found.end(), of_tensor.begin(), of_tensor.end());
    }
    if (capacity > 0 && capacity < std::ssize(found)) {
      return invalid_argument(
          fmt::format("rank {} has {} blocks and the array holds {}", rank, found.size(), capacity));
    }
    for (std::size_t i = 0; i < found.size() && capacity > 0; ++i) {
      api::init_struct(&blocks[i], sizeof(blocks[i]));
      write_block(rank, found[i], &blocks[i]);
    }
    *num_blocks = std::ssize(found);
    return {};
  });
}

reshard_status_t reshard_layout_describe_rank(reshard_layout_t layout, int32_t rank, const char** text) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_rank(layout, rank));
    RESHARD_TRY(check_not_null(text, "text"));
    *text = layout->text(rank).c_str();
    return {};
  });
}

}  // extern "C"
