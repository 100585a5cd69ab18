// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>

#include "src/api/handles.h"

namespace reshard::api {

/// What is done to the options of a binding once the caller's arguments were found right; an error is this rank's vote.
using AmendOptions = std::function<Status(BindOptions*)>;

/// What a call that binds does beside what a binding does.
struct Amendment {
  BindCall call = BindCall::kCreateBinding;
  Status arguments = {};  ///< what of the call was wrong beside the description
  AmendOptions amend;
};

/// Collective. Binds what the description says.
Status bind(const reshard_binding_desc_t& desc, Amendment amendment, reshard_binding* made);

/// As AmendOptions, for the options of an update.
using AmendUpdate = std::function<Status(UpdateOptions*)>;

/// Collective. Goes on with the plan that the description says; on failure the binding is as it was.
Status rebind(const reshard_binding_desc_t& desc, BindCall call, const AmendUpdate& amend, reshard_binding* binding);

}  // namespace reshard::api
