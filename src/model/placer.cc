// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From a parameter's kinds of dimensions and a framework's tables to its placement. Nothing is fused in code: a
// parameter is placed in the buffer of the framework's parameter that holds it, and the dim map says which rows of that
// are whose.
#include "src/model/placer.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {
namespace {

class Placer {
 public:
  Placer(const Scheme& scheme, LayoutBuilder* builder) : scheme_(scheme), builder_(builder), model_(builder->model()) {}

  Status place(std::size_t choice) {
    const std::size_t index = builder_->chosen()[choice];
    const Param& param = builder_->param(index);
    if (scheme_.leaves_out_unserved && !param.is_on_servers) return {};
    const Members members = members_of(index);
    const std::string name = buffer_name(param, members);
    std::vector<DimPlacement> dims;
    RESHARD_TRY(cut(param, members, &dims).with_context(name));
    const std::int32_t own_stage = scheme_.stage_of(choice), last_stage = scheme_.num_stages - 1;
    for (std::int32_t stage = 0; stage < scheme_.num_stages; ++stage) {
      const bool is_outer = stack_kind(model_, param) != Stack::Kind::kLayers;
      if (stage != own_stage && !(is_outer && scheme_.repeats_outer)) continue;
      RESHARD_TRY(place_on(stage, choice, dims, name));
    }
    const bool is_tied = param.role == "embedding" && model_.tie_embeddings && !scheme_.tied_output.empty();
    if (!is_tied || own_stage == last_stage || scheme_.repeats_outer) return {};
    return place_on(last_stage, choice, dims, std::string(scheme_.tied_output));
  }

 private:
  /// The fused parameter that a parameter is part of: the rule, the members that its layer has, and which it is.
  struct Members {
    const FusedRule* rule = nullptr;  // null: it stands alone
    std::vector<const Param*> params;
    std::size_t index = 0;
  };

  Members members_of(std::size_t index) const {
    const Param& param = builder_->param(index);
    const auto has_role = [&](const FusedRule& rule) {
      return std::find(rule.roles.begin(), rule.roles.end(), param.role) != rule.roles.end();
    };
    const auto rule = std::find_if(scheme_.fused.begin(), scheme_.fused.end(), has_role);
    Members members;
    if (rule != scheme_.fused.end() && !param.role.empty()) {
      for (const std::string_view role : rule->roles) {
        const Param* found = role.empty() ? nullptr : neighbour(index, role);
        if (found == &param) members.index = members.params.size();
        if (found != nullptr) members.params.push_back(found);
      }
      members.rule = &*rule;
    }
    if (members.params.empty()) members.params.push_back(&param);
    return members;
  }

  /// The parameter with this role and the same leaf in the same layer, whose parameters stand together.
  const Param* neighbour(std::size_t index, std::string_view role) const {
    const std::vector<Param>& params = model_.params;
    const Param& param = params[index];
    const auto is_beside = [&](const Param& other) { return other.stack == param.stack && other.layer == param.layer; };
    std::size_t first = index;
    while (first > 0 && is_beside(params[first - 1])) --first;
    for (std::size_t i = first; i < params.size() && is_beside(params[i]); ++i) {
      if (params[i].role == role && params[i].leaf == param.leaf) return &params[i];
    }
    return nullptr;
  }

  std::string buffer_name(const Param& param, const Members& members) const {
    // A member that its layer has alone is a parameter of its own, with a name of its own.
    std::string_view target = members.params.size() > 1 ? members.rule->target : std::string_view();
    for (std::size_t i = 0; target.empty() && i < scheme_.names.size(); ++i) {
      if (scheme_.names[i].role == param.role) target = scheme_.names[i].target;
    }
    Param renamed = param;
    if (!target.empty()) {
      const std::size_t module = scheme_.keeps_modules ? param.stem.rfind('.') + 1 : 0;
      renamed.stem = param.stem.substr(0, module) + std::string(target);
    }
    if (renamed.stem.back() == '_') {
      renamed.stem += renamed.leaf;
      renamed.leaf.clear();
    }
    const Stack& stack = model_.stacks[static_cast<std::size_t>(param.stack)];
    if (scheme_.layer_prefix.empty() || stack.kind != Stack::Kind::kLayers) return checkpoint_name(model_, renamed);
    return fmt::format("{}.{}.{}{}{}", scheme_.layer_prefix, param.layer, renamed.stem, renamed.leaf.empty() ? "" : ".",
                       renamed.leaf);
  }

