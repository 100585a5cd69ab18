// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "src/exec/copies.h"
#include "src/exec/place_messages.h"

// The plan says which windows go over which hops; a program says what one rank does for that, with addresses. Each byte
// that this rank needs comes in one of three ways, tried in this order: it lies on the rank already (local), a peer's
// memory is mapped here and can be read (pulls), or it comes as a message and is unpacked. The choice is made from what
// both ends know (the plan, and who maps whom, which they told each other when they bound), so that no rank waits for a
// message that its peer thinks is a pull.

namespace reshard {
namespace {

/// The blocks of the tensors on one rank, computed once each.
class BlockCache {
 public:
  BlockCache(const ModelLayout& layout, std::int32_t rank)
      : layout_(&layout), rank_(rank), blocks_(layout.tensors().size()), is_known_(layout.tensors().size()) {}

  std::int32_t rank() const { return rank_; }

  const std::vector<Block>& blocks(std::int64_t tensor) {
    std::vector<Block>& blocks = at(blocks_, tensor);
    if (!at(is_known_, tensor)) {
      blocks = layout_->blocks(rank_, tensor);
      at(is_known_, tensor) = true;
    }
    return blocks;
  }

 private:
  const ModelLayout* layout_;
  std::int32_t rank_;
  std::vector<std::vector<Block>> blocks_;  // by tensor
  std::vector<bool> is_known_;              // by tensor; a rank may have no block of one
};

/// Expands a plan for one rank. A rank of a large job makes a million copies, most of them alike, so what is done for
/// each allocates nothing, and lists are folded while they are made (CopyListBuilder).
class ProgramBuilder {
 public:
  ProgramBuilder(const Plan& plan, std::int32_t rank, const RankMemory& memory, std::unique_ptr<Copier> copier)
      : plan_(plan),
        rank_(rank),
        memory_(memory),
        src_blocks_(*plan.src, rank),
        dst_blocks_(*plan.dst, rank),
        peer_blocks_(*plan.src, rank),
        table_(std::make_shared<CopyTable>()),
        message_copies_(table_) {
    program_.copier = std::move(copier);
  }

  Result<Program> build() {
    program_.first_group = plan_.groups.empty() ? 0 : at(plan_.first_groups, rank_);
    program_.num_open = plan_.options.open_groups > 0
                            ? static_cast<std::int32_t>(std::min<std::int64_t>(plan_.options.open_groups, kNoLimit))
                            : kNoLimit;
    program_.most_in_flight = plan_.most_in_flight;
    program_.work_of_group.resize(plan_.groups.size());
    add_local();
    std::int64_t id = 0;
    for (const Route& route : plan_.routes) add_route(id++, route);
    // Groups first, since what lies in later ones must not be touched before they open; within a group in a circle.
    std::stable_sort(program_.pulls.begin(), program_.pulls.end(), [&](const GroupCopies& a, const GroupCopies& b) {
      return std::pair{a.position, shift_from(a.peer)} < std::pair{b.position, shift_from(b.peer)};
    });
    RESHARD_TRY(place_messages(plan_, std::move(sends_), std::move(receives_), &program_));
    RESHARD_TRY(program_.copier->prepare());
    count_work();
    return std::move(program_);
  }

 private:
  PlacedTensor source(std::int64_t tensor, BlockCache* of_rank, const BufferTable& buffers) const {
    const std::int64_t id = at(plan_.tensors, tensor).src;
    return {&of_rank->blocks(id), &buffers, at(plan_.src->tensors(), id).dtype};
  }

  PlacedTensor own_source(std::int64_t tensor) { return source(tensor, &src_blocks_, memory_.src); }

  PlacedTensor destination(std::int64_t tensor) {
    const std::int64_t id = at(plan_.tensors, tensor).dst;
    return {&dst_blocks_.blocks(id), &memory_.dst, at(plan_.dst->tensors(), id).dtype};
  }

  DType wire(std::int64_t tensor) const {
    const PlanTensor& matched = at(plan_.tensors, tensor);
    return wire_dtype(at(plan_.src->tensors(), matched.src).dtype, at(plan_.dst->tensors(), matched.dst).dtype);
  }

  std::int32_t group(std::int64_t tensor) const { return at(plan_.tensors, tensor).group; }

  /// Lists in the making, by group.
  std::vector<CopyListBuilder> lists_of_groups() const {
    return std::vector<CopyListBuilder>(plan_.groups.size(), CopyListBuilder(table_));
  }

