// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

#include <tuple>

#include "tests/unit/transport/ranks.h"

namespace reshard::test {

using ConformanceCase = std::tuple<Kind, std::int32_t>;

class Conformance : public testing::TestWithParam<ConformanceCase> {
 protected:
  Kind kind() const { return std::get<0>(GetParam()); }
  std::int32_t num_ranks() const { return std::get<1>(GetParam()); }
  void run(const Scenario& scenario, const std::set<int>& mortal = {}) const {
    EXPECT_EQ(run_ranks(kind(), num_ranks(), scenario, mortal), "");
  }
};

inline std::string conformance_name(const testing::TestParamInfo<ConformanceCase>& info) {
  return fmt::format("{}{}", name_of(std::get<0>(info.param)), std::get<1>(info.param));
}

/// All transports of this build, on 1, 2, 3 and 8 ranks, as far as these are at least `least`.
inline auto every_transport(std::int32_t least) {
  std::vector<ConformanceCase> cases;
#ifdef RESHARD_HAVE_UCX
  const std::vector<Kind> kinds{Kind::kLocal, Kind::kUcx, Kind::kUcxTcp};
#else
  const std::vector<Kind> kinds{Kind::kLocal};
#endif
  for (const Kind kind : kinds) {
    for (const std::int32_t num_ranks : {1, 2, 3, 8}) {
      if (num_ranks >= least) cases.emplace_back(kind, num_ranks);
    }
  }
  return testing::ValuesIn(cases);
}

}  // namespace reshard::test
