// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/mesh.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/unit/layout/oracle.h"

namespace reshard {
namespace {

void expect_refused(const std::vector<MeshAxis>& axes, const std::vector<std::int32_t>& ranks,
                    const std::string& text) {
  const Result<MeshPtr> mesh = Mesh::create(axes, ranks);
  ASSERT_FALSE(mesh.ok());
  EXPECT_EQ(mesh.status().code(), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_NE(mesh.status().message().find(text), std::string::npos) << mesh.status().message();
}

TEST(MeshTest, RepeatedRankIsNamed) {
  expect_refused({{"a", 2}, {"b", 2}}, {4, 5, 6, 5}, "rank 5");
}

TEST(MeshTest, MissingRankIsNamed) {
  expect_refused({{"a", 2}, {"b", 2}}, {4, 5, 6}, "3 ranks");
}

TEST(MeshTest, SurplusRankIsNamed) {
  expect_refused({{"a", 2}}, {0, 1, 2}, "3 ranks");
}

TEST(MeshTest, NegativeRankIsNamed) {
  expect_refused({{"a", 2}}, {0, -7}, "-7");
}

TEST(MeshTest, AxisWithoutCoordinatesIsNamed) {
  expect_refused({{"dp", 0}}, {}, "dp");
}

TEST(MeshTest, ProductOfSizesMayNotOverflow) {
  const std::int64_t huge = std::int64_t{1} << 32;
  expect_refused({{"a", huge}, {"b", huge}}, {}, "0 ranks");
  expect_refused({{"a", huge}, {"b", huge}}, {0}, "1 rank");
  expect_refused({{"a", INT64_MAX}, {"b", INT64_MAX}, {"c", 2}}, {0, 1}, "2 ranks");
}

RC_GTEST_PROP(MeshTest, RanksAreRowMajorLastAxisFastest, ()) {
  const std::int32_t num_ranks = 24;
  const MeshPtr mesh = oracle::random_mesh(num_ranks);
  oracle::Indices sizes;
  for (const MeshAxis& axis : mesh->axes()) sizes.push_back(axis.size);
  std::int64_t index = 0;
  oracle::for_each_index(sizes, [&](const oracle::Indices& coordinates) {
    for (int axis = 0; axis < mesh->num_axes(); ++axis) {
      RC_ASSERT(mesh->coordinate(index, axis) == at(coordinates, axis));
    }
    RC_ASSERT(mesh->find(at(mesh->ranks(), index)) == index);
    ++index;
  });
  RC_ASSERT(index == static_cast<std::int64_t>(mesh->ranks().size()));
  for (std::int32_t rank = -1; rank <= num_ranks; ++rank) {
    const bool is_member = std::count(mesh->ranks().begin(), mesh->ranks().end(), rank) > 0;
    RC_ASSERT((mesh->find(rank) >= 0) == is_member);
  }
}

}  // namespace
}  // namespace reshard
