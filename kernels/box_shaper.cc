// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Chooses how a device moves a copy, as normal_op.cc does for the host: a run of bytes that is contiguous on both sides
// is moved as rows; where the source is contiguous along another dim than the destination, it is transposed through
// shared memory; else elements are moved one by one. Then the dims are dealt to the three places that a box has.
#include "kernels/box_shaper.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

namespace reshard {
namespace {

// A row counts through all planes in 32 bits, and the device does sums of such numbers.
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
// Below this a plane is not worth the two barriers of a transpose; the cache makes up for the stride.
constexpr std::int64_t kMinTransposeBytes = 2048;

bool fits_int32(std::int64_t value) {
  return value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max();
}

bool fits_narrow(const ScaledDim& dim) {
  return fits_int32(dim.src_stride) && fits_int32(dim.dst_stride) && fits_int32(dim.scale.stride_bytes);
}

FloatType float_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return FloatType::kBF16;
    case DType::kF16:
      return FloatType::kF16;
    case DType::kF8E4M3:
      return FloatType::kF8E4M3;
    default:
      return FloatType::kF32;
  }
}

// A copy on its way to be boxes.
struct Draft {
  CopyBox box;
  BoxScales scales;
  ScaledDim places[3];               // columns, rows, planes
  ScaledDim rest[CopyOp::kMaxDims];  // what has no place yet, the smallest destination stride first
  int num_rest = 0;

  ScaledDim take(int index) {
    const ScaledDim taken = rest[index];
    std::copy(rest + index + 1, rest + num_rest, rest + index);
    --num_rest;
    return taken;
  }
};

// What is moved as one: an element, or a run of them that is contiguous on both sides.
std::int64_t take_run(const CanonicalOp& op, Draft* draft) {
  const std::int64_t element_bytes = size_bytes(op.dst_dtype);
  const bool is_copy = op.src == nullptr || op.src_dtype == op.dst_dtype;
  if (!is_copy || draft->num_rest == 0) return element_bytes;
  const ScaledDim& first = draft->rest[0];
  if (first.dst_stride != element_bytes || first.src_stride != element_bytes) return element_bytes;
  return draft->take(0).extent * element_bytes;
}

// Whether the bases and all strides of the copy are multiples of its elements.
bool is_aligned(const CanonicalOp& op, const Draft& draft) {
  auto src = static_cast<std::int64_t>(draft.box.src);
  auto dst = static_cast<std::int64_t>(draft.box.dst);
  for (int d = 0; d < op.num_dims; ++d) {
    src |= op.dims[d].src_stride;
    dst |= op.dims[d].dst_stride;
  }
  return (src & (draft.box.src_bytes - 1)) == 0 && (dst & (draft.box.dst_bytes - 1)) == 0;
}

// The dim along which the source is contiguous, when the columns of the destination are not; else -1.
int find_transposed_dim(const CanonicalOp& op, const Draft& draft) {
  const CopyBox& box = draft.box;
  // With scales it would be one more kernel; a copy that does both goes element by element.
  if (draft.num_rest < 2 || op.src == nullptr || op.is_scaled() || !is_aligned(op, draft)) return -1;
  const ScaledDim& cols = draft.rest[0];
  if (cols.dst_stride != box.dst_bytes || !fits_narrow(cols)) return -1;
  for (int d = 1; d < draft.num_rest; ++d) {
    const ScaledDim& rows = draft.rest[d];
    const std::int64_t bytes = cols.extent * rows.extent * box.dst_bytes;
    if (rows.src_stride == box.src_bytes && fits_narrow(rows) && bytes >= kMinTransposeBytes) return d;
  }
  return -1;
}

// The longest dim that is left and that the place can hold; one of extent 1 if there is none.
ScaledDim take_longest(Draft* draft, bool is_narrow) {
  int longest = -1;
  for (int d = 0; d < draft->num_rest; ++d) {
    if (is_narrow && !fits_narrow(draft->rest[d])) continue;
    if (longest < 0 || draft->rest[d].extent > draft->rest[longest].extent) longest = d;
  }
  return longest < 0 ? ScaledDim{} : draft->take(longest);
}

