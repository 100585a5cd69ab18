// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string_view>

#include "perf/data/element_source.h"
#include "perf/data/quantised.h"

namespace reshard::perf {

/// 64-bit FNV-1a of the bytes of `text`.
std::uint64_t fnv1a64(std::string_view text);

/// The next output of a splitmix64 generator whose state is `state`.
constexpr std::uint64_t splitmix64(std::uint64_t state) {
  std::uint64_t z = state + 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/// Element i of the tensor named s: the low bits of z = splitmix64(fnv1a64(s) + i), z & 1 for BOOL, and the number
/// (z mod 255) - 127 where the dtypes of the two sides differ.
class FormulaSource final : public ElementSource {
 public:
  void read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype,
            std::byte* out) const override;

 private:
  mutable QuantisedValues quantised_;  // keeps scales that it has computed
};

}  // namespace reshard::perf
