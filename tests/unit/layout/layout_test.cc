// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/layout.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "tests/unit/layout/random_layout.h"

namespace reshard {
namespace {

using oracle::Indices;

constexpr std::int32_t kNumRanks = 9;

std::int64_t address_in(const Block& block, const Indices& local) {
  std::int64_t address = block.offset_bytes;
  for (int d = 0; d < block.box.num_dims; ++d) {
    address += (at(local, d) - block.local_begin[d]) * block.strides_bytes[d];
  }
  return address;
}

/// The box of local indices that a block fills.
Box local_box(const Block& block) {
  Box box;
  box.num_dims = block.box.num_dims;
  for (int d = 0; d < box.num_dims; ++d) {
    box.begin[d] = block.local_begin[d];
    box.end[d] = block.local_begin[d] + block.box.extent(d);
  }
  return box;
}

/// The one block of a local index; fails when it is in none or in several.
const Block& block_at(const std::vector<Block>& blocks, const Indices& local) {
  const Block* found = nullptr;
  for (const Block& block : blocks) {
    if (!oracle::contains(local_box(block), local)) continue;
    RC_ASSERT(found == nullptr);
    found = &block;
  }
  RC_ASSERT(found != nullptr);
  return *found;
}

/// The block says of a local index what the lists say: padding, or the element with these global indices.
void check_contents(const Block& block, const Placement& placement, const std::vector<Indices>& lists,
                    const Indices& local) {
  bool is_padding = false;
  for (std::size_t d = 0; d < lists.size(); ++d) is_padding |= at(lists[d], local[d]) == oracle::kPadding;
  if (is_padding) {
    RC_ASSERT(block.kind == (placement.padding == Padding::kZero ? BlockKind::kZero : BlockKind::kUntouched));
    for (int d = 0; d < block.box.num_dims; ++d) RC_ASSERT(block.box.begin[d] == 0);
    return;
  }
  RC_ASSERT(block.kind == BlockKind::kData);
  for (int d = 0; d < block.box.num_dims; ++d) {
    const std::int64_t global = block.box.begin[d] + at(local, d) - block.local_begin[d];
    RC_ASSERT(global == at(at(lists, d), at(local, d)));
  }
}

/// Elements lie densely in the memory order of the dims.
std::int64_t dense_address(const std::vector<int>& order, const Indices& extents, const Indices& index,
                           std::int64_t element_bytes) {
  std::int64_t position = 0;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const std::size_t d = order.empty() ? i : static_cast<std::size_t>(order[i]);
    position = position * extents[d] + index[d];
  }
  return position * element_bytes;
}

RC_GTEST_PROP(LayoutTest, EveryLocalElementIsInOneBlockAtItsAddress, ()) {
  const DType dtype = *rc::gen::element(DType::kU8, DType::kBF16, DType::kF32, DType::kF64);
  const Indices shape = oracle::random_shape(3, 7);
  const oracle::RandomPlacement given = oracle::random_placement(shape, kNumRanks);
  ModelLayout layout(kNumRanks);
  const std::int64_t tensor = *layout.add_tensor({"w", dtype, shape, 0});
  Placement placement = given.placement;
  const bool has_offset = random(0, 1) == 1;
  placement.buffer = has_offset ? layout.add_offset_buffer("all") : layout.add_buffer("w", dtype);
  placement.offset_bytes = has_offset ? random(0, 100) : 0;
  RC_ASSERT(layout.place(tensor, placement).ok());
  for (std::int32_t rank = 0; rank < kNumRanks; ++rank) {
    Dims local_shape;
    const std::int64_t index = placement.mesh->find(rank);
    const std::vector<Block> blocks = layout.blocks(rank, tensor);
    RC_ASSERT(layout.local_shape(rank, tensor, &local_shape) == (index >= 0));
    RC_ASSERT(layout.buffers_of(rank).size() == (index >= 0 ? 1U : 0U));
    if (index < 0) {
      RC_ASSERT(blocks.empty());
      continue;
    }
    const std::vector<Indices> lists = oracle::local_lists(given, index);
    const Indices extents = oracle::shape_of(lists);
    std::int64_t num_local = 1;
    for (std::size_t d = 0; d < extents.size(); ++d) {
      RC_ASSERT(local_shape[static_cast<int>(d)] == extents[d]);
      num_local *= extents[d];
    }
    RC_ASSERT(layout.buffer_size_bytes(rank, placement.buffer) ==
              (num_local == 0 ? 0 : placement.offset_bytes + num_local * size_bytes(dtype)));
    oracle::for_each_index(extents, [&](const Indices& local) {
      const Block& block = block_at(blocks, local);
      check_contents(block, placement, lists, local);
      RC_ASSERT(address_in(block, local) ==
                placement.offset_bytes + dense_address(placement.order, extents, local, size_bytes(dtype)));
    });
    std::int64_t num_in_blocks = 0;
    for (const Block& block : blocks) {
      RC_ASSERT(!block.box.empty());
      num_in_blocks += block.box.num_elements();
    }
    RC_ASSERT(num_in_blocks == num_local);
  }
}

/// Two tensors share a buffer along dim 0: its indices are dealt to them at random, some to neither. `holes` of the
/// buffer along dim 1 belong to both as padding.
struct Fused {
  Indices owner;  // by buffer index along dim 0: 0, 1, or 2 for neither
  std::int64_t num_rows(std::int64_t tensor) const { return std::count(owner.begin(), owner.end(), tensor); }
  DimMapPtr rows(std::int64_t tensor) const {
    DimMap map;
    map.parts.resize(1);
    map.parts[0].extent = oracle::size_of(owner);
    std::int64_t row = 0;
    for (std::int64_t i = 0; i < oracle::size_of(owner); ++i) {
      if (at(owner, i) != tensor) continue;
      map.parts[0].segments.push_back({row, row + 1, i});
      ++row;
    }
    return std::make_shared<const DimMap>(std::move(map));
  }
};

DimMapPtr padded_columns(std::int64_t columns, std::int64_t extent) {
  DimMap map;
  map.owns_padding = true;
  map.parts.resize(1);
  map.parts[0].extent = extent;
  if (columns > 0) map.parts[0].segments.push_back({0, columns, 0});
  return std::make_shared<const DimMap>(std::move(map));
}

RC_GTEST_PROP(LayoutTest, FusedTensorsShareABufferWithoutTouching, ()) {
  Fused fused;
  for (std::int64_t n = random(0, 8); n > 0; --n) fused.owner.push_back(random(0, 2));
  const std::int64_t columns = random(0, 3);
  const std::int64_t extent = columns + random(0, 2);
  const MeshPtr mesh = *Mesh::create({{"one", 1}}, {0});
  ModelLayout layout(1);
  const std::int64_t buffer = layout.add_buffer("fused", DType::kBF16);
  for (const std::int64_t tensor : {0, 1}) {
    const std::string name = tensor == 0 ? "gate" : "up";
    RC_ASSERT(*layout.add_tensor({name, DType::kBF16, {fused.num_rows(tensor), columns}, 0}) == tensor);
    Placement placement;
    placement.mesh = mesh;
    placement.dims = {{fused.rows(tensor), {}}, {padded_columns(columns, extent), {}}};
    placement.buffer = buffer;
    RC_ASSERT(layout.place(tensor, placement).ok());
  }
  RC_ASSERT(layout.buffer_size_bytes(0, buffer) == oracle::size_of(fused.owner) * extent * 2);
  for (const std::int64_t tensor : {0, 1}) {
    const std::vector<Block> blocks = layout.blocks(0, tensor);
    std::int64_t row = 0;
    for (std::int64_t i = 0; i < oracle::size_of(fused.owner); ++i) {
      if (at(fused.owner, i) != tensor) continue;
      for (std::int64_t column = 0; column < extent; ++column) {
        const Block& block = block_at(blocks, {row, column});
        RC_ASSERT((block.kind == BlockKind::kData) == (column < columns));
        RC_ASSERT(address_in(block, {row, column}) == (i * extent + column) * 2);
      }
      ++row;
    }
    Dims shape;
    RC_ASSERT(layout.local_shape(0, tensor, &shape));
    RC_ASSERT((shape[0] == fused.num_rows(tensor) && shape[1] == extent));
  }
}

/// FSDP1: tensors flattened one after another, the whole cut by torch.chunk, borders inside rows.
RC_GTEST_PROP(LayoutTest, FlatRangesHoldEveryElementOnce, ()) {
  ModelLayout layout(3);
  std::vector<Indices> shapes;
  std::int64_t total = 0;
  Indices starts;
  for (std::int64_t t = random(1, 3); t > 0; --t) {
    shapes.push_back(oracle::random_shape(3, 5));
    starts.push_back(total);
    total += whole_box(shapes.back()).num_elements();
    RC_ASSERT(layout.add_tensor({std::to_string(t), DType::kF32, shapes.back(), 0}).ok());
  }
  const std::int64_t chunk = (total + 2) / 3;
  for (std::int32_t rank = 0; rank < 3; ++rank) {
    const std::int64_t begin = rank * chunk;
    const std::int64_t buffer = *layout.add_rank_buffer(rank, "flat", chunk * 4);
    for (std::int64_t t = 0; t < oracle::size_of(starts); ++t) {
      const std::int64_t elements = whole_box(at(shapes, t)).num_elements();
      const std::int64_t from = std::clamp(begin - at(starts, t), std::int64_t{0}, elements);
      const std::int64_t to = std::clamp(begin + chunk - at(starts, t), from, elements);
      const std::int64_t offset = std::max(std::int64_t{0}, at(starts, t) + from - begin) * 4;
      if (from < to) RC_ASSERT(layout.add_flat_range(rank, t, from, to, buffer, offset).ok());
    }
  }
  for (std::int64_t t = 0; t < oracle::size_of(starts); ++t) {
    std::int64_t flat = at(starts, t);
    oracle::for_each_index(at(shapes, t), [&](const Indices& index) {
      for (std::int32_t rank = 0; rank < 3; ++rank) {
        std::int64_t times = 0;
        for (const Block& block : layout.blocks(rank, t)) {
          if (!oracle::contains(block.box, index)) continue;
          ++times;
          std::int64_t address = block.offset_bytes;
          for (int d = 0; d < block.box.num_dims; ++d) {
            address += (at(index, d) - block.box.begin[d]) * block.strides_bytes[d];
          }
          RC_ASSERT(address == (flat - rank * chunk) * 4);
        }
        RC_ASSERT(times == (flat / chunk == rank ? 1 : 0));
      }
      ++flat;
    });
  }
}

/// A range is kept as an interval, but says what its boxes would say if they were given one by one, in between other
/// blocks, and to ranks of which some leave.
RC_GTEST_PROP(LayoutTest, AFlatRangeIsTheBlocksThatItIsMadeOf, ()) {
  constexpr std::int32_t kRanks = 3;
  const Indices shape = oracle::random_shape(3, 5);
  ModelLayout by_range(kRanks);
  ModelLayout by_block(kRanks);
  const Box whole = whole_box(shape);
  const std::int64_t size = whole.num_elements();
  for (ModelLayout* layout : {&by_range, &by_block}) {
    RC_ASSERT(layout->add_tensor({"t", DType::kF32, shape, 0}).ok());
    for (std::int32_t rank = 0; rank < kRanks; ++rank) RC_ASSERT(layout->add_rank_buffer(rank, "own", 4096).ok());
  }
  for (std::int64_t n = random(0, 8); n > 0; --n) {
    const auto rank = static_cast<std::int32_t>(random(0, kRanks - 1));
    Block block;
    block.tensor = 0;
    block.buffer = rank;
    for (std::int64_t d = oracle::size_of(shape) - 1, stride = 4; d >= 0; stride *= at(shape, d--)) {
      block.strides_bytes[static_cast<int>(d)] = stride;
    }
    const std::int64_t begin = random(0, size), end = random(begin, size), offset = random(0, 100);
    const bool is_range = random(0, 1) == 1;
    if (is_range) RC_ASSERT(by_range.add_flat_range(rank, 0, begin, end, rank, offset).ok());
    for_each_box_of_range(whole, begin, end, [&](const Box& box, std::int64_t position) {
      block.box = box;
      block.offset_bytes = offset + (position - begin) * 4;
      RC_ASSERT(by_block.add_block(rank, block).ok());
      if (!is_range) RC_ASSERT(by_range.add_block(rank, block).ok());
    });
  }
  if (random(0, 2) == 0) {
    for (ModelLayout* layout : {&by_range, &by_block}) RC_ASSERT(layout->remove_ranks({1}).ok());
  }
  RC_ASSERT(by_range.digest() == by_block.digest());
  for (std::int32_t rank = 0; rank < kRanks; ++rank) {
    const std::vector<Block> blocks = by_block.blocks(rank, 0);
    const std::vector<Block> same = by_range.blocks(rank, 0);
    RC_ASSERT(same.size() == blocks.size());
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      RC_ASSERT((same[i].kind == blocks[i].kind && same[i].tensor == 0 && same[i].buffer == rank));
      RC_ASSERT((same[i].box == blocks[i].box && same[i].local_begin == blocks[i].local_begin));
      RC_ASSERT((same[i].offset_bytes == blocks[i].offset_bytes && same[i].strides_bytes == blocks[i].strides_bytes));
    }
  }
}

}  // namespace
}  // namespace reshard
