// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Whether destinations hold what their sources hold, end to end: hashes of the values, whatever way they went.
//
// A hash must be the same however a side cuts a tensor, so it is a sum: of the hashes of pieces, each with the tensor's
// name and the piece's place in the tensor mixed in. The pieces are those of the plan's atoms, which both sides hold
// whole; each piece is hashed as the destination must hold it, after conversions. One holder of a piece at the source
// hashes it, and counts it as often as there are holders at the destination, each of which hashes its own: so the sum
// over all ranks of what sources say, less what destinations hold, is 0, tensor by tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "src/exec/bound_schedule.h"
#include "src/plan/plan.h"

namespace reshard {

/// Of one rank's memory, in one place of a plan.
struct PieceHash {
  std::int64_t tensor = -1;   ///< in plan order
  std::int32_t bundle = -1;   ///< whose destinations the piece is for
  bool is_at_source = false;  ///< else of this rank's destination
  std::uint64_t hash = 0;     ///< of the piece
};

/// Hashes all pieces that this rank has to, of one tensor in plan order, or of all (-1). Memory of the host.
void hash_pieces(const Plan& plan, std::int32_t rank, const RankMemory& memory, std::int64_t tensor,
                 const std::function<void(const PieceHash&)>& visit);

/// By tensor in plan order: what this rank's sources say that destinations hold, less what its destinations hold.
std::vector<std::uint64_t> hash_differences(const Plan& plan, std::int32_t rank, const RankMemory& memory);

/// By destination rank, the same of one tensor: the sum over all ranks is 0 for those that hold what they must.
std::vector<std::uint64_t> hash_differences_of(const Plan& plan, std::int32_t rank, const RankMemory& memory,
                                               std::int64_t tensor);

}  // namespace reshard
