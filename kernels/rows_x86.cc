// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "kernels/rows.h"
#include "kernels/x86.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace reshard {

#if defined(__x86_64__)
namespace {

// Asks the processor itself: clang 14 knows no such name in __builtin_cpu_supports.
bool has_f16c() {
  unsigned int eax = 0;
  unsigned int ebx = 0;
  unsigned int ecx = 0;
  unsigned int edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

}  // namespace

const RowKernels* avx2_row_kernels() {
  static const bool is_supported = __builtin_cpu_supports("avx2") && has_f16c();
  static const RowKernels kernels = [] {
    RowKernels table = generic_row_kernels();
    set_copy_avx2(&table);
    set_stream_avx2(&table);
    set_convert_avx2(&table);
    set_transpose_avx2(&table);
    set_scale_avx2(&table);
    return table;
  }();
  return is_supported ? &kernels : nullptr;
}

#else

const RowKernels* avx2_row_kernels() {
  return nullptr;
}

#endif

}  // namespace reshard
