// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/optimum/small_cluster.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace reshard::optimum {
namespace {

using nlohmann::json;

constexpr double kGiga = 1e9;

std::string gigabytes(double value) {
  return json(value).dump() + "GB";
}

}  // namespace

struct SmallCluster::NodeType {
  int num_gpus = 0;
  std::vector<double> links;           // of each GPU, in GB/s
  std::vector<int> groups;             // of each GPU: those of one group reach each other; -1: nobody
  double pcie = 0;                     // 0: no limit
  std::vector<std::vector<int>> nics;  // which GPUs each serves
  std::vector<double> speeds;          // of each NIC, in GB/s

  json describe() const {
    json out = {{"gpus", json::array()}, {"nics", json::array()}};
    for (std::size_t g = 0; g < links.size(); ++g) {
      json gpu = {{"count", 1}, {"link", gigabytes(links[g])}, {"link_efficiency", 1}, {"link_group", groups[g]}};
      if (pcie > 0) gpu["pcie"] = gigabytes(pcie), gpu["pcie_efficiency"] = 1;
      out["gpus"].push_back(gpu);
    }
    for (std::size_t i = 0; i < nics.size(); ++i) {
      // A speed in bits, so that its unit is read, too.
      out["nics"].push_back({{"name", "ib" + std::to_string(i)},
                             {"speed", json(speeds[i] * 8).dump() + "gbit"},
                             {"efficiency", 1},
                             {"rail", i},
                             {"gpus", nics[i]}});
    }
    return out;
  }
};

struct SmallCluster::Fabric {
  bool has_one_rail = false;
  bool is_isolated = false;
  int leaf_nodes = 0;  // 0: all
  int leaves_per_pod = 0;
  int leaf_oversubscription = 1;
  int pod_oversubscription = 1;

  json describe() const {
    json out = {{"rail_isolated", is_isolated}, {"oversubscription", {leaf_oversubscription, pod_oversubscription}}};
    if (has_one_rail) out["rails"] = 1;
    if (leaf_nodes > 0) out["leaf_nodes"] = leaf_nodes;
    if (leaves_per_pod > 0) out["leaves_per_pod"] = leaves_per_pod;
    return out;
  }
  int block_of(int node) const { return leaf_nodes == 0 ? 0 : node / leaf_nodes; }
  int pod_of(int node) const { return leaves_per_pod == 0 ? 0 : block_of(node) / leaves_per_pod; }
};

SmallCluster::NodeType SmallCluster::draw_type(Random& random, int num_gpus, bool is_isolated) {
  NodeType type;
  type.num_gpus = num_gpus;
  const double link = random.of({10.0, 20.0, 50.0, 100.0, 400.0});
  const bool differ = random.one_in(5);
  const int groups = is_isolated ? 1 : random.of({0, 1, 1, 1, 1, 2});
  for (int g = 0; g < num_gpus; ++g) {
    type.links.push_back(differ ? random.of({10.0, 50.0, 100.0}) : link);
    type.groups.push_back(groups == 0 ? -1 : g * groups / num_gpus);
  }
  if (random.one_in(2)) type.pcie = random.of({6.0, 12.0, 25.0, 50.0});
  const double speed = random.of({6.25, 12.5, 25.0, 50.0});
  const int per_nic = random.of({1, 1, 2, num_gpus});
  // Where links join all GPUs, the last may have no NIC of its own.
  const int num_served = groups == 1 && num_gpus > 1 && random.one_in(4) ? num_gpus - 1 : num_gpus;
  for (int g = 0; g < num_served; g += per_nic) {
    type.nics.emplace_back();
    for (int i = g; i < std::min(num_served, g + per_nic); ++i) type.nics.back().push_back(i);
    type.speeds.push_back(random.one_in(5) ? speed / 4 : speed);
  }
  return type;
}

SmallCluster::SmallCluster(Random& random, int max_ranks) {
  Fabric fabric;
  fabric.is_isolated = is_isolated_ = random.one_in(7);
  fabric.has_one_rail = !is_isolated_ && random.one_in(3);
  fabric.leaf_nodes = random.of({0, 1, 1, 2});
  fabric.leaves_per_pod = random.of({0, 0, 1, 2});
  fabric.leaf_oversubscription = random.of({1, 1, 2, 3, 4});
  fabric.pod_oversubscription = random.of({1, 2, 4});
  json cluster = {{"node_types", json::object()}, {"clusters", json::array()}, {"fabric", fabric.describe()}};
  const int num_nodes = random.between(1, 5);
  const int most_gpus = random.of({1, 2, 4, 6, 8, max_ranks});
  NodeType type;
  for (int node = 0; node < num_nodes; ++node) {
    const int room = max_ranks - num_ranks();
    if (node == 0 || type.num_gpus > room || random.one_in(3)) {
      if (room == 0) break;
      type = draw_type(random, std::min(room, random.between(num_nodes == 1 ? 2 : 1, std::max(2, most_gpus))),
                       is_isolated_);
    }
    const std::string name = "type" + std::to_string(node);
    cluster["node_types"][name] = type.describe();
    cluster["clusters"].push_back({{"type", name}, {"nodes", 1}});
    add_node(type, node, fabric);
  }
  add_uplinks(fabric);
  text_ = cluster.dump(1) + "\n";
}

