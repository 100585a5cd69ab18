// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A new plan that keeps what it can of an old one. A bundle is kept or planned anew as a whole. Those that are kept
// have their routes cut (prune) and what these do written down (Kept); the ordinary stages then plan the rest around
// them. In the worst case nothing is kept, and the plan is as one made from nothing.
//
// By whole bundles, since that is how the stages ask what is done already: Kept::serves() knows ranks of a bundle, not
// pieces of it.
#include "src/plan/replan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <unordered_map>

#include "src/plan/prune.h"
#include "src/plan/routing.h"
#include "src/plan/windows.h"

namespace reshard {
namespace {

/// Tells bundles of two plans apart by holders and content. Their numbers mean nothing across plans: one bundle more
/// shifts all that follow.
class BundleMatcher {
 public:
  BundleMatcher(const Plan& old, const Plan& now) : old_(old), now_(now) {
    for (std::size_t b = 0; b < now.bundles.size(); ++b) {
      if (!now.strands(now.bundles[b]).empty()) by_key_.emplace(key(now, now.bundles[b]), static_cast<std::int32_t>(b));
    }
  }

  /// The bundle of the new plan that equals this one of the old, destinations apart; -1 when there is none.
  std::int32_t match(std::int32_t bundle) const {
    const Bundle& mine = at(old_.bundles, bundle);
    if (old_.strands(mine).empty()) return -1;
    const auto [first, last] = by_key_.equal_range(key(old_, mine));
    const auto found =
        std::find_if(first, last, [&](const auto& entry) { return equal(mine, at(now_.bundles, entry.second)); });
    return found == last ? -1 : found->second;
  }

 private:
  /// Of the source tensor and place of a bundle's first element, and its holders. An element lies in one bundle of a
  /// plan, so that few have equal keys; whether all is the same, equal() says.
  static std::uint64_t key(const Plan& plan, const Bundle& bundle) {
    const Strand first = plan.strands(bundle)[0];
    const PlanTensor& tensor = at(plan.tensors, first.tensor);
    const Box& box = at(at(plan.classes, tensor.atom_class).atoms, first.first_atom).box;
    std::uint64_t key = static_cast<std::uint64_t>(tensor.src);
    const auto mix = [&key](std::int64_t value) {
      key = (key ^ static_cast<std::uint64_t>(value)) * 0x9e3779b97f4a7c15U;
      key ^= key >> 32U;
    };
    for (int d = 0; d < box.num_dims; ++d) mix(box.begin[d]);
    for (const std::int32_t rank : plan.sets.ranks(bundle.sources)) mix(rank);
    return key;
  }

  bool equal(const Bundle& a, const Bundle& b) const {
    const Strands mine = old_.strands(a), other = now_.strands(b);
    if (a.size_bytes != b.size_bytes || mine.size() != other.size()) return false;
    if (old_.sets.ranks(a.sources) != now_.sets.ranks(b.sources)) return false;
    for (std::size_t s = 0; s < mine.size(); ++s) {
      if (!equal(mine[s], other[s])) return false;
    }
    return true;
  }

  bool equal(const Strand& a, const Strand& b) const {
    const PlanTensor& mine = at(old_.tensors, a.tensor);
    const PlanTensor& other = at(now_.tensors, b.tensor);
    if (mine.src != other.src || mine.group != other.group || mine.wire_bytes != other.wire_bytes) return false;
    if (a.num_atoms != b.num_atoms) return false;
    for (std::int32_t i = 0; i < a.num_atoms; ++i) {
      const Box& box = at(at(old_.classes, mine.atom_class).atoms, a.first_atom + i).box;
      if (!(box == at(at(now_.classes, other.atom_class).atoms, b.first_atom + i).box)) return false;
    }
    return true;
  }

  const Plan& old_;
  const Plan& now_;
  std::unordered_multimap<std::uint64_t, std::int32_t> by_key_;
};

class Replanner {
 public:
  Replanner(const Plan& old, Plan* now, Changes* changes)
      : old_(old),
        now_(*now),
        changes_(*changes),
        machine_(routing_machine(old)),
        network_(machine_),
        domains_(machine_, now->sets) {}

  Status run() {
    now_.first_groups = old_.first_groups;
    now_.splits_slow_domains = old_.splits_slow_domains;
    match_bundles();
    keep_routes();
    RESHARD_TRY(add_routes(kept_, &now_));
    count_changes();
    return {};
  }

