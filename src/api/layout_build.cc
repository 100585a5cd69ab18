// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Building layouts through the C API: from a model, from a text, or tensor by tensor. What a C caller gives is turned
// into the library's own values here, and what the types cannot say is checked: that enums are of the list, that
// pointers with a count are there. Whether placements and blocks make sense is checked by ModelLayout, once for all
// callers.
//
// A call that is refused leaves the layout as it was.
#include <fmt/format.h>

#include <cstddef>
#include <cstring>
#include <mutex>
#include <sstream>

#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/api/layout_exchange.h"
#include "src/layout/placed.h"
#include "src/model/axis_placement.h"
#include "src/model/layout_text.h"
#include "src/model/model.h"
#include "src/model/spec.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::check_timeout;
using reshard::api::guard;
using reshard::api::read_versioned;

namespace {

/// Replicated axes have no rule; any will do, since they are given no dim to cut.
Result<Rule> to_rule(reshard_rule_t rule) {
  switch (rule) {
    case RESHARD_REPLICATE:
    case RESHARD_SHARD_CHUNK:
      return Rule::kChunk;
    case RESHARD_SHARD_BALANCED:
      return Rule::kBalanced;
    case RESHARD_SHARD_EVEN:
      return Rule::kEven;
    case RESHARD_SHARD_CUTS:
      return Rule::kCuts;
    case RESHARD_SHARD_CYCLIC:
      return Rule::kCyclic;
    case RESHARD_SHARD_TABLE:
      return Rule::kTable;
  }
  return invalid_argument(fmt::format("placement has the unknown rule {}", static_cast<int>(rule)));
}

/// Table entries come as one list for all coordinates, in any order of these, and become one row per coordinate; within
/// a row the caller's order stays, for it is the order in memory.
Result<AxisRule> to_axis_rule(const reshard_axis_placement_t& given, std::int64_t axis_size) {
  RESHARD_TRY(check_struct(&given, "reshard_axis_placement_t"));
  AxisRule axis;
  RESHARD_TRY(axis.split.rule, to_rule(given.rule));
  if (given.rule != RESHARD_REPLICATE) axis.dim = given.dim;
  axis.split.block = given.block;
  if (given.rule == RESHARD_SHARD_CUTS) {
    RESHARD_TRY(check_not_null(given.cuts, "cuts"));
    axis.split.cuts.assign(given.cuts, given.cuts + std::max<std::int64_t>(0, given.num_cuts));
  }
  if (given.rule == RESHARD_SHARD_TABLE) {
    if (given.num_entries > 0) RESHARD_TRY(check_not_null(given.entries, "entries"));
    axis.split.table.resize(static_cast<std::size_t>(axis_size));
    for (std::int64_t i = 0; i < given.num_entries; ++i) {
      const reshard_table_entry_t& entry = given.entries[i];
      if (entry.coordinate < 0 || entry.coordinate >= axis_size) {
        return invalid_argument(
            fmt::format("table entry {} is for coordinate {}; the axis has {}", i, entry.coordinate, axis_size));
      }
      at(axis.split.table, entry.coordinate).push_back({entry.begin, entry.end});
    }
  }
  return axis;
}

/// The mesh is bounded by the world before its ranks are read: `ranks` is as long as the product of the sizes, and a
/// slip in one of them would read beyond its end.
Result<AxisPlacement> to_axis_placement(const reshard_placement_desc_t& desc, std::size_t num_dims,
                                        std::int32_t world_size) {
  if (desc.num_axes < 1) return invalid_argument(fmt::format("num_axes is {}; a mesh has 1 or more", desc.num_axes));
  RESHARD_TRY(check_not_null(desc.axis_sizes, "axis_sizes"));
  RESHARD_TRY(check_not_null(desc.ranks, "ranks"));
  RESHARD_TRY(check_not_null(desc.placements, "placements"));
  AxisPlacement placement;
  std::vector<MeshAxis> axes;
  std::int64_t num_ranks = 1;
  for (std::int32_t a = 0; a < desc.num_axes; ++a) {
    const std::int64_t size = desc.axis_sizes[a];
    if (size < 1) return invalid_argument(fmt::format("mesh axis {} has size {}; sizes are 1 or more", a, size));
    if (size > world_size / num_ranks) {
      return invalid_argument(
          fmt::format("mesh axis {} of size {} makes the mesh larger than the world of {} ranks", a, size, world_size));
    }
    num_ranks *= size;
    axes.push_back({fmt::format("axis{}", a), size});
    RESHARD_TRY(AxisRule rule, to_axis_rule(desc.placements[a], size));
    placement.axes.push_back(std::move(rule));
  }
  RESHARD_TRY(placement.mesh, Mesh::create(std::move(axes), {desc.ranks, desc.ranks + num_ranks}));
  placement.inner_first = desc.nest_inner_first != 0;
  if (desc.order != nullptr) placement.order = std::vector<std::int64_t>(desc.order, desc.order + num_dims);
  if (desc.pad_to != nullptr) placement.pad_to = std::vector<std::int64_t>(desc.pad_to, desc.pad_to + num_dims);
  return placement;
}

/// Checked as a whole before a buffer is made for it, so that a refused placement leaves none behind.
Result<Placement> to_placement(const reshard_placement_desc_t& desc, const Tensor& tensor, const ModelLayout& layout) {
  RESHARD_TRY(const AxisPlacement axes, to_axis_placement(desc, tensor.shape.size(), layout.num_ranks()));
  RESHARD_TRY(Placement placement, make_placement(tensor, axes));
  placement.offset_bytes = desc.offset_bytes;
  placement.buffer = desc.buffer;
  CheckedMaps maps;
  RESHARD_TRY(check_placement(tensor, placement, layout.num_ranks(), &maps));
  if (desc.buffer == -1) {
    if (desc.offset_bytes == 0) return placement;
    return invalid_argument(fmt::format(
        "offset_bytes is {} without a buffer for it; without one the tensor has its own", desc.offset_bytes));
  }
  const auto num_buffers = static_cast<std::int64_t>(layout.buffers().size());
  if (desc.buffer < 0 || desc.buffer >= num_buffers || !at(layout.buffers(), desc.buffer).by_offset) {
    return invalid_argument(
        fmt::format("buffer {} is not one for placements; make one with reshard_layout_add_buffer "
                    "and rank -1",
                    desc.buffer));
  }
  return placement;
}

/// Only the dims that the tensor has are read: the rest of the caller's arrays may hold anything.
Result<Block> to_block(const reshard_block_t& given, const ModelLayout& layout) {
  if (given.tensor < 0 || given.tensor >= static_cast<std::int64_t>(layout.tensors().size())) {
    return invalid_argument(
        fmt::format("block of tensor {}, which does not exist; there are {}", given.tensor, layout.tensors().size()));
  }
  Block block;
  switch (given.kind) {
    case RESHARD_BLOCK_DATA:
      block.kind = BlockKind::kData;
      break;
    case RESHARD_BLOCK_ZERO:
      block.kind = BlockKind::kZero;
      break;
    case RESHARD_BLOCK_UNTOUCHED:
      block.kind = BlockKind::kUntouched;
      break;
    default:
      return invalid_argument(fmt::format("block of tensor \"{}\" has the unknown kind {}",
                                          at(layout.tensors(), given.tensor).name, static_cast<int>(given.kind)));
  }
  block.tensor = given.tensor;
  block.buffer = given.buffer;
  block.offset_bytes = given.offset_bytes;
  block.box.num_dims = static_cast<int>(at(layout.tensors(), given.tensor).shape.size());
  for (int d = 0; d < block.box.num_dims; ++d) {
    block.box.begin[d] = given.begin[d];
    block.box.end[d] = given.end[d];
    block.strides_bytes[d] = given.strides_bytes[d];
  }
  return block;
}

/// The parts of a text between commas; none for NULL.
Result<std::vector<std::string>> to_patterns(const char* text, const char* what) {
  std::vector<std::string> patterns;
  if (text == nullptr) return patterns;
  std::istringstream stream(std::string(text) + ',');
  for (std::string pattern; std::getline(stream, pattern, ',');) {
    if (pattern.empty()) return invalid_argument(fmt::format("{} is \"{}\"; a pattern of it is empty", what, text));
    patterns.push_back(std::move(pattern));
  }
  return patterns;
}

/// Copies what the caller's struct points to, which need not outlive the call.
Result<ModelLayoutOptions> to_model_options(const reshard_model_options_t& given) {
  ModelLayoutOptions options;
  options.num_layers = given.num_layers;
  options.num_ranks = given.num_ranks;
  options.first_rank = given.first_rank;
  if (given.rank_list != nullptr) {
    if (given.rank_list_size < 1 || given.rank_list_size > kMaxRanks) {
      return invalid_argument(
          fmt::format("rank_list_size is {}; a list has 1 to {} ranks", given.rank_list_size, kMaxRanks));
    }
    options.ranks.assign(given.rank_list, given.rank_list + given.rank_list_size);
  }
  if (given.dtype != nullptr) {
    RESHARD_TRY(options.dtype, parse_dtype(given.dtype));
  }
  RESHARD_TRY(options.include, to_patterns(given.include, "include"));
  RESHARD_TRY(options.exclude, to_patterns(given.exclude, "exclude"));
  return options;
}

}  // namespace

