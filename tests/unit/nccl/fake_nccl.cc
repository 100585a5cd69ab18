// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Libraries that call themselves NCCL, for tests of how one is found and loaded: nothing of them is ever used. Built
// several times: FAKE_VERSION is what it claims, FAKE_WITHOUT_SEND and FAKE_WITHOUT_REVOKE leave functions out.
#include <nccl.h>

#define FAKE_FUNCTION(name, ...)   \
  ncclResult_t name(__VA_ARGS__) { \
    return ncclInternalError;      \
  }

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = FAKE_VERSION;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t) {
  return "the fake does nothing";
}
const char* ncclGetLastError(ncclComm_t) {
  return "";
}
FAKE_FUNCTION(ncclGetUniqueId, ncclUniqueId*)
FAKE_FUNCTION(ncclCommInitRankConfig, ncclComm_t*, int, ncclUniqueId, int, ncclConfig_t*)
FAKE_FUNCTION(ncclCommFinalize, ncclComm_t)
FAKE_FUNCTION(ncclCommDestroy, ncclComm_t)
FAKE_FUNCTION(ncclCommAbort, ncclComm_t)
FAKE_FUNCTION(ncclCommGetAsyncError, ncclComm_t, ncclResult_t*)
FAKE_FUNCTION(ncclCommCount, const ncclComm_t, int*)
FAKE_FUNCTION(ncclCommUserRank, const ncclComm_t, int*)
FAKE_FUNCTION(ncclCommCuDevice, const ncclComm_t, int*)
FAKE_FUNCTION(ncclGroupStart)
FAKE_FUNCTION(ncclGroupEnd)
FAKE_FUNCTION(ncclRecv, void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)
#ifndef FAKE_WITHOUT_SEND
FAKE_FUNCTION(ncclSend, const void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)
#endif
#ifndef FAKE_WITHOUT_REVOKE
FAKE_FUNCTION(ncclCommRevoke, ncclComm_t, int)
#endif

}  // extern "C"
