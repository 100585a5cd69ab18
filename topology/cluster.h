// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/status.h"
#include "topology/machine.h"
#include "topology/node_type.h"

namespace reshard {

/// A NIC that reaches only part of its speed; 0: it is gone, and GPUs whose only NIC it was use another of their node.
struct DegradedNic {
  std::string node;
  std::string nic;  ///< its name, or its index among the NICs of its node
  std::int32_t fraction_permille = 1000;
};

/// How nodes hang together. A block is the nodes of one leaf switch, or of one leaf switch per rail.
struct Fabric {
  std::int32_t num_rails = 0;   ///< 1: one leaf per block; more: NIC i is on rail i modulo this; 0: as the nodes say
  bool rail_isolated = false;   ///< no way between rails
  std::int32_t leaf_nodes = 0;  ///< nodes of a block; 0: all of them
  std::int32_t leaves_per_pod = 0;  ///< of each rail, so that a pod holds this many blocks; 0: all of them
  std::int32_t leaf_oversubscription_permille = 1000;  ///< ports of a leaf to its uplinks; 2000: twice as much
  std::int32_t pod_oversubscription_permille = 1000;   ///< uplinks of a pod's leaves to the uplinks of the pod
  std::int32_t uplink_efficiency_permille = 1000;  ///< what hashing flows onto cables leaves of leaf and pod uplinks
  std::vector<DegradedNic> degraded;

  /// Where the n-th node is, as long as no file says otherwise.
  std::int32_t block_of(std::int32_t node) const { return leaf_nodes == 0 ? 0 : node / leaf_nodes; }
  std::int32_t pod_of(std::int32_t block) const { return leaves_per_pod == 0 ? 0 : block / leaves_per_pod; }
};

/// Most nodes that a description may ask for without naming them.
inline constexpr std::int64_t kMaxNodes = 1 << 20;

/// A cluster, however many of its nodes are used.
struct ClusterSpec {
  struct Group {
    std::int32_t type = 0;           ///< index into types
    std::int32_t num_nodes = 0;      ///< 0, of the last group only: as many as the ranks need
    std::vector<std::string> names;  ///< of its nodes; none: n0001 and so on, by their place in the cluster
    std::int32_t domain_nodes = 1;   ///< nodes that share an NVLink domain
  };
  /// Where an importer found a node; a list of them replaces Fabric's leaf_nodes and leaves_per_pod.
  struct Place {
    std::int32_t block = 0;
    std::int32_t pod = 0;
    std::int32_t domain = -1;  ///< nodes of one number share an NVLink domain; -1: as its group says
  };

  std::string name;
  std::vector<NodeType> types;
  std::vector<Group> groups;
  Fabric fabric;
  std::vector<Place> places;          ///< none, or one for each node of all groups, in their order
  std::vector<std::string> warnings;  ///< what a reader took with doubt; for the caller to show
};

/// A preset with settings, "hgx-h100:nodes=64,leaf=32,oversub=2", or the name of a file; README.md lists both forms.
/// Errors: RESHARD_ERR_INVALID_ARGUMENT, naming key, or file, line and element; RESHARD_ERR_IO for an unreadable file.
Result<ClusterSpec> parse_cluster(const std::string& text);

/// The machine as its ranks see it. Ranks fill the GPUs of nodes in order; each segment, a number of ranks, starts on a
/// node of its own. All ports of a node with ranks are in it, nodes without ranks are not; a leaf switch counts for
/// these ranks as much as the ports of their nodes bring of its uplinks. Errors: too few nodes; a degraded NIC that is
/// not there.
Result<Machine> make_machine(const ClusterSpec& spec, const std::vector<std::int32_t>& segments);

/// What a rank says of the node it runs on.
struct NodeOfRank {
  std::string hostname;          ///< with boot_id, which host it is
  std::string text;              ///< to_text of its node
  std::int32_t local_index = 0;  ///< of its GPU, or of its process on a host without GPUs
  std::string domain_id;         ///< GPUs of nodes with the same one share an NVLink domain; "": its node's own
  std::string boot_id{};         ///< of the host's kernel: tells hosts of one name apart; "": not known
};

/// The same from what all ranks say, in their order; nodes are numbered as their first ranks.
/// Errors: two ranks on one GPU, a GPU that its node lacks, texts of one host that differ.
Result<Machine> make_machine_from_nodes(const std::vector<NodeOfRank>& ranks, const Fabric& fabric = {});

}  // namespace reshard
