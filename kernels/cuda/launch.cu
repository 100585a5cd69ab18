// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "kernels/cuda/launch.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/cuda/copy_tiles.cuh"
#include "kernels/cuda/flags.cuh"
#include "kernels/cuda/params.h"

namespace reshard {
namespace {

Status status_of(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return {};
  // The error of this launch is reported here; it must not surface as that of the caller's next call.
  static_cast<void>(cudaGetLastError());
  const bool is_missing = error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice ||
                          error == cudaErrorNoKernelImageForDevice || error == cudaErrorUnsupportedPtxVersion;
  const std::string message = what + ": " + cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")";
  return {is_missing ? RESHARD_ERR_NOT_SUPPORTED : RESHARD_ERR_TRANSPORT, message};
}

template <typename Params>
Status launch(void (*kernel)(Params), Params params, int num_blocks, int num_threads, void* stream, const char* what) {
  void* arguments[] = {&params};
  const cudaError_t error =
      cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(num_blocks)),
                       dim3(static_cast<unsigned>(num_threads)), arguments, 0, static_cast<cudaStream_t>(stream));
  return status_of(error, what);
}

Status launch_tiles(void (*kernel)(cuda::CopyBatch), const DeviceTable& table, const TileRange& batch, int num_blocks,
                    void* stream) {
  if (batch.empty()) return {};
  if (table.address == nullptr || num_blocks < 1) {
    return invalid_argument("launch of copies: " + std::to_string(num_blocks) + " thread blocks (at least 1)" +
                            (table.address == nullptr ? ", and the table was not uploaded" : ""));
  }
  const std::int64_t blocks = cuda::num_blocks_of(batch, num_blocks);
  return launch(kernel, cuda::copy_batch(table, batch, blocks), static_cast<int>(blocks),
                static_cast<int>(cuda::kBlockThreads), stream, "launch of copies");
}

}  // namespace

Status launch_copies(const DeviceTable& table, const TileRange& batch, int num_blocks, void* stream) {
  const auto kernel = batch.has_scales ? cuda::copy_scaled_tiles : cuda::copy_tiles;
  return launch_tiles(kernel, table, batch, num_blocks, stream);
}

Status launch_copies_in_bulk(const DeviceTable& table, const TileRange& batch, int num_blocks, void* stream) {
  const auto kernel = batch.has_scales ? cuda::copy_scaled_tiles : cuda::copy_tiles_in_bulk;
  return launch_tiles(kernel, table, batch, num_blocks, stream);
}

Status launch_wait_flags(const WaitFlags& wait, void* stream) {
  return launch(cuda::wait_flags, wait, 1, 32, stream, "launch of a wait for flags");
}

Status launch_set_flags(std::uint64_t* const* flags, std::int64_t num_flags, const std::uint64_t* epoch, void* stream) {
  return launch(cuda::set_flags, cuda::SetFlags{flags, num_flags, epoch}, 1, 32, stream, "launch of setting flags");
}

Status launch_advance_epoch(std::uint64_t* epoch, std::uint64_t* mirror, void* stream) {
  return launch(cuda::advance_epoch, cuda::AdvanceEpoch{epoch, mirror}, 1, 32, stream, "launch of a new epoch");
}

}  // namespace reshard
