// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/base/at.h"
#include "src/base/status.h"

namespace reshard {

struct MeshAxis {
  std::string name;
  std::int64_t size = 1;
};

/// Named axes and the ranks that fill them, row-major, the last axis fastest; any distinct ranks in any order.
class Mesh {
 public:
  /// Errors: an axis size < 1, a rank < 0, a repeated rank, or a rank count other than the product of the sizes.
  static Result<std::shared_ptr<const Mesh>> create(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks);

  /// The same, but kNoRank may stand at any positions: a mesh that ranks have left, read back.
  static Result<std::shared_ptr<const Mesh>> create_with_gaps(std::vector<MeshAxis> axes,
                                                              std::vector<std::int32_t> ranks);

  /// The mesh without some of its ranks: kNoRank is at their positions.
  std::shared_ptr<const Mesh> without(const std::vector<std::int32_t>& lost) const;
  static constexpr std::int32_t kNoRank = -1;

  const std::vector<MeshAxis>& axes() const { return axes_; }
  int num_axes() const { return static_cast<int>(axes_.size()); }
  const std::vector<std::int32_t>& ranks() const { return ranks_; }
  std::int32_t highest_rank() const { return index_of_rank_.empty() ? kNoRank : index_of_rank_.back().first; }

  /// The coordinate of position `index` (into ranks()) along `axis`.
  std::int64_t coordinate(std::int64_t index, int axis) const {
    return index / at(strides_, axis) % at(axes_, axis).size;
  }

  /// Position of `rank` in ranks(), or -1 when the mesh has not got it. O(log n).
  std::int64_t find(std::int32_t rank) const;

 private:
  Mesh(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks);

  std::vector<MeshAxis> axes_;
  std::vector<std::int32_t> ranks_;
  std::vector<std::int64_t> strides_;  // by axis: how far apart neighbours along it are in ranks_
  std::vector<std::pair<std::int32_t, std::int64_t>> index_of_rank_;  // sorted by rank
};

using MeshPtr = std::shared_ptr<const Mesh>;

}  // namespace reshard
