// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/mesh.h"

#include <fmt/format.h>

#include <algorithm>

namespace reshard {

Result<std::shared_ptr<const Mesh>> Mesh::create(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks) {
  for (const std::int32_t rank : ranks) {
    if (rank < 0) return invalid_argument(fmt::format("mesh has the negative rank {}", rank));
  }
  return create_with_gaps(std::move(axes), std::move(ranks));
}

Result<std::shared_ptr<const Mesh>> Mesh::create_with_gaps(std::vector<MeshAxis> axes,
                                                           std::vector<std::int32_t> ranks) {
  std::int64_t product = 1;
  for (const MeshAxis& axis : axes) {
    if (axis.size < 1) {
      return invalid_argument(fmt::format("mesh axis \"{}\" has size {}; sizes are 1 or more", axis.name, axis.size));
    }
    // Larger than the number of ranks already: the sizes cannot fit, and multiplying on might leave 63 bits.
    if (axis.size > static_cast<std::int64_t>(ranks.size()) / product + 1) {
      product = -1;
      break;
    }
    product *= axis.size;
  }
  if (product != static_cast<std::int64_t>(ranks.size())) {
    std::string sizes;
    for (const MeshAxis& axis : axes) sizes += fmt::format("{}{}={}", sizes.empty() ? "" : " x ", axis.name, axis.size);
    return invalid_argument(fmt::format("mesh {} lists {} ranks; give one rank per coordinate", sizes, ranks.size()));
  }
  std::shared_ptr<Mesh> mesh(new Mesh(std::move(axes), std::move(ranks)));
  // Sorted by rank, so that one rank at two positions stands side by side; kNoRank may be there often.
  const auto& sorted = mesh->index_of_rank_;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i].first == kNoRank) continue;
    if (sorted[i].first < 0) return invalid_argument(fmt::format("mesh has the negative rank {}", sorted[i].first));
    if (i > 0 && sorted[i].first == sorted[i - 1].first) {
      return invalid_argument(fmt::format("rank {} is repeated in the mesh, at positions {} and {}", sorted[i].first,
                                          sorted[i - 1].second, sorted[i].second));
    }
  }
  return std::shared_ptr<const Mesh>(std::move(mesh));
}

Mesh::Mesh(std::vector<MeshAxis> axes, std::vector<std::int32_t> ranks)
    : axes_(std::move(axes)), ranks_(std::move(ranks)), strides_(axes_.size()), index_of_rank_(ranks_.size()) {
  std::int64_t stride = 1;
  // Row-major: the last axis counts fastest, as in the lists that frameworks print.
  for (std::size_t a = axes_.size(); a-- > 0;) {
    strides_[a] = stride;
    stride *= axes_[a].size;
  }
  for (std::size_t i = 0; i < ranks_.size(); ++i) index_of_rank_[i] = {ranks_[i], static_cast<std::int64_t>(i)};
  std::sort(index_of_rank_.begin(), index_of_rank_.end());
}

std::shared_ptr<const Mesh> Mesh::without(const std::vector<std::int32_t>& lost) const {
  std::vector<std::int32_t> ranks = ranks_;
  for (std::int32_t& rank : ranks) {
    if (std::find(lost.begin(), lost.end(), rank) != lost.end()) rank = kNoRank;
  }
  return std::shared_ptr<const Mesh>(new Mesh(axes_, std::move(ranks)));
}

std::int64_t Mesh::find(std::int32_t rank) const {
  const auto at = std::lower_bound(index_of_rank_.begin(), index_of_rank_.end(), std::pair{rank, std::int64_t{0}});
  return at != index_of_rank_.end() && at->first == rank ? at->second : -1;
}

}  // namespace reshard
