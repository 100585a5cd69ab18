// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A small, odd cluster: as the cluster file that the library reads, and as what every pair of ranks passes, worked out
// here from what topology/README.md says of such a file.
#pragma once

#include <string>
#include <vector>

#include "tests/optimum/random.h"

namespace reshard::optimum {

class SmallCluster {
 public:
  /// At most max_ranks ranks, two at least; any can reach any other, if need be through others.
  SmallCluster(Random& random, int max_ranks);

  int num_ranks() const { return static_cast<int>(gpus_.size()); }
  /// In bytes per second. Only what has a limit is a resource.
  const std::vector<double>& capacities() const { return capacities_; }
  bool has_way(int from, int to) const;
  /// The resources that a copy from one rank to another passes. @pre has_way
  std::vector<int> path(int from, int to) const;
  /// A cluster file.
  const std::string& text() const { return text_; }

 private:
  // Of each thing the resources that it is, -1 where it has no limit: out or up, and in or down.
  struct Both {
    int out = -1;
    int in = -1;
  };
  struct Gpu {
    int domain = 0;
    int port = -1;
    Both link;
    Both pcie;
  };
  struct Port {
    int rail = 0;
    int leaf = 0;
    Both nic;
  };
  struct Leaf {
    int pod = 0;
    Both uplinks;
  };
  struct NodeType;
  struct Fabric;

  static NodeType draw_type(Random& random, int num_gpus, bool is_isolated);
  Both add_resource(double bytes_per_s);
  void add_node(const NodeType& type, int node, const Fabric& fabric);
  void add_uplinks(const Fabric& fabric);

  std::vector<Gpu> gpus_;
  std::vector<Port> ports_;
  std::vector<double> port_rates_;
  std::vector<Leaf> leaves_;
  std::vector<Both> pods_;
  std::vector<std::pair<int, int>> leaf_keys_;  // block and rail
  std::vector<double> capacities_;
  bool is_isolated_ = false;
  int num_domains_ = 0;
  std::string text_;
};

}  // namespace reshard::optimum
