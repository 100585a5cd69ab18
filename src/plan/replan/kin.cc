// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/replan/kin.h"

#include <unordered_map>

#include "src/plan/replan/match.h"

namespace reshard {
namespace {

/// Calls visit(tensor, box, begin, bytes) for each atom of a bundle's stream.
template <typename Visit>
void for_each_atom(const Plan& plan, std::int32_t bundle, const Visit& visit) {
  const Strands strands = plan.strands(at(plan.bundles, bundle));
  for (std::size_t s = 0; s < strands.size(); ++s) {
    const Strand strand = strands[s];
    const PlanTensor& tensor = at(plan.tensors, strand.tensor);
    std::int64_t begin = strand.begin_bytes;
    for (std::int32_t i = 0; i < strand.num_atoms; ++i) {
      const Box& box = at(at(plan.classes, tensor.atom_class).atoms, strand.first_atom + i).box;
      const std::int64_t bytes = box.num_elements() * tensor.wire_bytes;
      visit(tensor, box, begin, bytes);
      begin += bytes;
    }
  }
}

/// The atoms of old bundles, by what is in them.
class OldAtoms {
 public:
  explicit OldAtoms(const Plan& old) : old_(old) {}

  void add(std::int32_t bundle) {
    for_each_atom(old_, bundle, [&](const PlanTensor& tensor, const Box& box, std::int64_t begin, std::int64_t) {
      by_key_.emplace(element_key(tensor.src, box), Place{&tensor, &box, bundle, begin});
    });
  }

  struct Place {
    const PlanTensor* tensor;
    const Box* box;
    std::int32_t bundle;
    std::int64_t begin;  ///< in the bundle's stream
  };
  /// Null where no atom is the same.
  const Place* find(const PlanTensor& tensor, const Box& box) const {
    const auto [first, last] = by_key_.equal_range(element_key(tensor.src, box));
    for (auto entry = first; entry != last; ++entry) {
      const Place& place = entry->second;
      const PlanTensor& other = *place.tensor;
      if (other.src == tensor.src && other.wire_bytes == tensor.wire_bytes && *place.box == box) return &place;
    }
    return nullptr;
  }

 private:
  const Plan& old_;
  std::unordered_multimap<std::uint64_t, Place> by_key_;
};

/// Adds what follows the last one, in both streams, to it.
void append(const Kin& kin, std::vector<Kin>* out) {
  if (!out->empty()) {
    Kin& last = out->back();
    const bool follows = last.now.bundle == kin.now.bundle && last.now.end == kin.now.begin &&
                         last.old_bundle == kin.old_bundle &&
                         last.old_begin + last.now.end - last.now.begin == kin.old_begin;
    if (follows) {
      last.now.end = kin.now.end;
      return;
    }
  }
  out->push_back(kin);
}

}  // namespace

std::vector<Kin> find_kin(const Plan& old, const Plan& now) {
  const BundleMatcher matcher(old, now);
  std::vector<std::int32_t> old_of(now.bundles.size(), -1);
  OldAtoms atoms(old);
  for (std::int32_t b = 0; b < std::ssize(old.bundles); ++b) {
    if (const std::int32_t match = matcher.match(b); match >= 0) {
      at(old_of, match) = b;
    } else {
      atoms.add(b);
    }
  }
  std::vector<Kin> out;
  for (std::int32_t b = 0; b < std::ssize(now.bundles); ++b) {
    if (const std::int32_t known = at(old_of, b); known >= 0) {
      out.push_back({{b, 0, at(now.bundles, b).size_bytes}, known, 0});
      continue;
    }
    for_each_atom(now, b, [&](const PlanTensor& tensor, const Box& box, std::int64_t begin, std::int64_t bytes) {
      const OldAtoms::Place* place = atoms.find(tensor, box);
      if (place != nullptr && bytes > 0) append({{b, begin, begin + bytes}, place->bundle, place->begin}, &out);
    });
  }
  return out;
}

}  // namespace reshard
