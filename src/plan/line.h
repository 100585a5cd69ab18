// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How bytes are cut. Water-filling says how many bytes each rank carries, not which. Laying a pool's bytes end to end
// and cutting that line keeps each rank's bytes together: n ranks make n - 1 cuts, whatever the number of bundles,
// where a cut of every bundle by the same shares would make n of each.
#pragma once

#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// Bytes laid end to end that are to be divided among ranks: ranges of bundles, in sections. A section is what would
/// best stay whole: what goes to one receiver, or a bundle.
class Line {
 public:
  explicit Line(const Plan& plan) : plan_(plan) {}

  /// Ranges of one section follow each other.
  void add(const Range& range, std::int64_t section);
  std::int64_t size_bytes() const { return starts_.back(); }
  const std::vector<Range>& ranges() const { return ranges_; }

  /// Divides the line in order into parts of about `bytes` each, the last taking what is left. A cut moves by at most
  /// `tolerance` bytes to lie between sections, bundles, tensors' atoms, or rows, in that order of preference.
  /// Calls visit(part, index of the range, sub-range) in line order.
  /// A part may come out empty. `i` only goes forward, so that all parts together cost one walk over the ranges.
  template <typename Visit>
  void divide(const std::vector<std::int64_t>& bytes, std::int64_t tolerance, const Visit& visit) const {
    std::int64_t wanted = 0;
    std::int64_t begin = 0;
    std::size_t i = 0;
    for (std::size_t part = 0; part < bytes.size(); ++part) {
      wanted += bytes[part];
      const std::int64_t end = wanted >= size_bytes() ? size_bytes() : std::max(begin, cut(wanted, tolerance));
      for (std::int64_t position = begin; position < end;) {
        while (starts_[i + 1] <= position) ++i;
        const std::int64_t until = std::min(end, starts_[i + 1]);
        const std::int64_t shift = ranges_[i].begin - starts_[i];
        visit(part, i, Range{ranges_[i].bundle, position + shift, until + shift});
        position = until;
      }
      begin = end;
    }
  }

  /// Where a cut wanted at this offset of the line is made.
  std::int64_t cut(std::int64_t wanted, std::int64_t tolerance) const;

 private:
  const Plan& plan_;
  std::vector<Range> ranges_;
  std::vector<std::int64_t> starts_{0};   // of ranges_, and the end
  std::vector<std::int64_t> sections_{};  // where each begins
  std::int64_t last_section_ = -1;
};

}  // namespace reshard
