// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The reader of serialized layouts. They come from other processes, so everything may be wrong with them: no number is
// used as a size or an index before it was looked at, and a list costs memory only as its entries are read, so that a
// damaged length cannot ask for more than the bytes that came.
//
// Faults are collected where they would be hard to return: after the first the reader stands still (in_.ok() is false,
// numbers read as 0), and loops end by themselves.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "src/layout/format.h"
#include "src/layout/packed.h"
#include "src/layout/serialize.h"

namespace reshard {
namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

Status damaged(const std::string& what) {
  return invalid_argument(fmt::format("the bytes are no layout, or damaged: {}", what));
}

/// Reads the parts of a layout in the order of format.h and hands them to the builders, which check what they mean.
/// This reader checks that they can be handed over: that numbers fit their types and name things that exist.
class LayoutReader {
 public:
  LayoutReader(std::span<const std::byte> bytes, bool has_scales) : in_(bytes), has_scales_(has_scales) {}

  /// Lists come in the order in which they are named: meshes, maps and buffers before the tensors that use them.
  Result<ModelLayout> read() {
    const std::int64_t num_ranks = in_.number();
    if (!in_.ok()) return damaged("it ends before the number of ranks");
    RESHARD_TRY(check_num_ranks(num_ranks));
    ModelLayout layout(static_cast<std::int32_t>(num_ranks));
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) RESHARD_TRY(read_mesh());
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) read_map();
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) RESHARD_TRY(read_buffer(&layout));
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) RESHARD_TRY(read_tensor(&layout));
    for (std::int64_t n = has_scales_ ? in_.count() : 0; n > 0 && in_.ok(); --n) RESHARD_TRY(read_scales(&layout));
    if (!in_.ok() || bad_name_ || overflows_) return damaged("a name, a number or a length does not fit");
    if (!in_.at_end()) return damaged("more follows behind the last tensor");
    return layout;
  }

 private:
  /// Names leave the library as C strings.
  std::string read_name() {
    std::string name = in_.text();
    bad_name_ = bad_name_ || name.find('\0') != std::string::npos;
    return name;
  }

  DType read_dtype() { return static_cast<DType>(in_.number_within(0, std::numeric_limits<std::uint8_t>::max())); }

  /// @pre every number of [low, high] fits Int
  template <typename Int>
  std::vector<Int> read_list(std::int64_t low, std::int64_t high) {
    std::vector<Int> list;
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) {
      list.push_back(static_cast<Int>(in_.number_within(low, high)));
    }
    return list;
  }

  /// Ranks are written as distances from the one expected, the last and one: meshes mostly count up, and zeros are
  /// short.
  Status read_mesh() {
    std::vector<MeshAxis> axes;
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) {
      std::string name = read_name();
      axes.push_back({std::move(name), in_.number()});
    }
    std::vector<std::int32_t> ranks;
    std::int64_t expected = 0;
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) {
      const std::int64_t rank = in_.number_within(-kMaxRanks - 1, kMaxRanks) + expected;
      ranks.push_back(static_cast<std::int32_t>(rank));
      expected = rank + 1;
      if (rank < Mesh::kNoRank || rank >= kMaxRanks) return damaged(fmt::format("a mesh has the rank {}", rank));
    }
    if (!in_.ok()) return damaged("a mesh ends early");
    RESHARD_TRY(MeshPtr mesh, Mesh::create_with_gaps(std::move(axes), std::move(ranks)));
    meshes_.push_back(std::move(mesh));
    return {};
  }

  /// Sums that leave 63 bits are a fault here; whether segments fit their tensors is checked where they are used.
  std::int64_t add(std::int64_t base, std::int64_t distance) {
    std::int64_t sum = 0;
    if (!__builtin_add_overflow(base, distance, &sum)) return sum;
    overflows_ = true;
    return 0;
  }

  /// Segments are written as distances from where the last one ended, in the tensor (`index`, on through all parts) and
  /// in the buffer (`local`, from 0 in each part): densely packed even cuts are then mostly zeros and lengths.
  void read_map() {
    DimMap map;
    map.owns_padding = in_.number_within(0, 1) == 1;
    std::int64_t index = 0;
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) {
      DimPart part;
      part.extent = in_.number();
      std::int64_t local = 0;
      for (std::int64_t k = in_.count(); k > 0 && in_.ok(); --k) {
        Segment segment;
        segment.begin = add(index, in_.number());
        const std::int64_t length = in_.number_within(1, kMost);
        segment.end = add(segment.begin, length);
        segment.local = add(local, in_.number());
        index = segment.end;
        local = add(segment.local, length);
        part.segments.push_back(segment);
      }
      map.parts.push_back(std::move(part));
    }
    maps_.push_back(std::make_shared<const DimMap>(std::move(map)));
  }

  Status read_buffer(ModelLayout* layout) {
    std::string name = read_name();
    const DType dtype = read_dtype();
    const std::int64_t rank = in_.number_within(-1, kMaxRanks);
    const std::int64_t size_bytes = in_.number();
    const bool by_offset = in_.number_within(0, 1) == 1;
    if (!in_.ok() || bad_name_ || !is_valid(dtype) || (rank >= 0 && by_offset)) return damaged("a buffer");
    if (rank >= 0) {
      RESHARD_TRY([[maybe_unused]] const std::int64_t id,
                  layout->add_rank_buffer(static_cast<std::int32_t>(rank), std::move(name), size_bytes));
    } else if (by_offset) {
      layout->add_offset_buffer(std::move(name));
    } else {
      layout->add_buffer(std::move(name), dtype);
    }
    return {};
  }

  /// A tensor goes into the layout before its placements and blocks, which ModelLayout checks against it as if a caller
  /// had given them: the reader has no rules of its own about what is a good layout.
  Status read_tensor(ModelLayout* layout) {
    Tensor tensor;
    tensor.name = read_name();
    tensor.dtype = read_dtype();
    tensor.group = in_.number();
    tensor.shape = read_list<std::int64_t>(0, kMost);
    if (!in_.ok() || bad_name_ || overflows_) return damaged("a name or a number in or before a tensor");
    const auto num_dims = static_cast<int>(tensor.shape.size());
    RESHARD_TRY(const std::int64_t index, layout->add_tensor(std::move(tensor)));
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) {
      Placement placement = read_placement(num_dims);
      if (!in_.ok()) return damaged("a placement");
      RESHARD_TRY(layout->place(index, std::move(placement)));
    }
    for (std::int64_t n = in_.count(); n > 0 && in_.ok(); --n) {
      const auto rank = static_cast<std::int32_t>(in_.number_within(0, kMaxRanks));
      const Block block = read_block(index, num_dims);
      if (!in_.ok()) return damaged("a block");
      RESHARD_TRY(layout->add_block(rank, block));
    }
    return {};
  }

  /// Maps are named by their place plus one: 0 is a dim without a map, which every rank holds as a whole.
  Placement read_placement(int num_dims) {
    Placement placement;
    const std::int64_t mesh = in_.number_within(0, std::ssize(meshes_) - 1);
    if (in_.ok()) placement.mesh = at(meshes_, mesh);
    for (int d = 0; d < num_dims && in_.ok(); ++d) {
      DimPlacement dim;
      const std::int64_t map = in_.number_within(0, std::ssize(maps_));
      if (in_.ok() && map > 0) dim.map = at(maps_, map - 1);
      dim.axes = read_list<int>(0, std::numeric_limits<int>::max());
      placement.dims.push_back(std::move(dim));
    }
    placement.order = read_list<int>(0, kMaxDims);
    placement.buffer = in_.number();
    placement.offset_bytes = in_.number();
    placement.padding = static_cast<Padding>(in_.number_within(0, static_cast<int>(Padding::kUntouched)));
    return placement;
  }

  Block read_block(std::int64_t tensor, int num_dims) {
    Block block;
    block.kind = static_cast<BlockKind>(in_.number_within(0, static_cast<int>(BlockKind::kUntouched)));
    block.tensor = tensor;
    block.buffer = in_.number();
    block.offset_bytes = in_.number();
    block.box.num_dims = num_dims;
    for (int d = 0; d < num_dims; ++d) {
      block.box.begin[d] = in_.number();
      block.box.end[d] = in_.number();
      block.strides_bytes[d] = in_.number();
    }
    return block;
  }

  Status read_scales(ModelLayout* layout) {
    const std::int64_t tensor = in_.number();
    Scales scales;
    scales.kind = static_cast<ScaleKind>(in_.number_within(0, std::numeric_limits<std::int8_t>::max()));
    scales.tensor = in_.number();
    if (!in_.ok()) return damaged("scales");
    return layout->set_scales(tensor, scales);
  }

  PackedReader in_;
  bool has_scales_;
  bool bad_name_ = false;   // a name has a NUL character
  bool overflows_ = false;  // a sum of distances left 63 bits
  std::vector<MeshPtr> meshes_;
  std::vector<DimMapPtr> maps_;
};

}  // namespace

