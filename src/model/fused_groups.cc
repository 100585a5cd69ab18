// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/fused_groups.h"

#include <algorithm>

namespace reshard {
namespace {

bool has_role(const FusedRule& rule, std::string_view role) {
  return !role.empty() && std::find(rule.roles.begin(), rule.roles.end(), role) != rule.roles.end();
}

/// Whether a rule holds something of a parameter: it as a whole, or one of its pieces.
bool holds(const FusedRule& rule, const Param& param) {
  return has_role(rule, param.role) ||
         std::any_of(param.pieces.begin(), param.pieces.end(),
                     [&](const OutputPiece& piece) { return has_role(rule, piece.role); });
}

/// What of a parameter has this role in the rule. A rule that names a parameter as a whole does not look at its pieces.
void add_members(const Param& param, const FusedRule& rule, std::string_view role, FusedGroup* group) {
  if (param.role == role) group->members.push_back({&param, nullptr});
  if (has_role(rule, param.role)) return;
  for (const OutputPiece& piece : param.pieces) {
    if (piece.role == role) group->members.push_back({&param, &piece});
  }
}

}  // namespace

bool FusedGroup::is_one_parameter() const {
  const Param* first = members.front().param;
  return members.size() == std::max<std::size_t>(1, first->pieces.size()) &&
         std::all_of(members.begin(), members.end(), [&](const Member& member) { return member.param == first; });
}

std::vector<FusedGroup> fused_groups(const Model& model, std::size_t index, const std::vector<FusedRule>& rules) {
  const std::vector<Param>& params = model.params;
  const Param& param = params[index];
  const auto is_beside = [&](const Param& other) { return other.stack == param.stack && other.layer == param.layer; };
  std::vector<FusedGroup> groups;
  for (const FusedRule& rule : rules) {
    if (!holds(rule, param)) continue;
    // The parameters of a layer stand together.
    std::size_t first = index, end = index + 1;
    while (first > 0 && is_beside(params[first - 1])) --first;
    while (end < params.size() && is_beside(params[end])) ++end;
    FusedGroup& group = groups.emplace_back();
    group.rule = &rule;
    for (const std::string_view role : rule.roles) {
      for (std::size_t i = first; i < end && !role.empty(); ++i) {
        if (params[i].leaf == param.leaf) add_members(params[i], rule, role, &group);
      }
    }
    if (has_role(rule, param.role)) break;  // all of it is placed
  }
  // Pieces of which a framework knows but some are not taken apart: all of the parameter must lie somewhere.
  std::size_t num_held = 0;
  for (const FusedGroup& group : groups) {
    for (const FusedGroup::Member& member : group.members) num_held += member.param == &param ? 1 : 0;
  }
  const bool is_partly_held =
      !groups.empty() && !has_role(*groups.back().rule, param.role) && num_held < param.pieces.size();
  if (is_partly_held) groups.clear();
  if (groups.empty()) groups.push_back({nullptr, {{&param, nullptr}}});
  return groups;
}

}  // namespace reshard
