// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "src/exec/keys.h"
#include "src/plan/plan.h"

namespace reshard {

/// Memory beside the destination tensors that is made out of those of one group: packed or quantised weights, tensors
/// that are derived from others.
struct ReloadOutput {
  std::int32_t group = -1;    ///< index in Plan::groups
  std::byte* data = nullptr;  ///< where it stays
  std::int64_t size_bytes = 0;
};

/// What one rank gets with one group.
struct Layer {
  /// A piece of memory of the layer: a destination buffer, or an output.
  struct Part {
    std::int64_t id = -1;         ///< of a buffer, in the destination layout
    std::byte* stable = nullptr;  ///< where it stays; null: it is the caller's to take it out of scratch
    std::byte* landed = nullptr;  ///< where a run writes it: scratch, or `stable` itself
    std::int64_t size_bytes = 0;
    std::int64_t scratch_bytes = -1;  ///< place in scratch; -1: it has none, and lands where it stays
    bool is_in_scratch() const { return scratch_bytes >= 0; }
  };
  std::int32_t group = -1;  ///< index in Plan::groups
  std::vector<Part> buffers;
  std::vector<Part> outputs;
  std::vector<std::int64_t> tensors;  ///< that a run writes, in Plan::dst
  bool lands_directly = false;        ///< a run writes some of it where it stays

  bool empty() const { return buffers.empty() && outputs.empty(); }
  /// Whether nobody but the caller can do what is to be done once the layer has landed.
  bool needs_caller() const;
};

struct ReloadMemory {
  std::vector<BoundBuffer> buffers;  ///< every destination buffer of the rank; data null: in scratch only
  std::vector<ReloadOutput> outputs;
  bool lands_directly = false;  ///< buffers that have memory get no place in scratch
};

/// The layers of a rank, and the places of their parts in scratch that has one slot for each open group.
struct LayerMap {
  std::vector<Layer> layers;       ///< by position in the rank's order of groups
  std::int32_t num_slots = 0;      ///< groups that may be open at once
  std::int64_t scratch_bytes = 0;  ///< of all slots

  /// Sets Layer::Part::landed of what lies in scratch.
  void place(std::byte* scratch);
};

/// Errors: RESHARD_ERR_INVALID_ARGUMENT for a buffer that needs scratch and has tensors of several groups, and for
/// outputs of a group that there is not, or without memory.
Result<LayerMap> map_layers(const Plan& plan, std::int32_t rank, const ReloadMemory& memory);

}  // namespace reshard
