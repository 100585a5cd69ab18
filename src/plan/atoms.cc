// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The common refinement of two layouts. Each side is cut into cells, on which the set of holders is constant; an atom
// is where a cell of the source meets one of the destination. Tensors that are cut alike on both sides share one list
// of atoms (a class), so that the work is one for each kind of tensor and not for each of a thousand layers.
//
// Rejected: testing the shards of every pair of ranks, which grows with the square of the ranks, while cells only grow
// with the cuts; and tiles of the least common multiple of both sides' cuts, which need cuts that divide the tensor.
#include "src/plan/atoms.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "src/plan/compose.h"

namespace reshard {
namespace {

Status mismatch(std::string message) {
  return {RESHARD_ERR_LAYOUT_MISMATCH, std::move(message)};
}

/// Whether one tensor can become the other, element by element. Layouts may differ in all else.
Status check_pair(const Tensor& src, const Tensor& dst) {
  if (src.shape != dst.shape) {
    return mismatch(fmt::format("tensor \"{}\" has shape [{}] at the source and [{}] at the destination", src.name,
                                fmt::join(src.shape, ", "), fmt::join(dst.shape, ", ")));
  }
  if (!is_convertible(src.dtype, dst.dtype)) {
    const bool is_narrow = src.dtype == DType::kF8E4M3 || dst.dtype == DType::kF8E4M3;
    return mismatch(fmt::format(
        "tensor \"{}\" is {} at the source and {} at the destination; only F32, F16 and BF16 "
        "convert into each other{}",
        src.name, name(src.dtype), name(dst.dtype), is_narrow ? ", and F8_E4M3 where its layout says its scales" : ""));
  }
  return {};
}

/// What conversions change of the matching by name.
class Substitutes {
 public:
  explicit Substitutes(const Plan& plan)
      : of_dst_(plan.dst->tensors().size(), -1),
        is_unsent_(plan.src->tensors().size()),
        is_unsought_(plan.dst->tensors().size()) {
    for (std::size_t i = 0; i < plan.conversions.size(); ++i) {
      const Conversion& conversion = plan.conversions[i];
      at(of_dst_, conversion.dst) = static_cast<std::int32_t>(i);
      if (conversion.scales_out >= 0) at(is_unsought_, conversion.scales_out) = true;
      if (!conversion.is_quantising) at(is_unsent_, conversion.src_scales) = true;
    }
  }

  std::int32_t conversion_of(std::int64_t dst) const { return at(of_dst_, dst); }
  /// Of a source tensor: it may be at the source alone, for a conversion takes it.
  bool is_unsent(std::int64_t src) const { return at(is_unsent_, src); }
  /// Of a destination tensor: its elements are made there.
  bool is_unsought(std::int64_t dst) const { return at(is_unsought_, dst); }

