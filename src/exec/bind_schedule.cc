// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <algorithm>
#include <tuple>
#include <utility>

#include "src/exec/bound_schedule.h"
#include "src/exec/copies.h"
#include "src/exec/dense.h"

namespace reshard {
namespace {

/// Where a window begins while its copies are made: nowhere yet, but not at null, which stands for a fill. Slots go
/// round, so that lists which are alike but for the slot would not be found to be (CopyTable); hence they are moved
/// there last.
std::byte* window_begin() {
  return reinterpret_cast<std::byte*>(std::uintptr_t{1} << 12);
}

/// Expands a schedule to copies. A rank of a large job makes a million, most of them alike, so what is done for each
/// allocates nothing, and lists are folded while they are made (CopyListBuilder).
class ScheduleBinder {
 public:
  ScheduleBinder(const Plan& plan, Schedule schedule, const RankMemory& memory, std::unique_ptr<Copier> copier)
      : plan_(plan),
        memory_(memory),
        src_blocks_(*plan.src, schedule.rank),
        dst_blocks_(*plan.dst, schedule.rank),
        peer_src_blocks_(*plan.src, schedule.rank),
        peer_dst_blocks_(*plan.dst, schedule.rank),
        table_(std::make_shared<CopyTable>()),
        copies_(table_) {
    bound_.schedule = std::move(schedule);
    bound_.copier = std::move(copier);
  }

  Result<BoundSchedule> bind() {
    const Schedule& schedule = bound_.schedule;
    RESHARD_TRY(slots_, bound_.copier->allocate_staging(static_cast<std::size_t>(schedule.staging_bytes())));
    add_local();
    add_pulls();
    for (std::size_t lane = 0; lane < schedule.in.size(); ++lane) {
      bound_.in[lane].resize(schedule.in[lane].steps.size());
      if (lane != kMappedLane) bound_.out[lane].resize(schedule.out[lane].steps.size());
    }
    add_windows();
    RESHARD_TRY(bound_.copier->prepare());
    return std::move(bound_);
  }

 private:
  PlacedTensor source(std::int64_t tensor, BlockCache* blocks, const BufferTable& buffers) const {
    const std::int64_t id = at(plan_.tensors, tensor).src;
    return {&blocks->blocks(id), &buffers, at(plan_.src->tensors(), id).dtype};
  }
  PlacedTensor destination(std::int64_t tensor, BlockCache* blocks, const BufferTable& buffers) const {
    const std::int64_t id = at(plan_.tensors, tensor).dst;
    return {&blocks->blocks(id), &buffers, at(plan_.dst->tensors(), id).dtype};
  }
  PlacedTensor own_source(std::int64_t tensor) { return source(tensor, &src_blocks_, memory_.src); }
  PlacedTensor own_destination(std::int64_t tensor) { return destination(tensor, &dst_blocks_, memory_.dst); }

  std::size_t position_of(std::int64_t tensor) const {
    return static_cast<std::size_t>(bound_.schedule.position_of(at(plan_.tensors, tensor).group));
  }
  std::vector<CopyListBuilder> lists_of_groups() const {
    return std::vector<CopyListBuilder>(plan_.groups.size(), CopyListBuilder(table_));
  }

  void add_local() {
    std::vector<CopyListBuilder> of_position = lists_of_groups();
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      append_zero_fill(own_destination(tensor), &of_position[position_of(tensor)]);
    }
    const std::int32_t rank = bound_.schedule.rank;
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (!plan_.sets.contains(bundle.sources, rank) || !plan_.sets.contains(bundle.destinations, rank)) continue;
      for (const Fragment& fragment : fragments_of(plan_, static_cast<std::int32_t>(b), 0, bundle.size_bytes)) {
        append_move(own_source(fragment.tensor), own_destination(fragment.tensor), fragment,
                    &of_position[position_of(fragment.tensor)]);
      }
    }
    for (const GroupStep& step : bound_.schedule.local) {
      bound_.local.push_back(bound_.copier->add(at(of_position, step.position).take(), StoreHint::kAuto));
    }
  }

