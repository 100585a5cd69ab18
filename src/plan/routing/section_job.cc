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
      gpu.node = keep_node(gpu.node);
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
  /// What a thing is in the section. `change` makes what is copied the section's own.
  template <typename Id, typename Thing, typename Change>
  static Id keep(Id id, const IndexedVector<Id, Thing>& from, Numbers<Id>* numbers, IndexedVector<Id, Thing>* to,
                 const Change& change) {
    bool is_new = false;
    const Id number = number_of(id, numbers, &is_new);
    if (!is_new) return number;
    Thing thing = from[id];
    change(&thing);
    to->push_back(std::move(thing));
    return number;
  }

  NodeId keep_node(NodeId id) {
    return keep(id, whole_.nodes, &nodes_, &out_.nodes, [](Machine::Node*) {});
  }
  PortId keep_port(PortId id) {
    return keep(id, whole_.ports, &ports_, &out_.ports, [&](Machine::Port* port) {
      port->node = keep_node(port->node);
      port->leaf = keep_leaf(port->leaf);
    });
  }
  LeafId keep_leaf(LeafId id) {
    return keep(id, whole_.leaves, &leaves_, &out_.leaves, [&](Machine::Leaf* leaf) {
      leaf->pod = keep_pod(leaf->pod);
      if (sections_.shared == Shared::kLeaves) divide(leaf);
    });
  }
  PodId keep_pod(PodId id) {
    return keep(id, whole_.pods, &pods_, &out_.pods, [&](Machine::Pod* pod) {
      if (sections_.shared != Shared::kNothing) divide(pod);
    });
  }
  /// The way up and down of a leaf or pod that sections share.
  template <typename Thing>
  void divide(Thing* thing) const {
    thing->up = part_of(thing->up, sections_.count());
    thing->down = part_of(thing->down, sections_.count());
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
