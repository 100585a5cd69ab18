// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "topology/cluster.h"

namespace reshard {

/// Where a scheduler's file puts a node.
struct NamedPlace {
  std::string node;
  ClusterSpec::Place place;
};

/// A Slurm topology.conf, tree or block. The leaf switch of a node, or its block, becomes its block; the switch above
/// its leaf its pod. Deeper trees than that are cut at the pod. Errors name file and line.
Result<std::vector<NamedPlace>> read_slurm_topology(const std::string& text, const std::string& file);

/// What topograph's "graph" engine writes: {"instances": [{"id": ..., "network_layers": [closest first], ...}]}.
/// Errors name file and instance.
Result<std::vector<NamedPlace>> read_topograph(const std::string& text, const std::string& file);

/// Either of them, by the first character of the file.
Result<std::vector<NamedPlace>> read_places(const std::string& path);

/// Puts the nodes of a cluster in their places. Nodes that the cluster names itself are looked up; else it takes the
/// names in the file's order: all of them when it leaves the number open. Errors: too few names, or none for a node.
Status apply_places(const std::vector<NamedPlace>& places, const std::string& file, ClusterSpec* spec);

}  // namespace reshard