 private:
  void match_bundles() {
    const BundleMatcher matcher(old_, now_);
    for (std::size_t b = 0; b < old_.bundles.size(); ++b) match_.push_back(matcher.match(static_cast<std::int32_t>(b)));
    is_same_.resize(match_.size());
    for (std::size_t b = 0; b < match_.size(); ++b) {
      if (match_[b] < 0) continue;
      const Bundle& before = old_.bundles[b];
      const Bundle& after = at(now_.bundles, match_[b]);
      is_same_[b] = old_.sets.ranks(before.destinations) == now_.sets.ranks(after.destinations);
      if (!is_same_[b] && !can_keep(before, after)) match_[b] = -1;
    }
    // A route that cannot be cut takes its bundles' other routes with it: who serves a rank is settled by bundle. Those
    // may carry other bundles beside, so this is done until nothing changes; each turn loses a bundle, so it ends.
    for (bool changed = true; changed;) {
      changed = false;
      for (const Route& route : old_.routes) {
        for (const Range& range : old_.ranges_of(route)) {
          std::int32_t& match = at(match_, range.bundle);
          if (match < 0 || at(is_same_, range.bundle) || cut(route, match).has_value()) continue;
          match = -1;
          changed = true;
        }
      }
    }
  }

  /// Not if a rank is new in a domain that others of the bundle's ranks are in: it is served from the same landings.
  /// Stages that follow may so take one rank of a domain for all of them.
  bool can_keep(const Bundle& before, const Bundle& after) const {
    std::set<std::int32_t> served;
    for (const std::int32_t rank : old_.sets.ranks(before.destinations)) {
      if (now_.sets.contains(after.destinations, rank)) served.insert(at(machine_.gpus, rank).domain);
    }
    for (const std::int32_t rank : now_.sets.ranks(after.destinations)) {
      if (old_.sets.contains(before.destinations, rank) || now_.sets.contains(after.sources, rank)) continue;
      const std::int32_t domain = at(machine_.gpus, rank).domain;
      if (served.count(domain) > 0 && !domains_.touches(after.sources, domain)) return false;
    }
    return true;
  }

  /// A route as the new plan's bundle has it: without the ranks that do not want it any more. Ranks that want it since
  /// then are none of its business: can_keep() let through only those that the other stages serve.
  std::optional<std::vector<Hop>> cut(const Route& route, std::int32_t bundle) const {
    const std::vector<Hop> hops(old_.begin_hops(route), old_.begin_hops(route) + route.num_hops);
    const std::int32_t wanted = at(now_.bundles, bundle).destinations;
    std::vector<bool> is_wanted;
    for (const Hop& hop : hops) is_wanted.push_back(now_.sets.contains(wanted, hop.dst));
    if (std::all_of(hops.begin(), hops.end(), [&](const Hop& hop) {
          return hop.to_staging || is_wanted[static_cast<std::size_t>(&hop - hops.data())];
        })) {
      return hops;
    }
    return prune(network_, hops, is_wanted);
  }

  /// Puts the old routes that stay into the new plan, before any other, and adds up what they do.
  void keep_routes() {
    kept_.served.resize(now_.bundles.size());
    kept_.in_bytes.resize(static_cast<std::size_t>(now_.num_ranks));
    kept_.out_bytes.resize(static_cast<std::size_t>(now_.num_ranks));
    for (const Route& route : old_.routes) {
      if (keep_whole(route)) continue;
      std::map<std::int32_t, std::vector<Range>> by_audience;  // ranges whose bundles lost the same ranks stay together
      for (Range range : old_.ranges_of(route)) {
        range.bundle = at(match_, range.bundle);
        // Bundles keep their stream, byte by byte, so that ranges hold as they are.
        if (range.bundle >= 0) by_audience[at(now_.bundles, range.bundle).destinations].push_back(range);
      }
      for (const auto& [audience, ranges] : by_audience) keep(route, ranges);
    }
    for (std::vector<std::int32_t>& ranks : kept_.served) {
      std::sort(ranks.begin(), ranks.end());
      ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    }
  }

