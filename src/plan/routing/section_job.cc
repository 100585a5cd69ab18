// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "src/base/at.h"
#include "src/plan/routing/sections.h"

namespace reshard::routing {
namespace {

/// An equal part of what sections share. A rate may not become none, which would be no limit.
Link part_of(Link link, std::size_t num_sections) {
  if (!link.is_limited()) return link;
  link.nominal_bytes_per_s =
      std::max(kLeastBytesPerS, link.nominal_bytes_per_s / static_cast<std::int64_t>(num_sections));
  return link;
}

class MachineOfSection {
 public:
  MachineOfSection(const Machine& whole, const Sections& sections) : whole_(whole), sections_(sections) {}

  Machine run() {
    out_.name = whole_.name;
    out_.rail_isolated = whole_.rail_isolated;
    for (const std::int32_t number : sections_.ranks.front()) {
      Machine::Gpu gpu = whole_.gpus[RankId(number)];
      gpu.node = keep(gpu.node, whole_.nodes, &nodes_, &out_.nodes);
      bool is_new = false;
      gpu.domain = number_of(gpu.domain, &domains_, &is_new);
      if (is_new) out_.domains.emplace_back();
      Machine::Domain& domain = out_.domains[gpu.domain];
      domain.ranks.push_back(out_.num_ranks());
      if (gpu.port.valid()) {
        gpu.port = keep_port(gpu.port);
        if (std::find(domain.ports.begin(), domain.ports.end(), gpu.port) == domain.ports.end()) {
          domain.ports.push_back(gpu.port);
        }
      }
      out_.gpus.push_back(gpu);
    }
    for (Machine::Domain& domain : out_.domains) std::sort(domain.ports.begin(), domain.ports.end());
    return std::move(out_);
  }

 private:
  template <typename Id>
  using Numbers = std::map<Id, Id>;

  template <typename Id>
  static Id number_of(Id id, Numbers<Id>* numbers, bool* is_new) {
    const auto [found, is_first] = numbers->try_emplace(id, Id(numbers->size()));
    *is_new = is_first;
    return found->second;
  }
  template <typename Id, typename Thing>
  static Id keep(Id id, const IndexedVector<Id, Thing>& from, Numbers<Id>* numbers, IndexedVector<Id, Thing>* to) {
    bool is_new = false;
    const Id number = number_of(id, numbers, &is_new);
    if (is_new) to->push_back(from[id]);
    return number;
  }

  PortId keep_port(PortId id) {
    bool is_new = false;
    const PortId number = number_of(id, &ports_, &is_new);
    if (!is_new) return number;
    Machine::Port port = whole_.ports[id];
    port.node = keep(port.node, whole_.nodes, &nodes_, &out_.nodes);
    port.leaf = keep_leaf(port.leaf);
    out_.ports.push_back(std::move(port));
    return number;
  }

  LeafId keep_leaf(LeafId id) {
    bool is_new = false;
    const LeafId number = number_of(id, &leaves_, &is_new);
    if (!is_new) return number;
    Machine::Leaf leaf = whole_.leaves[id];
    leaf.pod = keep_pod(leaf.pod);
    if (sections_.shared == Shared::kLeaves) {
      leaf.up = part_of(leaf.up, sections_.count());
      leaf.down = part_of(leaf.down, sections_.count());
    }
    out_.leaves.push_back(leaf);
    return number;
  }

  PodId keep_pod(PodId id) {
    bool is_new = false;
    const PodId number = number_of(id, &pods_, &is_new);
    if (!is_new) return number;
    Machine::Pod pod = whole_.pods[id];
    if (sections_.shared != Shared::kNothing) {
      pod.up = part_of(pod.up, sections_.count());
      pod.down = part_of(pod.down, sections_.count());
    }
    out_.pods.push_back(pod);
    return number;
  }

  const Machine& whole_;
  const Sections& sections_;
  Machine out_;
  Numbers<NodeId> nodes_;
  Numbers<DomainId> domains_;
  Numbers<PortId> ports_;
  Numbers<LeafId> leaves_;
  Numbers<PodId> pods_;
};

}  // namespace

Plan job_of_section(const Plan& plan, const Sections& sections) {
  Plan out;
  out.options = plan.options;
  out.options.machine = std::make_shared<const Machine>(MachineOfSection(*plan.options.machine, sections).run());
  out.num_ranks = out.options.machine->num_ranks();
  std::vector<std::int32_t> place(static_cast<std::size_t>(plan.num_ranks), -1);  // by rank
  for (std::int32_t i = 0; i < out.num_ranks; ++i) at(place, at(sections.ranks.front(), i)) = i;
  std::vector<std::int32_t> number(static_cast<std::size_t>(plan.sets.size()), -1);  // by set of the whole
  const auto set_of = [&](std::int32_t set) {
    std::int32_t& its = at(number, set);
    if (its >= 0) return its;
    std::vector<std::int32_t> ranks;
    for (const std::int32_t rank : plan.sets.ranks(set)) {
      if (at(place, rank) >= 0) ranks.push_back(at(place, rank));
    }
    return its = out.sets.intern(std::move(ranks));
  };
  out.bundles = plan.bundles;
  for (Bundle& bundle : out.bundles) {
    bundle.sources = set_of(bundle.sources);
    bundle.destinations = set_of(bundle.destinations);
    bundle.pattern = -1;
  }
  return out;
}

}  // namespace reshard::routing
