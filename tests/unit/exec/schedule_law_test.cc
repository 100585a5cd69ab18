// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// The copies of a bound schedule, expanded to pairs of addresses by plain loops, are those that the plan and the
// layouts ask for, element by element: none is lost, made twice or made up when lists are folded and share patterns.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "src/exec/bound_schedule.h"
#include "src/plan/windows.h"
#include "tests/unit/exec/relay_plan.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {
namespace {

/// From where to where: of every byte of a plain copy or a fill (whose source is 0), of every element of a conversion.
using Pairs = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

void add_element(std::uint64_t src, std::uint64_t dst, DType src_dtype, DType dst_dtype, Pairs* out) {
  const std::int64_t count = src_dtype == dst_dtype ? size_bytes(dst_dtype) : 1;
  for (std::int64_t b = 0; b < count; ++b) {
    out->push_back({src + static_cast<std::uint64_t>(b), dst + static_cast<std::uint64_t>(b)});
  }
}

// ---- what a schedule does

/// Calls visit(source bytes, destination bytes) with the distance of every column of a shape from its first one.
template <typename Visit>
void for_each_column(const NormalOp& shape, const Visit& visit) {
  std::vector<CopyDim> dims = {shape.cols, shape.rows};
  for (int d = 2; d < shape.num_grid_dims; ++d) {
    dims.push_back({shape.grid[d].count, shape.grid[d].src_step, shape.grid[d].dst_step});
  }
  std::int64_t count = 1;
  for (const CopyDim& dim : dims) count *= dim.extent;
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t rest = i;
    std::int64_t src = 0;
    std::int64_t dst = 0;
    for (const CopyDim& dim : dims) {
      src += rest % dim.extent * dim.src_stride;
      dst += rest % dim.extent * dim.dst_stride;
      rest /= dim.extent;
    }
    visit(src, dst);
  }
}

void expand(const CopyList& list, Pairs* out) {
  for (std::size_t i = 0; i < list.num_ops(); ++i) {
    const PlacedCopy copy = list.op(i);
    const NormalOp& shape = list.shape_of(copy);
    const std::int64_t num_bytes = shape.kind == NormalOp::Kind::kConvert ? 1 : shape.dst_element_bytes;
    for_each_column(shape, [&](std::int64_t src, std::int64_t dst) {
      for (std::int64_t b = 0; b < num_bytes; ++b) {
        const bool is_fill = shape.kind == NormalOp::Kind::kFill;
        out->push_back({is_fill ? 0 : reinterpret_cast<std::uint64_t>(copy.src) + static_cast<std::uint64_t>(src + b),
                        reinterpret_cast<std::uint64_t>(copy.dst) + static_cast<std::uint64_t>(dst + b)});
      }
    });
  }
}

/// A window on a hop and its copies; the side of a message counts from the window's first byte.
struct WindowCopies {
  std::int32_t peer = -1;
  std::int64_t size_bytes = 0;
  bool is_send = false;
  bool is_relayed = false;
  bool is_mapped = false;
  Pairs pairs;
  auto key() const { return std::tie(is_send, peer, is_relayed, is_mapped, size_bytes, pairs); }
  bool operator<(const WindowCopies& other) const { return key() < other.key(); }
  bool operator==(const WindowCopies& other) const { return key() == other.key(); }
};

WindowCopies window_of(const WindowStep& step, bool is_send, bool is_mapped, const BoundWindow& bound,
                       const HostCopier& copier) {
  WindowCopies window{step.peer, step.size_bytes, is_send, step.is_relayed, is_mapped, {}};
  const auto data = reinterpret_cast<std::uint64_t>(bound.data);
  if (bound.batch != CopyBatch::kNone) expand(copier.copies(bound.batch), &window.pairs);
  for (auto& [src, dst] : window.pairs) (is_send ? dst : src) -= data;
  if (step.is_direct) {  // the tensor's memory is the window
    for (std::uint64_t b = 0; b < static_cast<std::uint64_t>(step.size_bytes); ++b) {
      window.pairs.push_back(is_send ? std::pair{data + b, b} : std::pair{b, data + b});
    }
  }
  std::sort(window.pairs.begin(), window.pairs.end());
  return window;
}

/// Copies by (position of the group, peer).
using Groups = std::map<std::pair<std::int32_t, std::int32_t>, Pairs>;

