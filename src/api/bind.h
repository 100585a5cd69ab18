// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>

#include "src/api/handles.h"

namespace reshard::api {

/// What is done to the options of a binding once the caller's arguments were found right; an error is this rank's vote.
using AmendOptions = std::function<Status(BindOptions*)>;

/// Collective. Binds what the description says. `arguments`: what of the call was wrong beside the description.
Status bind(const reshard_binding_desc_t& desc, Status arguments, const AmendOptions& amend, reshard_binding* made);

}  // namespace reshard::api
