// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/copy_list.h"

namespace reshard {

/// Makes a list of copies in which runs are folded: copies that follow one another, of the same dims, types and
/// strides, whose sources, destinations and scales each lie a constant step apart, become one copy of one more dim. So
/// do the rows that one rank of a thousand holds of every expert.
///
/// A pair always has a constant step, by chance, too; if pairs were folded, every one could need a shape of its own.
/// Hence a run begins with three.
class CopyListBuilder {
 public:
  explicit CopyListBuilder(std::shared_ptr<CopyTable> table) : table_(std::move(table)) {}

  /// Preconditions as for CopyList::add.
  void add(const CopyOp& op);

  /// The list of all that was added since the last call. `kin`: see CopyTable::enter().
  CopyList take(std::uint64_t kin = 0);

 private:
  bool can_follow(const CopyOp& op) const;
  bool extend_run(const CopyOp& op);
  void close_run();
  void append(const CopyOp& op);

  std::shared_ptr<CopyTable> table_;
  std::vector<PlacedCopy> copies_;
  std::int64_t num_bytes_ = 0;
  // The copies that are not in the list yet: count_ of them, the first one as it is, each of the others a step further.
  CopyOp first_;
  const void* last_src_ = nullptr;
  void* last_dst_ = nullptr;
  const void* last_scales_ = nullptr;
  std::int64_t count_ = 0;
  std::intptr_t src_step_ = 0;
  std::intptr_t dst_step_ = 0;
  std::intptr_t scale_step_ = 0;
};

}  // namespace reshard