  /// What needs no peer: padding that is to be zero, and bytes that this rank holds and wants. The plan has no route
  /// for those, and a bundle whose holders include the rank on both sides is moved whole.
  void add_local() {
    std::vector<CopyListBuilder> of_group = lists_of_groups();
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      append_zero_fill(destination(tensor), &at(of_group, group(tensor)));
    }
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (!plan_.sets.contains(bundle.sources, rank_) || !plan_.sets.contains(bundle.destinations, rank_)) continue;
      program_.bytes_same_rank += bundle.size_bytes;
      for (const Fragment& fragment : fragments_of(plan_, static_cast<std::int32_t>(b), 0, bundle.size_bytes)) {
        append_move(own_source(fragment.tensor), destination(fragment.tensor), fragment,
                    &at(of_group, group(fragment.tensor)));
      }
    }
    append_groups(-1, &of_group, &program_.local);
  }

  /// Appends the copies of each group, by position.
  void append_groups(std::int32_t peer, std::vector<CopyListBuilder>* of_group, std::vector<GroupCopies>* out) {
    const auto count = static_cast<std::int32_t>(of_group->size());
    for (std::int32_t position = 0; position < count; ++position) {
      CopyList copies = at(*of_group, (program_.first_group + position) % count).take();
      const CopyBatch batch = program_.copier->add(std::move(copies), StoreHint::kAuto);
      if (batch != CopyBatch::kNone) out->push_back({position, peer, batch});
    }
  }

