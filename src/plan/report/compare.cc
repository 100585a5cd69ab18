// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What frameworks do today, for the same layouts on the same machine. Each way is taken at its best, and where its
// details are not known what they cost is left out: so the time of another way is a lower bound on what it would take,
// while that of the plan is an estimate with all its hops. A comparison that flatters the plan would be worth nothing.
#include "src/plan/report/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/plan/loads.h"

namespace reshard {
namespace {

/// Tensor bytes by the first of their holders.
using BytesBySource = std::map<std::int32_t, std::int64_t>;

class OtherWays {
 public:
  explicit OtherWays(const Plan& plan) : plan_(plan), machine_(*plan.options.machine) {}

  std::vector<OtherWay> run() { return {gather(), broadcast(), unicast()}; }

 private:
  std::vector<std::int64_t> no_load() const {
    return std::vector<std::int64_t>(static_cast<std::size_t>(machine_.num_resources()));
  }

  std::vector<std::int32_t> destinations() const {
    std::vector<bool> is_one(machine_.gpus.size());
    for (const Bundle& bundle : plan_.bundles) {
      for (const std::int32_t rank : plan_.sets.ranks(bundle.destinations))
        is_one[static_cast<std::size_t>(rank)] = true;
    }
    std::vector<std::int32_t> out;
    for (std::size_t r = 0; r < is_one.size(); ++r) {
      if (is_one[r]) out.push_back(static_cast<std::int32_t>(r));
    }
    return out;
  }

  /// Every destination's port takes `bytes`. Ranks that share a port load it once each.
  void enter(std::int64_t bytes, std::vector<std::int64_t>* loads) const {
    for (const std::int32_t rank : destinations()) {
      const std::int32_t port = at(machine_.gpus, rank).port;
      if (port >= 0) at(*loads, machine_.resource(ResourceKind::kNicIn, port)) += bytes;
    }
  }

  /// The whole model, in dtypes of the wire: what a rank takes in that gathers all of it.
  std::int64_t whole_bytes() const {
    std::int64_t bytes = 0;
    for (const PlanTensor& tensor : plan_.tensors) {
      std::int64_t elements = 1;
      for (const std::int64_t extent : at(plan_.dst->tensors(), tensor.dst).shape) elements *= extent;
      bytes += elements * tensor.wire_bytes;
    }
    return bytes;
  }

  OtherWay finish(std::string name, const std::vector<std::int64_t>& loads, double seconds,
                  std::int32_t resource) const {
    OtherWay out;
    out.name = std::move(name);
    for (std::size_t p = 0; p < machine_.ports.size(); ++p) {
      out.bytes_network += at(loads, machine_.resource(ResourceKind::kNicIn, static_cast<std::int32_t>(p)));
    }
    out.seconds = seconds;
    if (resource >= 0) out.resource = machine_.describe(resource);
    return out;
  }

  /// Only ports in are loaded, in favour of this way: in a pipelined broadcast no rank sends more than it receives.
  OtherWay gather() const {
    std::vector<std::int64_t> loads = no_load();
    enter(whole_bytes(), &loads);
    const Busiest most = busiest(machine_, loads);
    return finish("gather everything, then slice", loads, most.seconds, most.resource);
  }

