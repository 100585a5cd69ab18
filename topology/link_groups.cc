// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which GPUs of a node NVLink joins: those whose links lead to each other, directly or through others, and all whose
// links lead to switches, which a node has one set of. Union-find over at most a few dozen GPUs.
#include "topology/link_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "src/base/at.h"

namespace reshard {
namespace {

/// Sets of GPUs that are joined.
class Sets {
 public:
  explicit Sets(std::size_t size) : parent_(size) { std::iota(parent_.begin(), parent_.end(), 0); }
  std::int32_t find(std::int32_t i) const {
    while (at(parent_, i) != i) i = at(parent_, i);
    return i;
  }
  /// The smaller of the two stands for both.
  void join(std::int32_t a, std::int32_t b) {
    a = find(a);
    b = find(b);
    at(parent_, std::max(a, b)) = std::min(a, b);
  }

 private:
  std::vector<std::int32_t> parent_;
};

}  // namespace

void group_gpus(const std::vector<GpuLinks>& links, NodeType* node, std::vector<std::string>* warnings) {
  const auto count = static_cast<std::int32_t>(links.size());
  Sets sets(links.size());
  std::int32_t first_switched = -1;
  for (std::int32_t g = 0; g < count; ++g) {
    for (const std::string& peer : at(links, g).peers) {
      const auto found =
          std::find_if(links.begin(), links.end(), [&](const GpuLinks& other) { return other.address == peer; });
      if (found != links.end()) sets.join(g, static_cast<std::int32_t>(found - links.begin()));
    }
    if (!at(links, g).is_switched) continue;
    if (first_switched < 0) first_switched = g;
    sets.join(g, first_switched);
  }
  std::vector<std::int32_t> group_of(links.size(), -1);
  std::int32_t num_groups = 0;
  for (std::int32_t g = 0; g < count; ++g) {
    if (!at(links, g).link.has_value()) continue;
    std::int32_t& group = at(group_of, sets.find(g));
    if (group < 0) group = num_groups++;
    at(node->gpus, g).link_group = group;
    at(node->gpus, g).link = *at(links, g).link;
  }
  for (std::int32_t g = 0; g < count; ++g) {
    NodeType::Gpu& gpu = at(node->gpus, g);
    if (gpu.link_group >= 0) continue;
    gpu.link_group = num_groups;
    gpu.link = gpu.pcie;
    if (count == 1) continue;
    warnings->push_back(
        fmt::format("GPU {} has no NVLink; it is taken to reach others like it by PCIe. Where that is "
                    "wrong, name the preset it is like",
                    at(links, g).address));
  }
}

}  // namespace reshard
