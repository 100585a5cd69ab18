// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Opens memory for a kernel when it touches it. What a kernel will touch nobody knows before, and to open all that it
// may touch takes 20 ms where there are a thousand allocations.
#pragma once

namespace cuda_double {

/// From now on this thread runs kernels of the device; -1: none any more. What it touches is opened, if the device may.
void set_kernel_device(int device);

}  // namespace cuda_double