  /// Peer by peer, since the blocks of all peers at once could fill gigabytes.
  void add_pulls() {
    const Schedule& schedule = bound_.schedule;
    std::vector<std::pair<std::int32_t, std::int64_t>> routes;  // peer and route
    for (const std::int64_t id : schedule.pulled_routes) {
      const HopIterator hops = plan_.begin_hops(at(plan_.routes, id));
      const auto mine = std::find_if(hops, hops + at(plan_.routes, id).num_hops,
                                     [&](const Hop& hop) { return hop.dst == schedule.rank; });
      routes.emplace_back((*mine).src, id);
    }
    std::sort(routes.begin(), routes.end());
    bound_.pulls.resize(schedule.pulls.size(), CopyBatch::kNone);
    for (std::size_t i = 0; i < routes.size();) {
      const std::int32_t peer = routes[i].first;
      std::vector<CopyListBuilder> of_position = lists_of_groups();
      for (; i < routes.size() && routes[i].first == peer; ++i) add_pulled_route(routes[i].second, peer, &of_position);
      for (std::size_t p = 0; p < schedule.pulls.size(); ++p) {
        if (schedule.pulls[p].peer != peer) continue;
        bound_.pulls[p] = bound_.copier->add(at(of_position, schedule.pulls[p].position).take(), StoreHint::kAuto);
      }
    }
  }

  void add_pulled_route(std::int64_t id, std::int32_t peer, std::vector<CopyListBuilder>* of_position) {
    if (peer_src_blocks_.rank() != peer) peer_src_blocks_ = BlockCache(*plan_.src, peer);
    const BufferTable& buffers = memory_.peer_src.at(peer);
    for (const Range& range : plan_.ranges_of(at(plan_.routes, id))) {
      for (const Fragment& fragment : fragments_of(plan_, range.bundle, range.begin, range.end)) {
        append_move(source(fragment.tensor, &peer_src_blocks_, buffers), own_destination(fragment.tensor), fragment,
                    &(*of_position)[position_of(fragment.tensor)]);
      }
    }
  }

  /// A window that needs an address: its step, and where the plan has it.
  struct Entry {
    std::int64_t route = 0;
    std::int32_t hop = 0;
    std::int32_t number = 0;
    bool is_out = false;
    StepId id;
    bool operator<(const Entry& other) const {
      return std::tuple{route, hop, number} < std::tuple{other.route, other.hop, other.number};
    }
  };