  /// Most routes of most plans: all of its bundles stay, for the same ranks, so that it is as it was, hop by hop.
  bool keep_whole(const Route& route) {
    std::vector<Range> ranges(old_.ranges_of(route).begin(), old_.ranges_of(route).end());
    for (Range& range : ranges) {
      const std::int32_t match = at(match_, range.bundle);
      if (match < 0 || !at(is_same_, range.bundle)) return false;
      range.bundle = match;
    }
    add(route, {old_.begin_hops(route), old_.begin_hops(route) + route.num_hops}, ranges);
    return true;
  }

  /// Adds the route with these of its ranges, as far as it still serves anybody.
  void keep(const Route& route, const std::vector<Range>& ranges) {
    const std::vector<Hop> hops = *cut(route, ranges.front().bundle);
    if (!hops.empty()) add(route, hops, ranges);
  }

  /// Adds a route with these hops and ranges to the new plan, and books what it does: bytes at the ports where it
  /// crosses domains, and the ranks that have the ranges' bundles from it. Rounds come later, with those of all routes.
  void add(const Route& route, const std::vector<Hop>& hops, const std::vector<Range>& ranges) {
    Route made;
    made.first_range = static_cast<std::int64_t>(now_.ranges.size());
    made.first_hop = static_cast<std::int64_t>(now_.hops.size());
    made.num_ranges = static_cast<std::int32_t>(ranges.size());
    made.num_hops = static_cast<std::int32_t>(hops.size());
    made.first_group = route.first_group;
    for (const Range& range : ranges) made.size_bytes += range.end - range.begin;
    for (const Hop& hop : hops) {
      if (!machine_.same_domain(RankId(hop.src), RankId(hop.dst))) {
        at(kept_.in_bytes, hop.dst) += made.size_bytes;
        at(kept_.out_bytes, hop.src) += made.size_bytes;
      }
      if (hop.to_staging) continue;
      for (const Range& range : ranges) at(kept_.served, range.bundle).push_back(hop.dst);
    }
    now_.ranges.insert(now_.ranges.end(), ranges.begin(), ranges.end());
    now_.hops.insert(now_.hops.end(), hops.begin(), hops.end());
    now_.routes.push_back(made);
  }

  /// By old bundle and pair of ranks: bytes. A hop of the new plan is unchanged as far as the old one has it. Each byte
  /// of the old plan is used up once, so that doubled traffic counts as changed.
  void count_changes() {
    std::vector<std::int32_t> old_of(now_.bundles.size(), -1);
    for (std::size_t b = 0; b < match_.size(); ++b) {
      if (match_[b] >= 0) at(old_of, match_[b]) = static_cast<std::int32_t>(b);
    }
    // What stays for the same ranks stays as it was, so only the rest is compared.
    const auto is_same = [&](std::int32_t bundle) { return bundle >= 0 && at(is_same_, bundle); };
    std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::int64_t> before;
    for (const Route& route : old_.routes) {
      for_each_leg(old_, route, [&](std::int32_t bundle, const Hop& hop, std::int64_t bytes) {
        if (!is_same(bundle)) before[{bundle, hop.src, hop.dst}] += bytes;
      });
    }
    std::vector<bool> is_used(now_.bundles.size());
    std::set<std::int32_t> changed;
    for (const Route& route : now_.routes) {
      for_each_leg(now_, route, [&](std::int32_t bundle, const Hop& hop, std::int64_t bytes) {
        is_used[static_cast<std::size_t>(bundle)] = true;
        changes_.bytes += bytes;
        if (is_same(at(old_of, bundle))) return;
        std::int64_t same = 0;
        const auto found = before.find({at(old_of, bundle), hop.src, hop.dst});
        if (found != before.end()) {
          same = std::min(bytes, found->second);
          found->second -= same;
        }
        changes_.bytes_changed += bytes - same;
        if (same < bytes) changed.insert(bundle);
      });
    }
    changes_.bundles = std::count(is_used.begin(), is_used.end(), true);
    changes_.bundles_changed = static_cast<std::int64_t>(changed.size());
  }

  template <typename Visit>
  static void for_each_leg(const Plan& plan, const Route& route, const Visit& visit) {
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      for (const Range& range : plan.ranges_of(route)) {
        visit(range.bundle, plan.begin_hops(route)[h], range.end - range.begin);
      }
    }
  }

