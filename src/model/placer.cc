// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From a parameter's kinds of dimensions and a framework's tables to its placement. Nothing is fused in code: a
// parameter is placed in the buffer of the framework's parameter that holds it, and the dim map says which rows of that
// are whose.
#include "src/model/placer.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "src/model/buffer_names.h"
#include "src/model/fused_groups.h"

namespace reshard {
namespace {

class Placer {
 public:
  Placer(const Scheme& scheme, LayoutBuilder* builder) : scheme_(scheme), builder_(builder), model_(builder->model()) {}

  Status place(std::size_t choice) {
    const std::size_t index = builder_->chosen()[choice];
    const Param& param = builder_->param(index);
    for (const FusedGroup& group : fused_groups(model_, index, scheme_.fused)) {
      std::vector<DimPlacement> dims;
      Status is_cut = cut(param, group, &dims);
      if (!is_cut.ok()) return std::move(is_cut).with_context(name_of(param, group));
      if (is_apart(param, group)) {
        RESHARD_TRY(place_each_expert(choice, group, dims));
      } else {
        RESHARD_TRY(place_on_stages(choice, dims, name_of(param, group)));
      }
    }
    return {};
  }

 private:
  /// Whether each expert has a buffer of its own. Experts that the checkpoint itself has in one parameter are together
  /// wherever they have the checkpoint's name.
  bool is_apart(const Param& param, const FusedGroup& group) const {
    return scheme_.expert_buffers != ExpertBuffers::kOne && find_axis(param, Axis::kExpert) == 0 &&
           (param.is_stack || !name_rule(scheme_, param, group).target.empty());
  }

  /// One placement for each slot that a rank has for an expert. The tensor stays one stack of all experts; a placement
  /// holds one index of it on every rank, or none where a rank has fewer slots.
  Status place_each_expert(std::size_t choice, const FusedGroup& group, std::vector<DimPlacement> dims) {
    const Param& param = builder_->param(builder_->chosen()[choice]);
    DimMapPtr slots = dims[0].map;
    if (slots == nullptr) {  // nothing cuts the experts: all are on every rank
      RESHARD_TRY(slots, builder_->maps().chunk(param.dims[0].count, {1}));
    }
    std::int64_t num_slots = 0;
    for (const DimPart& part : slots->parts) num_slots = std::max(num_slots, part.extent);
    for (std::int64_t slot = 0; slot < num_slots; ++slot) {
      dims[0].map = builder_->maps().one_index(slots, slot);
      RESHARD_TRY(place_on_stages(choice, dims, name_of(param, group, slot)));
    }
    return {};
  }

  Status place_on_stages(std::size_t choice, const std::vector<DimPlacement>& dims, const std::string& name) {
    const Param& param = builder_->param(builder_->chosen()[choice]);
    const bool is_outer = stack_kind(model_, param) != Stack::Kind::kLayers;
    const bool is_repeated =
        (is_outer && scheme_.repeats_outer) || (scheme_.is_server && param.is_on_every_server_stage);
    const std::int32_t own_stage = stage_of(choice), last_stage = scheme_.num_stages - 1;
    for (std::int32_t stage = 0; stage < scheme_.num_stages; ++stage) {
      if (stage == own_stage || is_repeated) RESHARD_TRY(place_on(stage, choice, dims, name));
    }
    if (param.role != "embedding") return {};
    if (scheme_.mtp_embedding_stage.has_value()) {
      RESHARD_TRY(place_on(*scheme_.mtp_embedding_stage, choice, dims, scheme_.mtp_embedding));
    }
    const bool is_tied = model_.tie_embeddings && !scheme_.tied_output.empty();
    if (!is_tied || own_stage == last_stage || is_repeated) return {};
    return place_on(last_stage, choice, dims, scheme_.tied_output);
  }

  std::int32_t stage_of(std::size_t choice) const {
    if (scheme_.stage_of != nullptr) return scheme_.stage_of(choice);
    const Param& param = builder_->param(builder_->chosen()[choice]);
    if (param.role == "final_norm" && scheme_.final_norm_stage.has_value()) return *scheme_.final_norm_stage;
    const Stages* stages = stages_for(scheme_, model_, param);
    return stages == nullptr ? 0 : stages->of(model_, param);
  }

