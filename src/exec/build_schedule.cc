// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "src/exec/dense.h"
#include "src/exec/place_windows.h"
#include "src/exec/quantise.h"
#include "src/exec/schedule.h"

// The plan says which windows go over which hops; a schedule says what one rank does for that. Each byte that this rank
// needs comes in one of three ways, tried in this order: it lies on the rank already (local), a peer's memory is mapped
// here and can be read, or it comes as a message and is unpacked. The choice is made from what both ends know (the
// plan, and who reads whom, which they told each other when they bound), so that no rank waits for a message that its
// peer thinks is read in place.

namespace reshard {
namespace {

/// Whether the bytes of a hop lie in tensors at both of its ends: in the source of the one or its destination, and in
/// the destination of the other.
bool joins_tensors(const HopIterator& hops, std::int32_t h) {
  const Hop hop = hops[h];
  return !hop.to_staging && (hop.parent < 0 || !hops[hop.parent].to_staging);
}

bool has_children(const HopIterator& hops, const Route& route, std::int32_t h) {
  return std::any_of(hops + h, hops + route.num_hops, [h](const Hop& hop) { return hop.parent == h; });
}

/// Expands a plan for one rank, window by window.
class ScheduleBuilder {
 public:
  ScheduleBuilder(const Plan& plan, std::int32_t rank, const RankLinks& links)
      : plan_(plan), rank_(rank), links_(links), src_blocks_(*plan.src, rank), dst_blocks_(*plan.dst, rank) {}

  Schedule build() {
    schedule_.rank = rank_;
    schedule_.first_group = plan_.groups.empty() ? 0 : at(plan_.first_groups, rank_);
    schedule_.num_open = plan_.options.open_groups > 0
                             ? static_cast<std::int32_t>(std::min<std::int64_t>(plan_.options.open_groups, kNoLimit))
                             : kNoLimit;
    schedule_.most_in_flight = plan_.most_in_flight;
    schedule_.work_of_group.resize(plan_.groups.size());
    add_local();
    std::int64_t id = 0;
    for (const Route& route : plan_.routes) add_route(id++, route);
    add_pulls();
    schedule_.finishes = finished_positions(plan_, schedule_, &dst_blocks_);
    schedule_.pulled_by.assign(pulled_by_.begin(), pulled_by_.end());
    place_windows(plan_, std::move(out_), std::move(in_), &schedule_);
    count_work();
    return std::move(schedule_);
  }

 private:
  std::int32_t position_of(std::int64_t tensor) const { return schedule_.position_of(at(plan_.tensors, tensor).group); }

  /// What needs no peer: padding that is to be zero, and bytes that this rank holds and wants. The plan has no route
  /// for those, and a bundle whose holders include the rank on both sides is moved whole.
  void add_local() {
    std::set<std::int32_t> positions;
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      const std::vector<Block>& blocks = dst_blocks_.blocks(plan_.tensors[t].dst);
      const auto is_zero = [](const Block& block) { return block.kind == BlockKind::kZero; };
      if (std::any_of(blocks.begin(), blocks.end(), is_zero))
        positions.insert(position_of(static_cast<std::int64_t>(t)));
    }
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (!plan_.sets.contains(bundle.sources, rank_) || !plan_.sets.contains(bundle.destinations, rank_)) continue;
      schedule_.bytes_same_rank += bundle.size_bytes;
      add_positions({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, &positions);
    }
    for (const std::int32_t position : positions) schedule_.local.push_back({position, -1});
  }

  /// The positions of the groups that have bytes in the range.
  void add_positions(const Range& range, std::set<std::int32_t>* positions) const {
    const Strands strands = plan_.strands(at(plan_.bundles, range.bundle));
    for (std::size_t s = strands.find(range.begin); s < strands.size(); ++s) {
      const Strand strand = strands[s];
      if (strand.begin_bytes >= range.end) return;
      positions->insert(position_of(strand.tensor));
    }
  }

