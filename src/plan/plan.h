// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "src/layout/layout.h"
#include "src/layout/partition.h"

namespace reshard {

struct PlanOptions {
  std::int64_t staging_bytes = std::int64_t{64} << 20;  ///< most staging memory of one rank
};

/// A tensor in the plan's order, which is the order of arrival: ascending group, then the destination's order.
struct PlanTensor {
  std::int64_t src = -1;         ///< index in the source layout
  std::int64_t dst = -1;         ///< index in the destination layout
  std::int32_t group = 0;        ///< index in Plan::groups
  std::int32_t atom_class = -1;  ///< index in Plan::classes
  std::int64_t wire_bytes = 1;   ///< of one element on the wire
};

/// A cell of the common refinement of the two layouts: the holders are constant on it, on both sides.
struct Atom {
  Box box;
  std::int32_t bundle = -1;
};

/// The atoms of all tensors whose layouts have the same structure on both sides, ordered by (bundle, box).
struct AtomClass {
  std::vector<Atom> atoms;
};

/// One tensor's part of a bundle's stream: atoms [first_atom, first_atom + num_atoms) of the tensor's class.
struct Strand {
  std::int64_t tensor = -1;  ///< in plan order
  std::int32_t first_atom = 0;
  std::int32_t num_atoms = 0;
  std::int64_t begin_bytes = 0;  ///< place in the stream, in wire bytes
};

/// All bytes with the same source holders and the same destination holders. Its stream is the strands in plan order,
/// each atom by atom, each atom row-major, in wire dtypes.
struct Bundle {
  std::int32_t sources = 0;       ///< id in Plan::sets
  std::int32_t destinations = 0;  ///< id in Plan::sets
  std::int64_t size_bytes = 0;
  std::vector<Strand> strands;
};

/// Line offsets [begin, end) of a pool that one source sends.
struct Share {
  std::int32_t rank = -1;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// All bundles with the same source holders: any of these can send any byte of them, so only the pool's total matters
/// for balance. Its line is the bytes that must cross ranks, by destination rank, each by ascending bundle.
struct Pool {
  std::int32_t sources = 0;           ///< id in Plan::sets
  std::vector<std::int32_t> bundles;  ///< ascending
  std::vector<std::int32_t> dsts;     ///< ranks that need bytes they do not hold, ascending
  std::vector<std::int64_t> starts;   ///< line offset of each of dsts; one more entry, the line's length
  std::vector<Share> shares;          ///< tile the line, in order
};

/// The min-max proof of the choice of sources: no choice keeps the busiest sender below bound_bytes.
struct Certificate {
  std::int64_t level_bytes = 0;  ///< busiest sender under the (divisible) optimum found
  std::int64_t bound_bytes = 0;  ///< lower bound from the sources whose candidates lie within a level set
};

/// Which bytes go where, in which order. A plain value: computed without communication, with integers only, equal on
/// every rank. Never a list of per-rank operations: those are expanded from it, for one rank at a time.
struct Plan {
  std::shared_ptr<const ModelLayout> src;
  std::shared_ptr<const ModelLayout> dst;
  PlanOptions options;
  std::int32_t num_ranks = 0;
  std::vector<PlanTensor> tensors;
  std::vector<std::int64_t> groups;  ///< the callers' values, ascending
  RankSets sets;
  std::vector<AtomClass> classes;
  std::vector<Bundle> bundles;
  std::vector<Pool> pools;
  Certificate certificate;
  std::int64_t window_bytes = 0;  ///< most wire bytes of one message
  std::int32_t num_slots = 0;     ///< windows in flight per direction and rank
  std::uint64_t hash = 0;

  std::int64_t num_atoms() const;
};

/// Plans src -> dst. Errors as reshard_plan_create documents.
Result<Plan> create_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                         const PlanOptions& options);

/// Everything of the plan that follows from the layouts and the budget alone: all but shares, certificate and hash.
Result<Plan> prepare_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                          const PlanOptions& options);

/// Bytes [begin, end) of a bundle's stream that cross from one rank to another.
struct Flow {
  std::int32_t src = -1;
  std::int32_t dst = -1;
  std::int32_t bundle = -1;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// Every flow of the plan, pool by pool, in line order.
void for_each_flow(const Plan& plan, const std::function<void(const Flow&)>& visit);

/// Hash of everything that two ranks must agree on.
std::uint64_t hash_plan(const Plan& plan);

}  // namespace reshard