extern "C" {

void reshard_tensor_desc_init_sized(reshard_tensor_desc_t* desc, size_t struct_size) {
  reshard::api::init_struct(desc, struct_size);
}
void reshard_axis_placement_init_sized(reshard_axis_placement_t* placement, size_t struct_size) {
  reshard::api::init_struct(placement, struct_size);
}

void reshard_placement_desc_init_sized(reshard_placement_desc_t* desc, size_t struct_size) {
  reshard_placement_desc_t defaults{};
  defaults.buffer = -1;
  reshard::api::init_struct(desc, struct_size, defaults);
}
void reshard_block_init_sized(reshard_block_t* block, size_t struct_size) {
  reshard::api::init_struct(block, struct_size);
}
void reshard_model_options_init_sized(reshard_model_options_t* options, size_t struct_size) {
  reshard::api::init_struct(options, struct_size);
}

reshard_status_t reshard_layout_create(int32_t num_ranks, reshard_layout_t* layout) {
  if (layout != nullptr) *layout = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_num_ranks(num_ranks));
    *layout = new reshard_layout(ModelLayout(num_ranks));
    return {};
  });
}

reshard_status_t reshard_layout_create_from_model(const reshard_model_options_t* options, reshard_layout_t* layout) {
  if (layout != nullptr) *layout = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    // Version 1 ended where rank_list was added: programs built with it give no list.
    RESHARD_TRY(const reshard_model_options_t given, read_versioned(options, "reshard_model_options_t"));
    RESHARD_TRY(check_not_null(given.config_json, "config_json"));
    RESHARD_TRY(check_not_null(given.layout, "layout text"));
    RESHARD_TRY(const ModelLayoutOptions chosen, to_model_options(given));
    RESHARD_TRY(ModelLayout made, make_model_layout(given.config_json, given.layout, chosen));
    *layout = new reshard_layout(std::move(made));
    return {};
  });
}

