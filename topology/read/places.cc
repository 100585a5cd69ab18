// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Puts what a file of places says into a cluster: by name where the cluster names its nodes, else its nodes get their
// names from the file. Where nodes are numbered the order matters, for ranks fill nodes in order.
#include "topology/read/places.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>
#include <sstream>
#include <tuple>
#include <unordered_map>

#include "src/base/at.h"
#include "topology/read/file.h"

namespace reshard {
namespace {

/// Names for a cluster that has none, in the order of pods, domains and leaves, so that neighbours in rank are near
/// each other. Sets the places of its nodes.
///
/// Machines are made node by node and ranks fill nodes in order, so that this order decides who is whose neighbour.
Status name_nodes(std::vector<NamedPlace> places, const std::string& file, ClusterSpec* spec) {
  if (spec->groups.size() != 1) {
    return invalid_argument(fmt::format("{}: name the nodes of each kind, for there are several", file));
  }
  std::stable_sort(places.begin(), places.end(), [](const NamedPlace& a, const NamedPlace& b) {
    return std::tuple(a.place.pod, a.place.domain, a.place.block) <
           std::tuple(b.place.pod, b.place.domain, b.place.block);
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

/// Looks up the nodes that a cluster names itself.
Status find_nodes(const std::vector<NamedPlace>& places, const std::string& file, ClusterSpec* spec) {
  std::unordered_map<std::string_view, const ClusterSpec::Place*> known;
  // Keys are views of names that `places` owns, which outlives this table.
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

/// Makes the domains of placed nodes true to what their kind of node can do, and says what was taken with doubt.
///
/// What a file calls a domain may be an NVLink domain or only a group of nodes that a scheduler keeps together. Taken
/// the wrong way, a plan would send bytes over links that are not there; so what is said is held against the kind of
/// node, and every doubt becomes a warning.
class DomainSettler {
 public:
  DomainSettler(const Places& said, const std::string& file, ClusterSpec* spec)
      : said_(said), file_(file), spec_(spec) {
    // New numbers start behind all that the file has used.
    for (const ClusterSpec::Place& place : spec->places) next_domain_ = std::max(next_domain_, place.domain + 1);
  }

  void settle() {
    std::size_t first = 0;
    for (const ClusterSpec::Group& group : spec_->groups) {
      const std::span<ClusterSpec::Place> nodes(&spec_->places[first], group.names.size());
      first += nodes.size();
      const std::string& type = at(spec_->types, group.type).name;
      if (group.domain_nodes > 1) {
        settle_spanning(nodes, group.domain_nodes, type);
      } else if (said_.domains_are_blocks) {
        for (ClusterSpec::Place& place : nodes) place.domain = -1;
        warn(fmt::format("NVLink of {} does not span nodes, so Slurm's blocks are {}", type,
                         said_.has_switches ? "left out" : "taken as leaf switches"));
      } else if (has_shared_domain(nodes)) {
        warn(
            fmt::format("it puts several nodes of {} into one NVLink domain, though NVLink of these does not span "
                        "nodes as a rule; it is taken at its word",
                        type));
      }
    }
  }

 private:
  void warn(const std::string& message) { spec_->warnings.push_back(file_ + ": " + message); }

  /// Nodes whose NVLink spans nodes: as the file says; a node of which it says nothing, where it says something of
  /// others, is alone.
  void settle_spanning(std::span<ClusterSpec::Place> nodes, std::int32_t domain_nodes, const std::string& type) {
    const auto is_alone = [](const ClusterSpec::Place& place) { return place.domain < 0; };
    const auto num_alone = std::count_if(nodes.begin(), nodes.end(), is_alone);
    if (num_alone == static_cast<std::ptrdiff_t>(nodes.size())) {
      warn(fmt::format("it says nothing of NVLink domains; every {} nodes of {}, in its order, are taken as one",
                       domain_nodes, type));
      return;
    }
    for (ClusterSpec::Place& place : nodes) {
      if (is_alone(place)) place.domain = next_domain_++;
    }
    if (num_alone > 0) {
      warn(fmt::format("{} of {} nodes of {} are in no NVLink domain; each is taken as one of its own", num_alone,
                       nodes.size(), type));
    }
  }

  static bool has_shared_domain(std::span<const ClusterSpec::Place> nodes) {
    std::set<std::int32_t> seen;
    return std::any_of(nodes.begin(), nodes.end(), [&seen](const ClusterSpec::Place& place) {
      return place.domain >= 0 && !seen.insert(place.domain).second;
    });
  }

  const Places& said_;
  const std::string& file_;
  ClusterSpec* spec_;
  std::int32_t next_domain_ = 0;
};

}  // namespace

Status apply_places(const Places& places, const std::string& file, ClusterSpec* spec) {
  // A file of several different nodes has given them their places already.
  if (!spec->places.empty()) return invalid_argument(file + ": the places of the nodes are known already");
  const bool has_names = std::any_of(spec->groups.begin(), spec->groups.end(),
                                     [](const ClusterSpec::Group& group) { return !group.names.empty(); });
  RESHARD_TRY(has_names ? find_nodes(places.nodes, file, spec) : name_nodes(places.nodes, file, spec));
  spec->warnings.insert(spec->warnings.end(), places.warnings.begin(), places.warnings.end());
  DomainSettler(places, file, spec).settle();
  return {};
}

Result<Places> read_places(const std::string& path) {
  RESHARD_TRY(const std::string text, read_file(path));
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text[first] == '{') return read_topograph(text, path);
  // A line of the other form begins with a key, and of a YAML list with a dash, comments apart.
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    if (line[begin] == '-' || line[begin] == '[') return read_slurm_yaml(text, path);
    break;
  }
  return read_slurm_conf(text, path);
}

}  // namespace reshard
