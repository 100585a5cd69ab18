// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "kernels/copy_shapes.h"

namespace reshard {

/// One copy, ready to run: a shape, and where it is applied.
struct PlacedCopy {
  const std::byte* src = nullptr;  ///< null: fill
  std::byte* dst = nullptr;
  const std::byte* scales = nullptr;  ///< null: there are none
  std::uint32_t shape = 0;            ///< index in the table's shapes
};

/// What the lists of copies of a program share. A rank of a job of a thousand ranks makes a million copies, but
/// - of a few hundred shapes (CopyShapes), and
/// - in lists that repeat: what comes from rank 8 is what comes from rank 7, with every address a constant further.
/// Such
///   lists are one pattern, and each says only which repeat of the pattern it is.
class CopyTable {
 public:
  CopyTable() = default;  ///< for the best kernels of this processor
  explicit CopyTable(const RowKernels& kernels) : shapes_(kernels) {}

  /// A list: copy i of the pattern, `repeat` times its step further.
  struct Place {
    std::uint32_t pattern = 0;
    std::int64_t repeat = 0;
  };

  /// Enters the shape of an op. @pre no extent is zero
  PlacedCopy prepare(const CopyOp& op);

  /// Enters a list as the repeat of a pattern if it is one, else as a pattern. Only lists of the same `kin`, which the
  /// caller chooses as he likes, are compared.
  Place enter(const std::vector<PlacedCopy>& list, std::int64_t num_bytes, std::uint64_t kin);

  /// For lists that grow and share their table with no other: adds to the one pattern there is.
  void append(const PlacedCopy& copy, std::int64_t num_bytes);

  std::size_t num_copies(const Place& place) const { return patterns_[place.pattern].num_copies; }
  std::int64_t num_bytes(const Place& place) const { return patterns_[place.pattern].num_bytes; }
  PlacedCopy copy(const Place& place, std::size_t index) const;
  const CopyShapes& shapes() const { return shapes_; }
  std::size_t num_patterns() const { return patterns_.size(); }

 private:
  /// From one repeat of a copy to the next.
  struct Step {
    std::intptr_t src_bytes = 0;
    std::intptr_t dst_bytes = 0;
    std::intptr_t scale_bytes = 0;
    bool operator==(const Step&) const = default;
  };
  static constexpr std::size_t kNoSteps = SIZE_MAX;
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Pattern {
    std::size_t first_copy = 0;         // in copies_
    std::size_t first_step = kNoSteps;  // in steps_; kNoSteps: there is one repeat only, until a second one says
    std::size_t num_copies = 0;
    std::int64_t num_bytes = 0;
    std::uint32_t older = kNone;  // the pattern before this one with the same hash
  };

  bool has_shapes_of(const Pattern& pattern, const std::vector<PlacedCopy>& list) const;
  Step difference(const Pattern& pattern, const std::vector<PlacedCopy>& list, std::size_t index) const;
  bool find_repeat(Pattern* pattern, const std::vector<PlacedCopy>& list, std::int64_t* repeat);

  CopyShapes shapes_;
  std::vector<PlacedCopy> copies_;  // of all patterns, each one's first repeat
  std::vector<Step> steps_;         // of all patterns that repeat
  std::vector<Pattern> patterns_;
  std::unordered_map<std::uint64_t, std::uint32_t> newest_of_hash_;
};

}  // namespace reshard
