// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/exec/bind.h"
#include "tests/unit/exec/buffer_memory.h"
#include "tests/unit/exec/proof.h"
#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {

/// One rank's buffers of a layout with guard zones round each, in memory that peers can map or not.
class RankBuffers {
 public:
  RankBuffers(const ModelLayout& layout, std::int32_t rank, Transport* transport, bool is_mappable);
  RankBuffers(const RankBuffers&) = delete;
  RankBuffers& operator=(const RankBuffers&) = delete;

  const std::vector<BoundBuffer>& bound() const { return bound_; }

  /// From now on the same memory holds what another layout says, of buffers with the same ids and sizes.
  void adopt(const ModelLayout& layout) { layout_ = &layout; }

  /// The buffer lies elsewhere from now on, in memory that peers can map or not. The old memory stays as it was until
  /// this object ends, so that whoever still writes there shows as missing here.
  BoundBuffer move(std::int64_t buffer, bool is_mappable);

  /// From now on what is written is only queued, in callers_stream().
  void queue_writes() { is_queued_ = true; }

  /// Writes what the tensors hold: `salt` + flat index + 1, in small numbers that every dtype represents exactly.
  void fill(std::int64_t salt);
  /// Overwrites everything, so that bytes that were not written show.
  void poison();
  void poison_group(std::int64_t group);  ///< the same, of the tensors of one group
  /// Empty when every element, padding byte and guard is as it must be, else the first difference.
  std::string check(std::int64_t salt) const;
  std::string check(std::int64_t salt, std::int64_t group) const;  ///< only tensors of one group

 private:
  std::size_t index_of(std::int64_t buffer) const;
  std::byte* base(std::int64_t buffer) const;
  std::string check_tensor(std::int64_t tensor, std::int64_t salt) const;
  std::string check_guards() const;
  void fetch() const;

  void poison_block(const Block& block, std::int64_t element_bytes);
  void publish();

  const ModelLayout* layout_;
  std::int32_t rank_;
  Transport* transport_;
  bool is_queued_ = false;
  std::vector<BoundBuffer> bound_;
  std::vector<std::unique_ptr<BufferMemory>> memory_;  // of bound_, guards included
  std::vector<std::unique_ptr<BufferMemory>> left_;
};

/// Runs body(transport) on every rank of a local world, each on a thread of its own; the bodies' texts, joined. Empty
/// texts mean success.
std::string run_ranks(std::int32_t num_ranks, const std::function<std::string(Transport*)>& body);

}  // namespace reshard::testing