struct Work {
  std::vector<WindowCopies> windows;
  Groups groups;
  void sort() {
    std::sort(windows.begin(), windows.end());
    for (auto& [key, pairs] : groups) std::sort(pairs.begin(), pairs.end());
  }
};

Work work_of(const BoundSchedule& bound) {
  const auto& copier = static_cast<const HostCopier&>(*bound.copier);
  const Schedule& schedule = bound.schedule;
  Work work;
  for (const bool is_send : {true, false}) {
    for (std::size_t lane = 0; lane < 3; ++lane) {
      const std::vector<WindowStep>& steps = (is_send ? schedule.out : schedule.in)[lane].steps;
      for (std::size_t i = 0; i < steps.size(); ++i) {
        const bool is_lent = is_send && lane == kMappedLane;
        const BoundWindow window = is_lent ? BoundWindow{} : (is_send ? bound.out : bound.in)[lane][i];
        work.windows.push_back(window_of(steps[i], is_send, lane == kMappedLane, window, copier));
      }
    }
  }
  for (std::size_t i = 0; i < bound.local.size(); ++i) {
    expand(copier.copies(bound.local[i]), &work.groups[{schedule.local[i].position, -1}]);
  }
  for (std::size_t i = 0; i < bound.pulls.size(); ++i) {
    expand(copier.copies(bound.pulls[i]), &work.groups[{schedule.pulls[i].position, schedule.pulls[i].peer}]);
  }
  work.sort();
  return work;
}

// ---- what it should do

/// Where a rank has each element of a tensor, by flat index; in the order of the blocks.
class Addresses {
 public:
  Addresses(const ModelLayout& layout, const BufferTable& buffers, std::int32_t rank, std::int64_t tensor) {
    const std::vector<std::int64_t>& shape = at(layout.tensors(), tensor).shape;
    for (const Block& block : layout.blocks(rank, tensor)) {
      for_each_element(block, [&](const Dims& index, std::int64_t offset) {
        const auto address = reinterpret_cast<std::uint64_t>(at(buffers, block.buffer)) + std::uint64_t(offset);
        if (block.kind == BlockKind::kData) of_element_[flat_index(shape, index)].push_back(address);
        if (block.kind == BlockKind::kZero) zeros.push_back(address);
      });
    }
  }
  const std::vector<std::uint64_t>& of(std::int64_t element) const { return of_element_.at(element); }
  std::vector<std::uint64_t> zeros;

 private:
  std::map<std::int64_t, std::vector<std::uint64_t>> of_element_;
};

class Expectation {
 public:
  Expectation(const Plan& plan, std::int32_t rank, const RankLinks& links, const RankMemory& memory)
      : plan_(plan), rank_(rank), links_(links), memory_(memory) {}

  Work work() {
    add_zeros();
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (!plan_.sets.contains(bundle.sources, rank_) || !plan_.sets.contains(bundle.destinations, rank_)) continue;
      add_moves({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, -1);
    }
    for (std::size_t r = 0; r < plan_.routes.size(); ++r) add_route(plan_.routes[r]);
    work_.sort();
    return std::move(work_);
  }

 private:
  const Addresses& source(std::int64_t tensor, std::int32_t rank) {
    const BufferTable& buffers = rank == rank_ ? memory_.src : memory_.peer_src.at(rank);
    return known(*plan_.src, buffers, rank, at(plan_.tensors, tensor).src);
  }
  const Addresses& destination(std::int64_t tensor) { return destination(tensor, rank_); }
  const Addresses& destination(std::int64_t tensor, std::int32_t rank) {
    const BufferTable& buffers = rank == rank_ ? memory_.dst : memory_.peer_dst.at(rank);
    return known(*plan_.dst, buffers, rank, at(plan_.tensors, tensor).dst);
  }
  const Addresses& known(const ModelLayout& layout, const BufferTable& buffers, std::int32_t rank,
                         std::int64_t tensor) {
    return known_.try_emplace({&layout, rank, tensor}, layout, buffers, rank, tensor).first->second;
  }

