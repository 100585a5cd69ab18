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

/// What a scheduler's file says of the nodes it names.
struct Places {
  std::vector<NamedPlace> nodes;
  /// The domains are Slurm's blocks. Slurm does not say what a block is: where NVLink spans nodes it is an NVLink
  /// domain, as those who write such files mean it; elsewhere it can only be a leaf switch.
  bool domains_are_blocks = false;
  bool has_switches = false;          ///< leaves and pods come from switches, not from blocks
  std::vector<std::string> warnings;  ///< what was taken with doubt
};

/// A Slurm topology.conf: switches, blocks, or both. The leaf switch of a node becomes its leaf, the switch above that
/// its pod, its block its domain, and its leaf too where the file has no switches. Deeper trees are cut at the pod;
/// switches and blocks without nodes count for nothing. Errors name file and line.
Result<Places> read_slurm_conf(const std::string& text, const std::string& file);

/// A Slurm topology.yaml: a list of topologies. The one with `cluster_default` places the nodes, and the first one of
/// the other kind, tree or block, adds what it knows of them. Errors name file, line and column.
Result<Places> read_slurm_yaml(const std::string& text, const std::string& file);

/// What topograph's "graph" engine writes: {"instances": [{"id": ..., "network_layers": [closest first], ...}]}.
/// Errors name file and instance.
Result<Places> read_topograph(const std::string& text, const std::string& file);

/// Any of them, by how the file begins.
Result<Places> read_places(const std::string& path);

/// Puts the nodes of a cluster in their places. Nodes that the cluster names itself are looked up; else it takes the
/// names in the file's order: all of them when it leaves the number open. Where NVLink spans nodes, and the file does
/// not say for all of them how, a warning says what was taken. Errors: too few names, or none for a node.
Status apply_places(const Places& places, const std::string& file, ClusterSpec* spec);

}  // namespace reshard
