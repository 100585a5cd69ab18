// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/copies.h"

namespace reshard {
namespace {

std::byte* address_of(const std::vector<std::byte*>& buffers, const Block& block, const Box& box) {
  std::byte* address = at(buffers, block.buffer) + block.offset_bytes;
  for (int d = 0; d < box.num_dims; ++d) address += (box.begin[d] - block.box.begin[d]) * block.strides_bytes[d];
  return address;
}

/// A copy of a box without its addresses and strides. Kernels convert where the dtypes differ.
CopyOp op_of_shape(const Box& box, DType src, DType dst) {
  CopyOp op;
  op.num_dims = box.num_dims;
  op.src_dtype = src;
  op.dst_dtype = dst;
  for (int d = 0; d < box.num_dims; ++d) op.shape[d] = box.extent(d);
  return op;
}

bool contains(const Box& outer, const Box& inner) {
  for (int d = 0; d < inner.num_dims; ++d) {
    if (inner.begin[d] < outer.begin[d] || inner.end[d] > outer.end[d]) return false;
  }
  return true;
}

/// Calls visit(block, box) so that the boxes tile what blocks from `block` on hold of `wanted`: each element from the
/// first block that holds it.
template <typename Visit>
void for_each_part(std::vector<Block>::const_iterator block, std::vector<Block>::const_iterator end, const Box& wanted,
                   const Visit& visit) {
  std::vector<Box> open = {wanted};  // not found yet
  for (; block != end && !open.empty(); ++block) {
    if (block->kind != BlockKind::kData) continue;
    std::vector<Box> still_open;
    for (const Box& box : open) {
      const Box common = intersect(block->box, box);
      if (common.empty()) {
        still_open.push_back(box);
        continue;
      }
      visit(*block, common);
      for (const Box& rest : complement(box, {common})) still_open.push_back(rest);
    }
    open = std::move(still_open);
  }
}

/// Calls visit(block, box) so that the boxes tile `wanted`. Most often it lies in one block, and nothing is allocated:
/// this runs a million times for a rank of a large job.
template <typename Visit>
void for_each_once(const std::vector<Block>& blocks, const Box& wanted, const Visit& visit) {
  for (auto block = blocks.begin(); block != blocks.end(); ++block) {
    if (block->kind != BlockKind::kData || intersect(block->box, wanted).empty()) continue;
    if (contains(block->box, wanted)) return visit(*block, wanted);
    return for_each_part(block, blocks.end(), wanted, visit);
  }
}

/// How a copy of `part`, whose scales the block holds, finds them. A block of the grid that reaches over all of a dim,
/// be it whatever number, has one scale there.
CopyScales scales_of(const PlacedScales& placed, const Block& block, const Box& part) {
  CopyScales scales;
  scales.base = address_of(*placed.buffers, block, placed.grid->scales_of(part));
  scales.dtype = placed.dtype;
  for (int d = 0; d < placed.grid->scale_dims; ++d) {
    const std::int64_t extent = placed.grid->block[d];
    if (extent < placed.grid->shape[d]) scales.dims[d] = {extent, part.begin[d] % extent, block.strides_bytes[d]};
  }
  return scales;
}

/// Calls visit(block, box, scales) so that the boxes tile `wanted`; where elements become others by means of scales,
/// each box has its scales in one place.
template <typename Visit>
void for_each_scaled(const PlacedTensor& src, const Box& wanted, DType to, const Visit& visit) {
  const PlacedScales& scales = src.scales;
  for_each_once(*src.blocks, wanted, [&](const Block& block, const Box& part) {
    if (scales.grid == nullptr || src.dtype == to) return visit(block, part, CopyScales{});
    for_each_once(*scales.blocks, scales.grid->scales_of(part), [&](const Block& held, const Box& some) {
      const Box scaled = intersect(scales.grid->elements_of(some), part);
      visit(block, scaled, scales_of(scales, held, scaled));
    });
  });
}

/// Calls visit(block, box) for every block that meets `wanted`.
template <typename Visit>
void for_each_copy(const std::vector<Block>& blocks, const Box& wanted, const Visit& visit) {
  for (const Block& block : blocks) {
    if (block.kind != BlockKind::kData) continue;
    const Box common = intersect(block.box, wanted);
    if (!common.empty()) visit(block, common);
  }
}

/// The dense row-major image of `box` on the wire: its strides, and where `part` of it begins.
struct WireImage {
  Dims strides_bytes;
  std::int64_t offset_bytes = 0;

