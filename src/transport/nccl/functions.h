// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The functions of NCCL that are used here. Only for sources of this room that are built with NCCL's header: the types
// come from it, so that a call that does not fit it does not compile.
#pragma once

#include <nccl.h>

#include <string_view>

#include "src/base/status.h"

namespace reshard {

#define RESHARD_NCCL_FUNCTIONS(F) \
  F(ncclGetVersion)               \
  F(ncclGetErrorString)           \
  F(ncclGetLastError)             \
  F(ncclGetUniqueId)              \
  F(ncclCommInitRankConfig)       \
  F(ncclCommFinalize)             \
  F(ncclCommDestroy)              \
  F(ncclCommAbort)                \
  F(ncclCommGetAsyncError)        \
  F(ncclCommCount)                \
  F(ncclCommUserRank)             \
  F(ncclCommCuDevice)             \
  F(ncclGroupStart)               \
  F(ncclGroupEnd)                 \
  F(ncclSend)                     \
  F(ncclRecv)

struct NcclFunctions {
#define RESHARD_NCCL_MEMBER(name) decltype(&::name) name = nullptr;
  RESHARD_NCCL_FUNCTIONS(RESHARD_NCCL_MEMBER)
#undef RESHARD_NCCL_MEMBER
  /// Null before 2.28.7. Its type is written out, for the header may be older than the library.
  // NOLINTNEXTLINE(readability-identifier-naming): as NCCL has it
  ncclResult_t (*ncclCommRevoke)(ncclComm_t comm, int flags) = nullptr;
};

/// OK for ncclSuccess and ncclInProgress; else the call, the code's text, and what NCCL says of its last error. `comm`
/// may be null.
Status nccl_status(const NcclFunctions& nccl, std::string_view call, ncclResult_t code, ncclComm_t comm);

}  // namespace reshard