// Rows and planes are the longest dims, so that as few as can be are expanded; the finer one of them is rows.
void place_outer_dims(Draft* draft) {
  ScaledDim& rows = draft->places[1];
  ScaledDim& planes = draft->places[2];
  rows = take_longest(draft, true);
  planes = take_longest(draft, false);
  const bool is_coarser = rows.extent == 1 || (planes.extent > 1 && rows.dst_stride > planes.dst_stride);
  if (is_coarser && fits_narrow(planes)) std::swap(rows, planes);
}

void shape_elements(const CanonicalOp& op, Draft* draft) {
  const int transposed = find_transposed_dim(op, *draft);
  draft->box.kind = transposed > 0 ? BoxKind::kTranspose : op.is_scaled() ? BoxKind::kScaled : BoxKind::kElements;
  if (transposed > 0) draft->places[1] = draft->take(transposed);
  if (draft->num_rest > 0 && fits_narrow(draft->rest[0])) draft->places[0] = draft->take(0);
  if (transposed > 0) {
    draft->places[2] = take_longest(draft, false);
  } else if (op.is_scaled()) {
    draft->places[1] = take_longest(draft, true);  // one plane a box: there are few, and they are large
  } else {
    place_outer_dims(draft);
  }
}

Draft shape(const CanonicalOp& op) {
  Draft draft;
  draft.box.src = reinterpret_cast<std::uint64_t>(op.src);
  draft.box.dst = reinterpret_cast<std::uint64_t>(op.dst);
  std::copy_n(op.dims, op.num_dims, draft.rest);
  draft.num_rest = op.num_dims;
  const std::int64_t run_bytes = take_run(op, &draft);
  const bool converts = op.src != nullptr && op.src_dtype != op.dst_dtype;
  const bool is_element = run_bytes <= 16 && std::has_single_bit(static_cast<std::uint64_t>(run_bytes));
  if (converts || (is_element && draft.num_rest > 0)) {
    draft.box.src_bytes = static_cast<std::uint8_t>(converts ? size_bytes(op.src_dtype) : run_bytes);
    draft.box.dst_bytes = static_cast<std::uint8_t>(run_bytes);
    if (converts) draft.box.types = CopyBox::types_of(float_type(op.src_dtype), float_type(op.dst_dtype));
    shape_elements(op, &draft);
  } else {
    draft.box.kind = op.src == nullptr ? BoxKind::kFill : BoxKind::kRows;
    draft.places[0] = {{run_bytes, 1, 1}, {}};
    place_outer_dims(&draft);
  }
  return draft;
}

void set_strides(Draft* draft) {
  CopyBox* const box = &draft->box;
  const ScaledDim* const places = draft->places;
  box->src_col_stride = static_cast<std::int32_t>(places[0].src_stride);
  box->dst_col_stride = static_cast<std::int32_t>(places[0].dst_stride);
  box->src_row_stride = static_cast<std::int32_t>(places[1].src_stride);
  box->dst_row_stride = static_cast<std::int32_t>(places[1].dst_stride);
  box->src_plane_stride = places[2].src_stride;
  box->dst_plane_stride = places[2].dst_stride;
  draft->scales.col_stride = static_cast<std::int32_t>(places[0].scale.stride_bytes);
  draft->scales.row_stride = static_cast<std::int32_t>(places[1].scale.stride_bytes);
  draft->scales.plane_stride = places[2].scale.stride_bytes;
  for (int i = 0; i < 3; ++i) {
    draft->scales.offsets[i] = static_cast<std::uint32_t>(places[i].scale.offset);
    draft->scales.shifts[i] =
        static_cast<std::uint8_t>(std::countr_zero(static_cast<std::uint64_t>(places[i].scale.block)));
  }
}

// To index `index` of a dim; returns where that lies in its block.
std::int64_t move(const ScaledDim& dim, std::int64_t index, ShapedBox* shaped) {
  CopyBox& box = shaped->box;
  if (box.src != 0) box.src += static_cast<std::uint64_t>(index * dim.src_stride);
  if (box.dst != 0) box.dst += static_cast<std::uint64_t>(index * dim.dst_stride);
  const std::int64_t at = dim.scale.offset + index;
  shaped->scales.scales += static_cast<std::uint64_t>(at / dim.scale.block * dim.scale.stride_bytes);
  return at % dim.scale.block;
}