reshard_status_t reshard_layout_text_num_ranks(const char* text, int32_t* num_ranks) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(text, "text"));
    RESHARD_TRY(check_not_null(num_ranks, "num_ranks"));
    RESHARD_TRY(*num_ranks, layout_text_num_ranks(text));
    return {};
  });
}

reshard_status_t reshard_layout_create_from_spec(const char* json, reshard_layout_t* src, reshard_layout_t* dst) {
  if (src != nullptr) *src = nullptr;
  if (dst != nullptr) *dst = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(json, "json"));
    RESHARD_TRY(check_not_null(src, "src"));
    RESHARD_TRY(check_not_null(dst, "dst"));
    RESHARD_TRY(SpecLayouts parsed, parse_spec(json));
    // Held until the second is made, so that the caller gets both or none.
    auto made = std::make_unique<reshard_layout>(std::move(parsed.src));
    *dst = new reshard_layout(std::move(parsed.dst));
    *src = made.release();
    return {};
  });
}

void reshard_layout_destroy(reshard_layout_t layout) {
  delete layout;
}

reshard_status_t reshard_layout_add_tensor(reshard_layout_t layout, const reshard_tensor_desc_t* desc,
                                           int64_t* tensor) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_struct(desc, "reshard_tensor_desc_t"));
    RESHARD_TRY(check_not_null(desc->name, "name"));
    RESHARD_TRY(check_not_null(tensor, "tensor"));
    if (desc->num_dims < 0 || desc->num_dims > RESHARD_MAX_DIMS) {
      return invalid_argument(fmt::format("tensor \"{}\" has {} dims; 0 to {} are supported", desc->name,
                                          desc->num_dims, RESHARD_MAX_DIMS));
    }
    if (desc->num_dims > 0) RESHARD_TRY(check_not_null(desc->shape, "shape"));
    Tensor added{desc->name, static_cast<DType>(desc->dtype), {}, desc->group};
    added.shape.assign(desc->shape, desc->shape + desc->num_dims);
    RESHARD_TRY(*tensor, layout->writable().add_tensor(std::move(added)));
    return {};
  });
}

