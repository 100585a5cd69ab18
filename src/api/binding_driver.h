// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "src/api/handles.h"

namespace reshard::api {

/// The description as this version has it, from one of this version or of an older one.
Result<reshard_binding_desc_t> read_binding_desc(const reshard_binding_desc_t* given);

/// Collective. Which driver runs the binding: sets BindOptions::nccl, and what reshard_binding_get_driver tells. Where
/// the driver that is asked for cannot be had on this rank, the reason becomes options->arguments, unless there is one
/// already. Returned are only errors that all ranks have.
Status choose(const reshard_binding_desc_t& desc, const Result<std::int32_t>& device, reshard_binding* made,
              BindOptions* options);

/// Whether the description of an update leaves the comm and the driver of the binding as they are.
Status check_update(const reshard_binding_desc_t& desc, const reshard_binding& binding);

}  // namespace reshard::api
