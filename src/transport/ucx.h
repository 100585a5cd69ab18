// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// With ucx_signals.h all of UCX that the rest of the library sees: UCX's own headers are included in this room only.
#pragma once

#include <memory>
#include <string>

#include "src/transport/bootstrap.h"
#include "src/transport/transport.h"

namespace reshard {

/// Connects the ranks of the bootstrap over UCX. Collective. To be called after the last fork(). UCX reads its own
/// UCX_* variables; what the user sets there wins over what reshard would choose.
/// `net_devices`, unless empty, are the only network devices that this rank uses, by UCX's names, with commas between
/// them; RESHARD_ERR_INVALID_ARGUMENT when UCX has none of them. Shared memory is used in any case.
Result<std::unique_ptr<Transport>> create_ucx_transport(std::unique_ptr<Bootstrap> bootstrap,
                                                        const std::string& net_devices, const Deadline& deadline);

}  // namespace reshard
