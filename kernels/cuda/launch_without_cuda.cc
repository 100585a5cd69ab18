// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// For a build without the CUDA toolkit.
#include "kernels/cuda/launch.h"

namespace reshard {
namespace {

Status no_cuda(const char* what) {
  return {RESHARD_ERR_NOT_SUPPORTED, std::string(what) +
                                         ": this build has no CUDA; configure it with RESHARD_CUDA=ON where the CUDA "
                                         "toolkit 13.0 or newer is installed"};
}

}  // namespace

Status launch_copies(const DeviceTable&, const TileRange& batch, int, void*) {
  return batch.empty() ? Status() : no_cuda("launch of copies");
}

Status launch_copies_in_bulk(const DeviceTable& table, const TileRange& batch, int num_blocks, void* stream) {
  return launch_copies(table, batch, num_blocks, stream);
}

Status launch_wait_flags(const WaitFlags&, void*) {
  return no_cuda("launch of a wait for flags");
}

Status launch_set_flags(std::uint64_t* const*, std::int64_t, const std::uint64_t*, void*) {
  return no_cuda("launch of setting flags");
}

Status launch_advance_epoch(std::uint64_t*, std::uint64_t*, void*) {
  return no_cuda("launch of a new epoch");
}

}  // namespace reshard
