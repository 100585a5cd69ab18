// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/data/formula.h"

#include <array>

#include "perf/data/convert.h"
#include "perf/engine/error.h"

namespace reshard::perf {
namespace {

/// `out` holds elements of sizeof(T) bytes and is aligned for them.
template <typename T, typename F>
void generate(std::uint64_t seed, std::int64_t count, std::byte* out, F&& value_of) {
  T* elements = reinterpret_cast<T*>(out);
  for (std::int64_t i = 0; i < count; ++i) {
    elements[i] = static_cast<T>(value_of(splitmix64(seed + static_cast<std::uint64_t>(i))));
  }
}

void generate_bits(std::uint64_t seed, std::int64_t count, std::size_t size_bytes, std::byte* out) {
  const auto bits = [](std::uint64_t z) { return z; };
  if (size_bytes == 1) generate<std::uint8_t>(seed, count, out, bits);
  if (size_bytes == 2) generate<std::uint16_t>(seed, count, out, bits);
  if (size_bytes == 4) generate<std::uint32_t>(seed, count, out, bits);
  if (size_bytes == 8) generate<std::uint64_t>(seed, count, out, bits);
}

/// The 255 numbers, which all three convertible dtypes hold exactly: so the value of an element does not depend on
/// which side's dtype it was computed in, nor on how often it was converted.
template <typename T>
void generate_numbers(std::uint64_t seed, std::int64_t count, reshard_dtype_t dtype, std::byte* out) {
  std::array<T, 255> numbers;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    store_number(dtype, static_cast<float>(i) - 127.0f, reinterpret_cast<std::byte*>(&numbers[i]));
  }
  generate<T>(seed, count, out, [&](std::uint64_t z) { return numbers[z % 255]; });
}

}  // namespace

std::uint64_t fnv1a64(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

void FormulaSource::read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype,
                         std::byte* out) const {
  if (tensor.quant != nullptr) return quantised_.read(tensor, first, count, dtype, out);
  // By name and index alone: any rank computes any element, whoever holds it, and checks what it got by itself.
  const std::uint64_t seed = fnv1a64(tensor.name) + static_cast<std::uint64_t>(first);
  if (tensor.src_dtype == tensor.dst_dtype) {
    if (dtype == RESHARD_BOOL) return generate<std::uint8_t>(seed, count, out, [](std::uint64_t z) { return z & 1; });
    return generate_bits(seed, count, reshard_dtype_size_bytes(dtype), out);
  }
  if (!is_convertible(dtype)) fail("tensor {}: no formula for {}", tensor.name, reshard_dtype_name(dtype));
  if (dtype == RESHARD_F32) return generate_numbers<std::uint32_t>(seed, count, dtype, out);
  generate_numbers<std::uint16_t>(seed, count, dtype, out);
}

}  // namespace reshard::perf
