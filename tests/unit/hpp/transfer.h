// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Small transfers for tests of reshard.hpp, and a way to say that a call must succeed.
#pragma once

#include <gtest/gtest.h>
#include <reshard/reshard.hpp>

#include <cstdlib>
#include <utility>

namespace hpp_test {

/// The value; the test program ends where there is none, since the lines behind cannot go on.
template <typename T>
T must(reshard::Result<T> result) {
  if (!result) {
    ADD_FAILURE() << reshard_status_name(result.error().status) << ": " << result.error().message;
    std::abort();
  }
  return *std::move(result);
}
inline void must(const reshard::Result<void>& result) {
  EXPECT_TRUE(result) << (result ? "" : result.error().message);
}

/// A 4 x 4 matrix on two ranks.
inline constexpr char kRowsToColumns[] = R"({"version": 1, "ranks": 2, "tensors": [
  {"name": "w", "group": 0, "shape": [4, 4],
   "src": {"dtype": "F32", "mesh": {"axes": [["x", 2]], "ranks": [0, 1]}, "placements": [{"shard": 0}]},
   "dst": {"dtype": "F32", "mesh": {"axes": [["x", 2]], "ranks": [0, 1]}, "placements": [{"shard": 1}]}}]})";

#define LAYER(name, group)                                                                               \
  R"({"name": ")" name R"(", "group": )" group R"(, "shape": [4],)"                                      \
  R"("src": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},)" \
  R"("dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]}})"
/// Three vectors of 4, each a group, that stay on the one rank there is.
inline constexpr char kThreeLayers[] =
    R"({"version": 1, "ranks": 1, "tensors": [)" LAYER("a", "0") "," LAYER("b", "1") "," LAYER("c", "2") "]}";
#undef LAYER

}  // namespace hpp_test
