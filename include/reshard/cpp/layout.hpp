// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifndef RESHARD_CPP_LAYOUT_HPP
#define RESHARD_CPP_LAYOUT_HPP

/// @file
/// Layouts: which rank holds which elements of which tensor, and where. reshard.hpp includes this header.

#include <reshard/cpp/comm.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

namespace reshard {
inline namespace RESHARD_HPP_NAMESPACE {

/// Numbers of one dimension each: a shape, an index, strides. More than RESHARD_MAX_DIMS of them are refused by the
/// call that gets them.
class Extents {
 public:
  constexpr Extents() = default;
  /// As `{4, 6}`.
  constexpr Extents(std::initializer_list<std::int64_t> values)
      : Extents(std::span<const std::int64_t>(values.begin(), values.size())) {}
  /// Of as many dimensions as there are values.
  constexpr Extents(std::span<const std::int64_t> values) : size_(static_cast<std::int32_t>(values.size())) {
    std::copy_n(values.begin(), std::min(values.size(), values_.size()), values_.begin());
  }

  /// How many were given.
  [[nodiscard]] constexpr std::int32_t size() const noexcept { return size_; }
  /// RESHARD_MAX_DIMS numbers, zeros behind those given.
  [[nodiscard]] constexpr const std::int64_t* data() const noexcept { return values_.data(); }

 private:
  std::array<std::int64_t, RESHARD_MAX_DIMS> values_ = {};
  std::int32_t size_ = 0;
};

/// As reshard_tensor_desc_t. A shape of no extents is a scalar.
struct Tensor {
  std::string name = {};
  reshard_dtype_t dtype = RESHARD_F32;
  Extents shape = {};
  std::int64_t group = 0;  ///< completion group, e.g. the layer
};

/// One axis of a mesh and what it does to a tensor: its size, and as reshard_axis_placement_t.
struct Axis {
  std::int64_t size = 1;
  reshard_rule_t rule = RESHARD_REPLICATE;
  std::int32_t dim = 0;
  std::int64_t block = 0;                           ///< RESHARD_SHARD_CYCLIC
  std::vector<std::int64_t> cuts = {};              ///< RESHARD_SHARD_CUTS
  std::vector<reshard_table_entry_t> entries = {};  ///< RESHARD_SHARD_TABLE
};

/// Where a tensor lies on a mesh of ranks: as reshard_placement_desc_t.
struct Placement {
  std::vector<Axis> axes = {};
  std::vector<std::int32_t> ranks = {};  ///< row-major over the axes, the last one fastest
  bool nest_inner_first = false;
  std::vector<std::int32_t> order = {};   ///< memory order of the dims, slowest first; empty: row-major
  std::vector<std::int64_t> pad_to = {};  ///< one local shape for all ranks, its tail zero-filled; empty: none
  std::int64_t buffer = -1;               ///< of add_buffer with rank -1; -1: one of its own
  std::int64_t offset_bytes = 0;
};

/// One rank's strided piece of a tensor: as reshard_block_t.
struct Block {
  reshard_block_kind_t kind = RESHARD_BLOCK_DATA;
  std::int32_t rank = 0;
  std::int64_t tensor = 0;
  std::int64_t buffer = 0;
  Extents begin = {};
  Extents end = {};
  std::int64_t offset_bytes = 0;
  Extents strides_bytes = {};  ///< all of them: none has a default
};

/// As reshard_model_options_t. Texts that are empty and num_layers and num_ranks of 0 leave the library its defaults.
struct ModelOptions {
  std::string config_json = {};
  std::string layout = {};  ///< "vllm:tp=2,replicas=4"
  std::int64_t num_layers = 0;
  std::int32_t first_rank = 0;
  std::int32_t num_ranks = 0;
  std::vector<std::int32_t> rank_list = {};  ///< in place of first_rank
  std::string dtype = {};
  std::string include = {};
  std::string exclude = {};
};

struct LayoutPair;

/// One side of a transfer: reshard_layout_t. Texts and bytes that it hands out live until it is changed or destroyed,
/// names of tensors and buffers as long as it does.
class Layout : public detail::Handle<reshard_layout_t, reshard_layout_destroy> {
 public:
  using Handle::Handle;

  /// Without tensors, over a world of num_ranks ranks.
  [[nodiscard]] static Result<Layout> create(std::int32_t num_ranks) {
    return detail::created<Layout>(reshard_layout_create, num_ranks);
  }
  [[nodiscard]] static Result<Layout> from_model(const ModelOptions& options);
  /// Both sides, from the general JSON form.
  [[nodiscard]] static Result<LayoutPair> from_spec(std::string_view json);
  [[nodiscard]] static Result<Layout> deserialize(std::span<const std::byte> bytes) {
    return detail::created<Layout>(reshard_layout_deserialize, bytes.data(), bytes.size());
  }
  /// How many ranks a text such as "vllm:tp=2,replicas=4" needs.
  [[nodiscard]] static Result<std::int32_t> num_ranks_of(std::string_view text) {
    return detail::last_argument<std::int32_t>(reshard_layout_text_num_ranks, std::string(text).c_str());
  }

  /// Adds a tensor that no rank holds yet; its index.
  [[nodiscard]] Result<std::int64_t> add_tensor(const Tensor& tensor);
  [[nodiscard]] Result<void> place(std::int64_t tensor, const Placement& placement);
  [[nodiscard]] Result<std::int64_t> add_buffer(std::int32_t rank, std::string_view name, std::int64_t size_bytes) {
    return detail::last_argument<std::int64_t>(reshard_layout_add_buffer, get(), rank, std::string(name).c_str(),
                                               size_bytes);
  }
  [[nodiscard]] Result<void> add_block(const Block& block);
  /// Elements [begin, end) of the flattened tensor.
  [[nodiscard]] Result<void> add_flat_range(std::int32_t rank, std::int64_t tensor, std::int64_t begin,
                                            std::int64_t end, std::int64_t buffer, std::int64_t offset_bytes) {
    return detail::outcome(reshard_layout_add_flat_range(get(), rank, tensor, begin, end, buffer, offset_bytes));
  }
  /// The elements of `tensor` are to be read times what the tensor `scales` holds.
  [[nodiscard]] Result<void> set_scales(std::int64_t tensor, reshard_scale_kind_t kind, std::int64_t scales) {
    return detail::outcome(reshard_layout_set_scales(get(), tensor, kind, scales));
  }
  [[nodiscard]] Result<void> remove_ranks(std::span<const std::int32_t> ranks) {
    return detail::outcome(reshard_layout_remove_ranks(get(), static_cast<std::int32_t>(ranks.size()), ranks.data()));
  }

  /// Collective: the layout of all ranks, of which this one describes its own rank's part.
  [[nodiscard]] Result<Layout> exchange(const Comm& comm, std::chrono::microseconds timeout) const {
    return detail::created<Layout>(reshard_layout_exchange, get(), comm.get(), timeout.count());
  }

  [[nodiscard]] Result<std::int32_t> num_ranks() const {
    return detail::last_argument<std::int32_t>(reshard_layout_num_ranks, get());
  }
  [[nodiscard]] Result<std::int64_t> num_tensors() const {
    return detail::last_argument<std::int64_t>(reshard_layout_num_tensors, get());
  }
  [[nodiscard]] Result<reshard_tensor_info_t> tensor(std::int64_t index) const {
    return detail::filled<reshard_tensor_info_t>(reshard_tensor_info_init, reshard_layout_get_tensor, get(), index);
  }
  /// The tensor's index; nothing when the layout has none of that name.
  [[nodiscard]] Result<std::optional<std::int64_t>> find_tensor(std::string_view name) const;
  /// The buffers that the rank must bring.
  [[nodiscard]] Result<std::vector<reshard_buffer_info_t>> buffers(std::int32_t rank) const;
  /// All blocks of the rank, padding included.
  [[nodiscard]] Result<std::vector<reshard_block_t>> blocks(std::int32_t rank) const;
  /// RESHARD_MAX_DIMS extents, of which the tensor's dimensions count; nothing when the rank was not placed on it.
  [[nodiscard]] Result<std::optional<std::array<std::int64_t, RESHARD_MAX_DIMS>>> local_shape(
      std::int32_t rank, std::int64_t tensor) const;
  /// What lies on the rank, for people.
  [[nodiscard]] Result<const char*> describe_rank(std::int32_t rank) const {
    return detail::last_argument<const char*>(reshard_layout_describe_rank, get(), rank);
  }
  [[nodiscard]] Result<std::span<const std::byte>> serialize() const;
};

/// Both sides of a transfer.
struct LayoutPair {
  Layout src;  ///< where the bytes come from
  Layout dst;  ///< where they are wanted
};

inline Result<Layout> Layout::from_model(const ModelOptions& options) {
  reshard_model_options_t given;
  reshard_model_options_init(&given);
  given.config_json = options.config_json.c_str();
  given.layout = options.layout.c_str();
  given.num_layers = options.num_layers;
  given.first_rank = options.first_rank;
  given.num_ranks = options.num_ranks;
  given.rank_list = options.rank_list.empty() ? nullptr : options.rank_list.data();
  given.rank_list_size = static_cast<std::int64_t>(options.rank_list.size());
  given.dtype = detail::c_str_or_null(options.dtype);
  given.include = detail::c_str_or_null(options.include);
  given.exclude = detail::c_str_or_null(options.exclude);
  return detail::created<Layout>(reshard_layout_create_from_model, &given);
}

inline Result<LayoutPair> Layout::from_spec(std::string_view json) {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  const reshard_status_t status = reshard_layout_create_from_spec(std::string(json).c_str(), &src, &dst);
  if (status != RESHARD_OK) return detail::failure(status);
  return LayoutPair{Layout(src), Layout(dst)};
}

inline Result<std::int64_t> Layout::add_tensor(const Tensor& tensor) {
  reshard_tensor_desc_t desc;
  reshard_tensor_desc_init(&desc);
  desc.name = tensor.name.c_str();
  desc.dtype = tensor.dtype;
  desc.num_dims = tensor.shape.size();
  desc.shape = tensor.shape.data();
  desc.group = tensor.group;
  return detail::last_argument<std::int64_t>(reshard_layout_add_tensor, get(), &desc);
}

namespace detail {

inline reshard_axis_placement_t to_c(const Axis& axis) {
  reshard_axis_placement_t out;
  reshard_axis_placement_init(&out);
  out.rule = axis.rule;
  out.dim = axis.dim;
  out.block = axis.block;
  out.num_cuts = static_cast<std::int64_t>(axis.cuts.size());
  out.cuts = axis.cuts.data();
  out.num_entries = static_cast<std::int64_t>(axis.entries.size());
  out.entries = axis.entries.data();
  return out;
}

/// The C API reads as many numbers as the tensor has dimensions, without being told how many there are.
inline Result<void> check_dims(reshard_layout_t layout, std::int64_t tensor, std::size_t order, std::size_t pad_to) {
  if (order == 0 && pad_to == 0) return {};
  const auto info = filled<reshard_tensor_info_t>(reshard_tensor_info_init, reshard_layout_get_tensor, layout, tensor);
  if (!info) return Failure(info.error());
  const auto dims = static_cast<std::size_t>(info->num_dims);
  if ((order == 0 || order == dims) && (pad_to == 0 || pad_to == dims)) return {};
  return Failure({RESHARD_ERR_INVALID_ARGUMENT,
                  std::string("tensor \"") + info->name + "\": order has " + std::to_string(order) +
                      " entries and pad_to " + std::to_string(pad_to) + "; each has none or " + std::to_string(dims)});
}

/// As check_dims: the C API reads as many ranks as the sizes of the axes multiply to.
inline Result<void> check_ranks(const Placement& placement) {
  std::int64_t product = 1;
  for (const Axis& axis : placement.axes) {
    if (axis.size < 1 || axis.size > std::numeric_limits<std::int32_t>::max() / product)
      return {};  // it is refused there
    product *= axis.size;
  }
  if (static_cast<std::size_t>(product) == placement.ranks.size()) return {};
  return Failure({RESHARD_ERR_INVALID_ARGUMENT, "the axes of the placement have " + std::to_string(product) +
                                                    " places, its list has " + std::to_string(placement.ranks.size()) +
                                                    " ranks"});
}

}  // namespace detail

inline Result<void> Layout::place(std::int64_t tensor, const Placement& placement) {
  if (auto ranks = detail::check_ranks(placement); !ranks) return ranks;
  auto dims = detail::check_dims(get(), tensor, placement.order.size(), placement.pad_to.size());
  if (!dims) return dims;
  std::vector<std::int64_t> sizes;
  std::vector<reshard_axis_placement_t> axes;
  for (const Axis& axis : placement.axes) {
    sizes.push_back(axis.size);
    axes.push_back(detail::to_c(axis));
  }
  reshard_placement_desc_t desc;
  reshard_placement_desc_init(&desc);
  desc.tensor = tensor;
  desc.num_axes = static_cast<std::int32_t>(axes.size());
  desc.axis_sizes = sizes.data();
  desc.ranks = placement.ranks.data();
  desc.placements = axes.data();
  desc.nest_inner_first = placement.nest_inner_first ? 1 : 0;
  desc.order = placement.order.empty() ? nullptr : placement.order.data();
  desc.pad_to = placement.pad_to.empty() ? nullptr : placement.pad_to.data();
  desc.buffer = placement.buffer;
  desc.offset_bytes = placement.offset_bytes;
  return detail::outcome(reshard_layout_place(get(), &desc));
}

inline Result<void> Layout::add_block(const Block& block) {
  reshard_block_t out;
  reshard_block_init(&out);
  out.kind = block.kind;
  out.rank = block.rank;
  out.tensor = block.tensor;
  out.buffer = block.buffer;
  std::copy_n(block.begin.data(), RESHARD_MAX_DIMS, out.begin);
  std::copy_n(block.end.data(), RESHARD_MAX_DIMS, out.end);
  out.offset_bytes = block.offset_bytes;
  std::copy_n(block.strides_bytes.data(), RESHARD_MAX_DIMS, out.strides_bytes);
  return detail::outcome(reshard_layout_add_block(get(), &out));
}

inline Result<std::optional<std::int64_t>> Layout::find_tensor(std::string_view name) const {
  const auto index = detail::last_argument<std::int64_t>(reshard_layout_find_tensor, get(), std::string(name).c_str());
  if (!index) return Failure(index.error());
  return *index < 0 ? std::nullopt : std::optional<std::int64_t>(*index);
}

inline Result<std::vector<reshard_buffer_info_t>> Layout::buffers(std::int32_t rank) const {
  const auto count = detail::last_argument<std::int64_t>(reshard_layout_num_buffers, get(), rank);
  if (!count) return Failure(count.error());
  std::vector<reshard_buffer_info_t> buffers;
  for (std::int64_t i = 0; i < *count; ++i) {
    const auto info =
        detail::filled<reshard_buffer_info_t>(reshard_buffer_info_init, reshard_layout_get_buffer, get(), rank, i);
    if (!info) return Failure(info.error());
    buffers.push_back(*info);
  }
  return buffers;
}

inline Result<std::vector<reshard_block_t>> Layout::blocks(std::int32_t rank) const {
  std::int64_t count = 0;
  reshard_status_t status = reshard_layout_get_blocks(get(), rank, 0, nullptr, &count);
  if (status != RESHARD_OK) return detail::failure(status);
  std::vector<reshard_block_t> blocks(static_cast<std::size_t>(count));
  if (blocks.empty()) return blocks;
  reshard_block_init(&blocks.front());
  status = reshard_layout_get_blocks(get(), rank, count, blocks.data(), &count);
  if (status != RESHARD_OK) return detail::failure(status);
  return blocks;
}

inline Result<std::optional<std::array<std::int64_t, RESHARD_MAX_DIMS>>> Layout::local_shape(
    std::int32_t rank, std::int64_t tensor) const {
  std::int32_t is_present = 0;
  std::array<std::int64_t, RESHARD_MAX_DIMS> shape = {};
  const reshard_status_t status = reshard_layout_get_local_shape(get(), rank, tensor, &is_present, shape.data());
  if (status != RESHARD_OK) return detail::failure(status);
  return is_present == 0 ? std::nullopt : std::optional(shape);
}

inline Result<std::span<const std::byte>> Layout::serialize() const {
  const void* bytes = nullptr;
  std::size_t size_bytes = 0;
  const reshard_status_t status = reshard_layout_serialize(get(), &bytes, &size_bytes);
  if (status != RESHARD_OK) return detail::failure(status);
  return std::span(static_cast<const std::byte*>(bytes), size_bytes);
}

}  // namespace RESHARD_HPP_NAMESPACE
}  // namespace reshard

#endif  // RESHARD_CPP_LAYOUT_HPP