Result<ModelLayout> deserialize(std::span<const std::byte> bytes) {
  if (bytes.size() < format::kMagicBytes + format::kChecksumBytes) {
    return damaged(fmt::format("{} bytes are too few", bytes.size()));
  }
  if (!std::equal(format::kMagic, format::kMagic + format::kMagicBytes, bytes.begin(),
                  [](char wanted, std::byte found) { return std::byte(wanted) == found; })) {
    return damaged("they do not begin as one");
  }
  const std::span<const std::byte> body =
      bytes.subspan(format::kMagicBytes, bytes.size() - format::kMagicBytes - format::kChecksumBytes);
  PackedReader version_reader(body);
  const std::int64_t version = version_reader.number();
  const bool has_scales = version == format::kVersionWithScales;
  if (version_reader.ok() && version != format::kVersion &&
      !has_scales) {  // before the checksum, which another format may not have
    return Status(RESHARD_ERR_NOT_SUPPORTED,
                  fmt::format("the layout is written in format {}; this library reads {} and {}", version,
                              format::kVersion, format::kVersionWithScales));
  }
  // The checksum tells damage by chance, not by intent: what is read below is checked in any case.
  std::uint64_t sum = 0;
  for (std::size_t i = format::kChecksumBytes; i-- > 0;) {
    sum = sum << 8 | static_cast<std::uint64_t>(bytes[bytes.size() - format::kChecksumBytes + i]);
  }
  if (sum != format::checksum(bytes.first(bytes.size() - format::kChecksumBytes))) {
    return damaged("the checksum is another one");
  }
  return LayoutReader(body.subspan(1), has_scales).read();  // the version takes one byte
}

}  // namespace reshard
