// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <initializer_list>
#include <random>

namespace reshard::optimum {

/// The same numbers from one seed with every standard library, as those of its distributions are not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : bits_(seed) {}

  /// Of [least, most].
  int between(int least, int most) {
    return least + static_cast<int>(bits_() % (static_cast<std::uint64_t>(most - least) + 1));
  }
  bool one_in(int n) { return between(1, n) == 1; }
  template <typename T>
  T of(std::initializer_list<T> values) {
    return values.begin()[between(0, static_cast<int>(values.size()) - 1)];
  }

 private:
  std::mt19937_64 bits_;
};

}  // namespace reshard::optimum
