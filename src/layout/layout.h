// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/base/at.h"
#include "src/base/dtype.h"
#include "src/layout/box.h"
#include "src/layout/dim_map.h"
#include "src/layout/mesh.h"
#include "src/layout/rank_blocks.h"
#include "src/layout/scales.h"

namespace reshard {

/// Most ranks of a world. Plans hold about 400 bytes for each rank, used or not, so that a slip in a number must not
/// become a world of 2^31.
inline constexpr std::int32_t kMaxRanks = std::int32_t{1} << 18;

/// RESHARD_ERR_INVALID_ARGUMENT unless a world can have so many ranks. To be asked before a ModelLayout is made.
Status check_num_ranks(std::int64_t num_ranks);

/// One logical tensor as the checkpoint names it; never a framework's fused parameter.
struct Tensor {
  std::string name;
  DType dtype = DType::kBF16;
  std::vector<std::int64_t> shape;
  std::int64_t group = 0;  ///< completion group; groups complete in ascending order
};

/// How the elements of a tensor are to be read: times a scale of their block.
struct Scales {
  ScaleKind kind = ScaleKind::kNone;
  std::int64_t tensor = -1;  ///< the scale tensor, an index in the same layout; -1: kNone
  bool operator==(const Scales&) const = default;
};

/// What happens to the part of a local shape that no element fills.
enum class Padding { kZero, kUntouched };

/// One dimension of a placement. `map` null: every rank holds the whole dimension at local index 0, and `extent` of the
/// buffer equals the tensor's. `axes`: the mesh axes whose coordinates index map->parts, row-major; may be empty (one
/// part).
struct DimPlacement {
  DimMapPtr map;
  std::vector<int> axes;
};

/// A tensor on a mesh: dimension by dimension, which coordinate holds what and where in the buffer. Mesh axes that no
/// dimension uses replicate. On each rank the placement is a dense array of the dims' part extents, laid out in
/// `order`, that begins `offset_bytes` into the buffer.
struct Placement {
  MeshPtr mesh;
  std::vector<DimPlacement> dims;  ///< one per tensor dimension
  std::vector<int> order;          ///< memory order of the buffer's dims, slowest first; empty: row-major
  std::int64_t buffer = -1;        ///< id in ModelLayout::buffers()
  std::int64_t offset_bytes = 0;   ///< of the array in the buffer, on every rank; 0 unless the buffer is by_offset
  Padding padding = Padding::kZero;
};

/// A buffer: one allocation on each rank that has it. There are three kinds:
///  - explicit (rank >= 0): of one rank and of a given size; blocks lie in it;
///  - of one array (rank -1): placements describe one and the same array, and what one of them leaves free of it
///  belongs
///    to the others: a framework's fused parameter, or simply one tensor;
///  - by_offset (rank -1): placements are arrays of their own, one behind another.
struct Buffer {
  std::string name;
  DType dtype = DType::kBF16;
  std::int32_t rank = -1;
  std::int64_t size_bytes = 0;  ///< explicit buffers only; the others are as large as the placements reach
  bool by_offset = false;
};

/// Maps that were looked through for a number of indices, and the largest extent of their parts. Thousands of
/// placements share a map with a part for each of thousands of ranks. Who is in it stays alive, so that no other map
/// gets its address.
using CheckedMaps = std::map<std::pair<DimMapPtr, std::int64_t>, std::int64_t>;

/// Every tensor of one side of the transfer. A plain value once built; the builders validate what they are given.
class ModelLayout {
 public:
  explicit ModelLayout(std::int32_t num_ranks) : num_ranks_(num_ranks) {}

  // ---- building

  /// Errors: a repeated or empty name, more than kMaxDims dims, a negative extent, too many elements.
  Result<std::int64_t> add_tensor(Tensor tensor);

  /// A buffer of one array, whose extents come from the placements that name it. Fused tensors name the same one.
  std::int64_t add_buffer(std::string name, DType dtype);

