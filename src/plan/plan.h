// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The parts of a plan, from the layouts to the wire. Tensors that are cut alike on both sides are a class; the boxes of
// a class on which the holders are constant on both sides are its atoms. All atoms with the same holders, of all
// classes, are a bundle, and their bytes in a fixed order are the bundle's stream. From there on only streams are
// spoken of: a range is a piece of one, and a route carries ranges along a tree of hops, cut into windows (windows.h).
//
// Atoms and bundles follow from the layouts alone. Ranges, hops, routes, rounds and orders of groups are choices: they
// are what is hashed, saved and proved. Sizes and offsets are bytes on the wire.
//
// Rejected: a plan as the list of what each rank does. A mixture of experts of 1 TB, from 2048 ranks to 2048, has some
// three thousand bundles and 13 million such operations, of which each rank needs only its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/layout/layout.h"
#include "src/layout/partition.h"
#include "src/plan/conversions.h"
#include "src/plan/routes.h"
#include "topology/machine.h"

namespace reshard {

/// In which orders a destination accepts groups, when it cannot have all of them open at once.
enum class GroupOrder : std::int8_t {
  kFixed,    ///< ascending
  kRotated,  ///< ascending from any group on, and from the lowest again after the highest
  kAny,
};

/// What becomes of tensors that only one side has.
enum class Unmatched : std::int8_t {
  kRefuse,
  kSkip,  ///< no byte of them is read or written; Plan lists them
};

struct PlanOptions {
  std::int64_t staging_bytes = std::int64_t{64} << 20;  ///< most staging memory of one rank
  /// What joins the ranks. Null: nothing is known; then every rank sends straight to every other.
  std::shared_ptr<const Machine> machine = nullptr;
  GroupOrder order = GroupOrder::kFixed;
  std::int64_t open_groups = 0;  ///< most groups that are open on a rank at once; 0: no limit, and no order either
  Unmatched unmatched = Unmatched::kRefuse;
};

/// A tensor in the plan's order, which is the order of arrival: ascending group, then the destination's order.
struct PlanTensor {
  std::int64_t src = -1;         ///< index in the source layout
  std::int64_t dst = -1;         ///< index in the destination layout
  std::int32_t group = 0;        ///< index in Plan::groups
  std::int32_t atom_class = -1;  ///< index in Plan::classes
  std::int64_t wire_bytes = 1;   ///< of one element on the wire
  std::int32_t conversion = -1;  ///< index in Plan::conversions of that which is done to its elements, at its place
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

/// The atoms of one class that lie in one bundle: they follow each other.
struct AtomRun {
  std::int32_t first_atom = 0;
  std::int32_t num_atoms = 0;
};

/// How bundles are composed of tensors, kept once for all bundles that are composed alike. Layers repeat: the ranks of
/// a pair that share a piece of one layer's matrix share the same piece of every layer's, and thousands of such pairs
/// differ in nothing but the place of their piece. So the long list, by tensor, stands here, and each bundle only says
/// which atoms of each class of tensors are its own.
struct StrandPattern {
  struct Entry {
    std::int64_t tensor = -1;      ///< in plan order, ascending
    std::int64_t begin_bytes = 0;  ///< place in the stream, in wire bytes
    std::int32_t run = 0;          ///< which of the bundle's runs of atoms
  };
  std::vector<Entry> entries;
  std::int32_t num_runs = 0;    ///< of each bundle of this pattern: one for each class of tensors
  std::int64_t size_bytes = 0;  ///< of the stream of each such bundle
};

/// All bytes with the same source holders and the same destination holders. Its stream is the strands in plan order,
/// each atom by atom, each atom row-major, in wire dtypes. Plan::strands lists them.
struct Bundle {
  std::int32_t sources = 0;       ///< id in Plan::sets
  std::int32_t destinations = 0;  ///< id in Plan::sets
  std::int64_t size_bytes = 0;
  std::int64_t first_run = 0;  ///< in Plan::runs
  std::int32_t pattern = -1;   ///< index in Plan::patterns
};

/// One tensor's part of a bundle's stream: atoms [first_atom, first_atom + num_atoms) of the tensor's class.
struct Strand {
  std::int64_t tensor = -1;  ///< in plan order
  std::int32_t first_atom = 0;
  std::int32_t num_atoms = 0;
  std::int64_t begin_bytes = 0;  ///< place in the stream, in wire bytes
  std::int64_t end_bytes = 0;
};

/// The strands of one bundle, made as they are read. Valid as long as the plan.
class Strands {
 public:
  Strands(const StrandPattern& pattern, const AtomRun* runs) : pattern_(&pattern), runs_(runs) {}

  std::size_t size() const { return pattern_->entries.size(); }
  bool empty() const { return pattern_->entries.empty(); }
  Strand operator[](std::size_t i) const {
    const StrandPattern::Entry& entry = pattern_->entries[i];
    const bool is_last = i + 1 == pattern_->entries.size();
    return {entry.tensor, runs_[entry.run].first_atom, runs_[entry.run].num_atoms, entry.begin_bytes,
            is_last ? pattern_->size_bytes : pattern_->entries[i + 1].begin_bytes};
  }
  /// Index of the strand in which this byte of the stream lies; the last one for the stream's end. @pre not empty
  std::size_t find(std::int64_t offset_bytes) const {
    const auto after =
        std::upper_bound(pattern_->entries.begin(), pattern_->entries.end(), offset_bytes,
                         [](std::int64_t offset, const StrandPattern::Entry& e) { return offset < e.begin_bytes; });
    return static_cast<std::size_t>(after - pattern_->entries.begin()) - 1;
  }