  const Plan& old_;
  Plan& now_;
  Changes& changes_;
  Machine machine_;  // that the routes of both plans are chosen on
  Network network_;
  DomainSets domains_;
  std::vector<std::int32_t> match_;  // by old bundle: the new one that keeps its routes
  std::vector<bool> is_same_;        // by old bundle: and for the same ranks
  Kept kept_;
};

}  // namespace

namespace {

bool equal(const DimMapPtr& a, const DimMapPtr& b) {
  if (a == b || a == nullptr || b == nullptr) return a == b;
  return a->owns_padding == b->owns_padding && a->parts == b->parts;
}

/// Layouts that are built apart have other objects with the same content; tensors by the thousand share these, so each
/// pair is compared once.
class TensorComparison {
 public:
  TensorComparison(const ModelLayout& a, const ModelLayout& b) : a_(a), b_(b) {}

  /// Whether the tensor has the same elements in the same places on every rank, buffers by number.
  bool is_same(std::int64_t tensor) {
    const auto& a = a_.placements(tensor);
    const auto& b = b_.placements(tensor);
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](const Placement& x, const Placement& y) { return are_equal(x, y); }) &&
           are_equal(a_.rank_blocks(tensor), b_.rank_blocks(tensor));
  }

 private:
  bool are_equal(const Placement& a, const Placement& b) {
    if (a.order != b.order || a.buffer != b.buffer || a.offset_bytes != b.offset_bytes || a.padding != b.padding ||
        a.dims.size() != b.dims.size() || !have_equal_ranks(a.mesh, b.mesh)) {
      return false;
    }
    for (std::size_t d = 0; d < a.dims.size(); ++d) {
      if (a.dims[d].axes != b.dims[d].axes || !have_equal_parts(a.dims[d].map, b.dims[d].map)) return false;
    }
    return true;
  }

  bool have_equal_ranks(const MeshPtr& a, const MeshPtr& b) {
    const auto [entry, is_new] = meshes_.try_emplace({a.get(), b.get()}, false);
    if (!is_new) return entry->second;
    const auto is_alike = [](const MeshAxis& x, const MeshAxis& y) { return x.size == y.size; };
    entry->second = a->ranks() == b->ranks() &&
                    std::equal(a->axes().begin(), a->axes().end(), b->axes().begin(), b->axes().end(), is_alike);
    return entry->second;
  }

  bool have_equal_parts(const DimMapPtr& a, const DimMapPtr& b) {
    const auto [entry, is_new] = maps_.try_emplace({a.get(), b.get()}, false);
    if (is_new) entry->second = equal(a, b);
    return entry->second;
  }

  static bool are_equal(const std::vector<RankBlock>& a, const std::vector<RankBlock>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const RankBlock& x, const RankBlock& y) {
      return x.rank == y.rank && x.block.kind == y.block.kind && x.block.buffer == y.block.buffer &&
             x.block.box == y.block.box && x.block.offset_bytes == y.block.offset_bytes &&
             std::equal(x.block.strides_bytes.values, x.block.strides_bytes.values + x.block.box.num_dims,
                        y.block.strides_bytes.values);
    });
  }

  const ModelLayout& a_;
  const ModelLayout& b_;
  std::map<std::pair<const Mesh*, const Mesh*>, bool> meshes_;
  std::map<std::pair<const DimMap*, const DimMap*>, bool> maps_;
};

/// An update moves tensors about; what they are, and in which group they come, is as it was.
Status check_same_tensors(const ModelLayout& old, const ModelLayout& now) {
  const auto other = [](const std::string& what) {
    return Status(RESHARD_ERR_LAYOUT_MISMATCH, what + "; an update changes where tensors lie, plan anew for all else");
  };
  if (old.tensors().size() != now.tensors().size()) {
    return other(fmt::format("the destination had {} tensors and has {}", old.tensors().size(), now.tensors().size()));
  }
  for (std::size_t t = 0; t < old.tensors().size(); ++t) {
    const Tensor& before = old.tensors()[t];
    const Tensor& after = now.tensors()[t];
    if (before.name != after.name) {
      return other(fmt::format("destination tensor {} was \"{}\" and is \"{}\"", t, before.name, after.name));
    }
    const auto index = static_cast<std::int64_t>(t);
    if (before.shape != after.shape || before.dtype != after.dtype || before.group != after.group ||
        !(old.scales(index) == now.scales(index))) {
      return other(fmt::format("destination tensor \"{}\" has another shape, dtype, group or scales", before.name));
    }
  }
  return {};
}