  void add_route(std::int64_t id, const Route& route) {
    const HopIterator hops = plan_.begin_hops(route);
    const auto is_mine = [&](const Hop& hop) { return hop.src == rank_ || hop.dst == rank_; };
    if (std::none_of(hops, hops + route.num_hops, is_mine)) return;
    std::vector<Window> windows;
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = hops[h];
      if (!is_mine(hop)) continue;
      const bool is_passed_on = has_children(hops, route, h);
      const bool is_mapped = is_read_in_place(hops, h);
      // Out of a source, and nobody waits for a window of it: it is read in as few copies as there can be.
      if (is_mapped && hop.parent < 0 && !is_passed_on) {
        if (hop.dst == rank_) add_pull(id, route, hop.src);
        if (hop.src == rank_) pulled_by_.insert(hop.dst);
        continue;
      }
      if (windows.empty()) windows = windows_of(plan_, route);
      for (const Window& window : windows) add_window(id, h, window, is_mapped, is_passed_on);
    }
  }

  bool is_read_in_place(const HopIterator& hops, std::int32_t h) const {
    if (!joins_tensors(hops, h)) return false;
    const Hop hop = hops[h];
    const bool is_reader = hop.dst == rank_;
    if (hop.parent < 0) {
      return is_reader ? RankLinks::has(links_.reads_source, hop.src) : RankLinks::has(links_.source_read_by, hop.dst);
    }
    return is_reader ? RankLinks::has(links_.reads_destination, hop.src)
                     : RankLinks::has(links_.destination_read_by, hop.dst);
  }

  void add_pull(std::int64_t id, const Route& route, std::int32_t peer) {
    schedule_.pulled_routes.push_back(id);
    schedule_.bytes_mapped += route.size_bytes;
    std::set<std::int32_t>& positions = pulled_[peer];
    for (const Range& range : plan_.ranges_of(route)) add_positions(range, &positions);
  }

  /// Groups first, since what lies in later ones must not be touched before they open; within a group in a circle:
  /// readers start at different peers, so that they do not all read the same memory at once.
  void add_pulls() {
    for (const auto& [peer, positions] : pulled_) {
      for (const std::int32_t position : positions) schedule_.pulls.push_back({position, peer});
    }
    const auto shift_from = [&](std::int32_t peer) { return (rank_ - peer + plan_.num_ranks) % plan_.num_ranks; };
    std::sort(schedule_.pulls.begin(), schedule_.pulls.end(), [&](const GroupStep& a, const GroupStep& b) {
      return std::pair{a.position, shift_from(a.peer)} < std::pair{b.position, shift_from(b.peer)};
    });
  }

  void add_window(std::int64_t id, std::int32_t h, const Window& window, bool is_mapped, bool is_passed_on) {
    const HopIterator hops = plan_.begin_hops(at(plan_.routes, id));
    const Hop hop = hops[h];
    const bool is_out = hop.src == rank_;
    DraftWindow& draft = (is_out ? out_ : in_).emplace_back();
    draft.parent = is_out ? hop.parent : -1;
    draft.is_mapped = is_mapped;
    draft.feeds_others = !is_out && is_passed_on;
    WindowStep& step = draft.step;
    step.order = window_order(plan_, id, window, hop);
    step.hop = h;
    step.peer = is_out ? hop.dst : hop.src;
    step.size_bytes = window.size_bytes;
    step.is_relayed = hop.parent >= 0;
    step.is_passed_on = is_out && is_passed_on;
    step.place = place_of(hops, hop, is_out);
    step.is_direct = !is_mapped && may_be_direct(step, is_out) && is_dense(step.place, window);
    step.work = work_index(step.place, window);
    count_bytes(is_out, is_mapped, window.size_bytes);
  }

  static Place place_of(const HopIterator& hops, const Hop& hop, bool is_out) {
    if (!is_out) return hop.to_staging ? Place::kSlot : Place::kDestination;
    if (hop.parent < 0) return Place::kSource;
    return hops[hop.parent].to_staging ? Place::kSlot : Place::kDestination;
  }

  bool may_be_direct(const WindowStep& step, bool is_out) const {
    if (links_.stages_all || step.place == Place::kSlot) return false;
    return !RankLinks::has(is_out ? links_.stages_sends : links_.stages_receives, step.peer);
  }

  bool is_dense(Place place, const Window& window) {
    const bool is_source = place == Place::kSource;
    return dense_place(plan_, {is_source, is_source ? &src_blocks_ : &dst_blocks_}, window).has_value();
  }

