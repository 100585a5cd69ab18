// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How communicators are made and ended.
#pragma once

#include <nccl.h>

#include "tests/doubles/nccl/comm.h"

namespace nccl_double {

ncclResult_t make_comm(ncclComm_t* out, int num_ranks, const ncclUniqueId& id, int rank, const ncclConfig_t& config);
ncclResult_t finalize_comm(Comm* comm);
ncclResult_t revoke_comm(Comm* comm, int flags);
/// These free the handle, unless they fail.
ncclResult_t destroy_comm(ncclComm_t handle, Comm* comm);
ncclResult_t abort_comm(ncclComm_t handle, Comm* comm);

}  // namespace nccl_double
