// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <set>

#include "src/exec/copies.h"
#include "src/plan/windows.h"

namespace reshard {
namespace {

/// A message before the staging it needs is known.
struct DraftMessage {
  WindowOrder order;
  MessageStep step;
  std::vector<WireCopy> copies;
};

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
    add_local();
    add_routes();
    RESHARD_TRY(place_in_staging());
    program_.work_of_group.resize(plan_.groups.size());
    for (const GroupCopies& step : program_.local) ++at(program_.work_of_group, step.group);
    for (const GroupCopies& step : program_.pulls) ++at(program_.work_of_group, step.group);
    for (const MessageStep& step : program_.receives) {
      for (const std::int32_t group : step.groups) ++at(program_.work_of_group, group);
    }
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

  static void append_groups(std::int32_t peer, std::vector<CopyList> of_group, std::vector<GroupCopies>* out) {
    for (std::size_t g = 0; g < of_group.size(); ++g) {
      if (of_group[g].empty()) continue;
      out->push_back({static_cast<std::int32_t>(g), peer, std::move(of_group[g])});
    }
  }

  void add_routes() {
    for (std::size_t r = 0; r < plan_.routes.size(); ++r) {
      const Route& route = plan_.routes[r];
      const Hop& hop = *plan_.begin_hops(route);
      if (hop.src == rank_) {
        if (!at(memory_.read_by, hop.dst)) add_messages(static_cast<std::int64_t>(r), hop, true);
      } else if (hop.dst == rank_) {
        if (memory_.mapped_src.contains(hop.src)) {
          add_pulls(route, hop.src);
        } else {
          add_messages(static_cast<std::int64_t>(r), hop, false);
        }
      }
    }
    const auto by_order = [](const DraftMessage& a, const DraftMessage& b) { return a.order < b.order; };
    std::sort(sends_.begin(), sends_.end(), by_order);
    std::sort(receives_.begin(), receives_.end(), by_order);
    std::stable_sort(program_.pulls.begin(), program_.pulls.end(), [&](const GroupCopies& a, const GroupCopies& b) {
      return std::pair{a.group, shift_from(a.peer)} < std::pair{b.group, shift_from(b.peer)};
    });
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

  void add_messages(std::int64_t route, const Hop& hop, bool is_send) {
    for (const Window& window : windows_of(plan_, at(plan_.routes, route))) {
      DraftMessage draft;
      draft.order = window_order(plan_, route, window, hop);
      draft.step.peer = is_send ? hop.dst : hop.src;
      draft.step.size_bytes = static_cast<std::size_t>(window.size_bytes);
      (is_send ? program_.bytes_sent : program_.bytes_received) += window.size_bytes;
      std::set<std::int32_t> groups;
      std::int64_t offset = 0;
      for (const Fragment& fragment : window.fragments) {
        groups.insert(group(fragment.tensor));
        if (is_send) {
          append_pack(source(fragment.tensor, rank_, memory_.src), fragment, wire(fragment.tensor), offset,
                      &draft.copies);
        } else {
          append_unpack(destination(fragment.tensor), fragment, wire(fragment.tensor), offset, &draft.copies);
        }
        offset += (fragment.end - fragment.begin) * at(plan_.tensors, fragment.tensor).wire_bytes;
      }
      draft.step.groups.assign(groups.begin(), groups.end());
      (is_send ? sends_ : receives_).push_back(std::move(draft));
    }
  }

  /// The tensor memory that equals the window byte for byte, if there is one.
  static std::byte* direct_memory(const DraftMessage& draft, bool is_send) {
    if (draft.copies.size() != 1) return nullptr;
    const CopyOp& op = draft.copies.front().op;
    if (op.src_dtype != op.dst_dtype) return nullptr;
    const std::int64_t* strides = is_send ? op.src_strides_bytes : op.dst_strides_bytes;
    std::int64_t dense = size_bytes(op.src_dtype);
    for (int d = op.num_dims - 1; d >= 0; --d) {
      if (op.shape[d] > 1 && strides[d] != dense) return nullptr;
      dense *= op.shape[d];
    }
    return is_send ? static_cast<std::byte*>(const_cast<void*>(op.src)) : static_cast<std::byte*>(op.dst);
  }

  /// Gives every message its memory: the tensor itself, or the next slot of its direction's ring.
  Status place_in_staging() {
    std::size_t slot_bytes = 0;
    const auto assign = [&](std::vector<DraftMessage>* drafts, bool is_send, std::int32_t* num_slots) {
      std::int32_t staged = 0;
      for (DraftMessage& draft : *drafts) {
        draft.step.data = direct_memory(draft, is_send);
        if (draft.step.data != nullptr) continue;
        draft.step.slot = staged++ % plan_.num_slots;
        slot_bytes = std::max(slot_bytes, draft.step.size_bytes);
      }
      *num_slots = std::min(staged, plan_.num_slots);
    };
    assign(&sends_, true, &program_.num_send_slots);
    assign(&receives_, false, &program_.num_receive_slots);
    const std::size_t num_slots =
        static_cast<std::size_t>(program_.num_send_slots) + static_cast<std::size_t>(program_.num_receive_slots);
    program_.staging_bytes = static_cast<std::int64_t>(num_slots * slot_bytes);
    program_.staging.reset(new (std::nothrow) std::byte[num_slots * slot_bytes]);
    if (program_.staging == nullptr) {
      return {RESHARD_ERR_OUT_OF_MEMORY, fmt::format("no memory for {} bytes of staging", program_.staging_bytes)};
    }
    finish(&sends_, true, 0, slot_bytes, &program_.sends);
    finish(&receives_, false, program_.num_send_slots, slot_bytes, &program_.receives);
    return {};
  }

  void finish(std::vector<DraftMessage>* drafts, bool is_send, std::int32_t first_slot, std::size_t slot_bytes,
              std::vector<MessageStep>* out) {
    for (DraftMessage& draft : *drafts) {
      if (draft.step.slot >= 0) {
        draft.step.data = program_.staging.get() + static_cast<std::size_t>(first_slot + draft.step.slot) * slot_bytes;
        for (WireCopy& copy : draft.copies) {
          if (is_send) {
            copy.op.dst = draft.step.data + copy.wire_offset;
          } else {
            copy.op.src = draft.step.data + copy.wire_offset;
          }
          draft.step.copies.add(copy.op);
        }
      }
      out->push_back(std::move(draft.step));
      draft = {};
    }
  }

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
  for (const Hop& hop : plan.hops) {
    if (hop.dst == rank) sources.insert(hop.src);
  }
  return {sources.begin(), sources.end()};
}

}  // namespace reshard