  /// The tensor is the caller's once its group is complete, so what still reads it counts, too. What leaves the source
  /// is no work of a group: it writes nothing, and the source is the caller's again only when the run ends. Nor is what
  /// only passes through.
  std::int32_t work_index(Place place, const Window& window) {
    std::vector<std::int32_t> work;
    if (place == Place::kDestination) {
      for (const Fragment& fragment : window.fragments) {
        const std::int32_t position = position_of(fragment.tensor);
        if (work.empty() || work.back() != position) work.push_back(position);
      }
      std::sort(work.begin(), work.end());
      work.erase(std::unique(work.begin(), work.end()), work.end());
    }
    const auto index = static_cast<std::int32_t>(schedule_.works.size());
    const auto [known, is_new] = work_indices_.try_emplace(std::move(work), index);
    if (is_new) schedule_.works.push_back(known->first);
    return known->second;
  }

  void count_bytes(bool is_out, bool is_mapped, std::int64_t size_bytes) {
    if (!is_mapped) {
      (is_out ? schedule_.bytes_sent : schedule_.bytes_received) += size_bytes;
    } else if (!is_out) {
      schedule_.bytes_mapped += size_bytes;
    }
  }

  /// How much each group waits for.
  void count_work() {
    for (const std::vector<GroupStep>* steps : {&schedule_.local, &schedule_.pulls}) {
      for (const GroupStep& step : *steps) ++at(schedule_.work_of_group, step.position);
    }
    for (const std::int32_t position : schedule_.finishes) ++at(schedule_.work_of_group, position);
    for (const Lanes* lanes : {&schedule_.out, &schedule_.in}) {
      for (const Lane& lane : *lanes) {
        for (const WindowStep& step : lane.steps) {
          for (const std::int32_t position : schedule_.work_of(step)) ++at(schedule_.work_of_group, position);
        }
      }
    }
  }

  // Half of what fits, so that a position may be added to it.
  static constexpr std::int32_t kNoLimit = std::numeric_limits<std::int32_t>::max() / 2;

  const Plan& plan_;
  std::int32_t rank_;
  const RankLinks& links_;
  BlockCache src_blocks_;
  BlockCache dst_blocks_;
  std::map<std::int32_t, std::set<std::int32_t>> pulled_;           // positions by peer
  std::map<std::vector<std::int32_t>, std::int32_t> work_indices_;  // in Schedule::works
  std::set<std::int32_t> pulled_by_;
  DraftWindows out_;
  DraftWindows in_;
  Schedule schedule_;
};

}  // namespace

std::int64_t Schedule::staging_bytes() const {
  std::int64_t num_slots = 0;
  for (const Lanes* lanes : {&out, &in}) {
    for (const Lane& lane : *lanes) num_slots += lane.num_slots;
  }
  return num_slots * slot_bytes;
}

Schedule build_schedule(const Plan& plan, std::int32_t rank, const RankLinks& links) {
  return ScheduleBuilder(plan, rank, links).build();
}

InPlacePeers in_place_peers(const Plan& plan, std::int32_t rank) {
  std::array<std::set<std::int32_t>, 4> found;  // as in InPlacePeers
  for (const Route& route : plan.routes) {
    const HopIterator hops = plan.begin_hops(route);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = hops[h];
      if ((hop.src != rank && hop.dst != rank) || !joins_tensors(hops, h)) continue;
      const std::size_t side = hop.parent < 0 ? 0 : 1;
      if (hop.dst == rank) found[side].insert(hop.src);
      if (hop.src == rank) found[2 + side].insert(hop.dst);
    }
  }
  const auto list = [&](std::size_t i) { return std::vector<std::int32_t>(found[i].begin(), found[i].end()); };
  return {list(0), list(1), list(2), list(3)};
}

std::vector<std::int32_t> peers_of(const Schedule& schedule) {
  std::set<std::int32_t> peers(schedule.pulled_by.begin(), schedule.pulled_by.end());
  for (const GroupStep& pull : schedule.pulls) peers.insert(pull.peer);
  for (const Lanes* lanes : {&schedule.out, &schedule.in}) {
    for (const Lane& lane : *lanes) {
      for (const WindowStep& step : lane.steps) peers.insert(step.peer);
    }
  }
  return {peers.begin(), peers.end()};
}

}  // namespace reshard