  /// Route by route, so that the windows of each are made once, and lists that repeat follow each other.
  void add_windows() {
    std::vector<Entry> entries;
    std::size_t count = 0;
    for (const auto* lanes : {&bound_.out, &bound_.in}) {
      for (const auto& lane : *lanes) count += lane.size();
    }
    entries.reserve(count);
    for (const bool is_out : {true, false}) {
      const Lanes& lanes = is_out ? bound_.schedule.out : bound_.schedule.in;
      for (std::int32_t lane = 0; lane < (is_out ? kNumMessageLanes : 3); ++lane) {
        const std::vector<WindowStep>& steps = at(lanes, lane).steps;
        for (std::uint32_t i = 0; i < steps.size(); ++i) {
          entries.push_back({steps[i].order.route, steps[i].hop, steps[i].order.number, is_out, {lane, i}});
        }
      }
    }
    std::sort(entries.begin(), entries.end());
    std::vector<Window> windows;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const Entry& entry = entries[i];
      if (i == 0 || entry.route != entries[i - 1].route) windows = windows_of(plan_, at(plan_.routes, entry.route));
      add_window(entry, at(windows, entry.number));
    }
  }

  void add_window(const Entry& entry, const Window& window) {
    const Lanes& lanes = entry.is_out ? bound_.schedule.out : bound_.schedule.in;
    const Lane& lane = at(lanes, entry.id.lane);
    const WindowStep& step = lane.steps[entry.id.index];
    BoundWindow& bound = at(entry.is_out ? bound_.out : bound_.in, entry.id.lane)[entry.id.index];
    if (entry.id.lane == kMappedLane) {
      bound.batch = read_in_place(step, window);
      return;
    }
    if (step.is_direct) {
      bound.data = direct_address(step, window);
      return;
    }
    bound.data = slot_address(step, entry.is_out, entry.id.lane);
    if (step.place == Place::kSlot) return;
    CopyList copies = entry.is_out ? pack(step, window) : unpack(window);
    const std::intptr_t distance =
        reinterpret_cast<std::intptr_t>(bound.data) - reinterpret_cast<std::intptr_t>(window_begin());
    // What is packed is sent soon, and read by the transport; what is unpacked is installed.
    if (entry.is_out) {
      copies.shift_dst(distance);
    } else {
      copies.shift_src(distance);
    }
    bound.batch = bound_.copier->add(std::move(copies), entry.is_out ? StoreHint::kCached : StoreHint::kStreaming);
  }

  std::byte* direct_address(const WindowStep& step, const Window& window) {
    const bool is_source = step.place == Place::kSource;
    const BufferPlace place = *dense_place(plan_, {is_source, is_source ? &src_blocks_ : &dst_blocks_}, window);
    return at(is_source ? memory_.src : memory_.dst, place.buffer) + place.offset_bytes;
  }

  /// Slots of receives come first; of each direction those of the first lane.
  std::byte* slot_address(const WindowStep& step, bool is_out, std::int32_t lane) const {
    const Schedule& schedule = bound_.schedule;
    if (is_out && step.place == Place::kSlot) {
      return slot_address(at(schedule.in, step.feed.lane).steps[step.feed.index], false, step.feed.lane);
    }
    std::int64_t slot = step.slot;
    if (is_out) slot += schedule.in[kFirstLane].num_slots + schedule.in[kRelayLane].num_slots;
    if (lane == kRelayLane) slot += (is_out ? schedule.out : schedule.in)[kFirstLane].num_slots;
    return slots_ + slot * schedule.slot_bytes;
  }

  /// Windows of the same kind that begin in the same tensor are likely to be alike, whatever rank they come from.
  static std::uint64_t kin_of(const Window& window, std::uint64_t kind) {
    return 3 * static_cast<std::uint64_t>(window.fragments.front().tensor) + kind;
  }

  CopyList pack(const WindowStep& step, const Window& window) {
    std::byte* address = window_begin();
    for (const Fragment& fragment : window.fragments) {
      const PlacedTensor from =
          step.place == Place::kSource ? own_source(fragment.tensor) : own_destination(fragment.tensor);
      append_pack(from, fragment, {wire_dtype_of(plan_, fragment.tensor), address}, &copies_);
      address += wire_bytes(fragment);
    }
    return copies_.take(kin_of(window, 1));
  }

  CopyList unpack(const Window& window) {
    std::byte* address = window_begin();
    for (const Fragment& fragment : window.fragments) {
      const WirePlace place{wire_dtype_of(plan_, fragment.tensor), address};
      append_unpack(own_destination(fragment.tensor), fragment, place, &copies_);
      address += wire_bytes(fragment);
    }
    return copies_.take(kin_of(window, 0));
  }

  /// Straight from the peer's tensors: its source, or the destination where it has landed.
  CopyBatch read_in_place(const WindowStep& step, const Window& window) {
    const bool is_source = !step.is_relayed;
    BlockCache& blocks = is_source ? peer_src_blocks_ : peer_dst_blocks_;
    if (blocks.rank() != step.peer) blocks = BlockCache(is_source ? *plan_.src : *plan_.dst, step.peer);
    const BufferTable& buffers = (is_source ? memory_.peer_src : memory_.peer_dst).at(step.peer);
    for (const Fragment& fragment : window.fragments) {
      const PlacedTensor from =
          is_source ? source(fragment.tensor, &blocks, buffers) : destination(fragment.tensor, &blocks, buffers);
      append_move(from, own_destination(fragment.tensor), fragment, &copies_);
    }
    return bound_.copier->add(copies_.take(kin_of(window, 2)), StoreHint::kStreaming);
  }

  std::int64_t wire_bytes(const Fragment& fragment) const {
    return (fragment.end - fragment.begin) * at(plan_.tensors, fragment.tensor).wire_bytes;
  }

  const Plan& plan_;
  const RankMemory& memory_;
  BlockCache src_blocks_;       // of this rank
  BlockCache dst_blocks_;       // of this rank
  BlockCache peer_src_blocks_;  // of the peer whose source was read last
  BlockCache peer_dst_blocks_;
  std::shared_ptr<CopyTable> table_;  // of all lists
  CopyListBuilder copies_;            // of one window at a time
  std::byte* slots_ = nullptr;
  BoundSchedule bound_;
};

}  // namespace

Result<BoundSchedule> bind_schedule(const Plan& plan, Schedule schedule, const RankMemory& memory,
                                    std::unique_ptr<Copier> copier) {
  return ScheduleBinder(plan, std::move(schedule), memory, std::move(copier)).bind();
}

}  // namespace reshard
