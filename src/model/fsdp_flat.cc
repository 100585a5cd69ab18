// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A unit of n elements over W ranks: rank r holds [r c, (r + 1) c) with c = ceil(n / W), wherever that falls; behind
// the last element is padding. Borders inside a row make up to three boxes of a parameter on a rank, which
// add_flat_range cuts. Names are those that torch's clean_tensor_name gives: "model.layers.3._flat_param".
#include "src/model/fsdp_flat.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "src/base/arithmetic.h"
#include "src/model/registration_order.h"

namespace reshard {
namespace {

/// Elements [begin, begin + count) of a flattened tensor that lie at `at` of a unit.
struct FlatPiece {
  std::size_t param = 0;
  std::int64_t begin = 0;
  std::int64_t count = 0;
  std::int64_t at = 0;
};

struct FlatUnit {
  std::vector<FlatPiece> pieces;  ///< in order of `at`
  std::int64_t size = 0;          ///< elements, with what aligns them
};

std::int64_t num_elements(const Param& param) {
  const std::vector<std::int64_t> shape = shape_of(param);
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

class UnitWriter {
 public:
  UnitWriter(const Model& model, const FlatUnits& settings) : model_(model), settings_(settings) {}

  /// A parameter begins here.
  void open(std::size_t index) {
    constexpr std::int64_t kAlignmentBytes = 16;
    const std::int64_t multiple =
        settings_.is_aligned ? std::max<std::int64_t>(1, kAlignmentBytes / size_bytes(model_.params[index].dtype)) : 1;
    unit_.size = ceil_div(unit_.size, multiple) * multiple;
  }

  /// Elements of a tensor follow.
  void add(std::size_t index, std::int64_t begin, std::int64_t count) {
    unit_.pieces.push_back({index, begin, count, unit_.size});
    unit_.size += count;
  }

  /// The experts of a layer, whose stacks per projection are these params. Stacked, each expert has its rows of gate,
  /// then of up, in one parameter, and all of down are another; else each expert has three parameters, in order.
  void add_experts(const std::vector<std::size_t>& stacks) {
    const std::int64_t count = model_.params[stacks[0]].dims[0].count;
    const auto add_expert = [&](std::size_t index, std::int64_t expert) {
      const std::int64_t each = num_elements(model_.params[index]) / count;
      add(index, expert * each, each);
    };
    if (!settings_.has_stacked_experts) {
      for (std::int64_t expert = 0; expert < count; ++expert) {
        for (const std::size_t index : stacks) {
          open(index);
          add_expert(index, expert);
        }
      }
      return;
    }
    open(stacks.front());
    for (std::int64_t expert = 0; expert < count; ++expert) {
      for (const std::size_t index : stacks) {
        if (model_.params[index].role != "experts.down") add_expert(index, expert);
      }
    }
    open(stacks.back());
    add(stacks.back(), 0, num_elements(model_.params[stacks.back()]));
  }

  FlatUnit take() { return std::move(unit_); }

 private:
  const Model& model_;
  const FlatUnits& settings_;
  FlatUnit unit_;
};

FlatUnit make_unit(const Model& model, const FlatUnits& settings, const std::vector<std::size_t>& params) {
  UnitWriter writer(model, settings);
  for (std::size_t i = 0; i < params.size(); ++i) {
    if (!model.params[params[i]].is_stack) {
      writer.open(params[i]);
      writer.add(params[i], 0, num_elements(model.params[params[i]]));
      continue;
    }
    // The stacks of a layer stand together: gate, up, down.
    std::vector<std::size_t> stacks;
    for (; i < params.size() && model.params[params[i]].is_stack; ++i) stacks.push_back(params[i]);
    --i;
    // The experts of Mixtral assign w1, w2, w3: gate, down, up.
    const bool is_down_second = model.model_type == "mixtral" && !settings.has_stacked_experts;
    if (is_down_second) std::swap(stacks[1], stacks[2]);
    writer.add_experts(stacks);
  }
  return writer.take();
}

class FlatPlacer {
 public:
  FlatPlacer(const FlatUnits& settings, LayoutBuilder* builder) : settings_(settings), builder_(builder) {
    choice_of_.resize(builder->model().params.size());
    for (std::size_t choice = 0; choice < builder->chosen().size(); ++choice)
      choice_of_[builder->chosen()[choice]] = choice;
  }

  Status place(const FlatUnit& unit, const std::string& name) {
    const DType dtype = builder_->param(unit.pieces.front().param).dtype;
    for (const FlatPiece& piece : unit.pieces) {
      const Param& param = builder_->param(piece.param);
      if (param.dtype == dtype) continue;
      return invalid_argument(fmt::format(
          "{} is {} and {} of the same unit {}; FSDP1 flattens one type only",
          checkpoint_name(builder_->model(), param), reshard::name(param.dtype),
          checkpoint_name(builder_->model(), builder_->param(unit.pieces.front().param)), reshard::name(dtype)));
    }
    const std::int64_t chunk = ceil_div(unit.size, std::int64_t{settings_.shard});
    for (std::int32_t rank = 0; rank < settings_.shard * settings_.replicate; ++rank) {
      RESHARD_TRY(place_chunk(unit, rank, chunk, size_bytes(dtype), name));
    }
    return {};
  }

 private:
  /// What of the unit lies in the chunk of a rank. Padding, at the end and before aligned parameters, is left as it is.
  Status place_chunk(const FlatUnit& unit, std::int32_t rank, std::int64_t chunk, std::int64_t element_bytes,
                     const std::string& name) {
    const std::int64_t first = rank % settings_.shard * chunk, last = first + chunk;
    std::optional<std::int64_t> buffer;
    // Pieces ascend, and a chunk has few of the thousands of a unit with experts.
    const auto front = std::partition_point(unit.pieces.begin(), unit.pieces.end(), [first](const FlatPiece& piece) {
      return piece.at + piece.count <= first;
    });
    for (auto it = front; it != unit.pieces.end() && it->at < last; ++it) {
      const FlatPiece& piece = *it;
      const std::optional<std::size_t>& choice = choice_of_[piece.param];
      const std::int64_t begin = std::max(first, piece.at), end = std::min(last, piece.at + piece.count);
      if (!choice.has_value() || begin >= end) continue;
      if (!buffer.has_value()) {
        RESHARD_TRY(buffer, builder_->rank_buffer(rank, name, chunk * element_bytes));
      }
      const std::int64_t offset = piece.begin - piece.at;
      RESHARD_TRY(builder_->place_flat(*choice, rank, {begin + offset, end + offset}, *buffer,
                                       (begin - first) * element_bytes));
    }
    return {};
  }

  const FlatUnits& settings_;
  LayoutBuilder* builder_;
  std::vector<std::optional<std::size_t>> choice_of_;  // by param
};

/// Buffers of modules are whole on every rank.
Status place_buffers(const FlatUnits& settings, LayoutBuilder* builder) {
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(settings.shard) *
                                  static_cast<std::size_t>(settings.replicate));
  std::iota(ranks.begin(), ranks.end(), 0);
  RESHARD_TRY(const MeshPtr mesh, builder->mesh({{"rank", static_cast<std::int64_t>(ranks.size())}}, ranks));
  for (std::size_t choice = 0; choice < builder->chosen().size(); ++choice) {
    const Param& param = builder->param(builder->chosen()[choice]);
    if (!param.is_buffer) continue;
    std::vector<DimPlacement> dims(param.dims.size());
    RESHARD_TRY(builder->place(choice, mesh, std::move(dims), checkpoint_name(builder->model(), param)));
  }
  return {};
}

}  // namespace

Status place_flat_units(const LayoutText& text, const FlatUnits& settings, LayoutBuilder* builder) {
  const std::string context = "\"" + text.text() + "\"";
  const Model& model = builder->model();
  Result<std::vector<std::vector<std::size_t>>> units = registration_order(model, settings.has_stacked_experts);
  if (!units.ok()) return units.take_status().with_context(context);
  FlatPlacer placer(settings, builder);
  for (const std::vector<std::size_t>& params : *units) {
    if (params.empty()) continue;
    const Param& front = model.params[params.front()];
    const Stack& stack = model.stacks[static_cast<std::size_t>(front.stack)];
    const std::string prefix =
        stack.kind == Stack::Kind::kLayers ? fmt::format("{}.{}.", stack.prefix, front.layer) : "";
    RESHARD_TRY(placer.place(make_unit(model, settings, params), prefix + "_flat_param").with_context(context));
  }
  return place_buffers(settings, builder).with_context(context);
}

}  // namespace reshard
