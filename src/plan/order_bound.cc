// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/order_bound.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "src/plan/loads.h"

namespace reshard {
namespace {

/// Domains that need the same bundles, and what only they need.
struct DomainClass {
  std::vector<std::int32_t> domains;
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
    for (const DomainClass& of_class : classes_) {
      const double seconds = bound_of(of_class);
      if (seconds <= out.seconds) continue;
      out.seconds = seconds;
      out.resource = fmt::format("groups in order into {} domains from {} on, {} open at once", of_class.domains.size(),
                                 of_class.domains.front(), plan_.options.open_groups);
    }
    return out;
  }

 private:
  void find_classes() {
    std::vector<std::vector<std::int32_t>> needed(machine_.domains.size());
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      for (const std::int32_t d : lacking(plan_.bundles[b])) at(needed, d).push_back(static_cast<std::int32_t>(b));
    }
    std::map<std::vector<std::int32_t>, std::size_t> ids;
    class_of_.assign(needed.size(), -1);
    for (std::size_t d = 0; d < needed.size(); ++d) {
      if (needed[d].empty()) continue;
      const auto [entry, is_new] = ids.try_emplace(std::move(needed[d]), classes_.size());
      if (is_new) classes_.emplace_back();
      classes_[entry->second].domains.push_back(static_cast<std::int32_t>(d));
      class_of_[d] = static_cast<std::ptrdiff_t>(entry->second);
    }
    for (DomainClass& of_class : classes_) {
      of_class.bytes.resize(plan_.groups.size());
      of_class.holders.resize(plan_.groups.size());
    }
  }

  std::vector<std::int32_t> lacking(const Bundle& bundle) const {
    std::vector<std::int32_t> out;
    for (const std::int32_t d : domains_.of(bundle.destinations).domains) {
      if (!domains_.touches(bundle.sources, d)) out.push_back(d);
    }
    return out;
  }

  void count() {
    const GroupSplitter splitter(plan_);
    std::vector<GroupBytes> parts;
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      const std::vector<std::int32_t> into = lacking(bundle);
      if (into.empty() || bundle.size_bytes == 0) continue;
      const std::ptrdiff_t id = at(class_of_, into.front());
      if (std::any_of(into.begin(), into.end(), [&](std::int32_t d) { return at(class_of_, d) != id; })) continue;
      DomainClass& of_class = at(classes_, id);
      parts.clear();
      splitter.split({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, &parts);
      for (const GroupBytes& part : parts) {
        at(of_class.bytes, part.group) += part.bytes;
        for (const std::int32_t d : domains_.of(bundle.sources).domains) at(of_class.holders, part.group).insert(d);
      }
    }
  }

  double bound_of(const DomainClass& of_class) const {
    const auto count = static_cast<std::int64_t>(plan_.groups.size());
    const std::int64_t k = plan_.options.open_groups;
    std::int64_t rate_in = 0;
    for (const std::int32_t d : of_class.domains) {
      for (const std::int32_t p : at(machine_.domains, d).ports) rate_in += at(machine_.ports, p).in.bytes_per_s();
    }
    double seconds = 0;
    for (std::int64_t g = 0; g < count; ++g) {
      if (at(of_class.bytes, g) == 0) continue;
      std::set<std::int32_t> senders;
      for (std::int64_t other = std::max<std::int64_t>(0, g - k + 1); other < std::min(count, g + k); ++other) {
        senders.insert(at(of_class.holders, other).begin(), at(of_class.holders, other).end());
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
  std::vector<DomainClass> classes_;
  std::vector<std::ptrdiff_t> class_of_;  // by domain; -1: it needs nothing from outside
};

}  // namespace

Bound order_bound(const Plan& plan, const DomainSets& domains) {
  if (plan.options.order == GroupOrder::kFixed) return OrderBound(plan, domains).run();
  Bound none;
  none.name = "LB11 order";
  return none;
}

}  // namespace reshard
