// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/manifest.h"

#include <algorithm>

#include "src/plan/windows.h"

namespace reshard {
namespace {

class ManifestMaker {
 public:
  ManifestMaker(const Plan& plan, std::int32_t rank)
      : plan_(plan), rank_(rank), by_tensor_(plan.dst->tensors().size()) {}

  std::vector<ManifestTensor> make() {
    add_own();
    for (const Route& route : plan_.routes) add_route(route);
    std::vector<ManifestTensor> made;
    const std::size_t num_given = (plan_.given_dst != nullptr ? plan_.given_dst : plan_.dst)->tensors().size();
    for (std::size_t t = 0; t < num_given; ++t) {
      by_tensor_[t].tensor = static_cast<std::int64_t>(t);
      if (is_written(static_cast<std::int64_t>(t)) && count_memory(&by_tensor_[t])) {
        made.push_back(std::move(by_tensor_[t]));
      }
    }
    return made;
  }

 private:
  /// What the rank holds at the source and wants: a bundle of which it is on both sides is moved whole, without a
  /// route.
  void add_own() {
    for (std::size_t b = 0; b < plan_.bundles.size(); ++b) {
      const Bundle& bundle = plan_.bundles[b];
      if (!plan_.sets.contains(bundle.sources, rank_) || !plan_.sets.contains(bundle.destinations, rank_)) continue;
      add({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, rank_, rank_);
    }
  }

  /// Of a route that brings the rank anything: it arrives over one hop, and began where the hop's first ancestor did.
  void add_route(const Route& route) {
    const HopIterator hops = plan_.begin_hops(route);
    for (std::int32_t h = 0; h < route.num_hops; ++h) {
      const Hop hop = hops[h];
      if (hop.dst != rank_ || hop.to_staging) continue;
      Hop first = hop;
      while (first.parent >= 0) first = hops[first.parent];
      for (const Range& range : plan_.ranges_of(route)) add(range, first.src, hop.src);
    }
  }

  void add(const Range& range, std::int32_t source_rank, std::int32_t from_rank) {
    for (const Fragment& fragment : fragments_of(plan_, range.bundle, range.begin, range.end)) {
      const PlanTensor& tensor = at(plan_.tensors, fragment.tensor);
      std::vector<ManifestPiece>& pieces = at(by_tensor_, wanted_of(tensor)).pieces;
      for_each_box_of_range(fragment.atom->box, fragment.begin, fragment.end, [&](const Box& box, std::int64_t) {
        pieces.push_back({tensor.src, source_rank, from_rank, box});
      });
    }
  }

  /// The tensor of the caller that is made of what comes for this one.
  std::int64_t wanted_of(const PlanTensor& tensor) const {
    return tensor.conversion >= 0 ? at(plan_.conversions, tensor.conversion).dst : tensor.dst;
  }

  /// Tensors that the plan leaves alone are in no group of it.
  bool is_written(std::int64_t dst) {
    if (is_written_.empty()) {
      is_written_.resize(by_tensor_.size());
      for (const PlanTensor& tensor : plan_.tensors) mark(wanted_of(tensor), false);
      for (const Conversion& conversion : plan_.conversions) {
        if (conversion.is_at_source()) continue;
        mark(conversion.dst, true);
        if (conversion.scales_out >= 0) mark(conversion.scales_out, true);
      }
    }
    return at(is_written_, dst);
  }
  void mark(std::int64_t dst, bool is_converted) {
    is_written_[static_cast<std::size_t>(dst)] = true;
    ManifestTensor& entry = at(by_tensor_, dst);
    entry.is_converted = entry.is_converted || is_converted;
    const auto group = std::lower_bound(plan_.groups.begin(), plan_.groups.end(), at(plan_.dst->tensors(), dst).group);
    entry.group = static_cast<std::int32_t>(group - plan_.groups.begin());
  }

  /// False when the rank has nothing of the tensor.
  bool count_memory(ManifestTensor* entry) const {
    const Tensor& tensor = at(plan_.dst->tensors(), entry->tensor);
    const std::vector<Block> blocks = plan_.dst->blocks(rank_, entry->tensor);
    for (const Block& block : blocks) {
      const std::int64_t bytes = block.box.num_elements() * size_bytes(tensor.dtype);
      (block.kind == BlockKind::kData   ? entry->written_bytes
       : block.kind == BlockKind::kZero ? entry->zero_bytes
                                        : entry->untouched_bytes) += bytes;
    }
    for (const ManifestPiece& piece : entry->pieces) {
      if (at(plan_.src->tensors(), piece.source).name == tensor.name) entry->num_elements += piece.box.num_elements();
    }
    return !blocks.empty() || !entry->pieces.empty();
  }

  const Plan& plan_;
  std::int32_t rank_;
  std::vector<ManifestTensor> by_tensor_;  // of Plan::dst
  std::vector<bool> is_written_;           // the same; empty: not known yet
};

}  // namespace

std::vector<ManifestTensor> make_manifest(const Plan& plan, std::int32_t rank) {
  return ManifestMaker(plan, rank).make();
}

}  // namespace reshard
