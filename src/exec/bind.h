// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>
#include <vector>

#include "src/exec/engine.h"

namespace reshard {

/// Where the caller's buffer lies.
struct BoundBuffer {
  std::int64_t id = -1;
  std::byte* data = nullptr;
  std::int64_t size_bytes = 0;
};

struct BindOptions {
  std::shared_ptr<const Plan> plan;
  Transport* transport = nullptr;  ///< must outlive the binding
  std::vector<BoundBuffer> src;
  std::vector<BoundBuffer> dst;
  std::uint64_t sequence = 0;  ///< counts the bindings of the transport; equal on all ranks
  std::int64_t timeout_us = 0;
};

/// A plan bound to this rank's memory.
class Binding {
 public:
  /// Collective. First all ranks compare plans and arguments, so that either all have a binding or none has.
  /// Errors as reshard_binding_create documents.
  static Result<std::unique_ptr<Binding>> create(const BindOptions& options);
  ~Binding();
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;

  Engine& engine() { return *engine_; }
  const Plan& plan() const { return *plan_; }

  /// The group at this position of the order in which this rank gets them, as the caller numbers groups.
  std::int64_t group_at(std::int64_t position) const;

  /// Bytes and counts of one run.
  struct Volume {
    std::int64_t bytes_same_rank = 0;
    std::int64_t bytes_mapped = 0;
    std::int64_t bytes_sent = 0;
    std::int64_t bytes_received = 0;
    std::int64_t messages_sent = 0;
    std::int64_t staging_bytes = 0;
  };
  const Volume& volume() const { return volume_; }

 private:
  struct Mapping {
    std::int32_t peer = -1;
    MemoryKey key;
    void* ptr = nullptr;
  };

  Binding() = default;
  Status agree(const BindOptions& options, Status arguments, std::vector<std::vector<std::byte>>* answers);
  Status map_peers(const std::vector<std::vector<std::byte>>& answers);
  Result<std::shared_ptr<Flight>> build_flight();

  std::shared_ptr<const Plan> plan_;
  Transport* transport_ = nullptr;
  RankMemory memory_;
  std::vector<Mapping> mappings_;
  Volume volume_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace reshard
