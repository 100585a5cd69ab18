// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/scenario/random_machine.h"

#include <map>
#include <string>
#include <tuple>

#include "src/base/at.h"

namespace reshard::testing {
namespace {

Link link_of(Choices* choices, std::int64_t fastest) {
  return {fastest >> choices->pick(3), static_cast<std::int32_t>(1000 - 100 * choices->pick(3)), 1000};
}

class MachineMaker {
 public:
  MachineMaker(Choices* choices, std::int32_t num_ranks) : choices_(choices), num_ranks_(num_ranks) {}

  std::shared_ptr<const Machine> make() {
    const auto per_node = static_cast<std::int32_t>(1 + choices_->pick(4));
    const std::int64_t domains = choices_->pick(3);  // of a node each, of two nodes, two in each node
    const auto per_block = static_cast<std::int32_t>(1 + choices_->pick(4));
    shares_ports_ = choices_->pick(3) == 1;
    loses_ports_ = choices_->pick(3) == 1;
    has_rails_ = choices_->pick(2) == 1;
    machine_.rail_isolated = has_rails_ && choices_->pick(2) == 1;
    for (std::int32_t rank = 0; rank < num_ranks_; ++rank) {
      const std::int32_t node = rank / per_node;
      const std::int32_t local = rank % per_node;
      while (static_cast<std::int32_t>(machine_.nodes.size()) <= node) {
        machine_.nodes.push_back({"n" + std::to_string(machine_.nodes.size()), node / per_block});
      }
      std::int32_t domain = node;
      if (domains == 1) domain = node / 2;
      if (domains == 2) domain = 2 * node + (2 * local >= per_node ? 1 : 0);
      add_rank(rank, node, local, domain);
    }
    for (Machine::Leaf& leaf : machine_.leaves) leaf.up = leaf.down = link_of(choices_, 8'000'000);
    for (Machine::Pod& pod : machine_.pods) pod.up = pod.down = link_of(choices_, 16'000'000);
    return std::make_shared<const Machine>(std::move(machine_));
  }

 private:
  void add_rank(std::int32_t rank, std::int32_t node, std::int32_t local, std::int32_t domain_key) {
    const auto [entry, is_new] = domain_ids_.try_emplace(domain_key, machine_.domains.end_id());
    if (is_new) machine_.domains.emplace_back();
    Machine::Domain& domain = machine_.domains[entry->second];
    Machine::Gpu gpu;
    gpu.node = NodeId(node);
    gpu.domain = entry->second;
    gpu.link = link_of(choices_, 32'000'000);
    const bool shares = shares_ports_ && !domain.ports.empty() && at(machine_.ports, domain.ports.back()).node == node;
    if (shares) {
      gpu.port = PortId(domain.ports.back());
    } else if (domain.ports.empty() || !loses_ports_ || choices_->pick(2) == 0) {
      gpu.port = add_port(node, local);
      domain.ports.push_back(gpu.port);
    }
    domain.ranks.push_back(rank);
    machine_.gpus.push_back(gpu);
  }

  PortId add_port(std::int32_t node, std::int32_t local) {
    Machine::Port port;
    port.node = NodeId(node);
    port.rail = RailId(has_rails_ ? local : 0);
    port.out = link_of(choices_, 4'000'000);
    port.in = link_of(choices_, 4'000'000);
    port.name = "nic" + std::to_string(local);
    const std::int32_t block = at(machine_.nodes, node).block;
    const auto [entry, is_new] = leaf_ids_.try_emplace({block, port.rail}, machine_.leaves.end_id());
    if (is_new) {
      Machine::Leaf leaf;
      leaf.block = block;
      leaf.rail = has_rails_ ? port.rail : RailId();
      leaf.pod = PodId(block / 2);
      while (!machine_.pods.contains(leaf.pod)) machine_.pods.emplace_back();
      machine_.leaves.push_back(leaf);
    }
    port.leaf = entry->second;
    return machine_.ports.push_back(port);
  }

  Choices* choices_;
  std::int32_t num_ranks_;
  bool shares_ports_ = false;
  bool loses_ports_ = false;
  bool has_rails_ = false;
  std::map<std::int32_t, DomainId> domain_ids_;
  std::map<std::pair<std::int32_t, std::int32_t>, LeafId> leaf_ids_;
  Machine machine_;
};

}  // namespace

std::shared_ptr<const Machine> make_random_machine(Choices* choices, std::int32_t num_ranks) {
  return MachineMaker(choices, num_ranks).make();
}

bool is_out_of_reach(const Status& status) {
  return status.message().find("the rails are isolated and they share none") != std::string::npos;
}

}  // namespace reshard::testing
