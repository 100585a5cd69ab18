// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/break.h"

namespace nccl_double {

void break_comm(const Comm& comm, ncclResult_t code) {
  for (int rank = 0; rank < comm.clique->num_ranks(); ++rank) {
    std::int32_t none = ncclSuccess;
    comm.clique->rank(rank).async_error.compare_exchange_strong(none, rank == comm.rank ? code : ncclRemoteError);
  }
}

}  // namespace nccl_double

extern "C" void nccl_double_break(void* handle, int code) {
  const std::lock_guard<std::recursive_mutex> lock(nccl_double::cuda().mutex());
  const auto comm = nccl_double::comm_of(static_cast<ncclComm_t>(handle), "nccl_double_break");
  if (comm != nullptr) nccl_double::break_comm(*comm, static_cast<ncclResult_t>(code));
}
