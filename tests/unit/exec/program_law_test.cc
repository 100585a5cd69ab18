// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// The copies of a program, expanded to pairs of addresses by plain loops, are those that the plan and the layouts ask
// for, element by element: none is lost, made twice or made up when lists are folded and share patterns.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "src/exec/program.h"
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

// ---- what a program does

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

/// A message and its copies; the side of the window counts from the window's first byte.
struct Message {
  std::int32_t peer = -1;
  std::size_t size_bytes = 0;
  bool is_send = false;
  bool is_relayed = false;
  Pairs pairs;
  auto key() const { return std::tie(is_send, peer, is_relayed, size_bytes, pairs); }
  bool operator<(const Message& other) const { return key() < other.key(); }
  bool operator==(const Message& other) const { return key() == other.key(); }
};

Message message_of(const MessageStep& step, bool is_send, const HostCopier& copier) {
  Message message{step.peer, step.size_bytes, is_send, step.is_relayed, {}};
  const auto data = reinterpret_cast<std::uint64_t>(step.data);
  if (step.batch != CopyBatch::kNone) expand(copier.copies(step.batch), &message.pairs);
  for (auto& [src, dst] : message.pairs) (is_send ? dst : src) -= data;
  if (step.slot < 0 && !step.is_from_staging) {  // the tensor's memory is the window
    for (std::uint64_t b = 0; b < step.size_bytes; ++b) {
      message.pairs.push_back(is_send ? std::pair{data + b, b} : std::pair{b, data + b});
    }
  }
  std::sort(message.pairs.begin(), message.pairs.end());
  return message;
}

/// Copies by (position of the group, peer).
using Groups = std::map<std::pair<std::int32_t, std::int32_t>, Pairs>;

struct Work {
  std::vector<Message> messages;
  Groups groups;
  void sort() {
    std::sort(messages.begin(), messages.end());
    for (auto& [key, pairs] : groups) std::sort(pairs.begin(), pairs.end());
  }
};

Work work_of(const Program& program) {
  const auto& copier = static_cast<const HostCopier&>(*program.copier);
  Work work;
  for (const bool is_send : {true, false}) {
    for (const MessageLane& lane : is_send ? program.sends : program.receives) {
      for (const MessageStep& step : lane.steps) work.messages.push_back(message_of(step, is_send, copier));
    }
  }
  for (const auto* groups : {&program.local, &program.pulls}) {
    for (const GroupCopies& group : *groups)
      expand(copier.copies(group.batch), &work.groups[{group.position, group.peer}]);
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
  Expectation(const Plan& plan, std::int32_t rank, const RankMemory& memory)
      : plan_(plan), rank_(rank), memory_(memory) {}

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
    const BufferTable& buffers = rank == rank_ ? memory_.src : memory_.mapped_src.at(rank);
    return known(*plan_.src, buffers, rank, at(plan_.tensors, tensor).src);
  }
  const Addresses& destination(std::int64_t tensor) {
    return known(*plan_.dst, memory_.dst, rank_, at(plan_.tensors, tensor).dst);
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

  void add_route(const Route& route) {
    const HopIterator hops = plan_.begin_hops(route);
    if (route.num_hops == 1 && hops->dst == rank_ && memory_.mapped_src.contains(hops->src)) {
      for (const Range& range : plan_.ranges_of(route)) add_moves(range, hops->src);
      return;
    }
    if (route.num_hops == 1 && hops->src == rank_ && memory_.read_by[RankId(hops->dst)]) return;
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      if (hops[h].src != rank_ && hops[h].dst != rank_) continue;
      const bool is_send = hops[h].src == rank_;
      const bool is_relayed = hops[h].parent >= 0;
      const bool passes_by = is_send ? is_relayed && hops[hops[h].parent].to_staging : hops[h].to_staging;
      for (const Window& window : windows_of(plan_, route)) {
        Message message{is_send ? hops[h].dst : hops[h].src, std::size_t(window.size_bytes), is_send, is_relayed, {}};
        if (!passes_by) message.pairs = copies_of(window, is_send, is_relayed);
        work_.messages.push_back(std::move(message));
      }
    }
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

/// Some of the peers whose memory may be mapped are.
RankMemory random_memory(const Plan& plan, std::int32_t rank, Choices* choices) {
  RankMemory memory;
  memory.src = made_up_addresses(*plan.src, 1);
  memory.dst = made_up_addresses(*plan.dst, 2);
  memory.read_by.resize(static_cast<std::size_t>(plan.num_ranks));
  for (const std::int32_t peer : sources_of(plan, rank)) {
    const auto number = 3 + static_cast<std::uint64_t>(peer);
    if (choices->pick(2) == 1) memory.mapped_src[peer] = made_up_addresses(*plan.src, number);
  }
  for (const RankId peer : memory.read_by.ids()) memory.read_by[peer] = choices->pick(3) == 2;
  return memory;
}

class ProgramLawTest : public ::testing::TestWithParam<int> {};

TEST_P(ProgramLawTest, EveryCopyOfThePlanIsMadeOnce) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const std::int64_t staging = std::int64_t{8} << choices.pick(12);
    const bool has_relays = choices.pick(2) == 1;
    const Scenario scenario = make_scenario(&choices, GetParam());
    Result<Plan> plan = create_plan(scenario.src, scenario.dst, {staging});
    RC_ASSERT(plan.ok());
    if (has_relays) relay_at_random(&choices, &*plan);
    for (std::int32_t rank = 0; rank < plan->num_ranks; ++rank) {
      const RankMemory memory = random_memory(*plan, rank, &choices);
      const Result<Program> program = build_program(*plan, rank, memory, std::make_unique<HostCopier>());
      RC_ASSERT(program.ok());
      const Work made = work_of(*program);
      const Work asked = Expectation(*plan, rank, memory).work();
      RC_ASSERT(made.messages == asked.messages);
      RC_ASSERT(made.groups == asked.groups);
    }
  }));
}

INSTANTIATE_TEST_SUITE_P(Ranks, ProgramLawTest, ::testing::Values(1, 3, 6, 10), ::testing::PrintToStringParamName());

}  // namespace
}  // namespace reshard::testing
