// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "tests/doubles/cuda/capture.h"

namespace cuda_double {

cudaGraph_t add_graph(std::shared_ptr<Graph> graph);

/// Of cudaThreadExchangeStreamCaptureMode.
cudaStreamCaptureMode& thread_capture_mode();

}  // namespace cuda_double
