// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A cut in the middle of a row is always possible, but costs: both pieces then need more boxes and shorter copies, and
// a message more. So a cut moves to a better place if one lies within the tolerance: the nearest of sections' ends,
// else of ranges', of atoms', of rows', the larger ones first.
#include "src/plan/line.h"

#include <algorithm>
#include <cstdlib>

namespace reshard {
namespace {

std::int64_t closer(std::int64_t wanted, std::int64_t low, std::int64_t high) {
  return wanted - low <= high - wanted ? low : high;
}

/// The nearest multiple of the largest row (sub-box of the inner dims) that is near enough; at last any element, even
/// beyond the tolerance: an element is never cut.
std::int64_t cut_rows(const Box& box, std::int64_t element_bytes, std::int64_t wanted, std::int64_t tolerance) {
  std::int64_t row = box.num_elements() * element_bytes;
  for (int d = 0; d < box.num_dims; ++d) {
    row /= box.extent(d);
    const std::int64_t nearest = (wanted + row / 2) / row * row;
    if (std::abs(nearest - wanted) <= tolerance) return nearest;
  }
  return wanted / element_bytes * element_bytes;
}

/// A cut of a bundle's stream: at the nearer end of the atom in which `wanted` falls, or else between rows of it.
std::int64_t cut_bundle(const Plan& plan, const Bundle& bundle, std::int64_t wanted, std::int64_t tolerance) {
  const Strands strands = plan.strands(bundle);
  const Strand strand = strands[strands.find(wanted)];
  const PlanTensor& tensor = at(plan.tensors, strand.tensor);
  const AtomClass& atoms = at(plan.classes, tensor.atom_class);
  std::int64_t begin = strand.begin_bytes;
  std::int32_t atom = strand.first_atom;
  const auto bytes = [&] { return at(atoms.atoms, atom).box.num_elements() * tensor.wire_bytes; };
  // Stops in the atom that `wanted` lies in: there is one, as it lies in the strand.
  for (; begin + bytes() <= wanted; ++atom) begin += bytes();
  const std::int64_t nearest = closer(wanted, begin, begin + bytes());
  if (std::abs(nearest - wanted) <= tolerance) return nearest;
  return begin + cut_rows(at(atoms.atoms, atom).box, tensor.wire_bytes, wanted - begin, tolerance);
}

}  // namespace

void Line::add(const Range& range, std::int64_t section) {
  if (section != last_section_) sections_.push_back(starts_.back());
  last_section_ = section;
  ranges_.push_back(range);
  starts_.push_back(starts_.back() + range.end - range.begin);
}

std::int64_t Line::cut(std::int64_t wanted, std::int64_t tolerance) const {
  if (wanted >= size_bytes()) return size_bytes();
  const auto after_section = std::upper_bound(sections_.begin(), sections_.end(), wanted);
  const std::int64_t section_end = after_section == sections_.end() ? size_bytes() : *after_section;
  std::int64_t nearest = closer(wanted, *(after_section - 1), section_end);
  if (std::abs(nearest - wanted) <= tolerance) return nearest;
  const auto after = std::upper_bound(starts_.begin(), starts_.end(), wanted);
  nearest = closer(wanted, *(after - 1), *after);
  if (std::abs(nearest - wanted) <= tolerance) return nearest;
  const Range& range = at(ranges_, after - 1 - starts_.begin());
  const std::int64_t shift = range.begin - *(after - 1);
  const std::int64_t cut = cut_bundle(plan_, at(plan_.bundles, range.bundle), wanted + shift, tolerance);
  // The atom may reach beyond the range, which an earlier cut has ended within it: a cut stays inside.
  return std::clamp(cut, range.begin, range.end) - shift;
}

}  // namespace reshard
