// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "src/exec/place_messages.h"

namespace reshard {
namespace {

/// The blocks of tensors on ranks, computed once each.
class BlockCache {
 public:
  explicit BlockCache(const ModelLayout& layout) : layout_(layout) {}

  const std::vector<Block>& blocks(std::int32_t rank, std::int64_t tensor) {
    const auto [entry, is_new] = known_.try_emplace({rank, tensor});
    if (is_new) entry->second = layout_.blocks(rank, tensor);
    return entry->second;
  }

 private:
  const ModelLayout& layout_;
  std::map<std::pair<std::int32_t, std::int64_t>, std::vector<Block>> known_;
};

class ProgramBuilder {
 public:
  ProgramBuilder(const Plan& plan, std::int32_t rank, const RankMemory& memory)
      : plan_(plan), rank_(rank), memory_(memory), src_blocks_(*plan.src), dst_blocks_(*plan.dst) {}

  Result<Program> build() {
    program_.first_group = plan_.groups.empty() ? 0 : at(plan_.first_groups, rank_);
    program_.num_open = plan_.options.open_groups > 0
                            ? static_cast<std::int32_t>(std::min<std::int64_t>(plan_.options.open_groups, kNoLimit))
                            : kNoLimit;
    program_.most_in_flight = plan_.most_in_flight;
    program_.work_of_group.resize(plan_.groups.size());
    add_local();
    for (std::size_t r = 0; r < plan_.routes.size(); ++r) add_route(static_cast<std::int64_t>(r));
    std::stable_sort(program_.pulls.begin(), program_.pulls.end(), [&](const GroupCopies& a, const GroupCopies& b) {
      return std::pair{a.position, shift_from(a.peer)} < std::pair{b.position, shift_from(b.peer)};
    });
    RESHARD_TRY(place_messages(plan_, std::move(sends_), std::move(receives_), &program_));
    count_work();
    return std::move(program_);
  }

 private:
  PlacedTensor source(std::int64_t tensor, std::int32_t rank, const BufferTable& buffers) {
    const std::int64_t id = at(plan_.tensors, tensor).src;
    return {&src_blocks_.blocks(rank, id), &buffers, at(plan_.src->tensors(), id).dtype};
  }

  PlacedTensor destination(std::int64_t tensor) {
    const std::int64_t id = at(plan_.tensors, tensor).dst;
    return {&dst_blocks_.blocks(rank_, id), &memory_.dst, at(plan_.dst->tensors(), id).dtype};
  }

  DType wire(std::int64_t tensor) const {
    const PlanTensor& matched = at(plan_.tensors, tensor);
    return wire_dtype(at(plan_.src->tensors(), matched.src).dtype, at(plan_.dst->tensors(), matched.dst).dtype);
  }

  std::int32_t group(std::int64_t tensor) const { return at(plan_.tensors, tensor).group; }

  void add_local() {
    std::vector<CopyList> of_group(plan_.groups.size());
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      append_zero_fill(destination(tensor), &at(of_group, group(tensor)));
    }
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (!plan_.sets.contains(bundle.sources, rank_) || !plan_.sets.contains(bundle.destinations, rank_)) continue;
      program_.bytes_same_rank += bundle.size_bytes;
      for (const Fragment& fragment : fragments_of(plan_, static_cast<std::int32_t>(b), 0, bundle.size_bytes)) {
        append_move(source(fragment.tensor, rank_, memory_.src), destination(fragment.tensor), fragment,
                    &at(of_group, group(fragment.tensor)));
      }
    }
    append_groups(-1, std::move(of_group), &program_.local);
  }

  /// Appends the copies of each group, by position.
  void append_groups(std::int32_t peer, std::vector<CopyList> of_group, std::vector<GroupCopies>* out) const {
    const auto count = static_cast<std::int32_t>(of_group.size());
    for (std::int32_t position = 0; position < count; ++position) {
      CopyList& copies = at(of_group, (program_.first_group + position) % count);
      if (!copies.empty()) out->push_back({position, peer, std::move(copies)});
    }
  }