  /// The dimension along which a parameter can be fused: its outputs, behind the experts.
  static std::size_t output_dim(const Param& param) { return param.dims[0].axis == Axis::kExpert ? 1 : 0; }

  Status cut(const Param& param, const Members& members, std::vector<DimPlacement>* placements) {
    const PartRules& rules = scheme_.parts[static_cast<std::size_t>(param.part)];
    placements->resize(param.dims.size());
    for (std::size_t d = 0; d < param.dims.size(); ++d) {
      DimPlacement& placement = (*placements)[d];
      const bool is_fused = members.rule != nullptr && d == output_dim(param);
      const std::optional<Cut>& cut = rules.cuts[static_cast<std::size_t>(param.dims[d].axis)];
      if (cut.has_value()) placement.axes = cut->axes;
      if (param.dims[d].axis == Axis::kExpert && !scheme_.expert_maps.empty()) {
        placement.map = expert_map_of(param.layer);
      } else if (param.dims[d].axis == Axis::kVocab && scheme_.padded_vocab > 0 && cut.has_value()) {
        placement.map =
            builder_->maps().padded(param.dims[d].count, cut->num_parts, scheme_.padded_vocab / cut->num_parts);
      } else if (cut.has_value() || is_fused) {
        RESHARD_TRY(placement.map, cut_dim(param.dims[d], is_fused ? members : Members{}, cut.value_or(Cut{})));
      }
    }
    if (scheme_.shard.has_value() && !param.is_buffer) {
      const std::size_t d = output_dim(param);
      (*placements)[d] = {builder_->maps().chunk(param.dims[d].extent(), scheme_.shard->num_parts),
                          scheme_.shard->axes};
    }
    return {};
  }

  Result<DimMapPtr> cut_dim(const Dim& dim, const Members& members, const Cut& cut) {
    Fusing fusing{{}, cut.num_parts, cut.num_parts};
    const auto add = [&](const Dim& d) { fusing.members.push_back({d.count, d.each, d.axis == Axis::kKvHead}); };
    if (members.rule == nullptr) {
      add(dim);
    } else {
      for (const Param* member : members.params) add(member->dims[output_dim(*member)]);
      if (members.rule->units == FusedRule::Units::kGroups) {
        for (const FusedMember& member : fusing.members) {
          fusing.num_units = &member == &fusing.members[0] ? member.count : std::min(fusing.num_units, member.count);
        }
      }
    }
    Result<DimMapPtr> map = builder_->maps().fused(fusing, members.index);
    if (!map.ok()) return map.take_status().with_context(fmt::format("{} = {}", cut.key, cut.num_parts));
    return map;
  }

  const DimMapPtr& expert_map_of(std::int64_t layer) const {
    if (scheme_.expert_maps.size() == 1) return scheme_.expert_maps.front();
    // Maps are by layer with experts: as many as there are of those before this one.
    return scheme_
        .expert_maps[static_cast<std::size_t>(std::count(model_.is_moe.begin(), model_.is_moe.begin() + layer, true))];
  }

  Status place_on(std::int32_t stage, std::size_t choice, const std::vector<DimPlacement>& dims,
                  const std::string& name) {
    const PartRules& rules = scheme_.parts[static_cast<std::size_t>(builder_->param(builder_->chosen()[choice]).part)];
    std::vector<int> order = rules.order.size() == dims.size() ? rules.order : std::vector<int>();
    return builder_->place(choice, rules.meshes[static_cast<std::size_t>(stage)], dims, name, std::move(order));
  }

  const Scheme& scheme_;
  LayoutBuilder* builder_;
  const Model& model_;
};

}  // namespace

Status place_model(const LayoutText& text, const Scheme& scheme, LayoutBuilder* builder) {
  Placer placer(scheme, builder);
  for (std::size_t choice = 0; choice < builder->chosen().size(); ++choice) {
    RESHARD_TRY(placer.place(choice).with_context("\"" + text.text() + "\""));
  }
  return {};
}

}  // namespace reshard
