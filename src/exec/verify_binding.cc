// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <optional>

#include "src/base/bytes.h"
#include "src/exec/bind.h"
#include "src/exec/verify.h"
#include "src/transport/vote.h"

namespace reshard {
namespace {

// Which ranks hold something else is told by numbers of each rank for each: more than this many are not exchanged.
constexpr std::int32_t kMostNamedRanks = 1024;

/// Collective: the sums over all ranks, modulo 2^64. @pre equal sizes on all ranks
Result<std::vector<std::uint64_t>> add_up(Collective* collective, const std::vector<std::uint64_t>& mine,
                                          const Deadline& deadline) {
  ByteWriter writer;
  for (const std::uint64_t number : mine) writer.add(static_cast<std::int64_t>(number));
  RESHARD_TRY(const auto blobs, collective->allgather(writer.take(), deadline));
  std::vector<std::uint64_t> sums(mine.size());
  for (std::size_t r = 0; r < blobs.size(); ++r) {
    ByteReader reader(blobs[r]);
    for (std::uint64_t& sum : sums) sum += static_cast<std::uint64_t>(reader.number());
    if (!reader.ok()) return Status{RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent malformed hashes", r)};
  }
  return sums;
}

std::vector<std::int64_t> indices_of_others_than_0(const std::vector<std::uint64_t>& sums) {
  std::vector<std::int64_t> indices;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (sums[i] != 0) indices.push_back(static_cast<std::int64_t>(i));
  }
  return indices;
}

}  // namespace

Status Binding::check_verifiable() const {
  if (peer_memory_->space() != MemorySpace::kHost) {
    return {RESHARD_ERR_NOT_SUPPORTED, "hashes are taken of memory of the host only, and the buffers lie on a device"};
  }
  if (holds_groups_) {
    return {RESHARD_ERR_NOT_SUPPORTED, "the memory in which groups land is used again within a run"};
  }
  if (driver_->num_runs() == 0 || driver_->is_running()) {
    return {RESHARD_ERR_INVALID_STATE, "hashes are compared after a run was finished, and before the next is started"};
  }
  return {};
}

/// All ranks take part whatever is wrong with one of them, and all have the same sums.
Status Binding::verify(const Deadline& deadline) {
  const std::lock_guard turn(transport_->turn());
  RESHARD_TRY(vote(transport_, check_verifiable(), deadline));
  RESHARD_TRY(const std::vector<std::uint64_t> sums,
              add_up(transport_, hash_differences(*plan_, transport_->rank(), memory_), deadline));
  return compare_hashes(sums, deadline);
}

/// Names the first tensor, the ranks that hold something else of it, and how many others there are.
Status Binding::compare_hashes(const std::vector<std::uint64_t>& sums, const Deadline& deadline) {
  const std::vector<std::int64_t> wrong = indices_of_others_than_0(sums);
  if (wrong.empty()) return {};
  const std::string& name = at(plan_->src->tensors(), at(plan_->tensors, wrong.front()).src).name;
  std::string text = fmt::format("tensor \"{}\" is not at its destinations what it is at its sources", name);
  if (plan_->num_ranks <= kMostNamedRanks) {
    RESHARD_TRY(const std::vector<std::uint64_t> by_rank,
                add_up(transport_, hash_differences_of(*plan_, transport_->rank(), memory_, wrong.front()), deadline));
    text += fmt::format(": not on ranks {}", fmt::join(indices_of_others_than_0(by_rank), ", "));
  }
  if (wrong.size() > 1) {
    text += fmt::format("; nor are {} other tensors, the next \"{}\"", wrong.size() - 1,
                        at(plan_->src->tensors(), at(plan_->tensors, wrong[1]).src).name);
  }
  return {RESHARD_ERR_DATA_MISMATCH, text +
                                         "; run again, and check that nothing writes there, and that replicas at the "
                                         "source are equal"};
}

}  // namespace reshard