SmallCluster::Both SmallCluster::add_resource(double bytes_per_s) {
  capacities_.insert(capacities_.end(), 2, bytes_per_s);
  const int last = static_cast<int>(capacities_.size()) - 1;
  return {last - 1, last};
}

void SmallCluster::add_node(const NodeType& type, int node, const Fabric& fabric) {
  const int first_port = static_cast<int>(ports_.size());
  std::vector<int> port_of(type.links.size(), -1);
  for (std::size_t i = 0; i < type.nics.size(); ++i) {
    const int rail = static_cast<int>(i);
    const std::pair<int, int> key(fabric.block_of(node), fabric.has_one_rail ? -1 : rail);
    auto leaf = std::find(leaf_keys_.begin(), leaf_keys_.end(), key);
    if (leaf == leaf_keys_.end()) {
      leaf = leaf_keys_.insert(leaf, key);
      leaves_.push_back({fabric.pod_of(node), {}});
    }
    ports_.push_back({fabric.has_one_rail ? 0 : rail, static_cast<int>(leaf - leaf_keys_.begin()),
                      add_resource(type.speeds[i] * kGiga)});
    port_rates_.push_back(type.speeds[i] * kGiga);
    for (const int gpu : type.nics[i]) port_of[static_cast<std::size_t>(gpu)] = first_port + rail;
  }
  std::vector<int> domains;  // by link group
  for (std::size_t g = 0; g < type.links.size(); ++g) {
    int domain = num_domains_;
    if (type.groups[g] >= 0 && type.groups[g] < static_cast<int>(domains.size())) {
      domain = domains[static_cast<std::size_t>(type.groups[g])];
    } else {
      ++num_domains_;
      domains.push_back(domain);
    }
    Gpu gpu{domain, port_of[g], add_resource(type.links[g] * kGiga), {}};
    if (type.pcie > 0) gpu.pcie = add_resource(type.pcie * kGiga);
    gpus_.push_back(gpu);
  }
}

/// What the ports below bring, over the oversubscription; a single leaf, or pod, has no limit.
void SmallCluster::add_uplinks(const Fabric& fabric) {
  std::vector<double> below(leaves_.size());
  for (std::size_t p = 0; p < ports_.size(); ++p) below[static_cast<std::size_t>(ports_[p].leaf)] += port_rates_[p];
  std::vector<double> of_pods;
  for (std::size_t l = 0; l < leaves_.size(); ++l) {
    const double rate = below[l] / fabric.leaf_oversubscription;
    if (leaves_.size() > 1) leaves_[l].uplinks = add_resource(rate);
    of_pods.resize(std::max(of_pods.size(), static_cast<std::size_t>(leaves_[l].pod) + 1));
    of_pods[static_cast<std::size_t>(leaves_[l].pod)] += rate;
  }
  for (const double rate : of_pods) {
    pods_.push_back(of_pods.size() > 1 ? add_resource(rate / fabric.pod_oversubscription) : Both());
  }
}

bool SmallCluster::has_way(int from, int to) const {
  const Gpu& a = gpus_[static_cast<std::size_t>(from)];
  const Gpu& b = gpus_[static_cast<std::size_t>(to)];
  if (from == to || a.domain == b.domain) return true;
  if (a.port < 0 || b.port < 0) return false;
  return !is_isolated_ ||
         ports_[static_cast<std::size_t>(a.port)].rail == ports_[static_cast<std::size_t>(b.port)].rail;
}

std::vector<int> SmallCluster::path(int from, int to) const {
  std::vector<int> out;
  const auto pass = [&](int resource) {
    if (resource >= 0) out.push_back(resource);
  };
  if (from == to) return out;
  const Gpu& a = gpus_[static_cast<std::size_t>(from)];
  const Gpu& b = gpus_[static_cast<std::size_t>(to)];
  if (a.domain == b.domain) {  // what links join never goes over the network
    pass(a.link.out);
    pass(b.link.in);
    return out;
  }
  const Port& exit = ports_[static_cast<std::size_t>(a.port)];
  const Port& entry = ports_[static_cast<std::size_t>(b.port)];
  pass(a.pcie.out);
  pass(exit.nic.out);
  if (exit.leaf != entry.leaf) {
    const Leaf& up = leaves_[static_cast<std::size_t>(exit.leaf)];
    const Leaf& down = leaves_[static_cast<std::size_t>(entry.leaf)];
    pass(up.uplinks.out);
    if (up.pod != down.pod) {
      pass(pods_[static_cast<std::size_t>(up.pod)].out);
      pass(pods_[static_cast<std::size_t>(down.pod)].in);
    }
    pass(down.uplinks.in);
  }
  pass(entry.nic.in);
  pass(b.pcie.in);
  return out;
}

}  // namespace reshard::optimum