/// Whether cells of the old plan may serve a new one: it has kept them, and not too many sets of ranks that none of its
/// bundles has any more, which would grow from update to update.
bool keeps_cells(const Plan& old) {
  constexpr std::int64_t kFewSets = 1024;
  return old.src_partitions != nullptr && old.conversions.empty() &&
         old.sets.size() <= kFewSets + 4 * std::ssize(old.bundles);
}

/// KiB of the tensors that lie elsewhere than before, or of the others: their sum stays within 63 bits.
std::int64_t changed_kib(const ModelLayout& layout, const std::vector<bool>& is_same, bool is_changed) {
  std::int64_t kib = 0;
  for (std::size_t t = 0; t < is_same.size(); ++t) {
    const Tensor& tensor = layout.tensors()[t];
    if (is_same[t] == is_changed) continue;
    kib += whole_box(tensor.shape).num_elements() * size_bytes(tensor.dtype) / 1024;
  }
  return kib;
}

/// Of a plan that was made anew since little would have stayed: keeping that costs more than it saves.
Changes all_changed(const Plan& plan) {
  Changes changes;
  for (const Route& route : plan.routes) changes.bytes += route.size_bytes * route.num_hops;
  changes.bytes_changed = changes.bytes;
  changes.bundles = changes.bundles_changed = std::ssize(plan.bundles);
  return changes;
}

Result<Plan> replan_with(const Plan& old, std::shared_ptr<const ModelLayout> src,
                         std::shared_ptr<const ModelLayout> dst, const Unchanged* unchanged, Changes* changes) {
  *changes = {};
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), old.options, unchanged));
  if (plan.num_ranks != old.num_ranks) {
    return Status(RESHARD_ERR_LAYOUT_MISMATCH, "the world of the older plan has another number of ranks; plan anew");
  }
  // What is kept is proved again like all else: check_routes() does not know what is new.
  RESHARD_TRY(Replanner(old, &plan, changes).run());
  RESHARD_TRY(check_routes(plan));
  fit_windows(&plan);
  plan.hash = hash_plan(plan);
  return plan;
}

}  // namespace

std::vector<bool> same_places(const ModelLayout& old, const ModelLayout& now) {
  std::vector<bool> is_same(now.tensors().size(), &old == &now);
  if (&old == &now) return is_same;
  TensorComparison comparison(old, now);
  for (std::size_t t = 0; t < std::min(old.tensors().size(), is_same.size()); ++t) {
    const auto tensor = static_cast<std::int64_t>(t);
    is_same[t] = old.tensors()[t].shape == now.tensors()[t].shape && old.tensors()[t].dtype == now.tensors()[t].dtype &&
                 old.scales(tensor) == now.scales(tensor) && comparison.is_same(tensor);
  }
  return is_same;
}

Result<Plan> replan(const Plan& old, std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                    Changes* changes) {
  return replan_with(old, std::move(src), std::move(dst), nullptr, changes);
}

Result<Plan> update_plan(const Plan& old, const std::shared_ptr<const ModelLayout>& dst, Changes* changes) {
  const ModelLayout& before = *(old.given_dst != nullptr ? old.given_dst : old.dst);
  RESHARD_TRY(check_same_tensors(before, *dst));
  Unchanged unchanged{old, {}};
  TensorComparison comparison(before, *dst);
  for (std::size_t t = 0; t < before.tensors().size(); ++t) {
    unchanged.dst_tensors.push_back(comparison.is_same(static_cast<std::int64_t>(t)));
  }
  const std::shared_ptr<const ModelLayout>& src = old.given_src != nullptr ? old.given_src : old.src;
  const bool is_mostly_new =
      changed_kib(before, unchanged.dst_tensors, true) > changed_kib(before, unchanged.dst_tensors, false);
  RESHARD_TRY(Plan plan, is_mostly_new ? create_plan(src, dst, old.options)
                                       : replan_with(old, src, dst, keeps_cells(old) ? &unchanged : nullptr, changes));
  if (is_mostly_new) *changes = all_changed(plan);
  changes->tensors = static_cast<std::int64_t>(before.tensors().size());
  changes->tensors_changed = std::count(unchanged.dst_tensors.begin(), unchanged.dst_tensors.end(), false);
  return plan;
}

}  // namespace reshard