  DType src_dtype(std::int64_t tensor) const { return at(plan_.src->tensors(), at(plan_.tensors, tensor).src).dtype; }
  DType dst_dtype(std::int64_t tensor) const { return at(plan_.dst->tensors(), at(plan_.tensors, tensor).dst).dtype; }
  Pairs* group(std::int64_t tensor, std::int32_t peer) {
    const std::int32_t position = plan_.position_of(at(plan_.tensors, tensor).group, at(plan_.first_groups, rank_));
    return &work_.groups[{position, peer}];
  }

  void add_zeros() {
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      const auto tensor = static_cast<std::int64_t>(t);
      for (const std::uint64_t address : destination(tensor).zeros) {
        for (std::int64_t b = 0; b < size_bytes(dst_dtype(tensor)); ++b) {
          group(tensor, -1)->push_back({0, address + static_cast<std::uint64_t>(b)});
        }
      }
    }
  }

  /// Calls visit(flat index) for the elements of a fragment.
  template <typename Visit>
  void for_each_element_of(const Fragment& fragment, const Visit& visit) const {
    const Box& box = fragment.atom->box;
    const std::int64_t id = at(plan_.tensors, fragment.tensor).dst;
    for (std::int64_t i = fragment.begin; i < fragment.end; ++i) {
      Dims index;
      std::int64_t rest = i;
      for (int d = box.num_dims - 1; d >= 0; --d) {
        index[d] = box.begin[d] + rest % box.extent(d);
        rest /= box.extent(d);
      }
      visit(flat_index(at(plan_.dst->tensors(), id).shape, index));
    }
  }

  void add_moves(const Range& range, std::int32_t peer) {
    for (const Fragment& fragment : fragments_of(plan_, range.bundle, range.begin, range.end)) {
      const std::int64_t tensor = fragment.tensor;
      const Addresses& from = source(tensor, peer < 0 ? rank_ : peer);
      for_each_element_of(fragment, [&](std::int64_t element) {
        for (const std::uint64_t to : destination(tensor).of(element)) {
          add_element(from.of(element).front(), to, src_dtype(tensor), dst_dtype(tensor), group(tensor, peer));
        }
      });
    }
  }

  /// Bytes that are in tensors at both ends are read in place where the reader says so.
  bool is_mapped(const HopIterator& hops, const Hop& hop) const {
    if (hop.to_staging || (hop.parent >= 0 && hops[hop.parent].to_staging)) return false;
    const bool reads = hop.dst == rank_;
    const RankFlags& sources = reads ? links_.reads_source : links_.source_read_by;
    const RankFlags& destinations = reads ? links_.reads_destination : links_.destination_read_by;
    return (hop.parent < 0 ? sources : destinations)[RankId(reads ? hop.src : hop.dst)];
  }

  void add_route(const Route& route) {
    const HopIterator hops = plan_.begin_hops(route);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      if (hops[h].src != rank_ && hops[h].dst != rank_) continue;
      const bool is_send = hops[h].src == rank_;
      const bool is_relayed = hops[h].parent >= 0;
      bool is_passed_on = false;
      for (std::int32_t other = 0; other < route.num_hops; ++other) is_passed_on |= hops[other].parent == h;
      const bool mapped = is_mapped(hops, hops[h]);
      if (mapped && !is_relayed && !is_passed_on) {
        if (is_send) continue;
        for (const Range& range : plan_.ranges_of(route)) add_moves(range, hops[h].src);
        continue;
      }
      const bool passes_by = is_send ? is_relayed && hops[hops[h].parent].to_staging : hops[h].to_staging;
      for (const Window& window : windows_of(plan_, route)) {
        WindowCopies copies{is_send ? hops[h].dst : hops[h].src, window.size_bytes, is_send, is_relayed, mapped, {}};
        if (mapped && !is_send) copies.pairs = reads_of(window, hops[h].src, is_relayed);
        if (!mapped && !passes_by) copies.pairs = copies_of(window, is_send, is_relayed);
        work_.windows.push_back(std::move(copies));
      }
    }
  }

  Pairs reads_of(const Window& window, std::int32_t peer, bool is_relayed) {
    Pairs pairs;
    for (const Fragment& fragment : window.fragments) {
      const std::int64_t tensor = fragment.tensor;
      const Addresses& from = is_relayed ? destination(tensor, peer) : source(tensor, peer);
      const DType dtype = is_relayed ? dst_dtype(tensor) : src_dtype(tensor);
      for_each_element_of(fragment, [&](std::int64_t element) {
        for (const std::uint64_t to : destination(tensor).of(element)) {
          add_element(from.of(element).front(), to, dtype, dst_dtype(tensor), &pairs);
        }
      });
    }
    std::sort(pairs.begin(), pairs.end());
    return pairs;
  }

  Pairs copies_of(const Window& window, bool is_send, bool is_relayed) {
    Pairs pairs;
    std::uint64_t wire = 0;
    for (const Fragment& fragment : window.fragments) {
      const std::int64_t tensor = fragment.tensor;
      const bool from_source = is_send && !is_relayed;
      const Addresses& mine = from_source ? source(tensor, rank_) : destination(tensor);
      const DType dtype = from_source ? src_dtype(tensor) : dst_dtype(tensor);
      const DType on_wire = wire_dtype(src_dtype(tensor), dst_dtype(tensor));
      for_each_element_of(fragment, [&](std::int64_t element) {
        if (is_send) add_element(mine.of(element).front(), wire, dtype, on_wire, &pairs);
        for (const std::uint64_t to : mine.of(element)) {
          if (!is_send) add_element(wire, to, on_wire, dtype, &pairs);
        }
        wire += static_cast<std::uint64_t>(size_bytes(on_wire));
      });
    }
    std::sort(pairs.begin(), pairs.end());
    return pairs;
  }

  const Plan& plan_;
  std::int32_t rank_;
  const RankLinks& links_;
  const RankMemory& memory_;
  std::map<std::tuple<const ModelLayout*, std::int32_t, std::int64_t>, Addresses> known_;
  Work work_;
};