reshard_status_t reshard_layout_set_scales(reshard_layout_t layout, int64_t tensor, reshard_scale_kind_t kind,
                                           int64_t scales) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    int number = 0;  // a C caller may have put any integer into the enum
    static_assert(sizeof(number) == sizeof(kind));
    std::memcpy(&number, &kind, sizeof(number));
    if (number < RESHARD_SCALES_BLOCK128 || number > RESHARD_SCALES_TENSOR) {
      return invalid_argument(
          fmt::format("kind is {}; take one of RESHARD_SCALES_BLOCK128, _MXFP8, _CHANNEL, _TENSOR", number));
    }
    return layout->writable().set_scales(tensor, {static_cast<ScaleKind>(number), scales});
  });
}

reshard_status_t reshard_layout_place(reshard_layout_t layout, const reshard_placement_desc_t* desc) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_struct(desc, "reshard_placement_desc_t"));
    const auto& tensors = layout->layout->tensors();
    if (desc->tensor < 0 || desc->tensor >= static_cast<std::int64_t>(tensors.size())) {
      return invalid_argument(fmt::format("tensor {} does not exist; there are {}", desc->tensor, tensors.size()));
    }
    const Tensor& tensor = at(tensors, desc->tensor);
    Result<Placement> made = to_placement(*desc, tensor, *layout->layout);
    if (!made.ok()) return made.take_status().with_context("tensor \"" + tensor.name + "\"");
    Placement placement = made.take();
    // Checked in full by now, so the buffer that is made for it will be used.
    ModelLayout& writable = layout->writable();
    // A tensor that names no buffer has one of its own, under its name.
    if (placement.buffer < 0) placement.buffer = writable.add_buffer(tensor.name, tensor.dtype);
    return writable.place(desc->tensor, std::move(placement));
  });
}

reshard_status_t reshard_layout_add_buffer(reshard_layout_t layout, int32_t rank, const char* name, int64_t size_bytes,
                                           int64_t* buffer) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_not_null(name, "name"));
    RESHARD_TRY(check_not_null(buffer, "buffer"));
    if (rank == -1) {
      if (size_bytes != 0) {
        return invalid_argument(
            fmt::format("buffer \"{}\" for placements has the size {}; give 0, its size follows from "
                        "what is placed in it",
                        name, size_bytes));
      }
      *buffer = layout->writable().add_offset_buffer(name);
      return {};
    }
    RESHARD_TRY(*buffer, layout->writable().add_rank_buffer(rank, name, size_bytes));
    return {};
  });
}

reshard_status_t reshard_layout_add_block(reshard_layout_t layout, const reshard_block_t* block) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    RESHARD_TRY(check_struct(block, "reshard_block_t"));
    RESHARD_TRY(const Block added, to_block(*block, *layout->layout));
    return layout->writable().add_block(block->rank, added);
  });
}

reshard_status_t reshard_layout_add_flat_range(reshard_layout_t layout, int32_t rank, int64_t tensor, int64_t begin,
                                               int64_t end, int64_t buffer, int64_t offset_bytes) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    return layout->writable().add_flat_range(rank, tensor, begin, end, buffer, offset_bytes);
  });
}

reshard_status_t reshard_layout_exchange(reshard_layout_t local, reshard_comm_t comm, int64_t timeout_us,
                                         reshard_layout_t* merged) {
  if (merged != nullptr) *merged = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(local, "local"));
    RESHARD_TRY(check_not_null(comm, "comm"));
    RESHARD_TRY(check_not_null(merged, "merged"));
    RESHARD_TRY(check_timeout(timeout_us));
    // Both all-gathers in one turn: another thread's collective between them would be answered by the wrong one.
    const std::lock_guard turn(comm->transport->turn());
    RESHARD_TRY(ModelLayout all, api::exchange_layout(*local->layout, comm->transport.get(), Deadline(timeout_us)));
    *merged = new reshard_layout(std::move(all));
    return {};
  });
}

reshard_status_t reshard_layout_remove_ranks(reshard_layout_t layout, int32_t num_ranks, const int32_t* ranks) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(layout, "layout"));
    if (num_ranks < 0) return invalid_argument(fmt::format("num_ranks is {}", num_ranks));
    if (num_ranks > 0) RESHARD_TRY(check_not_null(ranks, "ranks"));
    return layout->writable().remove_ranks({ranks, ranks + num_ranks});
  });
}

}  // extern "C"
