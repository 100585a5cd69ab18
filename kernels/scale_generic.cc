// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Quantising, dequantising and largest magnitudes in plain C++. Limited by instructions, ten or so for an element.
#include "kernels/scale_rows.h"

namespace reshard {

template <int kType>
void quantise_rows(const ScaledPiece& scaled) {
  for_each_run<WideElements<kType>::kBytes, 1>(
      scaled, [](const std::byte* src, std::byte* dst, std::int64_t count, float scale) {
        quantise_run<kType>(src, dst, count, scale_bits::reciprocal(scale));
      });
}

template <int kType>
void dequantise_rows(const ScaledPiece& scaled) {
  for_each_run<1, WideElements<kType>::kBytes>(
      scaled, [](const std::byte* src, std::byte* dst, std::int64_t count, float scale) {
        dequantise_run<kType>(src, dst, count, scale);
      });
}

template <int kType>
std::uint32_t max_magnitude(const std::byte* src, std::int64_t count) {
  return max_magnitude_of<kType>(src, count);
}

template void quantise_rows<RowKernels::kF32>(const ScaledPiece&);
template void quantise_rows<RowKernels::kBF16>(const ScaledPiece&);
template void dequantise_rows<RowKernels::kF32>(const ScaledPiece&);
template void dequantise_rows<RowKernels::kBF16>(const ScaledPiece&);
template std::uint32_t max_magnitude<RowKernels::kF32>(const std::byte*, std::int64_t);
template std::uint32_t max_magnitude<RowKernels::kBF16>(const std::byte*, std::int64_t);

}  // namespace reshard