  void add_route(std::int64_t id) {
    const Route& route = at(plan_.routes, id);
    const Hop* hops = plan_.begin_hops(route);
    const auto is_mine = [&](const Hop& hop) { return hop.src == rank_ || hop.dst == rank_; };
    if (std::none_of(hops, hops + route.num_hops, is_mine)) return;
    // Peers' memory is read only where nobody waits for this rank to pass something on.
    if (route.num_hops == 1 && hops->dst == rank_ && memory_.mapped_src.contains(hops->src)) {
      add_pulls(route, hops->src);
      return;
    }
    if (route.num_hops == 1 && hops->src == rank_ && at(memory_.read_by, hops->dst)) return;
    const std::vector<Window> windows = windows_of(plan_, route);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      if (!is_mine(hops[h])) continue;
      const bool is_passed_on =
          std::any_of(hops + h, hops + route.num_hops, [h](const Hop& hop) { return hop.parent == h; });
      for (const Window& window : windows) {
        DraftMessage* draft = add_message(id, h, window);
        draft->step.is_passed_on = is_passed_on && hops[h].src == rank_;
      }
    }
  }

  /// Readers start at different peers, so that they do not all read the same memory at once.
  std::int32_t shift_from(std::int32_t peer) const { return (rank_ - peer + plan_.num_ranks) % plan_.num_ranks; }

  void add_pulls(const Route& route, std::int32_t peer) {
    std::vector<CopyList> of_group(plan_.groups.size());
    program_.bytes_mapped += route.size_bytes;
    for (std::int32_t i = 0; i < route.num_ranges; ++i) {
      const Range& range = plan_.begin_ranges(route)[i];
      for (const Fragment& fragment : fragments_of(plan_, range.bundle, range.begin, range.end)) {
        append_move(source(fragment.tensor, peer, memory_.mapped_src.at(peer)), destination(fragment.tensor), fragment,
                    &at(of_group, group(fragment.tensor)));
      }
    }
    append_groups(peer, std::move(of_group), &program_.pulls);
  }

  DraftMessage* add_message(std::int64_t id, std::int32_t hop_index, const Window& window) {
    const Hop* hops = plan_.begin_hops(at(plan_.routes, id));
    const Hop& hop = hops[hop_index];
    const bool is_send = hop.src == rank_;
    DraftMessage draft;
    draft.order = window_order(plan_, id, window, hop);
    draft.hop = hop_index;
    draft.parent = hop.parent;
    draft.step.peer = is_send ? hop.dst : hop.src;
    draft.step.size_bytes = static_cast<std::size_t>(window.size_bytes);
    draft.step.is_relayed = hop.parent >= 0;
    draft.step.is_from_staging = is_send && hop.parent >= 0 && hops[hop.parent].to_staging;
    (is_send ? program_.bytes_sent : program_.bytes_received) += window.size_bytes;
    const bool passes_by = is_send ? draft.step.is_from_staging : hop.to_staging;
    if (!passes_by) add_copies(window, is_send, &draft);
    std::vector<DraftMessage>& drafts = is_send ? sends_ : receives_;
    drafts.push_back(std::move(draft));
    return &drafts.back();
  }

  /// Copies between the window and the tensors: of the source for a first send, else of the destination.
  void add_copies(const Window& window, bool is_send, DraftMessage* draft) {
    const bool is_first_send = is_send && !draft->step.is_relayed;
    std::set<std::int32_t> positions;
    std::int64_t offset = 0;
    for (const Fragment& fragment : window.fragments) {
      const DType dtype = wire(fragment.tensor);
      if (is_first_send) {
        append_pack(source(fragment.tensor, rank_, memory_.src), fragment, dtype, offset, &draft->copies);
      } else if (is_send) {
        append_pack(destination(fragment.tensor), fragment, dtype, offset, &draft->copies);
      } else {
        append_unpack(destination(fragment.tensor), fragment, dtype, offset, &draft->copies);
      }
      // The tensor is the caller's once its group is complete, so what still reads it counts, too.
      if (!is_first_send) positions.insert(program_.position_of(group(fragment.tensor)));
      offset += (fragment.end - fragment.begin) * at(plan_.tensors, fragment.tensor).wire_bytes;
    }
    draft->step.work.assign(positions.begin(), positions.end());
  }

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

  static constexpr std::int32_t kNoLimit = std::numeric_limits<std::int32_t>::max() / 2;

  const Plan& plan_;
  std::int32_t rank_;
  const RankMemory& memory_;
  BlockCache src_blocks_;
  BlockCache dst_blocks_;
  std::vector<DraftMessage> sends_;
  std::vector<DraftMessage> receives_;
  Program program_;
};

}  // namespace

Result<Program> build_program(const Plan& plan, std::int32_t rank, const RankMemory& memory) {
  return ProgramBuilder(plan, rank, memory).build();
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