  Status place_on(std::int32_t stage, std::size_t choice, const std::vector<DimPlacement>& dims,
                  const std::string& name) {
    const Param& param = builder_->param(builder_->chosen()[choice]);
    const PartRules& rules = scheme_.parts[static_cast<std::size_t>(param.part)];
    // Exchanged twice, dims are as they were.
    const bool is_exchanged =
        (rules.is_transposed && dims.size() == 3) != (scheme_.holds_out_in && param.is_transposed);
    std::vector<int> order;
    if (is_exchanged) {
      order.resize(dims.size());
      std::iota(order.begin(), order.end(), 0);
      std::swap(order[order.size() - 1], order[order.size() - 2]);
    }
    return builder_->place(choice, rules.meshes[static_cast<std::size_t>(stage)], dims, name, std::move(order));
  }

  std::string name_of(const Param& param, const FusedGroup& group, std::int64_t slot = -1) const {
    return buffer_name(scheme_, model_, param, group, slot);
  }

  /// What cuts dims of this kind; nothing where the parameter is whole whatever its dims are.
  const std::optional<Cut>& cut_of(const Param& param, Axis axis) const {
    static const std::optional<Cut> kNoCut;
    if (scheme_.has_whole_vision && stack_of(model_, param).is_vision) return kNoCut;
    if (scheme_.is_server && !param.is_cut_on_servers) return kNoCut;
    if (axis == Axis::kVocab && param.role == "output" && scheme_.output_cut.has_value()) return scheme_.output_cut;
    return scheme_.parts[static_cast<std::size_t>(param.part)].cuts[static_cast<std::size_t>(axis)];
  }

  Status cut(const Param& param, const FusedGroup& group, std::vector<DimPlacement>* dims) {
    dims->resize(param.dims.size());
    for (std::size_t d = 0; d < dims->size(); ++d) {
      const bool is_fused = group.rule != nullptr && d == param.output;
      // What is fused is cut as its members are, which are of one kind as far as cuts go.
      const Axis axis = is_fused ? output_of(group.members[0]).axis : param.dims[d].axis;
      const std::optional<Cut>& cut = cut_of(param, axis);
      DimPlacement& placement = (*dims)[d];
      if (cut.has_value()) placement.axes = cut->axes;
      if (axis == Axis::kExpert && !scheme_.expert_maps.empty()) {
        placement.map = expert_map_of(param);
      } else if (axis == Axis::kVocab && scheme_.padded_vocab > 0 && cut.has_value()) {
        placement.map =
            builder_->maps().padded(param.dims[d].count, cut->num_parts, scheme_.padded_vocab / cut->num_parts);
      } else if (axis == Axis::kAddend && cut.has_value()) {
        // Part 0 has all of it, the others as much zero-filled room.
        placement.map = builder_->maps().padded(param.dims[d].count, cut->num_parts, param.dims[d].count);
      } else if (is_fused) {
        RESHARD_TRY(cut_fused(param, group, cut.value_or(Cut{}), &placement));
      } else if (scheme_.shard.has_value() && cut.has_value()) {
        RESHARD_TRY(placement.map, builder_->maps().chunk(param.dims[d].extent(), {cut->num_parts}));
      } else if (cut.has_value()) {
        const Dim& dim = param.dims[d];
        FusedMember alone;
        alone.count = dim.count;
        alone.each = dim.each;
        alone.repeats = dim.axis == Axis::kKvHead;
        RESHARD_TRY(cut_rows({{alone}, cut->num_parts, cut->num_parts}, 0, *cut, &placement));
      }
    }
    return scheme_.shard.has_value() && !param.is_buffer ? shard(param, group, dims) : Status();
  }

  static const Dim& output_of(const FusedGroup::Member& member) {
    return member.piece != nullptr ? member.piece->dim : member.param->dims[member.param->output];
  }

  /// The members of a fused parameter; those that are rows of `param` are tensor 0.
  std::vector<FusedMember> fused_members(const Param& param, const FusedGroup& group) const {
    std::vector<FusedMember> members;
    for (const FusedGroup::Member& member : group.members) {
      const Dim& dim = output_of(member);
      FusedMember& fused = members.emplace_back();
      fused = {dim.count, dim.each, dim.axis == Axis::kKvHead, member.param == &param ? 0U : 1U};
      if (scheme_.is_server) fused.step = member.param->server_step;
      if (member.piece != nullptr) {
        fused.begin = member.piece->begin;
        fused.stride = member.piece->stride;
        fused.run = member.piece->run;
      }
    }
    return members;
  }