/// Addresses that nothing lies behind: side and rank, buffer, byte.
BufferTable made_up_addresses(const ModelLayout& layout, std::uint64_t number) {
  BufferTable table;
  for (std::uint64_t b = 0; b < layout.buffers().size(); ++b) {
    table.push_back(reinterpret_cast<std::byte*>((number << 54U) + ((b + 1) << 32U)));
  }
  return table;
}

/// Some of the peers read each other's memory.
RankLinks random_links(const Plan& plan, Choices* choices) {
  RankLinks links;
  for (RankFlags* flags :
       {&links.reads_source, &links.reads_destination, &links.source_read_by, &links.destination_read_by}) {
    flags->resize(static_cast<std::size_t>(plan.num_ranks));
    for (const RankId peer : flags->ids()) (*flags)[peer] = choices->pick(2) == 1;
  }
  return links;
}

RankMemory made_up_memory(const Plan& plan) {
  RankMemory memory;
  memory.src = made_up_addresses(*plan.src, 1);
  memory.dst = made_up_addresses(*plan.dst, 2);
  for (std::int32_t peer = 0; peer < plan.num_ranks; ++peer) {
    memory.peer_src[peer] = made_up_addresses(*plan.src, 3 + 2 * static_cast<std::uint64_t>(peer));
    memory.peer_dst[peer] = made_up_addresses(*plan.dst, 4 + 2 * static_cast<std::uint64_t>(peer));
  }
  return memory;
}

class ScheduleLawTest : public ::testing::TestWithParam<int> {};

TEST_P(ScheduleLawTest, EveryCopyOfThePlanIsMadeOnce) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const std::int64_t staging = std::int64_t{8} << choices.pick(12);
    const bool has_relays = choices.pick(2) == 1;
    const Scenario scenario = make_scenario(&choices, GetParam());
    Result<Plan> plan = create_plan(scenario.src, scenario.dst, {staging});
    RC_ASSERT(plan.ok());
    if (has_relays) relay_at_random(&choices, &*plan);
    for (std::int32_t rank = 0; rank < plan->num_ranks; ++rank) {
      const RankMemory memory = made_up_memory(*plan);
      const RankLinks links = random_links(*plan, &choices);
      const Result<BoundSchedule> bound =
          bind_schedule(*plan, build_schedule(*plan, rank, links), memory, std::make_unique<HostCopier>());
      RC_ASSERT(bound.ok());
      const Work made = work_of(*bound);
      const Work asked = Expectation(*plan, rank, links, memory).work();
      RC_ASSERT(made.windows == asked.windows);
      RC_ASSERT(made.groups == asked.groups);
    }
  }));
}

INSTANTIATE_TEST_SUITE_P(Ranks, ScheduleLawTest, ::testing::Values(1, 3, 6, 10), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace reshard::testing
