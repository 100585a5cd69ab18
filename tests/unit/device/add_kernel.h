// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

/// Queues out[i] = in[i] + value; a cudaError_t. `stream` is a cudaStream_t.
int launch_add(int* out, const int* in, int num_elements, int value, void* stream);
