// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Layouts of the library as plain vectors. The C API is asked by index, one entry a call; the tools loop in one place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "reshard/reshard.h"

namespace reshard::perf {

/// A tensor of a layout, copied out.
struct TensorView {
  std::string name;
  reshard_dtype_t dtype = RESHARD_BF16;
  std::vector<std::int64_t> shape;
  std::int64_t group = 0;
  reshard_scale_kind_t scale_kind = RESHARD_SCALES_NONE;
  std::int64_t scales = -1;  ///< index of the scale tensor
};

/// What a rank holds of a tensor; an empty shard is present and has a zero extent.
struct LocalShape {
  bool is_present = false;
  std::vector<std::int64_t> extents;  ///< padding included
};

std::vector<TensorView> tensors_of(reshard_layout_t layout);
std::vector<reshard_buffer_info_t> buffers_of(reshard_layout_t layout, std::int32_t rank);
std::vector<reshard_block_t> blocks_of(reshard_layout_t layout, std::int32_t rank, std::int64_t tensor);
LocalShape local_shape_of(reshard_layout_t layout, std::int32_t rank, std::int64_t tensor, std::size_t num_dims);

}  // namespace reshard::perf
