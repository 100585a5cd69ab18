// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

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

/// Numbers of ranks that a kind is tried with. With the address sanitizer a process takes ten times as long to begin
/// and to end as its messages take: there each number of ranks is tried over one of the two that differ only in what
/// carries the bytes.
inline std::vector<std::int32_t> worlds_of(Kind kind) {
#ifdef __SANITIZE_ADDRESS__
  if (kind == Kind::kUcx) return {1, 2, 5};
  if (kind == Kind::kUcxTcp) return {3};
#endif
  static_cast<void>(kind);
  return {1, 2, 3, 8};
}

/// All transports of this build, on worlds_of() of at least `least` ranks.
inline auto every_transport(std::int32_t least) {
  std::vector<ConformanceCase> cases;
#ifdef RESHARD_HAVE_UCX
  const std::vector<Kind> kinds{Kind::kLocal, Kind::kUcx, Kind::kUcxTcp};
#else
  const std::vector<Kind> kinds{Kind::kLocal};
#endif
  for (const Kind kind : kinds) {
    for (const std::int32_t num_ranks : worlds_of(kind)) {
      if (num_ranks >= least) cases.emplace_back(kind, num_ranks);
    }
  }
  return testing::ValuesIn(cases);
}

}  // namespace reshard::test
