// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Builds a ModelLayout and answers for one rank at a time. Everything a layout is told is checked when it is told, so
// that planning and copying can compute freely: indices exist, boxes lie in their shapes, byte offsets stay within 63
// bits. Blocks of placements are made when asked for, from mesh position and dim maps: a thousand ranks times a
// thousand tensors would not fit as a list.
#include "src/layout/layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "src/layout/placed.h"

namespace reshard {

Status check_num_ranks(std::int64_t num_ranks) {
  if (num_ranks >= 1 && num_ranks <= kMaxRanks) return {};
  return invalid_argument(fmt::format("a world of {} ranks; give 1 to {}", num_ranks, kMaxRanks));
}

Result<std::int64_t> ModelLayout::add_tensor(Tensor tensor) {
  if (tensor.name.empty()) return invalid_argument("a tensor has an empty name; names match the two sides");
  if (tensor.shape.size() > static_cast<std::size_t>(kMaxDims)) {
    return invalid_argument(
        fmt::format("tensor \"{}\" has {} dims; at most {} are supported", tensor.name, tensor.shape.size(), kMaxDims));
  }
  if (!is_valid(tensor.dtype)) {
    return invalid_argument(
        fmt::format("tensor \"{}\" has the unknown dtype {}", tensor.name, static_cast<int>(tensor.dtype)));
  }
  Result<std::int64_t> num_elements = checked_num_elements(tensor.shape);
  if (!num_elements.ok()) return std::move(num_elements).take_status().with_context("tensor \"" + tensor.name + "\"");
  std::vector<std::int64_t> extents = tensor.shape;
  extents.push_back(size_bytes(tensor.dtype));
  if (!checked_num_elements(extents).ok()) {  // strides, which the code below computes freely, fit 63 bits
    return invalid_argument(fmt::format("tensor \"{}\" has more than 2^62 bytes", tensor.name));
  }
  const auto index = static_cast<std::int64_t>(tensors_.size());
  // Last of all checks: a refused tensor leaves no name behind.
  if (!tensor_of_name_.emplace(tensor.name, index).second) {
    return invalid_argument(fmt::format("tensor \"{}\" is there twice; names are unique on a side", tensor.name));
  }
  tensors_.push_back(std::move(tensor));
  scales_.emplace_back();
  places_.emplace_back();
  const Tensor& added = tensors_.back();
  rank_blocks_.emplace_back(index, added.shape, size_bytes(added.dtype));
  return index;
}

std::int64_t ModelLayout::add_buffer(std::string name, DType dtype) {
  buffers_.push_back({std::move(name), dtype, -1, 0, false});
  tensors_of_buffer_.emplace_back();
  return static_cast<std::int64_t>(buffers_.size()) - 1;
}

std::int64_t ModelLayout::add_offset_buffer(std::string name) {
  buffers_.push_back({std::move(name), DType::kU8, -1, 0, true});
  tensors_of_buffer_.emplace_back();
  return static_cast<std::int64_t>(buffers_.size()) - 1;
}

Result<std::int64_t> ModelLayout::add_rank_buffer(std::int32_t rank, std::string name, std::int64_t size_bytes) {
  if (rank < 0 || rank >= num_ranks_) {
    return invalid_argument(fmt::format("buffer \"{}\" is on rank {}; ranks are 0 to {}", name, rank, num_ranks_ - 1));
  }
  if (size_bytes < 0) return invalid_argument(fmt::format("buffer \"{}\" has the size {}", name, size_bytes));
  buffers_.push_back({std::move(name), DType::kU8, rank, size_bytes, false});
  tensors_of_buffer_.emplace_back();
  return static_cast<std::int64_t>(buffers_.size()) - 1;
}

Status ModelLayout::place(std::int64_t tensor, Placement placement) {
  if (tensor < 0 || tensor >= static_cast<std::int64_t>(tensors_.size())) {
    return invalid_argument(fmt::format("tensor {} does not exist; there are {}", tensor, tensors_.size()));
  }
  const Tensor& placed = at(tensors_, tensor);
  Status status = check_placement(placed, placement, num_ranks_, &checked_maps_);
  if (!status.ok()) return std::move(status).with_context("tensor \"" + placed.name + "\"");
  if (placement.buffer < 0 || placement.buffer >= static_cast<std::int64_t>(buffers_.size()) ||
      at(buffers_, placement.buffer).rank >= 0) {
    return invalid_argument(fmt::format("tensor \"{}\" names the buffer {}, which is not one for placements",
                                        placed.name, placement.buffer));
  }
  const Buffer& buffer = at(buffers_, placement.buffer);
  if (placement.offset_bytes != 0 && !buffer.by_offset) {
    return invalid_argument(
        fmt::format("tensor \"{}\" is placed at the offset {} of buffer \"{}\", which is of one array", placed.name,
                    placement.offset_bytes, buffer.name));
  }
  at(tensors_of_buffer_, placement.buffer).push_back(tensor);
  at(places_, tensor).push_back(std::move(placement));
  return {};
}

namespace {

/// 2^59 for the offset of a block and for the reach of each of at most 8 dims sum up to less than 2^63.
constexpr std::int64_t kMostStrided = std::int64_t{1} << 59;

/// Refuses strides whose reach leaves 63 bits before byte_span computes with them.
bool strides_fit(const Block& block) {
  if (block.offset_bytes < 0 || block.offset_bytes > kMostStrided) return false;
  for (int d = 0; d < block.box.num_dims; ++d) {
    if (block.strides_bytes[d] > kMostStrided || block.strides_bytes[d] < -kMostStrided) return false;
    const std::int64_t stride = std::abs(block.strides_bytes[d]);
    if (stride > 0 && block.box.extent(d) > kMostStrided / stride) return false;
  }
  return true;
}

}  // namespace

/// Explicit blocks lie in a buffer of their rank.
Status ModelLayout::check_owner(std::int64_t buffer, std::int32_t rank) const {
  if (rank < 0 || rank >= num_ranks_) return invalid_argument(fmt::format("ranks are 0 to {}", num_ranks_ - 1));
  if (buffer >= 0 && buffer < std::ssize(buffers_) && at(buffers_, buffer).rank == rank) return {};
  return invalid_argument(fmt::format("buffer {} is not a buffer of this rank", buffer));
}

Status ModelLayout::add_block(std::int32_t rank, const Block& block) {
  if (block.tensor < 0 || block.tensor >= static_cast<std::int64_t>(tensors_.size())) {
    return invalid_argument(
        fmt::format("block of tensor {}, which does not exist; there are {}", block.tensor, tensors_.size()));
  }
  const Tensor& tensor = at(tensors_, block.tensor);
  // Made for errors alone: flat units of thousands of ranks are blocks by the million.
  const auto where = [&] {
    return fmt::format("block {} of tensor \"{}\" on rank {}", to_string(block.box), tensor.name, rank);
  };
  if (Status owner = check_owner(block.buffer, rank); !owner.ok()) return std::move(owner).with_context(where());
  if (block.box.num_dims != static_cast<int>(tensor.shape.size())) {
    return invalid_argument(
        fmt::format("{}: {} dims where the tensor has {}", where(), block.box.num_dims, tensor.shape.size()));
  }
  for (int d = 0; d < block.box.num_dims; ++d) {
    // Boxes of padding count local indices, which may go beyond the tensor's shape.
    const bool outside = block.kind == BlockKind::kData && block.box.end[d] > at(tensor.shape, d);
    if (block.box.begin[d] < 0 || block.box.end[d] < block.box.begin[d] || outside) {
      return invalid_argument(fmt::format("{}: outside the shape [{}]", where(), fmt::join(tensor.shape, ", ")));
    }
  }
  if (block.box.empty()) return {};
  const std::int64_t have = at(buffers_, block.buffer).size_bytes;
  // Negative strides reach below the offset, so that both ends are looked at.
  const auto [low, high] =
      strides_fit(block) ? byte_span(block, size_bytes(tensor.dtype)) : ByteSpan{INT64_MIN, INT64_MAX};
  if (low < 0 || high > have) {
    return {RESHARD_ERR_BUFFER_TOO_SMALL,
            fmt::format("{}: its strides reach bytes [{}, {}) of buffer \"{}\", which has {}", where(), low, high,
                        at(buffers_, block.buffer).name, have)};
  }
  at(rank_blocks_, block.tensor).add({rank, block});
  return {};
}

Status ModelLayout::add_flat_range(std::int32_t rank, std::int64_t tensor, std::int64_t begin, std::int64_t end,
                                   std::int64_t buffer, std::int64_t offset_bytes) {
  if (tensor < 0 || tensor >= static_cast<std::int64_t>(tensors_.size())) {
    return invalid_argument(
        fmt::format("flat range of tensor {}, which does not exist; there are {}", tensor, tensors_.size()));
  }
  const Tensor& flat = at(tensors_, tensor);
  const Box whole = whole_box(flat.shape);
  if (begin < 0 || end < begin || end > whole.num_elements()) {
    return invalid_argument(fmt::format("flat range [{}, {}) is outside tensor \"{}\" of {} elements", begin, end,
                                        flat.name, whole.num_elements()));
  }
  const auto where = [&] {
    return fmt::format("flat range [{}, {}) of tensor \"{}\" on rank {}", begin, end, flat.name, rank);
  };
  if (Status owner = check_owner(buffer, rank); !owner.ok()) return std::move(owner).with_context(where());
  if (offset_bytes < 0 || offset_bytes > kMostStrided) {
    return invalid_argument(fmt::format("{}: it lies at the offset {}", where(), offset_bytes));
  }
  // So that its boxes are blocks that add_block takes, too.
  if (whole.num_elements() > kMostStrided / size_bytes(flat.dtype)) {
    return invalid_argument(fmt::format("{}: the tensor has more than 2^59 bytes", where()));
  }
  const std::int64_t last = offset_bytes + (end - begin) * size_bytes(flat.dtype);
  const Buffer& owned = at(buffers_, buffer);
  if (last > owned.size_bytes) {
    return {RESHARD_ERR_BUFFER_TOO_SMALL, fmt::format("{}: it reaches bytes [{}, {}) of buffer \"{}\", which has {}",
                                                      where(), offset_bytes, last, owned.name, owned.size_bytes)};
  }
  if (begin < end) at(rank_blocks_, tensor).add(rank, {begin, end, buffer, offset_bytes});
  return {};
}

std::vector<RankBlock> ModelLayout::rank_blocks(std::int64_t tensor) const {
  std::vector<RankBlock> out;
  at(rank_blocks_, tensor).for_each(RankBlocks::kEveryRank, [&](const RankBlock& given) { out.push_back(given); });
  return out;
}

std::int64_t ModelLayout::find_tensor(std::string_view name) const {
  const auto found = tensor_of_name_.find(std::string(name));
  return found == tensor_of_name_.end() ? -1 : found->second;
}

std::vector<Block> ModelLayout::blocks(std::int32_t rank, std::int64_t tensor) const {
  std::vector<Block> out;
  const std::int64_t element_bytes = size_bytes(at(tensors_, tensor).dtype);
  for (const Placement& placement : placements(tensor)) {
    const std::int64_t index = placement.mesh->find(rank);
    if (index >= 0) append_blocks(at(tensors_, tensor), tensor, placement, index, element_bytes, &out);
  }
  // Explicit blocks have no local tensor of their own: it is the smallest box of global indices that encloses them, so
  // a block's place in it is its distance from the lowest corner.
  Dims low;
  bool first = true;
  const std::size_t placed = out.size();
  at(rank_blocks_, tensor).for_each(rank, [&](const RankBlock& given) {
    out.push_back(given.block);
    for (int d = 0; d < given.block.box.num_dims; ++d) {
      low[d] = first ? given.block.box.begin[d] : std::min(low[d], given.block.box.begin[d]);
    }
    first = false;
  });
  for (std::size_t i = placed; i < out.size(); ++i) {
    for (int d = 0; d < out[i].box.num_dims; ++d) out[i].local_begin[d] = out[i].box.begin[d] - low[d];
  }
  return out;
}

bool ModelLayout::local_shape(std::int32_t rank, std::int64_t tensor, Dims* shape) const {
  *shape = {};
  for (const Placement& placement : placements(tensor)) {
    const std::int64_t index = placement.mesh->find(rank);
    if (index < 0) continue;
    *shape = placed_local_shape(at(tensors_, tensor), placement, index);
    return true;  // of several placements on one rank the first speaks for all
  }
  bool found = false;
  for (const Block& block : blocks(rank, tensor)) {
    for (int d = 0; d < block.box.num_dims; ++d) {
      (*shape)[d] = std::max((*shape)[d], block.local_begin[d] + block.box.extent(d));
    }
    found = true;
  }
  return found;
}

Status ModelLayout::set_scales(std::int64_t tensor, const Scales& scales) {
  const auto count = static_cast<std::int64_t>(tensors_.size());
  for (const std::int64_t index : {tensor, scales.tensor}) {
    if (index >= 0 && index < count) continue;
    return invalid_argument(fmt::format("tensor {} does not exist; there are {}", index, count));
  }
  const Tensor& elements = at(tensors_, tensor);
  const Tensor& given = at(tensors_, scales.tensor);
  const auto check = [&]() -> Status {
    if (scales.kind == ScaleKind::kNone || !is_valid(scales.kind)) {
      return invalid_argument(fmt::format("the unknown kind {}", static_cast<int>(scales.kind)));
    }
    if (elements.dtype != DType::kF8E4M3) {
      return invalid_argument(fmt::format("the tensor is {}; scales belong to F8_E4M3", name(elements.dtype)));
    }
    if (given.dtype != scale_dtype(scales.kind)) {
      return invalid_argument(fmt::format("\"{}\" is {}; scales {} are {}", given.name, name(given.dtype),
                                          name(scales.kind), name(scale_dtype(scales.kind))));
    }
    if (given.group != elements.group) {
      return invalid_argument(
          fmt::format("\"{}\" is in group {}, and the tensor in group {}; scales are complete with "
                      "their tensor, so give both the same",
                      given.name, given.group, elements.group));
    }
    const auto owner = tensor_of_scales_.find(scales.tensor);
    if (owner != tensor_of_scales_.end() && owner->second != tensor) {
      return invalid_argument(
          fmt::format("\"{}\" has the scales of tensor \"{}\"", given.name, at(tensors_, owner->second).name));
    }
    RESHARD_TRY([[maybe_unused]] const ScaleGrid grid, make_scale_grid(scales.kind, elements.shape, given.shape));
    return {};
  };
  RESHARD_TRY(check().with_context(fmt::format("scales of tensor \"{}\"", elements.name)));
  if (at(scales_, tensor).tensor >= 0) tensor_of_scales_.erase(at(scales_, tensor).tensor);
  at(scales_, tensor) = scales;
  tensor_of_scales_[scales.tensor] = tensor;
  return {};
}

ScaleGrid ModelLayout::scale_grid(std::int64_t tensor) const {
  const Scales& given = scales(tensor);
  // Checked when it was set, and shapes never change.
  return *make_scale_grid(given.kind, at(tensors_, tensor).shape, at(tensors_, given.tensor).shape);
}

Status ModelLayout::remove_ranks(const std::vector<std::int32_t>& lost) {
  for (const std::int32_t rank : lost) {
    if (rank >= 0 && rank < num_ranks_) continue;
    return invalid_argument(fmt::format("rank {} cannot be removed; ranks are 0 to {}", rank, num_ranks_ - 1));
  }
  const auto is_lost = [&](std::int32_t rank) { return std::find(lost.begin(), lost.end(), rank) != lost.end(); };
  // Meshes that tensors share stay shared, because partitions of tensors are told apart by the addresses of their
  // meshes. Positions of the others stay too, because coordinates follow from positions.
  std::unordered_map<const Mesh*, MeshPtr> changed;
  for (std::vector<Placement>& of_tensor : places_) {
    for (Placement& placement : of_tensor) {
      MeshPtr& mesh = changed[placement.mesh.get()];
      if (mesh == nullptr) mesh = placement.mesh->without(lost);
      placement.mesh = mesh;
    }
  }
  for (RankBlocks& of_tensor : rank_blocks_) of_tensor.remove_ranks(lost);
  for (Buffer& buffer : buffers_) {
    if (buffer.rank >= 0 && is_lost(buffer.rank)) buffer.size_bytes = 0;
  }
  return {};
}

std::vector<std::int64_t> ModelLayout::buffers_of(std::int32_t rank) const {
  std::vector<std::int64_t> out;
  for (std::size_t b = 0; b < buffers_.size(); ++b) {
    // A buffer of placements is on every rank of their meshes; one of explicit blocks on the rank that it was made for.
    bool here = buffers_[b].rank == rank;
    for (const std::int64_t tensor : tensors_of_buffer_[b]) {
      for (const Placement& placement : placements(tensor)) {
        here = here || (placement.buffer == static_cast<std::int64_t>(b) && placement.mesh->find(rank) >= 0);
      }
      if (here) break;
    }
    if (here) out.push_back(static_cast<std::int64_t>(b));
  }
  return out;
}

std::int64_t ModelLayout::buffer_size_bytes(std::int32_t rank, std::int64_t buffer) const {
  if (at(buffers_, buffer).rank >= 0) return at(buffers_, buffer).size_bytes;
  std::int64_t size = 0;
  for (const std::int64_t tensor : at(tensors_of_buffer_, buffer)) {
    for (const Placement& placement : placements(tensor)) {
      const std::int64_t index = placement.mesh->find(rank);
      if (placement.buffer != buffer || index < 0) continue;
      // Several tensors may lie in one buffer: it ends where the last of them does.
      size = std::max(size, placed_span(at(tensors_, tensor), placement, index).end);
    }
  }
  return size;
}

}  // namespace reshard
