// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "tests/doubles/nccl/comm.h"

namespace nccl_double {

/// The communicator's asynchronous error becomes this code, and that of its other ranks ncclRemoteError.
void break_comm(const Comm& comm, ncclResult_t code);

}  // namespace nccl_double
