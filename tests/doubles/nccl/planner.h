// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How a group of sends and receives is cut into kernels, as NCCL does it (its enqueue code, versions 2.28 to 2.30). In
// round r a rank sends to the one r places behind it and receives from the one r places before it; the operations with
// one peer and direction are taken in order, one in each pass over the rounds. A pair of operations is spread over
// channels. Each channel runs batches one after the other, what is in a batch at the same time. A kernel holds as many
// batches as fit its arguments; then the next kernel begins: in the same round from 2.29.7 on, with the first round
// before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nccl_double {

struct Operation {
  bool is_send = false;
  int peer = 0;
  std::byte* data = nullptr;
  std::uint64_t size_bytes = 0;
};

struct ChannelCounts {
  int total = 32;
  int per_peer = 32;
  int per_operation = 32;
  std::uint64_t part_bytes = 0;  // an operation takes one channel for each so many bytes; 0: all that it may
};

/// One part of one operation, on one channel.
struct Part {
  int operation = 0;  // in the list that was cut
  int index = 0;      // among the parts of the operation
  int channel = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct KernelPlan {
  std::vector<std::vector<std::vector<Part>>> batches;  // of each channel, in order
  int num_batches = 0;
  int num_operations = 0;
};

struct PlanRules {
  int version = 0;
  ChannelCounts channels;
  bool carries_rounds() const { return version >= 22907; }
};

/// @pre what is sent to this rank itself matches what it receives from itself, in number
std::vector<KernelPlan> cut_group(const std::vector<Operation>& operations, int rank, int num_ranks,
                                  const PlanRules& rules);

}  // namespace nccl_double
