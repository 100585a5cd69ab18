// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The words that kernels move. Included where uint4 is known: from CUDA, or from what stands for it.
#ifndef RESHARD_KERNELS_CUDA_WORD_CUH
#define RESHARD_KERNELS_CUDA_WORD_CUH

#include <cstdint>

namespace reshard::cuda {

/// A machine word of so many bytes.
template <int kBytes>
struct WordOf;
template <>
struct WordOf<1> {
  using Type = std::uint32_t;  // loads zero-extend; the upper bits are not stored
};
template <>
struct WordOf<2> {
  using Type = std::uint16_t;
};
template <>
struct WordOf<4> {
  using Type = std::uint32_t;
};
template <>
struct WordOf<8> {
  using Type = std::uint64_t;
};
template <>
struct WordOf<16> {
  using Type = uint4;
};
template <int kBytes>
using Word = typename WordOf<kBytes>::Type;

}  // namespace reshard::cuda

#endif