// Dims of a box that are too long for its counts are cut, the slowest first.
void emit_parts(const Draft& draft, const ShapedBox& whole, int place,
                const std::function<void(const ShapedBox&)>& emit) {
  if (place < 0) return emit(whole);
  const ScaledDim& dim = draft.places[place];
  const std::int64_t rows = place == 2 ? std::min(draft.places[1].extent, kMaxExtent) : 1;
  const std::int64_t most = std::max<std::int64_t>(1, kMaxExtent / rows);
  for (std::int64_t first = 0; first < dim.extent; first += most) {
    ShapedBox part = whole;
    part.scales.offsets[place] = static_cast<std::uint32_t>(move(dim, first, &part));
    part.box.extents[place] = static_cast<std::uint32_t>(std::min(most, dim.extent - first));
    emit_parts(draft, part, place - 1, emit);
  }
}

void emit_expanded(const Draft& draft, const ShapedBox& box, int dim,
                   const std::function<void(const ShapedBox&)>& emit) {
  if (dim == 0) return emit_parts(draft, box, 2, emit);
  for (std::int64_t index = 0; index < draft.rest[dim - 1].extent; ++index) {
    ShapedBox next = box;
    move(draft.rest[dim - 1], index, &next);
    emit_expanded(draft, next, dim - 1, emit);
  }
}

}  // namespace

void for_each_box(const CanonicalOp& op, const std::function<void(const ShapedBox&)>& emit) {
  Draft draft = shape(op);
  set_strides(&draft);
  draft.scales.scales = reinterpret_cast<std::uint64_t>(op.scales);
  draft.scales.is_e8m0 = op.scale_dtype == DType::kF8E8M0 ? 1 : 0;
  emit_expanded(draft, {draft.box, draft.scales}, draft.num_rest, emit);
}

// Columns and rows are the dims that have blocks of several elements; as columns the one along which the source is
// contiguous, if either is. A block lies in one plane then.
void for_each_box(const ScaleOp& op, const std::function<void(const ShapedBox&)>& emit) {
  Draft draft;
  draft.box.kind = BoxKind::kAmax;
  draft.box.src = reinterpret_cast<std::uint64_t>(op.src);
  draft.box.src_bytes = draft.box.dst_bytes = static_cast<std::uint8_t>(size_bytes(op.src_dtype));
  draft.scales.scales = reinterpret_cast<std::uint64_t>(op.scales);
  draft.scales.is_e8m0 = scale_dtype(op.rule) == DType::kF8E8M0 ? 1 : 0;
  draft.scales.rule = static_cast<std::uint8_t>(op.rule);
  for (int d = op.num_dims - 1; d >= 0; --d) {
    if (op.shape[d] == 1) continue;
    draft.rest[draft.num_rest++] = {{op.shape[d], op.src_strides_bytes[d], 0},
                                    {op.blocks[d], 0, op.scale_strides_bytes[d]}};
  }
  const auto is_better = [&](const ScaledDim& a, const ScaledDim& b) {
    const bool is_run_a = a.src_stride == draft.box.src_bytes;
    const bool is_run_b = b.src_stride == draft.box.src_bytes;
    if ((a.scale.block > 1) != (b.scale.block > 1)) return a.scale.block > 1;
    return is_run_a != is_run_b ? is_run_a : false;
  };
  for (int place = 0; place < 2 && draft.num_rest > 0; ++place) {
    int best = -1;
    for (int d = 0; d < draft.num_rest; ++d) {
      if (!fits_narrow(draft.rest[d])) continue;
      if (best < 0 || is_better(draft.rest[d], draft.rest[best])) best = d;
    }
    if (best >= 0) draft.places[place] = draft.take(best);
  }
  draft.places[2] = take_longest(&draft, false);
  set_strides(&draft);
  emit_expanded(draft, {draft.box, draft.scales}, draft.num_rest, emit);
}

}  // namespace reshard