 private:
  std::vector<std::int32_t> of_dst_;
  std::vector<bool> is_unsent_;
  std::vector<bool> is_unsought_;
};

/// Matches a tensor with what it becomes, or with where it lands first. That it may become it was found already.
void match_converted(std::int32_t index, Plan* plan) {
  const Conversion& conversion = at(plan->conversions, index);
  const auto match = [&](std::int64_t src, std::int64_t dst) {
    PlanTensor matched;
    matched.src = src;
    matched.dst = dst;
    matched.wire_bytes =
        size_bytes(wire_dtype(at(plan->src->tensors(), src).dtype, at(plan->dst->tensors(), dst).dtype));
    matched.conversion = index;
    plan->tensors.push_back(matched);
  };
  match(conversion.src, conversion.is_at_source() ? conversion.dst : conversion.landing);
  if (!conversion.is_quantising) match(conversion.src_scales, conversion.dst_scales);
}

/// Lists, or refuses, the source tensors that the destination has not got.
Status list_unsent(const Substitutes& substitutes, Plan* plan) {
  for (std::size_t s = 0; s < plan->src->tensors().size(); ++s) {
    const Tensor& tensor = plan->src->tensors()[s];
    if (plan->given_dst->find_tensor(tensor.name) >= 0 || substitutes.is_unsent(static_cast<std::int64_t>(s))) continue;
    if (plan->options.unmatched != Unmatched::kSkip) {
      return mismatch(fmt::format(
          "tensor \"{}\" is at the source but not at the destination; leave it out there, or skip what only "
          "one side has (RESHARD_UNMATCHED_SKIP)",
          tensor.name));
    }
    plan->only_at_source.push_back(tensor.name);
  }
  return {};
}

/// Matches the tensors of the two sides by name and puts them into the order of arrival: by group, and within one as
/// the destination lists them. The wire has the shorter dtype of the two, so that a cast never makes a message longer.
Status match_tensors(Plan* plan) {
  const ModelLayout& src = *plan->src;
  const ModelLayout& dst = *plan->dst;
  if (src.num_ranks() != dst.num_ranks()) {
    return mismatch(fmt::format("the source layout has {} ranks and the destination {}; both describe one world",
                                src.num_ranks(), dst.num_ranks()));
  }
  const bool is_skipping = plan->options.unmatched == Unmatched::kSkip;
  const Substitutes substitutes(*plan);
  RESHARD_TRY(list_unsent(substitutes, plan));
  std::set<std::int64_t> groups;
  // Tensors behind the caller's own are where others land, and matched with those.
  for (std::size_t d = 0; d < plan->given_dst->tensors().size(); ++d) {
    const Tensor& tensor = dst.tensors()[d];
    if (substitutes.is_unsought(static_cast<std::int64_t>(d))) continue;
    const std::int32_t conversion = substitutes.conversion_of(static_cast<std::int64_t>(d));
    if (conversion >= 0) {
      match_converted(conversion, plan);
      groups.insert(tensor.group);
      continue;
    }
    const std::int64_t s = src.find_tensor(tensor.name);
    if (s < 0 && !is_skipping) {
      return mismatch(
          fmt::format("tensor \"{}\" is at the destination but not at the source, and would keep what it has; give the "
                      "source it, or skip what only one side has (RESHARD_UNMATCHED_SKIP)",
                      tensor.name));
    }
    if (s < 0) {
      plan->only_at_destination.push_back(tensor.name);
      continue;
    }
    RESHARD_TRY(check_pair(at(src.tensors(), s), tensor));
    PlanTensor matched;
    matched.src = s;
    matched.dst = static_cast<std::int64_t>(d);
    matched.wire_bytes = size_bytes(wire_dtype(at(src.tensors(), s).dtype, tensor.dtype));
    plan->tensors.push_back(matched);
    groups.insert(tensor.group);
  }
  // Skipping all is what a prefix of names that only one side has looks like; a plan that moves nothing would hide it.
  if (plan->tensors.empty() && !src.tensors().empty() && !dst.tensors().empty()) {
    return mismatch(fmt::format("no name is on both sides: the source has \"{}\", the destination \"{}\"",
                                src.tensors().front().name, dst.tensors().front().name));
  }
  // Groups are numbered from 0 in ascending order of the callers' values; what follows knows only these numbers.
  plan->groups.assign(groups.begin(), groups.end());
  for (PlanTensor& tensor : plan->tensors) {
    const std::int64_t group = at(dst.tensors(), tensor.dst).group;
    tensor.group = static_cast<std::int32_t>(std::lower_bound(plan->groups.begin(), plan->groups.end(), group) -
                                             plan->groups.begin());
  }
  std::stable_sort(plan->tensors.begin(), plan->tensors.end(),
                   [](const PlanTensor& a, const PlanTensor& b) { return a.group < b.group; });
  return {};
}

/// Source cells by one dimension, so that those that meet an interval of it are a short run. With every pair tried, two
/// layouts of a thousand cells each would cost a million tests per class of tensors.
class CellIndex {
 public:
  explicit CellIndex(const std::vector<Cell>& cells) : cells_(cells), order_(cells.size()) {
    std::iota(order_.begin(), order_.end(), 0);
    if (cells.empty()) return;
    std::size_t most = 0;
    // The dim along which the cells differ most: an interval of it selects the fewest.
    for (int d = 0; d < cells.front().box.num_dims; ++d) {
      std::set<std::int64_t> begins;
      for (const Cell& cell : cells) begins.insert(cell.box.begin[d]);
      if (begins.size() > most) {
        most = begins.size();
        dim_ = d;
      }
    }
    if (dim_ < 0) return;
    std::stable_sort(order_.begin(), order_.end(), [&](std::int32_t a, std::int32_t b) {
      return at(cells, a).box.begin[dim_] < at(cells, b).box.begin[dim_];
    });
    for (const std::int32_t i : order_) {
      const std::int64_t end = at(cells, i).box.end[dim_];
      furthest_end_.push_back(furthest_end_.empty() ? end : std::max(furthest_end_.back(), end));
    }
  }

