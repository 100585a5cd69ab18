// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <vector>

#include "src/model/parameter.h"
#include "src/model/placer.h"

namespace reshard {

/// A framework's parameter that holds a parameter of the checkpoint, or pieces of it: the rule, and the members that
/// the layer has, in memory order.
struct FusedGroup {
  struct Member {
    const Param* param = nullptr;
    const OutputPiece* piece = nullptr;  ///< null: all outputs
  };
  const FusedRule* rule = nullptr;  ///< null: the parameter stands alone
  std::vector<Member> members;

  /// Whether the framework's parameter has the rule's name: it holds pieces, or several parameters.
  bool is_renamed() const { return members.size() > 1 || (members.size() == 1 && members[0].piece != nullptr); }

  /// Whether it is one parameter of the checkpoint, with other rows in each part: all of one's pieces, nothing beside.
  bool is_one_parameter() const;
};

/// The framework's parameters that hold params[index] of the model: one, or several where its pieces go apart.
std::vector<FusedGroup> fused_groups(const Model& model, std::size_t index, const std::vector<FusedRule>& rules);

}  // namespace reshard
