// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// LB11. The header has the proof. Ranks that need the same bundles make a class; of each group it takes what only that
// class needs, over the lesser of two rates: what the class can take in, and what the domains can send that hold
// something of the groups which may be open beside it, those less than k away among the class's.
#include "src/plan/bounds/order_bound.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "src/plan/loads.h"

namespace reshard {
namespace {

/// Ranks that need the same bundles, and what only they need.
struct RankClass {
  std::vector<std::int32_t> ranks;
  std::vector<bool> takes;                      ///< by group: whether it needs anything of it; others are never open
  std::vector<std::int64_t> bytes;              ///< by group
  std::vector<std::set<std::int32_t>> holders;  ///< by group: domains
};

class OrderBound {
 public:
  OrderBound(const Plan& plan, const DomainSets& domains)
      : plan_(plan), machine_(*plan.options.machine), domains_(domains) {}

  Bound run() {
    find_classes();
    count();
    Bound out;
    out.name = "LB11 order";
    for (const RankClass& of_class : classes_) {
      const double seconds = bound_of(of_class);
      if (seconds <= out.seconds) continue;
      out.seconds = seconds;
      out.resource = fmt::format("groups in order into {} ranks from {} on, {} open at once", of_class.ranks.size(),
                                 of_class.ranks.front(), plan_.options.open_groups);
    }
    return out;
  }

 private:
  /// Ranks are of one class when they lack the same bundles: the proof needs that what one of them still has to receive
  /// the others have, or need as well.
  void find_classes() {
    std::vector<std::vector<std::int32_t>> needed(static_cast<std::size_t>(plan_.num_ranks));
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      for (const std::int32_t rank : lacking(plan_.bundles[b]))
        at(needed, rank).push_back(static_cast<std::int32_t>(b));
    }
    std::map<std::vector<std::int32_t>, std::size_t> ids;
    class_of_.assign(needed.size(), -1);
    for (std::size_t rank = 0; rank < needed.size(); ++rank) {
      if (needed[rank].empty()) continue;
      const auto [entry, is_new] = ids.try_emplace(std::move(needed[rank]), classes_.size());
      if (is_new) classes_.emplace_back();
      classes_[entry->second].ranks.push_back(static_cast<std::int32_t>(rank));
      class_of_[rank] = static_cast<std::ptrdiff_t>(entry->second);
    }
    for (RankClass& of_class : classes_) {
      of_class.takes.resize(plan_.groups.size());
      of_class.bytes.resize(plan_.groups.size());
      of_class.holders.resize(plan_.groups.size());
    }
  }

  std::vector<std::int32_t> lacking(const Bundle& bundle) const {
    std::vector<std::int32_t> out;
    for (const std::int32_t rank : plan_.sets.ranks(bundle.destinations)) {
      if (!plan_.sets.contains(bundle.sources, rank)) out.push_back(rank);
    }
    return out;
  }

  /// Whether one of the ranks can take the bytes from a neighbour without any port: then the rates below do not bind
  /// them.
  bool is_held_near(const Bundle& bundle, const std::vector<std::int32_t>& ranks) const {
    return std::any_of(ranks.begin(), ranks.end(), [&](std::int32_t rank) {
      return domains_.touches(bundle.sources, at(machine_.gpus, rank).domain);
    });
  }

  /// Adds up what only one class needs, by group, and who holds it. Bundles that do not fit the proof are left out,
  /// which only makes the bound smaller.
  void count() {
    const GroupSplitter splitter(plan_);
    std::vector<GroupBytes> parts;
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      const std::vector<std::int32_t> into = lacking(bundle);
      if (into.empty() || bundle.size_bytes == 0) continue;
      parts.clear();
      splitter.split({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, &parts);
      std::set<std::ptrdiff_t> ids;
      for (const std::int32_t rank : into) ids.insert(at(class_of_, rank));
      for (const std::ptrdiff_t id : ids) {
        for (const GroupBytes& part : parts) at(classes_, id).takes[static_cast<std::size_t>(part.group)] = true;
      }
      // Needed by two classes, it may come to the other one first, at another time, and reach this one from there.
      if (ids.size() > 1 || is_held_near(bundle, into)) continue;
      RankClass& of_class = at(classes_, *ids.begin());
      for (const GroupBytes& part : parts) {
        at(of_class.bytes, part.group) += part.bytes;
        for (const std::int32_t d : domains_.of(bundle.sources).domains) at(of_class.holders, part.group).insert(d);
      }
    }
  }

  std::int64_t ports_in(std::int32_t domain) const {
    std::int64_t sum = 0;
    for (const std::int32_t p : at(machine_.domains, domain).ports) sum += at(machine_.ports, p).in.bytes_per_s();
    return sum;
  }

  /// Into the domains of the class, or into its ranks themselves where that is less. A rank alone in its domain has no
  /// links; one whose link has no limit makes the sum of ranks no limit either.
  std::int64_t rate_into(const RankClass& of_class) const {
    std::set<std::int32_t> entered;
    std::int64_t into_ranks = 0;
    bool is_limited = true;
    for (const std::int32_t rank : of_class.ranks) {
      const Machine::Gpu& gpu = at(machine_.gpus, rank);
      entered.insert(gpu.domain);
      if (gpu.port >= 0) into_ranks += at(machine_.ports, gpu.port).in.bytes_per_s();
      if (at(machine_.domains, gpu.domain).ranks.size() == 1) continue;
      into_ranks += gpu.link.bytes_per_s();
      is_limited = is_limited && gpu.link.bytes_per_s() > 0;
    }
    std::int64_t into_domains = 0;
    for (const std::int32_t d : entered) into_domains += ports_in(d);
    return is_limited ? std::min(into_ranks, into_domains) : into_domains;
  }

  /// The sum over groups of bytes(g) / r(g). Groups that are open beside g are those less than k away on either side,
  /// counting what the class takes: the proof stands in the header.
  double bound_of(const RankClass& of_class) const {
    std::vector<std::int64_t> taken;  // groups, ascending
    for (std::size_t g = 0; g < of_class.takes.size(); ++g) {
      if (of_class.takes[g]) taken.push_back(static_cast<std::int64_t>(g));
    }
    const auto count = static_cast<std::int64_t>(taken.size());
    const std::int64_t k = plan_.options.open_groups;
    const std::int64_t rate_in = rate_into(of_class);
    double seconds = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t g = at(taken, i);
      if (at(of_class.bytes, g) == 0) continue;
      std::set<std::int32_t> senders;
      for (std::int64_t other = std::max<std::int64_t>(0, i - k + 1); other < std::min(count, i + k); ++other) {
        const std::set<std::int32_t>& holders = at(of_class.holders, at(taken, other));
        senders.insert(holders.begin(), holders.end());
      }
      std::int64_t rate_out = 0;
      for (const std::int32_t d : senders) {
        for (const std::int32_t p : at(machine_.domains, d).ports) rate_out += at(machine_.ports, p).out.bytes_per_s();
      }
      seconds += static_cast<double>(at(of_class.bytes, g)) / static_cast<double>(std::min(rate_in, rate_out));
    }
    return seconds;
  }

  const Plan& plan_;
  const Machine& machine_;
  const DomainSets& domains_;
  std::vector<RankClass> classes_;
  std::vector<std::ptrdiff_t> class_of_;  // by rank; -1: it needs nothing
};

}  // namespace

Bound order_bound(const Plan& plan, const DomainSets& domains) {
  if (plan.options.order == GroupOrder::kFixed) return OrderBound(plan, domains).run();
  Bound none;
  none.name = "LB11 order";
  return none;
}

}  // namespace reshard
