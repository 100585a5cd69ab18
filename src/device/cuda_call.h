// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What calls of CUDA return, as Status. Only for files of this room that are built with CUDA.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "src/base/status.h"

namespace reshard {

/// OK for cudaSuccess; else the call, the code's name and its text. Also clears the error that the runtime keeps for
/// cudaGetLastError: it has been told, and the next launch must not report it as its own.
Status cuda_status(std::string_view call, cudaError_t code);

/// The same for a call of the driver, which keeps nothing.
Status driver_status(std::string_view call, CUresult code);

/// Whether the code says that the process has lost its context, so that every later call fails, too. What could not be
/// mapped or allocated is tried in another way; this cannot be.
bool is_lost(cudaError_t code);
bool is_lost(CUresult code);

/// "13.0" for 13000
std::string version_text(int version);

}  // namespace reshard
