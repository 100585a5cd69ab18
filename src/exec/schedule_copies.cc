// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/schedule_copies.h"

#include <xxhash.h>

#include <algorithm>
#include <tuple>
#include <utility>

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
class CopyMaker {
 public:
  CopyMaker(const Plan& plan, const Schedule& schedule, const RankMemory& memory, const CopyTaker& taker)
      : plan_(plan),
        schedule_(schedule),
        memory_(memory),
        taker_(taker),
        src_blocks_(*plan.src, schedule.rank),
        dst_blocks_(*plan.dst, schedule.rank),
        peer_src_blocks_(*plan.src, schedule.rank),
        peer_dst_blocks_(*plan.dst, schedule.rank),
        table_(std::make_shared<CopyTable>()),
        group_table_(taker.keeps ? std::make_shared<CopyTable>() : table_),
        copies_(table_) {}

  void make() {
    add_local();
    add_pulls();
    add_windows();
  }

 private:
  PlacedTensor source(std::int64_t tensor, BlockCache* blocks, const BufferTable& buffers) const {
    const std::int64_t id = at(plan_.tensors, tensor).src;
    PlacedTensor placed{&blocks->blocks(id), &buffers, at(plan_.src->tensors(), id).dtype};
    if (const Conversion* conversion = plan_.source_conversion(tensor)) {
      const std::int64_t scales = conversion->src_scales;
      placed.scales = {&conversion->grid, &blocks->blocks(scales), &buffers, at(plan_.src->tensors(), scales).dtype};
    }
    return placed;
  }
  PlacedTensor destination(std::int64_t tensor, BlockCache* blocks, const BufferTable& buffers) const {
    const std::int64_t id = at(plan_.tensors, tensor).dst;
    return {&blocks->blocks(id), &buffers, at(plan_.dst->tensors(), id).dtype};
  }
  PlacedTensor own_source(std::int64_t tensor) { return source(tensor, &src_blocks_, memory_.src); }
  PlacedTensor own_destination(std::int64_t tensor) { return destination(tensor, &dst_blocks_, memory_.dst); }

  std::size_t position_of(std::int64_t tensor) const {
    return static_cast<std::size_t>(schedule_.position_of(at(plan_.tensors, tensor).group));
  }
  std::vector<CopyListBuilder> lists_of_groups() const {
    return std::vector<CopyListBuilder>(plan_.groups.size(), CopyListBuilder(group_table_));
  }

  /// Adds to the list of its group what of a tensor is copied: by its numbers in the layouts, which stay, and the
  /// elements. A sum, as bundles come in another order in another plan.
  void note(std::int64_t tensor, const Fragment* fragment, std::vector<GroupList>* lists) const {
    const PlanTensor& placed = at(plan_.tensors, tensor);
    std::vector<std::int64_t> words = {placed.src, placed.dst};
    if (fragment != nullptr) {
      const Box& box = fragment->atom->box;
      words.insert(words.end(), {fragment->begin, fragment->end});
      words.insert(words.end(), box.begin.values, box.begin.values + box.num_dims);
      words.insert(words.end(), box.end.values, box.end.values + box.num_dims);
    }
    GroupList& list = (*lists)[position_of(tensor)];
    list.digest += XXH3_64bits(words.data(), words.size() * sizeof(std::int64_t));
    list.is_unchanged = list.is_unchanged && taker_.is_unchanged(tensor);
  }

