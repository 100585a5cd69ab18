// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>

namespace reshard {

/// Holds the product of two 64-bit counts: bytes times a capacity, a capacity times permille.
__extension__ using Wide = __int128;

/// a / b, rounded up. @pre a >= 0, b > 0, and the quotient fits 64 bits
template <typename A, typename B>
constexpr std::int64_t ceil_div(A a, B b) {
  return static_cast<std::int64_t>((a + b - 1) / b);
}

}  // namespace reshard
