// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Divides the bytes of bundles among trees, such that the busiest resource of the machine is busy for as short as can
// be. All resources compete at once: whatever binds, ports, links, uplinks or memory, its price rises, and bytes move
// to trees that spare it.
#pragma once

#include <cstdint>
#include <vector>

#include "src/plan/domain_sets.h"
#include "src/plan/plan.h"
#include "src/plan/routing/grow_tree.h"

namespace reshard::routing {

/// Bytes of a bundle that go along one tree.
struct Share {
  TreePtr tree;
  std::int64_t bytes = 0;
};

/// Bytes of a demand that an older plan routed, and what is left of their tree: who is new is not in it.
struct Former {
  Range range;
  TreePtr part;
};

/// A piece of a bundle's stream that is to be routed, and the choice made for it.
struct Demand {
  Range range;
  std::vector<Share> shares;     ///< of different trees; their bytes are those of the range
  std::vector<Former> former{};  ///< ascending; bytes stay with their tree as far as that has a share
  std::int64_t bytes() const { return range.end - range.begin; }
};

/// The loads that all bytes have that are not routed: what ranks copy within their memory.
struct BaseLoad {
  std::int32_t resource = -1;
  std::int64_t bytes = 0;
};

class Solver {
 public:
  Solver(const Plan& plan, const Fabric& fabric, const Uses& uses, const DomainSets& domains);

  /// Chooses shares for demands that have none, and betters those of all, from the loads that `base` and the shares
  /// make. A demand whose bundle nobody lacks is to be left out. RESHARD_ERR_INVALID_ARGUMENT where the network does
  /// not reach who lacks one.
  /// @param good_part what is within 1 / good_part of what no choice can beat is good enough
  Status solve(const std::vector<BaseLoad>& base, std::vector<Demand>* demands, std::int64_t good_part = kGoodPart);

  static constexpr std::int64_t kGoodPart = 200;

  /// What the busiest resource takes under the shares last chosen.
  const Time& time() const { return best_time_; }
  /// Whether it is proved that no choice is better by much.
  bool is_at_limit() const;

 private:
  /// What a step from one tree to another changes: uses more and uses less, by resource.
  struct Change {
    std::int32_t resource;
    std::int64_t uses;
  };
  struct Step {
    TreePtr to;
    std::int64_t bytes = 0;
    Wide fall = 0;  ///< of the potential
  };

  void load(const Tree& tree, std::int64_t bytes);
  std::uint64_t price(const Tree& tree) const;
  Status start_all(std::vector<Demand>* demands, std::int64_t num_parts);
  Status start_in_parts(std::vector<Demand>* demands, std::int64_t num_parts);
  void unload(std::vector<Demand>* demands);
  Status start(Demand* demand, std::size_t number, std::int64_t num_parts);
  Status start_from_former(Demand* demand, std::size_t number, bool is_complete);
  void add_share(Demand* demand, TreePtr tree, std::int64_t bytes);
  Status unreachable(const Demand& demand) const;
  bool improve(Demand* demand, std::uint32_t salt);
  bool replace(Demand* demand, std::size_t worst, const TreePtr& grown, std::size_t cheapest, std::uint32_t salt);
  Step best_step(const Share& from, const TreePtr& to);
  void move(Demand* demand, std::size_t from, const Step& step);
  void find_changes(const Tree& from, const Tree& to);
  Wide slope(std::int64_t bytes) const;
  void find_order(const std::vector<Demand>& demands);
  bool is_beyond_time(const Tree& tree) const;
  void settle_time();
  void settle_anew();
  void keep_best(const std::vector<Demand>& demands);
  bool may_raise_least_time(const std::vector<BaseLoad>& base, const std::vector<Demand>& demands) const;
  void raise_least_time(const std::vector<BaseLoad>& base, const std::vector<Demand>& demands);
  void sweep(std::vector<Demand>* demands);

  const Plan& plan_;
  const Fabric& fabric_;
  const Uses& uses_;
  const DomainSets& domains_;
  Prices prices_;
  TreeGrower grower_;
  std::vector<std::int64_t> count_;  // of uses by resource, zeros between calls
  std::vector<Change> changes_;      // of the step at hand
  std::vector<std::size_t> order_;   // in which demands are visited
  std::int64_t work_ = 0;            // arcs grown and compared
  std::int64_t settled_work_ = 0;    // when prices were last made for the time of then
  Time start_time_;                  // beside which prices are when nothing is loaded yet
  Time least_time_;                  // that any choice takes, as far as is known
  std::int64_t good_part_ = kGoodPart;
  Time best_time_;
  std::vector<std::vector<Share>> best_;  // by demand
};

}  // namespace reshard::routing
