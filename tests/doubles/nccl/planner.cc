// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/planner.h"

#include <algorithm>
#include <bit>
#include <deque>

namespace nccl_double {
namespace {

constexpr int kMostBatches = 254;   // of 16 bytes, in 4 KiB of arguments with a head
constexpr int kMostOfOneBatch = 8;  // rounds

/// What is known of the batch that a channel is being given.
struct OpenBatch {
  std::vector<int> rounds;
  std::int64_t pass = 0;
};

class Cutter {
 public:
  Cutter(const std::vector<Operation>& operations, int rank, int num_ranks, const PlanRules& rules)
      : operations_(operations), rank_(rank), num_ranks_(num_ranks), rules_(rules) {
    sends_.resize(static_cast<std::size_t>(num_ranks));
    receives_.resize(static_cast<std::size_t>(num_ranks));
    for (std::size_t index = 0; index < operations.size(); ++index) {
      auto& queues = operations[index].is_send ? sends_ : receives_;
      queues[static_cast<std::size_t>(operations[index].peer)].push_back(static_cast<int>(index));
    }
    num_left_ = operations.size();
  }

  std::vector<KernelPlan> cut() {
    std::vector<KernelPlan> plans;
    while (num_left_ > 0) plans.push_back(next_plan());
    return plans;
  }

 private:
  KernelPlan next_plan() {
    KernelPlan plan;
    plan.batches.resize(static_cast<std::size_t>(rules_.channels.total));
    open_.assign(static_cast<std::size_t>(rules_.channels.total), {});
    if (!rules_.carries_rounds()) round_ = 0;
    while (num_left_ > 0) {
      for (; round_ < num_ranks_; ++round_) {
        auto& sends = sends_[static_cast<std::size_t>((rank_ + round_) % num_ranks_)];
        auto& receives = receives_[static_cast<std::size_t>((rank_ - round_ + num_ranks_) % num_ranks_)];
        if (sends.empty() && receives.empty()) continue;
        // Room for the worst case: a new batch on every channel.
        if (plan.num_batches + rules_.channels.per_peer > kMostBatches) return plan;
        for (auto* const queue : {&receives, &sends}) {
          if (queue->empty()) continue;
          add(queue->front());
        }
        add_batches(&plan);
        for (auto* const queue : {&receives, &sends}) {
          if (queue->empty()) continue;
          queue->pop_front();
          --num_left_;
          ++plan.num_operations;
        }
      }
      round_ = 0;
      ++pass_;
    }
    return plan;
  }

  /// Collects the parts of the operation for the channels of this round.
  void add(int operation) {
    const std::uint64_t size_bytes = operations_[static_cast<std::size_t>(operation)].size_bytes;
    const std::uint64_t num_parts = num_parts_of(size_bytes);
    constexpr std::uint64_t kAlignment = 16;
    const std::uint64_t part_bytes =
        ((size_bytes + num_parts - 1) / num_parts + kAlignment - 1) / kAlignment * kAlignment;
    for (std::uint64_t part = 0; part < num_parts; ++part) {
      const std::uint64_t begin = std::min(size_bytes, part * part_bytes);
      const int index_of_part = static_cast<int>(part);
      parts_.push_back(
          {operation, index_of_part, channel_of(index_of_part), begin, std::min(size_bytes, begin + part_bytes)});
    }
  }

  std::uint64_t num_parts_of(std::uint64_t size_bytes) const {
    const auto most = static_cast<std::uint64_t>(rules_.channels.per_operation);
    const std::uint64_t part_bytes = rules_.channels.part_bytes;
    if (part_bytes == 0) return most;
    return std::clamp<std::uint64_t>((size_bytes + part_bytes - 1) / part_bytes, 1, most);
  }

  /// Neighbouring rounds begin far apart, so that they share few channels.
  int channel_of(int part) const {
    const auto total = static_cast<unsigned>(rules_.channels.total);
    const auto num_bits = static_cast<int>(std::bit_width(total - 1));
    unsigned base = 0;
    for (int bit = 0; bit < num_bits; ++bit) {
      if ((static_cast<unsigned>(round_) >> bit & 1U) != 0) base |= 1U << (num_bits - 1 - bit);
    }
    return static_cast<int>((base + static_cast<unsigned>(part)) % total);
  }

  void add_batches(KernelPlan* plan) {
    for (const Part& part : parts_) {
      auto& batches = plan->batches[static_cast<std::size_t>(part.channel)];
      OpenBatch& open = open_[static_cast<std::size_t>(part.channel)];
      // Both directions of a round are one entry of a batch.
      const bool is_same_entry = !open.rounds.empty() && open.rounds.back() == round_ && open.pass == pass_;
      if (!is_same_entry) {
        if (batches.empty() || needs_new(open)) {
          batches.emplace_back();
          open.rounds.clear();
          ++plan->num_batches;
        }
        open.rounds.push_back(round_);
        open.pass = pass_;
      }
      batches.back().push_back(part);
    }
    parts_.clear();
  }

  bool needs_new(const OpenBatch& open) const {
    if (open.rounds.size() == kMostOfOneBatch) return true;
    if (rules_.carries_rounds() && open.pass != pass_) return true;
    return std::any_of(open.rounds.begin(), open.rounds.end(), [&](int round) {
      return round == round_ || round / kMostOfOneBatch != round_ / kMostOfOneBatch;
    });
  }

  const std::vector<Operation>& operations_;
  const int rank_;
  const int num_ranks_;
  const PlanRules rules_;
  std::vector<std::deque<int>> sends_;
  std::vector<std::deque<int>> receives_;
  std::size_t num_left_ = 0;
  int round_ = 0;
  std::int64_t pass_ = 0;
  std::vector<Part> parts_;
  std::vector<OpenBatch> open_;
};

}  // namespace

std::vector<KernelPlan> cut_group(const std::vector<Operation>& operations, int rank, int num_ranks,
                                  const PlanRules& rules) {
  return Cutter(operations, rank, num_ranks, rules).cut();
}

}  // namespace nccl_double