  /// Calls visit(cell, common box) for every source cell that meets `box`.
  template <typename Visit>
  void for_each_overlap(const Box& box, const Visit& visit) const {
    std::size_t i = 0;
    if (dim_ >= 0) {
      // furthest_end_ ascends, so that all cells before this place end where the box begins, or earlier. Cells behind
      // it may too: they are tried and found not to meet it.
      i = static_cast<std::size_t>(std::upper_bound(furthest_end_.begin(), furthest_end_.end(), box.begin[dim_]) -
                                   furthest_end_.begin());
    }
    for (; i < order_.size(); ++i) {
      const Cell& cell = at(cells_, order_[i]);
      if (dim_ >= 0 && cell.box.begin[dim_] >= box.end[dim_]) break;
      const Box common = intersect(cell.box, box);
      if (!common.empty()) visit(cell, common);
    }
  }

 private:
  const std::vector<Cell>& cells_;
  std::vector<std::int32_t> order_;
  std::vector<std::int64_t> furthest_end_;  // of order_[0 .. i] along dim_
  int dim_ = -1;                            // -1: scalars
};

/// Cuts the classes of tensors into atoms. A bundle gets its number when its first atom is found. Sets of both sides
/// are interned in the same RankSets, so that a rank set is one id wherever it occurs.
class Intersector {
 public:
  Intersector(Plan* plan, const Unchanged* unchanged)
      : plan_(plan),
        src_cells_(*plan->src, &plan->sets, unchanged == nullptr ? Partitions() : *unchanged->old.src_partitions),
        dst_cells_(*plan->dst, &plan->sets, unchanged == nullptr ? Partitions() : unchanged_cells(*unchanged)) {}

  Status run() {
    for (PlanTensor& tensor : plan_->tensors) {
      const std::int32_t src = src_cells_.partition_of(tensor.src);
      const std::int32_t dst = dst_cells_.partition_of(tensor.dst);
      const auto [entry, is_new] =
          class_of_pair_.emplace(std::pair{src, dst}, static_cast<std::int32_t>(plan_->classes.size()));
      if (is_new) {
        RESHARD_TRY(AtomClass atoms, intersect(src_cells_.partition(src), dst_cells_.partition(dst), tensor));
        plan_->classes.push_back(std::move(atoms));
      }
      tensor.atom_class = entry->second;
    }
    compose_bundles(plan_);
    if (src_cells_.all().num_cells() + dst_cells_.all().num_cells() <= kMostKept) {
      plan_->src_partitions = std::make_shared<const Partitions>(src_cells_.all());
      plan_->dst_partitions = std::make_shared<const Partitions>(dst_cells_.all());
    }
    return {};
  }

 private:
  // Cells of 150 bytes that a plan keeps for those that are made from it.
  static constexpr std::int64_t kMostKept = std::int64_t{1} << 17;

