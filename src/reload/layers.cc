// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/reload/layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/base/arithmetic.h"

namespace reshard {
namespace {

// Of each part of a layer in scratch: what kernels of the caller and of ours read in wide loads.
constexpr std::int64_t kAlignment = 512;

/// The destination tensors of the caller's layout that a run of the plan writes, by index: where one is made of
/// another that landed, what it becomes and not what landed.
std::vector<bool> written_tensors(const Plan& plan) {
  std::vector<bool> is_written(plan.dst->tensors().size());
  for (const PlanTensor& tensor : plan.tensors) is_written[static_cast<std::size_t>(tensor.dst)] = true;
  for (const Conversion& conversion : plan.conversions) {
    is_written[static_cast<std::size_t>(conversion.dst)] = true;
    if (conversion.scales_out >= 0) is_written[static_cast<std::size_t>(conversion.scales_out)] = true;
  }
  is_written.resize((plan.given_dst != nullptr ? plan.given_dst : plan.dst)->tensors().size());
  return is_written;
}

class LayerMapper {
 public:
  LayerMapper(const Plan& plan, std::int32_t rank, const ReloadMemory& memory)
      : plan_(plan), rank_(rank), memory_(memory) {}

  Result<LayerMap> map() {
    const auto num_groups = static_cast<std::int32_t>(plan_.groups.size());
    const std::int64_t open = plan_.options.open_groups;
    made_.num_slots = static_cast<std::int32_t>(open > 0 ? std::min<std::int64_t>(open, num_groups) : num_groups);
    first_group_ = num_groups == 0 ? 0 : at(plan_.first_groups, rank_);
    made_.layers.resize(plan_.groups.size());
    for (std::int32_t group = 0; group < num_groups; ++group) layer_of(group).group = group;
    find_writers();
    RESHARD_TRY(add_buffers());
    RESHARD_TRY(add_outputs());
    give_places();
    return std::move(made_);
  }

 private:
  Layer& layer_of(std::int32_t group) { return at(made_.layers, plan_.position_of(group, first_group_)); }

  /// Which tensors are written in which buffer, by the blocks of this rank: one of each group.
  void find_writers() {
    const std::vector<bool> is_written = written_tensors(plan_);
    for (std::size_t t = 0; t < is_written.size(); ++t) {
      if (!is_written[t]) continue;
      const std::int32_t group = group_of(plan_.dst->tensors()[t]);
      bool is_here = false;
      for (const Block& block : plan_.dst->blocks(rank_, static_cast<std::int64_t>(t))) {
        if (block.kind == BlockKind::kUntouched) continue;
        is_here = true;
        writers_[block.buffer].emplace(group, static_cast<std::int64_t>(t));
      }
      if (is_here) layer_of(group).tensors.push_back(static_cast<std::int64_t>(t));
    }
  }

  std::int32_t group_of(const Tensor& tensor) const {
    const auto found = std::lower_bound(plan_.groups.begin(), plan_.groups.end(), tensor.group);
    return static_cast<std::int32_t>(found - plan_.groups.begin());
  }

  Status add_buffers() {
    for (const BoundBuffer& buffer : memory_.buffers) {
      const auto writers = writers_.find(buffer.id);
      if (writers == writers_.end()) continue;  // a run writes nothing there
      const std::map<std::int32_t, std::int64_t>& groups = writers->second;
      if (memory_.lands_directly && buffer.data != nullptr) {
        for (const auto& [group, tensor] : groups) layer_of(group).lands_directly = true;
        if (groups.size() > 1) continue;  // no one layer's
      } else if (groups.size() > 1) {
        return shared_error(buffer.id, *groups.begin(), *std::next(groups.begin()));
      }
      Layer::Part part{buffer.id, buffer.data, nullptr, plan_.dst->buffer_size_bytes(rank_, buffer.id)};
      if (memory_.lands_directly) part.landed = buffer.data;
      layer_of(groups.begin()->first).buffers.push_back(part);
    }
    return {};
  }

  using Writer = std::pair<const std::int32_t, std::int64_t>;  // group, and a tensor of it
  Status shared_error(std::int64_t buffer, const Writer& one, const Writer& other) const {
    return invalid_argument(fmt::format(
        "destination buffer {} (\"{}\") has tensors of several groups (\"{}\" of {}, \"{}\" of {}), and scratch is "
        "taken and given back group by group; give each group buffers of its own, or land directly",
        buffer, at(plan_.dst->buffers(), buffer).name, at(plan_.dst->tensors(), one.second).name,
        at(plan_.groups, one.first), at(plan_.dst->tensors(), other.second).name, at(plan_.groups, other.first)));
  }

  Status add_outputs() {
    for (std::size_t i = 0; i < memory_.outputs.size(); ++i) {
      const ReloadOutput& output = memory_.outputs[i];
      if (output.size_bytes < 0 || (output.data == nullptr && output.size_bytes > 0)) {
        return invalid_argument(
            fmt::format("output {} has {} bytes{}", i, output.size_bytes, output.data == nullptr ? " at NULL" : ""));
      }
      layer_of(output.group).outputs.push_back({-1, output.data, nullptr, output.size_bytes});
    }
    return {};
  }

  /// Parts of a layer one after the other in its slot, slots one after the other.
  void give_places() {
    std::vector<std::int64_t> slot_bytes(static_cast<std::size_t>(made_.num_slots));
    for (std::size_t p = 0; p < made_.layers.size(); ++p) {
      std::int64_t& size = slot_bytes[p % slot_bytes.size()];
      size = std::max(size, place_parts(0, &made_.layers[p]));
    }
    std::vector<std::int64_t> begins;
    for (const std::int64_t size : slot_bytes) {
      begins.push_back(made_.scratch_bytes);
      made_.scratch_bytes += size;
    }
    for (std::size_t p = 0; p < made_.layers.size(); ++p) place_parts(begins[p % begins.size()], &made_.layers[p]);
  }

  /// From this offset on; what they take together.
  static std::int64_t place_parts(std::int64_t begin, Layer* layer) {
    std::int64_t end = begin;
    for (auto* parts : {&layer->buffers, &layer->outputs}) {
      for (Layer::Part& part : *parts) {
        if (part.landed != nullptr) continue;
        part.scratch_bytes = end;
        end += ceil_div(part.size_bytes, kAlignment) * kAlignment;
      }
    }
    return end - begin;
  }

  const Plan& plan_;
  std::int32_t rank_;
  const ReloadMemory& memory_;
  std::int32_t first_group_ = 0;
  std::map<std::int64_t, std::map<std::int32_t, std::int64_t>> writers_;  // by buffer: groups, a tensor of each
  LayerMap made_;
};

}  // namespace

bool Layer::needs_caller() const {
  const auto is_nowhere = [](const Part& part) { return part.stable == nullptr && part.size_bytes > 0; };
  return !outputs.empty() || std::any_of(buffers.begin(), buffers.end(), is_nowhere);
}

void LayerMap::place(std::byte* scratch) {
  for (Layer& layer : layers) {
    for (auto* parts : {&layer.buffers, &layer.outputs}) {
      for (Layer::Part& part : *parts) {
        if (part.is_in_scratch()) part.landed = scratch + part.scratch_bytes;
      }
    }
  }
}

Result<LayerMap> map_layers(const Plan& plan, std::int32_t rank, const ReloadMemory& memory) {
  return LayerMapper(plan, rank, memory).map();
}

}  // namespace reshard
