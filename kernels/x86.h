// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include "kernels/piece.h"

#if defined(__x86_64__)
#include <immintrin.h>

/// Compiles one function for AVX2 and F16C while the rest of the library stays at the architecture's baseline.
#define RESHARD_AVX2 __attribute__((target("avx2,f16c")))

namespace reshard {

// RowKernels::transpose of 1, 2, 4 and 8 byte elements.
void transpose_8bit_avx2(const Piece& piece);
void transpose_16bit_avx2(const Piece& piece);
void transpose_32bit_avx2(const Piece& piece);
void transpose_64bit_avx2(const Piece& piece);

}  // namespace reshard
#endif
