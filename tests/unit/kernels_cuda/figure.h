// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdio>
#include <string>

namespace reshard::testing {

/// A figure that a test has come by, for people and for perf/figures/measure.py. Goals that are there are tested, too.
struct Figure {
  std::string key;
  std::string text;
  double value = 0;
  std::string unit;
  double most = 0;  ///< the goal; 0: there is none
};

inline void print_figure(const Figure& figure) {
  std::printf("[figure] {\"key\": \"%s\", \"text\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"most\": %g}\n",
              figure.key.c_str(), figure.text.c_str(), figure.value, figure.unit.c_str(), figure.most);
}

}  // namespace reshard::testing