  /// A buffer for placements with offsets. Whether they overlap is checked when a plan writes there.
  std::int64_t add_offset_buffer(std::string name);

  /// A buffer of one rank for explicit blocks.
  Result<std::int64_t> add_rank_buffer(std::int32_t rank, std::string name, std::int64_t size_bytes);

  /// Errors: dims that do not match the tensor, a part count that does not match the axes, an axis used twice,
  /// a rank outside the world, a segment outside the tensor or outside the part's extent, segments that share a local
  /// index, an offset in a buffer that is not by_offset, an array that ends beyond 2^62 bytes.
  Status place(std::int64_t tensor, Placement placement);

  /// Errors: box outside the tensor, rank outside the world, memory outside the buffer, buffer of another rank.
  Status add_block(std::int32_t rank, const Block& block);

  /// Elements [begin, end) of the flattened tensor, contiguous from offset_bytes on (FSDP1 flat parameters). Errors: a
  /// range outside the tensor, and as add_block.
  Status add_flat_range(std::int32_t rank, std::int64_t tensor, std::int64_t begin, std::int64_t end,
                        std::int64_t buffer, std::int64_t offset_bytes);

  /// Says that elements of `tensor`, 8-bit floats, are to be read times the scales that `scales.tensor` holds.
  /// Errors: another dtype on either side than the kind has, a shape that its blocks do not give, another group, a
  /// scale tensor of another tensor.
  Status set_scales(std::int64_t tensor, const Scales& scales);

  /// These ranks hold nothing any more; their own buffers are of size 0. Errors: a rank outside the world.
  Status remove_ranks(const std::vector<std::int32_t>& lost);

  // ---- reading

  std::int32_t num_ranks() const { return num_ranks_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<Buffer>& buffers() const { return buffers_; }
  std::int64_t find_tensor(std::string_view name) const;  ///< -1 when there is none

  const Scales& scales(std::int64_t tensor) const { return at(scales_, tensor); }
  bool has_scales() const { return !tensor_of_scales_.empty(); }  ///< whether any tensor has
  /// How the scales of a tensor divide it. @pre it has scales
  ScaleGrid scale_grid(std::int64_t tensor) const;

  const std::vector<Placement>& placements(std::int64_t tensor) const { return at(places_, tensor); }

  /// The blocks that were given one by one, flat ranges as the boxes that they are. They are made anew for each call.
  std::vector<RankBlock> rank_blocks(std::int64_t tensor) const;
  bool has_rank_blocks(std::int64_t tensor) const { return !at(rank_blocks_, tensor).empty(); }

  /// Every block, padding included, that `rank` has of `tensor`, placement by placement.
  std::vector<Block> blocks(std::int32_t rank, std::int64_t tensor) const;

  /// The local shape on `rank`, padding included; false when the tensor is not placed there. An empty shard is placed.
  bool local_shape(std::int32_t rank, std::int64_t tensor, Dims* shape) const;

  /// Ids of the buffers on `rank`, ascending, and the size of one of them there.
  std::vector<std::int64_t> buffers_of(std::int32_t rank) const;
  std::int64_t buffer_size_bytes(std::int32_t rank, std::int64_t buffer) const;

  /// Hash of everything above; equal layouts have equal digests on every machine.
  std::uint64_t digest() const;

 private:
  Status check_owner(std::int64_t buffer, std::int32_t rank) const;

  std::int32_t num_ranks_;
  std::vector<Tensor> tensors_;
  std::vector<Scales> scales_;                                       // by tensor
  std::unordered_map<std::int64_t, std::int64_t> tensor_of_scales_;  // by scale tensor
  std::unordered_map<std::string, std::int64_t> tensor_of_name_;
  std::vector<std::vector<Placement>> places_;  // by tensor
  std::vector<RankBlocks> rank_blocks_;         // by tensor
  std::vector<Buffer> buffers_;
  std::vector<std::vector<std::int64_t>> tensors_of_buffer_;  // by buffer, tensors with a placement in it
  CheckedMaps checked_maps_;                                  // of placements
};

}  // namespace reshard