  /// Of the tensors that lie where they did, and no others: else what is old would be kept from update to update.
  static Partitions unchanged_cells(const Unchanged& unchanged) {
    const Partitions& old = *unchanged.old.dst_partitions;
    Partitions known;
    std::vector<std::int32_t> new_id(old.list.size(), -1);
    for (std::size_t t = 0; t < unchanged.dst_tensors.size(); ++t) {
      const std::int32_t old_id = old.of_tensor[t];
      known.of_tensor.push_back(-1);
      if (!unchanged.dst_tensors[t] || old_id < 0) continue;
      std::int32_t& id = new_id[static_cast<std::size_t>(old_id)];
      if (id < 0) {
        id = static_cast<std::int32_t>(known.list.size());
        known.list.push_back(at(old.list, old_id));
      }
      known.of_tensor.back() = id;
    }
    return known;
  }

  /// Numbers follow from the order of classes and cells, which is the same on every rank.
  std::int32_t bundle_of(std::int32_t sources, std::int32_t destinations) {
    const auto [entry, is_new] =
        bundle_of_sets_.emplace(std::pair{sources, destinations}, static_cast<std::int32_t>(plan_->bundles.size()));
    if (is_new) plan_->bundles.push_back({sources, destinations, 0, 0, -1});
    return entry->second;
  }

  /// The atoms of one class, ordered by bundle, and the proof that the source covers the destination: cell by cell, the
  /// sizes must add up. Elements of the source that nobody wants are in no atom.
  Result<AtomClass> intersect(const Partition& src, const Partition& dst, const PlanTensor& tensor) {
    AtomClass out;
    const CellIndex index(src.cells);
    for (const Cell& wanted : dst.cells) {
      const std::size_t first = out.atoms.size();
      std::int64_t covered = 0;
      index.for_each_overlap(wanted.box, [&](const Cell& cell, const Box& common) {
        out.atoms.push_back({common, bundle_of(cell.holders, wanted.holders)});
        covered += common.num_elements();
      });
      // Source cells are disjoint, so that the sizes of what they have in common with this one add up.
      if (covered != wanted.box.num_elements()) return uncovered(wanted, out.atoms, first, tensor);
    }
    std::stable_sort(out.atoms.begin(), out.atoms.end(),
                     [](const Atom& a, const Atom& b) { return a.bundle < b.bundle; });
    return out;
  }

  Status uncovered(const Cell& wanted, const std::vector<Atom>& atoms, std::size_t first, const PlanTensor& tensor) {
    std::vector<Box> found;
    for (std::size_t i = first; i < atoms.size(); ++i) found.push_back(atoms[i].box);
    return {RESHARD_ERR_NOT_COVERED,
            fmt::format("tensor \"{}\": no source holds the elements {} that destination rank {} needs; place them at "
                        "the source or leave them out at the destination",
                        at(plan_->dst->tensors(), tensor.dst).name, to_string(complement(wanted.box, found).front()),
                        plan_->sets.ranks(wanted.holders).front())};
  }

  struct PairHash {
    std::size_t operator()(const std::pair<std::int32_t, std::int32_t>& pair) const {
      return std::hash<std::uint64_t>()(static_cast<std::uint64_t>(static_cast<std::uint32_t>(pair.first)) << 32 |
                                        static_cast<std::uint32_t>(pair.second));
    }
  };
  using IdOfPair = std::unordered_map<std::pair<std::int32_t, std::int32_t>, std::int32_t, PairHash>;

  Plan* plan_;
  Partitioner src_cells_;
  Partitioner dst_cells_;
  IdOfPair class_of_pair_;
  IdOfPair bundle_of_sets_;
};

}  // namespace

Status intersect_layouts(Plan* plan, const Unchanged* unchanged) {
  plan->num_ranks = plan->dst->num_ranks();
  RESHARD_TRY(match_tensors(plan));
  if (unchanged != nullptr) plan->sets = unchanged->old.sets;  // cells that are known name sets by their numbers
  return Intersector(plan, unchanged).run();
}

std::int64_t Plan::num_atoms() const {
  std::int64_t count = 0;
  for (const PlanTensor& tensor : tensors) {
    count += static_cast<std::int64_t>(at(classes, tensor.atom_class).atoms.size());
  }
  return count;
}

}  // namespace reshard