  Status cut_fused(const Param& param, const FusedGroup& group, const Cut& cut, DimPlacement* placement) {
    Fusing fusing{fused_members(param, group), cut.num_parts, cut.num_parts};
    std::int64_t fewest = fusing.members[0].count;
    for (const FusedMember& member : fusing.members) fewest = std::min(fewest, member.count);
    if (group.rule->units == FusedRule::Units::kGroups) fusing.num_units = fewest;
    if (group.rule->units == FusedRule::Units::kBlocks && scheme_.glu_block > 0) {
      if (fewest % (scheme_.glu_block * cut.num_parts) != 0) {
        return invalid_argument(
            fmt::format("glu_interleave = {} does not divide the {} rows of each over {} = {} ranks", scheme_.glu_block,
                        fewest, cut.key, cut.num_parts));
      }
      fusing.num_units = fewest / scheme_.glu_block;
    }
    return cut_rows(fusing, 0, cut, placement);
  }

  Status cut_rows(const Fusing& fusing, std::size_t tensor, const Cut& cut, DimPlacement* placement) {
    Result<DimMapPtr> map = builder_->maps().fused(fusing, tensor);
    if (!map.ok()) return map.take_status().with_context(fmt::format("{} = {}", cut.key, cut.num_parts));
    placement->map = map.take();
    return {};
  }

  /// Entries of a dim of the buffer that holds the group: of the fused one, those of all members.
  static std::int64_t extent_of(const Param& param, const FusedGroup& group, std::size_t d) {
    if (group.rule == nullptr || d != param.output) return param.dims[d].extent();
    std::int64_t extent = 0;
    for (const FusedGroup::Member& member : group.members) extent += output_of(member).extent();
    return extent;
  }

  /// FSDP's cut of one dim, inside or outside of the tensor-parallel one of the same dim.
  Status shard(const Param& param, const FusedGroup& group, std::vector<DimPlacement>* dims) {
    const Shard& shard = *scheme_.shard;
    // An expert with a buffer of its own is a parameter of its own: its dims begin behind that of the experts.
    const std::size_t first = is_apart(param, group) ? 1 : 0;
    std::size_t d = first;
    while (shard.takes_first_divisible && d < dims->size() && extent_of(param, group, d) % shard.num_parts != 0) ++d;
    if (d == dims->size()) d = first;
    const bool is_fused = group.rule != nullptr && d == param.output;
    const Axis axis = is_fused ? output_of(group.members[0]).axis : param.dims[d].axis;
    const std::optional<Cut>& cut =
        scheme_.parts[static_cast<std::size_t>(param.part)].cuts[static_cast<std::size_t>(axis)];
    const std::int64_t extent = extent_of(param, group, d);
    const std::int64_t tp = cut.has_value() ? cut->num_parts : 1;
    if (cut.has_value() && d > first && extent % (tp * shard.num_parts) != 0) {
      return invalid_argument(fmt::format(
          "FSDP2 shards dim {} evenly only, and {} entries do not divide over {} = {} times shard = {} ranks",
          d - first, extent, cut->key, tp, shard.num_parts));
    }
    std::vector<std::int64_t> sizes = {shard.num_parts};
    std::vector<int> axes = {shard.axis};
    if (cut.has_value()) {
      sizes.insert(shard.is_outer ? sizes.end() : sizes.begin(), tp);
      axes.insert(shard.is_outer ? axes.end() : axes.begin(), cut->axes.begin(), cut->axes.end());
    }
    if (!is_fused) {
      RESHARD_TRY((*dims)[d].map, builder_->maps().chunk(extent, sizes));
    } else if (shard.is_outer && tp > 1) {
      return invalid_argument("tp takes its share of every member of a fused parameter first; leave outer=shard out");
    } else {
      RESHARD_TRY((*dims)[d].map,
                  builder_->maps().fused({fused_members(param, group), tp, tp * shard.num_parts, tp == 1}, 0));
    }
    (*dims)[d].axes = std::move(axes);
    return {};
  }

  const DimMapPtr& expert_map_of(const Param& param) const {
    if (scheme_.expert_maps.size() == 1) return scheme_.expert_maps.front();
    // Maps are by layer with experts: as many as there are of those before this one.
    const auto num_layers = static_cast<std::int64_t>(model_.is_moe.size()) - model_.num_mtp_layers;
    const std::int64_t layer = param.layer + (is_mtp(model_, param) ? num_layers : 0);
    return scheme_
        .expert_maps[static_cast<std::size_t>(std::count(model_.is_moe.begin(), model_.is_moe.begin() + layer, true))];
  }

  const Scheme& scheme_;
  LayoutBuilder* builder_;
  const Model& model_;
};

}  // namespace

Status place_model(const LayoutText& text, const Scheme& scheme, LayoutBuilder* builder) {
  Placer placer(scheme, builder);
  for (std::size_t choice = 0; choice < builder->chosen().size(); ++choice) {
    Status placed = placer.place(choice);
    if (!placed.ok()) return std::move(placed).with_context("\"" + text.text() + "\"");
  }
  return {};
}

}  // namespace reshard
