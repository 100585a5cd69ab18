// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Row kernels in plain C++: any processor, any alignment. Limited by memory for rows that the library's memcpy takes,
// by instructions for shorter ones; the compiler vectorises the conversions.
#include <cstring>
#include <utility>

#include "kernels/copy_list.h"
#include "kernels/float_bits.h"
#include "kernels/rows.h"
#include "kernels/scale_rows.h"

namespace reshard {
namespace {

struct Bytes16 {
  std::uint64_t words[2];
};
struct Bytes32 {
  std::uint64_t words[4];
};

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T>
void store(std::byte* to, const T& value) {
  std::memcpy(to, &value, sizeof(T));
}

// Rows of sizeof(T) to 2 * sizeof(T) bytes: their first and last sizeof(T) bytes, which may overlap.
template <typename T>
void copy_ends(Piece piece) {
  const std::int64_t tail = piece.cols.extent - static_cast<std::int64_t>(sizeof(T));
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    const T first = load<T>(src);
    const T last = load<T>(src + tail);
    store(dst, first);
    store(dst + tail, last);
    src += piece.rows.src_stride;
    dst += piece.rows.dst_stride;
  }
}

void copy_rows(Piece piece) {
  const std::int64_t row_bytes = piece.cols.extent;
  if (row_bytes <= 1) return copy_ends<std::uint8_t>(piece);
  if (row_bytes <= 4) return copy_ends<std::uint16_t>(piece);
  if (row_bytes <= 8) return copy_ends<std::uint32_t>(piece);
  if (row_bytes <= 16) return copy_ends<std::uint64_t>(piece);
  if (row_bytes <= 32) return copy_ends<Bytes16>(piece);
  if (row_bytes <= 64) return copy_ends<Bytes32>(piece);
  const std::byte* src = piece.src;
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    std::memcpy(dst, src, static_cast<std::size_t>(row_bytes));
    src += piece.rows.src_stride;
    dst += piece.rows.dst_stride;
  }
}

template <typename T>
void fill_ends(Piece piece) {
  const std::int64_t tail = piece.cols.extent - static_cast<std::int64_t>(sizeof(T));
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    store(dst, T{});
    store(dst + tail, T{});
    dst += piece.rows.dst_stride;
  }
}

void fill_rows(Piece piece) {
  const std::int64_t row_bytes = piece.cols.extent;
  if (row_bytes <= 1) return fill_ends<std::uint8_t>(piece);
  if (row_bytes <= 4) return fill_ends<std::uint16_t>(piece);
  if (row_bytes <= 8) return fill_ends<std::uint32_t>(piece);
  if (row_bytes <= 16) return fill_ends<std::uint64_t>(piece);
  if (row_bytes <= 32) return fill_ends<Bytes16>(piece);
  std::byte* dst = piece.dst;
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    std::memset(dst, 0, static_cast<std::size_t>(row_bytes));
    dst += piece.rows.dst_stride;
  }
}

// Any strides. The longer loop is the inner one: a piece lies in the first-level cache, so the order costs nothing.
template <typename T>
void copy_strided(Piece piece) {
  CopyDim inner = piece.cols;
  CopyDim outer = piece.rows;
  if (inner.extent < outer.extent) std::swap(inner, outer);
  for (std::int64_t i = 0; i < outer.extent; ++i) {
    const std::byte* src = piece.src + i * outer.src_stride;
    std::byte* dst = piece.dst + i * outer.dst_stride;
    for (std::int64_t j = 0; j < inner.extent; ++j) {
      store(dst, load<T>(src));
      src += inner.src_stride;
      dst += inner.dst_stride;
    }
  }
}

template <int kType>
using Stored = std::conditional_t<kType == RowKernels::kF32, float, std::uint16_t>;

template <int kType>
float to_f32(Stored<kType> value) {
  if constexpr (kType == RowKernels::kF32)
    return value;
  else if constexpr (kType == RowKernels::kBF16)
    return float_bits::f32_from_bf16(value);
  else
    return float_bits::f32_from_f16(value);
}

template <int kType>
Stored<kType> from_f32(float value) {
  if constexpr (kType == RowKernels::kF32)
    return value;
  else if constexpr (kType == RowKernels::kBF16)
    return float_bits::bf16_from_f32(value);
  else
    return float_bits::f16_from_f32(value);
}

template <int kSrc, int kDst>
void convert_rows(Piece piece) {
  constexpr std::int64_t kSrcBytes = sizeof(Stored<kSrc>);
  constexpr std::int64_t kDstBytes = sizeof(Stored<kDst>);
  for (std::int64_t row = 0; row < piece.rows.extent; ++row) {
    const std::byte* __restrict src = piece.src + row * piece.rows.src_stride;
    std::byte* __restrict dst = piece.dst + row * piece.rows.dst_stride;
    for (std::int64_t i = 0; i < piece.cols.extent; ++i) {
      store(dst + i * kDstBytes, from_f32<kDst>(to_f32<kSrc>(load<Stored<kSrc>>(src + i * kSrcBytes))));
    }
  }
}

void no_prefetch(Piece /*piece*/) {}

void no_fence() {}

}  // namespace

const RowKernels& generic_row_kernels() {
  static constexpr RowKernels kKernels = {
      .copy_cached = copy_rows,
      .copy_streaming = copy_rows,
      .fill_cached = fill_rows,
      .fill_streaming = fill_rows,
      .convert = {{nullptr, convert_rows<0, 1>, convert_rows<0, 2>},
                  {convert_rows<1, 0>, nullptr, convert_rows<1, 2>},
                  {convert_rows<2, 0>, convert_rows<2, 1>, nullptr}},
      .transpose = {copy_strided<std::uint8_t>, copy_strided<std::uint16_t>, copy_strided<std::uint32_t>,
                    copy_strided<std::uint64_t>, copy_strided<Bytes16>},
      .strided = {copy_strided<std::uint8_t>, copy_strided<std::uint16_t>, copy_strided<std::uint32_t>,
                  copy_strided<std::uint64_t>, copy_strided<Bytes16>},
      .quantise = {quantise_rows<0>, quantise_rows<1>},
      .dequantise = {dequantise_rows<0>, dequantise_rows<1>},
      .max_magnitude = {max_magnitude<0>, max_magnitude<1>},
      .prefetch = no_prefetch,
      .fence = no_fence,
  };
  return kKernels;
}

const RowKernels& best_row_kernels() {
  const RowKernels* const avx2 = avx2_row_kernels();
  return avx2 != nullptr ? *avx2 : generic_row_kernels();
}

std::uint16_t bf16_from_f32(float value) {
  return float_bits::bf16_from_f32(value);
}
std::uint16_t f16_from_f32(float value) {
  return float_bits::f16_from_f32(value);
}
float f32_from_bf16(std::uint16_t bits) {
  return float_bits::f32_from_bf16(bits);
}
float f32_from_f16(std::uint16_t bits) {
  return float_bits::f32_from_f16(bits);
}

}  // namespace reshard
