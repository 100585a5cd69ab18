// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/places.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace reshard {
namespace {

/// Names for a cluster that has none, in the order of the blocks, so that neighbours in rank are near each other.
Status name_nodes(std::vector<NamedPlace> places, const std::string& file, ClusterSpec* spec) {
  if (spec->groups.size() != 1) {
    return invalid_argument(fmt::format("{}: name the nodes of each kind, for there are several", file));
  }
  std::stable_sort(places.begin(), places.end(), [](const NamedPlace& a, const NamedPlace& b) {
    return std::pair(a.place.pod, a.place.block) < std::pair(b.place.pod, b.place.block);
  });
  ClusterSpec::Group& group = spec->groups.front();
  const auto num_places = static_cast<std::int32_t>(places.size());
  if (group.num_nodes > num_places) {
    return invalid_argument(
        fmt::format("{}: {} nodes are asked for, and it names {}", file, group.num_nodes, num_places));
  }
  if (group.num_nodes == 0) group.num_nodes = num_places;
  for (std::int32_t n = 0; n < group.num_nodes; ++n) {
    const NamedPlace& named = places[static_cast<std::size_t>(n)];
    group.names.push_back(named.node);
    spec->places.push_back(named.place);
  }
  return {};
}

}  // namespace

Status apply_places(const std::vector<NamedPlace>& places, const std::string& file, ClusterSpec* spec) {
  if (!spec->places.empty()) return invalid_argument(file + ": the places of the nodes are known already");
  const bool has_names = std::any_of(spec->groups.begin(), spec->groups.end(),
                                     [](const ClusterSpec::Group& group) { return !group.names.empty(); });
  if (!has_names) return name_nodes(places, file, spec);
  std::unordered_map<std::string_view, const ClusterSpec::Place*> known;
  for (const NamedPlace& named : places) known.emplace(named.node, &named.place);
  std::vector<ClusterSpec::Place> found;
  for (const ClusterSpec::Group& group : spec->groups) {
    if (group.names.empty()) return invalid_argument(file + ": name the nodes of every kind, or of none");
    for (const std::string& name : group.names) {
      const auto place = known.find(name);
      if (place == known.end()) return invalid_argument(fmt::format("{}: it does not name node {}", file, name));
      found.push_back(*place->second);
    }
  }
  spec->places = std::move(found);
  return {};
}

}  // namespace reshard