  void add_route(std::int64_t id, const Route& route) {
    const HopIterator hops = plan_.begin_hops(route);
    const auto is_mine = [&](const Hop& hop) { return hop.src == rank_ || hop.dst == rank_; };
    if (std::none_of(hops, hops + route.num_hops, is_mine)) return;
    // Peers' memory is read only where nobody waits for this rank to pass something on: a window that is passed on must
    // be there as a message, with a place in the order of items, or the proof at Program says nothing of it.
    if (route.num_hops == 1 && hops->dst == rank_ && memory_.mapped_src.contains(hops->src)) {
      add_pulls(route, hops->src);
      return;
    }
    // The other end of the same choice: that rank pulls, so there is nothing to send.
    if (route.num_hops == 1 && hops->src == rank_ && memory_.read_by[RankId(hops->dst)]) return;
    const std::vector<Window> windows = windows_of(plan_, route);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      if (!is_mine(hops[h])) continue;
      const bool is_passed_on =
          std::any_of(hops + h, hops + route.num_hops, [h](const Hop& hop) { return hop.parent == h; });
      for (const Window& window : windows) {
        DraftMessage* draft = add_message(id, h, window);
        draft->step.is_passed_on = is_passed_on && hops[h].src == rank_;
        draft->feeds_sends = is_passed_on && hops[h].dst == rank_;
      }
    }
  }

  /// Readers start at different peers, so that they do not all read the same memory at once.
  std::int32_t shift_from(std::int32_t peer) const { return (rank_ - peer + plan_.num_ranks) % plan_.num_ranks; }

  void add_pulls(const Route& route, std::int32_t peer) {
    // Routes from one peer follow one another for the most part; the blocks of all peers at once could fill gigabytes.
    if (peer_blocks_.rank() != peer) peer_blocks_ = BlockCache(*plan_.src, peer);
    const BufferTable& buffers = memory_.mapped_src.at(peer);
    std::vector<CopyListBuilder> of_group = lists_of_groups();
    program_.bytes_mapped += route.size_bytes;
    for (const Range& range : plan_.ranges_of(route)) {
      for (const Fragment& fragment : fragments_of(plan_, range.bundle, range.begin, range.end)) {
        append_move(source(fragment.tensor, &peer_blocks_, buffers), destination(fragment.tensor), fragment,
                    &at(of_group, group(fragment.tensor)));
      }
    }
    append_groups(peer, &of_group, &program_.pulls);
  }

  DraftMessage* add_message(std::int64_t id, std::int32_t hop_index, const Window& window) {
    const HopIterator hops = plan_.begin_hops(at(plan_.routes, id));
    const Hop& hop = hops[hop_index];
    const bool is_send = hop.src == rank_;
    DraftMessage draft;
    draft.order = window_order(plan_, id, window, hop);
    draft.hop = hop_index;
    draft.parent = hop.parent;
    draft.step.peer = is_send ? hop.dst : hop.src;
    draft.step.size_bytes = static_cast<std::size_t>(window.size_bytes);
    draft.step.is_relayed = hop.parent >= 0;
    const RankFlags& staged = is_send ? memory_.stages_sends : memory_.stages_receives;
    draft.is_staged = memory_.stages_all || (!staged.empty() && staged[RankId(draft.step.peer)]);
    draft.step.is_from_staging = is_send && hop.parent >= 0 && hops[hop.parent].to_staging;
    (is_send ? program_.bytes_sent : program_.bytes_received) += window.size_bytes;
    // Bytes that only pass through are never unpacked: they leave from the slot that they came to.
    const bool passes_by = is_send ? draft.step.is_from_staging : hop.to_staging;
    if (!passes_by) add_copies(window, is_send, &draft);
    DraftMessages& drafts = is_send ? sends_ : receives_;
    drafts.push_back(std::move(draft));
    return &drafts.back();
  }

  /// Copies between the window and the tensors: of the source for a first send, else of the destination. Where the
  /// window will lie is not known yet: it is taken to begin at window_begin(), and place_messages() moves it.
  void add_copies(const Window& window, bool is_send, DraftMessage* draft) {
    const bool is_first_send = is_send && !draft->step.is_relayed;
    std::vector<std::int32_t> work;
    std::byte* address = window_begin();
    for (const Fragment& fragment : window.fragments) {
      const WirePlace place{wire(fragment.tensor), address};
      if (is_first_send) {
        append_pack(own_source(fragment.tensor), fragment, place, &message_copies_);
      } else if (is_send) {
        append_pack(destination(fragment.tensor), fragment, place, &message_copies_);
      } else {
        append_unpack(destination(fragment.tensor), fragment, place, &message_copies_);
      }
      // The tensor is the caller's once its group is complete, so what still reads it counts, too.
      const std::int32_t position = program_.position_of(group(fragment.tensor));
      if (!is_first_send && (work.empty() || work.back() != position)) work.push_back(position);
      address += (fragment.end - fragment.begin) * at(plan_.tensors, fragment.tensor).wire_bytes;
    }
    std::sort(work.begin(), work.end());
    work.erase(std::unique(work.begin(), work.end()), work.end());
    draft->step.work = *program_.works.insert(std::move(work)).first;
    // Windows of the same direction that begin in the same tensor are likely to be alike, whatever rank they come from.
    const std::int64_t kin = 2 * window.fragments.front().tensor + (is_send ? 1 : 0);
    draft->copies = message_copies_.take(static_cast<std::uint64_t>(kin));
  }

  /// How much each group waits for. What a rank sends of its own source is no work of a group: it writes nothing, and
  /// the source is the caller's again only when the run ends.
  void count_work() {
    for (const std::vector<GroupCopies>* steps : {&program_.local, &program_.pulls}) {
      for (const GroupCopies& step : *steps) ++at(program_.work_of_group, step.position);
    }
    for (const MessageLanes* lanes : {&program_.sends, &program_.receives}) {
      for (const MessageLane& lane : *lanes) {
        for (const MessageStep& step : lane.steps) {
          for (const std::int32_t position : step.work) ++at(program_.work_of_group, position);
        }
      }
    }
  }

  // Half of what fits, so that a position may be added to it.
  static constexpr std::int32_t kNoLimit = std::numeric_limits<std::int32_t>::max() / 2;

  const Plan& plan_;
  std::int32_t rank_;
  const RankMemory& memory_;
  BlockCache src_blocks_;             // of this rank
  BlockCache dst_blocks_;             // of this rank
  BlockCache peer_blocks_;            // sources of the peer whose memory was read last
  std::shared_ptr<CopyTable> table_;  // of all lists of the program
  CopyListBuilder message_copies_;    // of one message at a time
  DraftMessages sends_;
  DraftMessages receives_;
  Program program_;
};

}  // namespace

Result<Program> build_program(const Plan& plan, std::int32_t rank, const RankMemory& memory,
                              std::unique_ptr<Copier> copier) {
  return ProgramBuilder(plan, rank, memory, std::move(copier)).build();
}

std::vector<std::int32_t> sources_of(const Plan& plan, std::int32_t rank) {
  std::set<std::int32_t> sources;
  for (const Route& route : plan.routes) {
    const Hop& hop = *plan.begin_hops(route);
    if (route.num_hops == 1 && hop.dst == rank) sources.insert(hop.src);
  }
  return {sources.begin(), sources.end()};
}

}  // namespace reshard
