// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Finds lists that are the same but for a constant distance, so that a million copies take the memory of some hundred.
// A pattern keeps its first list as it was entered; repeat r of it has copy i moved by r times step i. Steps may differ
// from copy to copy, as rows of several tensors do that are cut at the same rank. The hash is over shapes only, for
// addresses differ; those are compared one by one.
#include "kernels/copy_table.h"

#include <algorithm>

namespace reshard {
namespace {

// Patterns of one hash that a list is compared with: more differ by something that has no constant step.
constexpr int kMostTried = 4;

std::uint64_t hash_of(const std::vector<PlacedCopy>& list, std::uint64_t kin) {
  std::uint64_t hash = mix_hash(kin, static_cast<std::int64_t>(list.size()));
  for (const PlacedCopy& copy : list) hash = mix_hash(hash, copy.shape);
  return hash;
}

/// Lists that are no repeats may lie far apart in memory, and their products then beyond 64 bits.
bool is_multiple(std::intptr_t found, std::int64_t repeat, std::intptr_t step) {
  std::intptr_t product = 0;
  return !__builtin_mul_overflow(repeat, step, &product) && found == product;
}

}  // namespace

PlacedCopy CopyTable::prepare(const CopyOp& op) {
  const CanonicalOp same = canonical(op);
  return {same.src, same.dst, same.scales, shapes_.index_of(same)};
}

PlacedCopy CopyTable::copy(const Place& place, std::size_t index) const {
  const Pattern& pattern = patterns_[place.pattern];
  PlacedCopy copy = copies_[pattern.first_copy + index];
  if (place.repeat == 0) return copy;
  const Step& step = steps_[pattern.first_step + index];
  if (copy.src != nullptr) copy.src += place.repeat * step.src_bytes;
  copy.dst += place.repeat * step.dst_bytes;
  if (copy.scales != nullptr) copy.scales += place.repeat * step.scale_bytes;
  return copy;
}

bool CopyTable::has_shapes_of(const Pattern& pattern, const std::vector<PlacedCopy>& list) const {
  return pattern.num_copies == list.size() &&
         std::equal(list.begin(), list.end(), copies_.begin() + static_cast<std::ptrdiff_t>(pattern.first_copy),
                    [](const PlacedCopy& a, const PlacedCopy& b) { return a.shape == b.shape; });
}

/// How far copy `index` of the list is from the same one in the first repeat of the pattern.
CopyTable::Step CopyTable::difference(const Pattern& pattern, const std::vector<PlacedCopy>& list,
                                      std::size_t index) const {
  const PlacedCopy& first = copies_[pattern.first_copy + index];
  const PlacedCopy& copy = list[index];
  return {bytes_between(first.src, copy.src), bytes_between(first.dst, copy.dst),
          bytes_between(first.scales, copy.scales)};
}

/// Whether the list is a repeat of the pattern, and which. The second list that has the shapes of a pattern always is:
/// it sets the steps. @pre has_shapes_of()
bool CopyTable::find_repeat(Pattern* pattern, const std::vector<PlacedCopy>& list, std::int64_t* repeat) {
  // Copies that do not move, such as fills or what every peer gets alike, say nothing of which repeat this is.
  std::size_t i = 0;  // the first copy that is not where it is in the first repeat
  while (i < list.size() && difference(*pattern, list, i) == Step{}) ++i;
  *repeat = i == list.size() ? 0 : 1;
  if (*repeat == 0) return true;
  if (pattern->first_step == kNoSteps) {
    pattern->first_step = steps_.size();
    for (std::size_t k = 0; k < list.size(); ++k) steps_.push_back(difference(*pattern, list, k));
    return true;
  }
  const Step* steps = &steps_[pattern->first_step];
  // The repeat follows from one copy that moved; the division may leave a rest, which the comparison below refuses.
  const Step moved = difference(*pattern, list, i);
  if (steps[i] == Step{}) return false;
  *repeat = steps[i].dst_bytes != 0   ? moved.dst_bytes / steps[i].dst_bytes
            : steps[i].src_bytes != 0 ? moved.src_bytes / steps[i].src_bytes
                                      : moved.scale_bytes / steps[i].scale_bytes;
  for (std::size_t k = 0; k < list.size(); ++k) {  // also those before i: they may have steps
    const Step found = difference(*pattern, list, k);
    if (!is_multiple(found.src_bytes, *repeat, steps[k].src_bytes)) return false;
    if (!is_multiple(found.dst_bytes, *repeat, steps[k].dst_bytes)) return false;
    if (!is_multiple(found.scale_bytes, *repeat, steps[k].scale_bytes)) return false;
  }
  return true;
}

CopyTable::Place CopyTable::enter(const std::vector<PlacedCopy>& list, std::int64_t num_bytes, std::uint64_t kin) {
  const auto [newest, is_new] = newest_of_hash_.try_emplace(hash_of(list, kin), kNone);
  std::uint32_t known = newest->second;
  for (int tried = 0; known != kNone && tried < kMostTried; ++tried) {
    Pattern& pattern = patterns_[known];
    Place place{known, 0};
    if (has_shapes_of(pattern, list) && find_repeat(&pattern, list, &place.repeat)) return place;
    known = pattern.older;
  }
  const auto index = static_cast<std::uint32_t>(patterns_.size());
  patterns_.push_back({copies_.size(), kNoSteps, list.size(), num_bytes, newest->second});
  copies_.insert(copies_.end(), list.begin(), list.end());
  newest->second = index;
  return {index, 0};
}

void CopyTable::append(const PlacedCopy& copy, std::int64_t num_bytes) {
  if (patterns_.empty()) patterns_.emplace_back();
  copies_.push_back(copy);
  ++patterns_.front().num_copies;
  patterns_.front().num_bytes += num_bytes;
}

}  // namespace reshard
