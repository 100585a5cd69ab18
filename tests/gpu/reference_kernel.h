// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "kernels/canonical_op.h"
#include "src/base/status.h"

namespace reshard::testing {

/// Queues the copy on the device, an element a thread (reference_element.h). `stream` is a cudaStream_t.
Status launch_reference_copy(const CopyOp& op, void* stream);

}  // namespace reshard::testing