  /// Stages are told apart by the lowest of the ranks that send a part of a group; their times are added, for one
  /// stage's broadcast follows the other's. Each tensor goes out by one port.
  OtherWay broadcast() const {
    std::map<std::int32_t, BytesBySource> by_group;
    const GroupSplitter splitter(plan_);
    std::vector<GroupBytes> parts;
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (bundle.size_bytes == 0) continue;
      parts.clear();
      splitter.split({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, &parts);
      for (const GroupBytes& part : parts) {
        by_group[part.group][plan_.sets.ranks(bundle.sources).front()] += part.bytes;
      }
    }
    std::map<std::int32_t, BytesBySource> by_stage;
    for (const auto& [group, sources] : by_group) {
      BytesBySource& stage = by_stage[sources.begin()->first];
      for (const auto& [rank, bytes] : sources) stage[rank] += bytes;
    }
    std::vector<std::int64_t> all = no_load();
    double seconds = 0;
    Busiest most;
    for (const auto& [first, sources] : by_stage) {
      std::vector<std::int64_t> loads = no_load();
      std::int64_t bytes = 0;
      for (const auto& [rank, mine] : sources) {
        bytes += mine;
        const std::int32_t port = at(machine_.gpus, rank).port;
        if (port >= 0) at(loads, machine_.resource(ResourceKind::kNicOut, port)) += mine;
      }
      enter(bytes, &loads);
      const Busiest of_stage = busiest(machine_, loads);
      seconds += of_stage.seconds;
      if (of_stage.seconds > most.seconds) most = of_stage;
      for (std::size_t r = 0; r < all.size(); ++r) all[r] += loads[r];
    }
    return finish("broadcast per pipeline stage", all, seconds, most.resource);
  }

  /// Each rank that lacks a bundle gets it by a message of its own, from the holder whose turn it is: balanced by
  /// count, as frameworks do it, not by bytes or ports.
  OtherWay unicast() const {
    std::vector<std::int64_t> loads = no_load();
    for_each_local_copy(plan_, [&](std::int32_t bundle, std::int32_t rank) {
      add_leg(rank, rank, at(plan_.bundles, bundle).size_bytes, &loads);
    });
    std::map<std::int32_t, std::size_t> next;  // by holders: whose turn it is
    for (const Bundle& bundle : plan_.bundles) {
      const std::vector<std::int32_t>& holders = plan_.sets.ranks(bundle.sources);
      for (const std::int32_t rank : plan_.sets.ranks(bundle.destinations)) {
        if (plan_.sets.contains(bundle.sources, rank)) continue;
        const std::vector<std::int32_t> way = way_from(holders, next[bundle.sources]++, rank);
        for (std::size_t i = 1; i < way.size(); ++i) add_leg(way[i - 1], way[i], bundle.size_bytes, &loads);
      }
    }
    const Busiest most = busiest(machine_, loads);
    return finish("unicast to every destination", loads, most.seconds, most.resource);
  }

  void add_leg(std::int32_t src, std::int32_t dst, std::int64_t bytes, std::vector<std::int64_t>* loads) const {
    std::vector<std::int32_t> uses;
    machine_.append_uses(RankId(src), RankId(dst), &uses);
    for (const std::int32_t resource : uses) at(*loads, resource) += bytes;
  }

  /// The ranks that bytes pass from the holder whose turn it is to the one that wants them. Where no port of the two
  /// meets, e.g. on isolated rails, neighbours whose ports do lend them, as collectives do that send over the rail of
  /// the receiver; and where not even such neighbours are, it is the next holder's turn. One has a way: the plan, which
  /// was proved, brings these bytes out of a holder's domain into the receiver's.
  std::vector<std::int32_t> way_from(const std::vector<std::int32_t>& holders, std::size_t turn,
                                     std::int32_t rank) const {
    for (std::size_t i = 0; i < holders.size(); ++i) {
      const std::int32_t source = holders[(turn + i) % holders.size()];
      if (machine_.same_domain(RankId(source), RankId(rank)) || machine_.reaches(RankId(source), RankId(rank)))
        return {source, rank};
      const std::vector<std::int32_t>& near = at(machine_.domains, at(machine_.gpus, rank).domain).ranks;
      for (const std::int32_t exit : at(machine_.domains, at(machine_.gpus, source).domain).ranks) {
        if (machine_.reaches(RankId(exit), RankId(rank))) return {source, exit, rank};
        const auto entry = std::find_if(near.begin(), near.end(),
                                        [&](std::int32_t r) { return machine_.reaches(RankId(exit), RankId(r)); });
        if (entry != near.end()) return {source, exit, *entry, rank};
      }
    }
    return {};
  }

  const Plan& plan_;
  const Machine& machine_;
};

}  // namespace

std::vector<OtherWay> other_ways(const Plan& plan) {
  return OtherWays(plan).run();
}

}  // namespace reshard