 private:
  const StrandPattern* pattern_;
  const AtomRun* runs_;
};

/// Bytes [begin, end) of a bundle's stream.
struct Range {
  std::int32_t bundle = -1;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// A port with more open connections than this loses speed to their state. Every message in flight may be with another
/// peer, so the ranks of a port share this number; one message each is the least that moves anything.
inline constexpr std::int32_t kMostPeersPerPort = 64;

/// Which bytes go where, in which order. A plain value: computed without communication, with integers only, equal on
/// every rank. Never a list of per-rank operations: those are expanded from it, for one rank at a time.
struct Plan {
  std::shared_ptr<const ModelLayout> src;  ///< the caller's, and behind that what conversions add to it
  std::shared_ptr<const ModelLayout> dst;
  std::shared_ptr<const ModelLayout> given_src;  ///< the caller's own
  std::shared_ptr<const ModelLayout> given_dst;
  std::vector<Conversion> conversions;
  PlanOptions options;
  std::int32_t num_ranks = 0;
  std::vector<PlanTensor> tensors;
  std::vector<std::string> only_at_source, only_at_destination;  ///< names of tensors that were skipped
  std::vector<std::int64_t> groups;                              ///< the callers' values, ascending
  RankSets sets;
  /// Of the tensors of src and dst, for a plan that is made from this one (update_plan); null where they would be
  /// large.
  std::shared_ptr<const Partitions> src_partitions, dst_partitions;
  std::vector<AtomClass> classes;
  std::vector<Bundle> bundles;
  std::vector<StrandPattern> patterns;
  std::vector<AtomRun> runs;  ///< of all bundles, one bundle after the other
  std::vector<Range> ranges;
  std::vector<Hop> hops;  ///< of the distinct routes, one after the other
  Routes routes;
  std::vector<std::int32_t> rounds;        ///< of the schedule: numbers, ascending for each route
  std::vector<std::int32_t> first_groups;  ///< by rank, index in groups with which its order begins
  std::int64_t window_bytes = 0;           ///< most wire bytes of one message
  std::int32_t num_slots = 0;              ///< of staging: windows staged at once per direction and rank
  std::int32_t most_in_flight = 1;         ///< messages posted at once per direction and rank; at least 1
  std::uint64_t hash = 0;

  /// Buffers that the caller brings; those behind them in the plan's layouts are scratch of the binding.
  std::int64_t num_given_src_buffers() const { return std::ssize((given_src != nullptr ? given_src : src)->buffers()); }
  std::int64_t num_given_dst_buffers() const { return std::ssize((given_dst != nullptr ? given_dst : dst)->buffers()); }
  /// That of a tensor in plan order if it is done at the source; null: none is.
  const Conversion* source_conversion(std::int64_t tensor) const {
    const std::int32_t index = at(tensors, tensor).conversion;
    return index >= 0 && at(conversions, index).is_at_source() ? &at(conversions, index) : nullptr;
  }

  std::int64_t num_atoms() const;
  Strands strands(const Bundle& bundle) const { return {at(patterns, bundle.pattern), runs.data() + bundle.first_run}; }
  std::span<const Range> ranges_of(const Route& route) const {
    return {ranges.data() + route.first_range, static_cast<std::size_t>(route.num_ranges)};
  }
  HopIterator begin_hops(const Route& route) const { return {hops.data() + route.first_hop, route.receiver}; }
  /// The hops of a run of routes, one route after the other, as they are for its receiver.
  struct RunHops {
    HopIterator begin;
    std::int64_t count = 0;
  };
  RunHops hops_of(std::size_t run) const;
  std::int64_t num_hops() const;  ///< of all routes, repeated ones as often as they are
  /// Place of a group in an order that begins with first_group: that one has 0.
  std::int32_t position_of(std::int32_t group, std::int32_t first_group) const {
    const auto count = static_cast<std::int32_t>(groups.size());
    return (group - first_group + count) % count;
  }
};

/// Plans src -> dst. Errors as reshard_plan_create documents.
Result<Plan> create_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                         const PlanOptions& options);

/// What of an older plan holds for a new one, too.
struct Unchanged {
  const Plan& old;
  std::vector<bool> dst_tensors;  ///< those that lie where they did; of the source, which is the same, all do
};

/// Everything of the plan that follows from the layouts and the budget alone: all but routes and hash.
Result<Plan> prepare_plan(std::shared_ptr<const ModelLayout> src, std::shared_ptr<const ModelLayout> dst,
                          const PlanOptions& options, const Unchanged* unchanged = nullptr);

/// Proves that the routes deliver every byte of every bundle exactly once to every destination that does not hold it,
/// from ranks that have it, and what running asks of relays: a window leaves staging with the delay with which it came,
/// no rank receives a window twice, and where open groups are limited, a route has the order of groups of all its
/// receivers. Every plan that is created, made anew or loaded has passed. RESHARD_ERR_INTERNAL names the first fault.
Status check_routes(const Plan& plan);

/// Hash of everything that two ranks must agree on.
std::uint64_t hash_plan(const Plan& plan);

}  // namespace reshard