  WireImage(const Box& box, const Box& part, std::int64_t element_bytes) {
    std::int64_t stride = element_bytes;
    for (int d = box.num_dims - 1; d >= 0; --d) {
      strides_bytes[d] = stride;
      offset_bytes += (part.begin[d] - box.begin[d]) * stride;
      stride *= box.extent(d);
    }
  }
};

/// Calls visit(box, position) for the boxes of the fragment; `position` counts the fragment's elements before the box.
template <typename Visit>
void for_each_box(const Fragment& fragment, const Visit& visit) {
  const Box& whole = fragment.atom->box;
  if (fragment.begin == 0 && fragment.end == whole.num_elements()) return visit(whole, std::int64_t{0});
  for_each_box_of_range(whole, fragment.begin, fragment.end,
                        [&](const Box& box, std::int64_t flat) { visit(box, flat - fragment.begin); });
}

}  // namespace

std::byte* address_in(const PlacedTensor& tensor, const Block& block, const Box& box) {
  return address_of(*tensor.buffers, block, box);
}

void for_each_held(const PlacedTensor& tensor, const Box& wanted,
                   const std::function<void(const Block& block, const Box& box)>& visit) {
  for_each_once(*tensor.blocks, wanted, visit);
}

// Packing takes each element once, from the first block that holds it, or windows would be longer than the plan says.
// Unpacking writes every block that wants it: a rank may hold an element in several places, as an expert of which it
// has two replicas. A move is both.

void append_pack(const PlacedTensor& src, const Fragment& fragment, const WirePlace& wire, CopyListBuilder* out) {
  const std::int64_t element_bytes = size_bytes(wire.dtype);
  for_each_box(fragment, [&](const Box& box, std::int64_t position) {
    for_each_scaled(src, box, wire.dtype, [&](const Block& block, const Box& part, const CopyScales& scales) {
      const WireImage image(box, part, element_bytes);
      CopyOp op = op_of_shape(part, src.dtype, wire.dtype);
      op.scales = scales;
      op.src = address_of(*src.buffers, block, part);
      op.dst = wire.address + position * element_bytes + image.offset_bytes;
      for (int d = 0; d < part.num_dims; ++d) {
        op.src_strides_bytes[d] = block.strides_bytes[d];
        op.dst_strides_bytes[d] = image.strides_bytes[d];
      }
      out->add(op);
    });
  });
}

void append_unpack(const PlacedTensor& dst, const Fragment& fragment, const WirePlace& wire, CopyListBuilder* out) {
  const std::int64_t element_bytes = size_bytes(wire.dtype);
  for_each_box(fragment, [&](const Box& box, std::int64_t position) {
    for_each_copy(*dst.blocks, box, [&](const Block& block, const Box& part) {
      const WireImage image(box, part, element_bytes);
      CopyOp op = op_of_shape(part, wire.dtype, dst.dtype);
      op.src = wire.address + position * element_bytes + image.offset_bytes;
      op.dst = address_of(*dst.buffers, block, part);
      for (int d = 0; d < part.num_dims; ++d) {
        op.src_strides_bytes[d] = image.strides_bytes[d];
        op.dst_strides_bytes[d] = block.strides_bytes[d];
      }
      out->add(op);
    });
  });
}

void append_move(const PlacedTensor& src, const PlacedTensor& dst, const Fragment& fragment, CopyListBuilder* out) {
  for_each_box(fragment, [&](const Box& box, std::int64_t) { append_move(src, dst, box, out); });
}

void append_move(const PlacedTensor& src, const PlacedTensor& dst, const Box& box, CopyListBuilder* out) {
  for_each_copy(*dst.blocks, box, [&](const Block& to, const Box& wanted) {
    for_each_scaled(src, wanted, dst.dtype, [&](const Block& from, const Box& part, const CopyScales& scales) {
      CopyOp op = op_of_shape(part, src.dtype, dst.dtype);
      op.scales = scales;
      op.src = address_of(*src.buffers, from, part);
      op.dst = address_of(*dst.buffers, to, part);
      for (int d = 0; d < part.num_dims; ++d) {
        op.src_strides_bytes[d] = from.strides_bytes[d];
        op.dst_strides_bytes[d] = to.strides_bytes[d];
      }
      out->add(op);
    });
  });
}

void append_zero_fill(const PlacedTensor& dst, CopyListBuilder* out) {
  for (const Block& block : *dst.blocks) {
    if (block.kind != BlockKind::kZero) continue;
    CopyOp op = op_of_shape(block.box, dst.dtype, dst.dtype);
    op.dst = at(*dst.buffers, block.buffer) + block.offset_bytes;
    for (int d = 0; d < block.box.num_dims; ++d) op.dst_strides_bytes[d] = block.strides_bytes[d];
    out->add(op);
  }
}

}  // namespace reshard