  /// By position: whether the taker keeps the list of one of these steps. `peer`: of pulls; -1: within the rank.
  std::vector<bool> ask_to_keep(std::vector<GroupList> lists, const std::vector<GroupStep>& steps, std::int32_t peer) {
    std::vector<bool> is_kept(plan_.groups.size());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (steps[i].peer != peer) continue;
      GroupList& list = at(lists, steps[i].position);
      list.is_pull = peer >= 0;
      list.index = i;
      is_kept[static_cast<std::size_t>(steps[i].position)] = taker_.keeps(list);
    }
    return is_kept;
  }

  template <typename Visit>
  void for_each_local_fragment(const Visit& visit) const {
    const std::int32_t rank = schedule_.rank;
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (!plan_.sets.contains(bundle.sources, rank) || !plan_.sets.contains(bundle.destinations, rank)) continue;
      for (const Fragment& fragment : fragments_of(plan_, static_cast<std::int32_t>(b), 0, bundle.size_bytes)) {
        visit(fragment);
      }
    }
  }

  std::vector<bool> kept_local() {
    std::vector<GroupList> lists(plan_.groups.size());
    if (!taker_.keeps) return std::vector<bool>(lists.size());
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) note(static_cast<std::int64_t>(t), nullptr, &lists);
    for_each_local_fragment([&](const Fragment& fragment) { note(fragment.tensor, &fragment, &lists); });
    return ask_to_keep(std::move(lists), schedule_.local, -1);
  }

  void add_local() {
    const std::vector<bool> is_kept = kept_local();
    std::vector<CopyListBuilder> of_position = lists_of_groups();
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      if (is_kept[position_of(tensor)]) continue;
      append_zero_fill(own_destination(tensor), &of_position[position_of(tensor)]);
    }
    for_each_local_fragment([&](const Fragment& fragment) {
      if (is_kept[position_of(fragment.tensor)]) return;
      append_move(own_source(fragment.tensor), own_destination(fragment.tensor), fragment,
                  &of_position[position_of(fragment.tensor)]);
    });
    for (std::size_t i = 0; i < schedule_.local.size(); ++i) {
      const auto position = static_cast<std::size_t>(schedule_.local[i].position);
      if (!is_kept[position]) taker_.local(i, of_position[position].take());
    }
  }

  /// Peer by peer, since the blocks of all peers at once could fill gigabytes.
  void add_pulls() {
    std::vector<std::pair<std::int32_t, std::int64_t>> routes;  // peer and route
    for (const std::int64_t id : schedule_.pulled_routes) {
      const HopIterator hops = plan_.begin_hops(at(plan_.routes, id));
      const auto mine = std::find_if(hops, hops + at(plan_.routes, id).num_hops,
                                     [&](const Hop& hop) { return hop.dst == schedule_.rank; });
      routes.emplace_back((*mine).src, id);
    }
    std::sort(routes.begin(), routes.end());
    for (std::size_t i = 0; i < routes.size();) {
      const std::int32_t peer = routes[i].first;
      std::vector<std::int64_t> of_peer;
      for (; i < routes.size() && routes[i].first == peer; ++i) of_peer.push_back(routes[i].second);
      add_pulls_of(peer, of_peer);
    }
  }

  template <typename Visit>
  void for_each_pulled_fragment(const std::vector<std::int64_t>& routes, const Visit& visit) const {
    for (const std::int64_t id : routes) {
      for (const Range& range : plan_.ranges_of(at(plan_.routes, id))) {
        for (const Fragment& fragment : fragments_of(plan_, range.bundle, range.begin, range.end)) visit(fragment);
      }
    }
  }

  std::vector<bool> kept_pulls(std::int32_t peer, const std::vector<std::int64_t>& routes) {
    std::vector<GroupList> lists(plan_.groups.size());
    if (!taker_.keeps) return std::vector<bool>(lists.size());
    for_each_pulled_fragment(routes, [&](const Fragment& fragment) { note(fragment.tensor, &fragment, &lists); });
    return ask_to_keep(std::move(lists), schedule_.pulls, peer);
  }

  void add_pulls_of(std::int32_t peer, const std::vector<std::int64_t>& routes) {
    if (peer_src_blocks_.rank() != peer) peer_src_blocks_ = BlockCache(*plan_.src, peer);
    const BufferTable& buffers = memory_.peer_src.at(peer);
    const std::vector<bool> is_kept = kept_pulls(peer, routes);
    std::vector<CopyListBuilder> of_position = lists_of_groups();
    for_each_pulled_fragment(routes, [&](const Fragment& fragment) {
      if (is_kept[position_of(fragment.tensor)]) return;
      append_move(source(fragment.tensor, &peer_src_blocks_, buffers), own_destination(fragment.tensor), fragment,
                  &of_position[position_of(fragment.tensor)]);
    });
    for (std::size_t p = 0; p < schedule_.pulls.size(); ++p) {
      const auto position = static_cast<std::size_t>(schedule_.pulls[p].position);
      if (schedule_.pulls[p].peer == peer && !is_kept[position]) taker_.pull(p, of_position[position].take());
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
    entries.reserve(static_cast<std::size_t>(num_windows()));
    for (const bool is_out : {true, false}) {
      const Lanes& lanes = is_out ? schedule_.out : schedule_.in;
      // What is lent is read by the peer, and costs nothing here.
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

  std::int64_t num_windows() const {
    std::int64_t count = schedule_.num_sends();
    for (const Lane& lane : schedule_.in) count += static_cast<std::int64_t>(lane.steps.size());
    return count;
  }

  void add_window(const Entry& entry, const Window& window) {
    const WindowStep& step = at(entry.is_out ? schedule_.out : schedule_.in, entry.id.lane).steps[entry.id.index];
    WindowCopies made{entry.is_out, entry.id, nullptr, {}};
    if (entry.id.lane == kMappedLane) {
      made.copies = read_in_place(step, window);
    } else if (step.is_direct) {
      made.data = direct_address(step, window);
    } else {
      made.data = taker_.slot(entry.is_out, entry.id);
      if (step.place != Place::kSlot) made.copies = through_slot(step, window, entry.is_out, made.data);
    }
    taker_.window(std::move(made));
  }

  CopyList through_slot(const WindowStep& step, const Window& window, bool is_out, const std::byte* slot) {
    CopyList copies = is_out ? pack(step, window) : unpack(window);
    const std::intptr_t distance =
        reinterpret_cast<std::intptr_t>(slot) - reinterpret_cast<std::intptr_t>(window_begin());
    if (is_out) {
      copies.shift_dst(distance);
    } else {
      copies.shift_src(distance);
    }
    return copies;
  }

  std::byte* direct_address(const WindowStep& step, const Window& window) {
    const bool is_source = step.place == Place::kSource;
    const BufferPlace place = *dense_place(plan_, {is_source, is_source ? &src_blocks_ : &dst_blocks_}, window);
    return at(is_source ? memory_.src : memory_.dst, place.buffer) + place.offset_bytes;
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
  CopyList read_in_place(const WindowStep& step, const Window& window) {
    const bool is_source = !step.is_relayed;
    BlockCache& blocks = is_source ? peer_src_blocks_ : peer_dst_blocks_;
    if (blocks.rank() != step.peer) blocks = BlockCache(is_source ? *plan_.src : *plan_.dst, step.peer);
    const BufferTable& buffers = (is_source ? memory_.peer_src : memory_.peer_dst).at(step.peer);
    for (const Fragment& fragment : window.fragments) {
      const PlacedTensor from =
          is_source ? source(fragment.tensor, &blocks, buffers) : destination(fragment.tensor, &blocks, buffers);
      append_move(from, own_destination(fragment.tensor), fragment, &copies_);
    }
    return copies_.take(kin_of(window, 2));
  }

  std::int64_t wire_bytes(const Fragment& fragment) const {
    return (fragment.end - fragment.begin) * at(plan_.tensors, fragment.tensor).wire_bytes;
  }

  const Plan& plan_;
  const Schedule& schedule_;
  const RankMemory& memory_;
  const CopyTaker& taker_;
  BlockCache src_blocks_;       // of this rank
  BlockCache dst_blocks_;       // of this rank
  BlockCache peer_src_blocks_;  // of the peer whose source was read last
  BlockCache peer_dst_blocks_;
  std::shared_ptr<CopyTable> table_;  // of all lists but those that a later binding may keep, and with them their table
  std::shared_ptr<CopyTable> group_table_;
  CopyListBuilder copies_;  // of one window at a time
};

}  // namespace

void make_copies(const Plan& plan, const Schedule& schedule, const RankMemory& memory, const CopyTaker& taker) {
  CopyMaker(plan, schedule, memory, taker).make();
}

}  // namespace reshard
