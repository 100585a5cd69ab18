// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>

#include "src/model/fused_groups.h"
#include "src/model/placer.h"

namespace reshard {

/// What a framework calls a parameter: the rule's target, and whether the leaf follows it. Empty: the stem.
NameRule name_rule(const Scheme& scheme, const Param& param, const FusedGroup& group);

/// Where the layers of the parameter's stack are; null: all on stage 0.
const Stages* stages_for(const Scheme& scheme, const Model& model, const Param& param);

/// The name of the buffer that holds the group. `slot`: of the expert that the buffer is for; -1: it is for all of
/// them, or for none.
std::string buffer_name(const Scheme& scheme, const Model& model, const Param& param, const FusedGroup& group,
                        std::int64_t slot = -1);

}  // namespace reshard
