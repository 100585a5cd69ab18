// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reshard/reshard.h"
#include "src/api/memory.h"
#include "src/exec/bind.h"
#include "src/exec/stage_report.h"
#include "src/layout/layout.h"
#include "src/layout/rank_text.h"
#include "src/layout/serialize.h"
#include "src/plan/estimate.h"
#include "src/plan/plan.h"
#include "src/plan/replan.h"
#include "src/plan/report/report.h"
#include "src/plan/report/simulate_plan.h"
#include "src/transport/transport.h"

// What the opaque handles of the public header point to. A handle owns what it hands out (texts, lists), and shares
// what others may go on to use: plans keep layouts and machines, bindings keep plans and transports, so that handles
// may be destroyed in any order. What takes long is computed when it is first asked for and then kept: the planning
// time that is reported is of the plan alone.

struct reshard_layout {
  explicit reshard_layout(reshard::ModelLayout given)
      : layout(std::make_shared<reshard::ModelLayout>(std::move(given))) {}

  /// For building: plans made so far keep the layout as it was, as the first change after one copies it. What was
  /// handed out to readers is dropped, for it may be wrong now.
  reshard::ModelLayout& writable() {
    if (layout.use_count() > 1) layout = std::make_shared<reshard::ModelLayout>(*layout);
    const std::lock_guard lock(mutex_);
    read_.clear();
    bytes_.clear();
    return *layout;
  }

  // Callers read buffers and blocks one by one, ranks that are threads all at once: what each rank asked for last is
  // kept.
  template <typename Read>
  reshard::Status read_buffers(std::int32_t rank, const Read& read) {
    const std::lock_guard lock(mutex_);
    LastRead& last = read_[rank];
    if (!last.has_buffers) last.buffers = layout->buffers_of(rank);
    last.has_buffers = true;
    return read(std::as_const(last.buffers));
  }
  template <typename Read>
  reshard::Status read_blocks(std::int32_t rank, std::int64_t tensor, const Read& read) {
    const std::lock_guard lock(mutex_);
    LastRead& last = read_[rank];
    if (last.tensor != tensor) last.blocks = layout->blocks(rank, tensor);
    last.tensor = tensor;
    return read(std::as_const(last.blocks));
  }

  // What is handed out belongs to the layout, so it stays until the layout changes: one text per rank that was asked
  // for.
  const std::string& text(std::int32_t rank) {
    const std::lock_guard lock(mutex_);
    std::string& text = read_[rank].text;
    if (text.empty()) text = reshard::rank_text(*layout, rank);
    return text;
  }
  const std::vector<std::byte>& serialized() {
    const std::lock_guard lock(mutex_);
    if (bytes_.empty()) bytes_ = reshard::serialize(*layout);
    return bytes_;
  }

  std::shared_ptr<reshard::ModelLayout> layout;

 private:
  // By rank, so that ranks that are threads do not drive each other's answers out.
  struct LastRead {
    std::string text;
    bool has_buffers = false;
    std::vector<std::int64_t> buffers;
    std::int64_t tensor = -1;
    std::vector<reshard::Block> blocks;
  };
  std::mutex mutex_;
  std::map<std::int32_t, LastRead> read_;  // by rank
  std::vector<std::byte> bytes_;
};

struct reshard_machine {
  std::shared_ptr<const reshard::Machine> machine;
  std::vector<std::string> warnings;
  std::string report;
};

struct reshard_plan {
  std::shared_ptr<const reshard::Plan> plan;
  double planning_seconds = 0;
  std::optional<reshard::PlanStats> stats;    // counted when first asked for
  std::optional<reshard::Estimate> estimate;  // of a plan with a machine, when first asked for
  double estimating_seconds = 0;
  std::optional<reshard::Changes> changes;        // of a plan that was made from an older one
  std::optional<reshard::Simulation> simulation;  // when first asked for
  std::string report;
  std::string details;
  std::string advice;
  std::optional<reshard::StageCounter> stages;  // when first asked for
  std::string stream;

  /// Sets `simulation`; RESHARD_ERR_INVALID_STATE without a machine.
  reshard::Status simulate();

  /// Sets `estimate` if the plan has a machine.
  reshard::Status estimate_time();

  const reshard::PlanStats& counted() {
    if (!stats.has_value()) stats = reshard::count_plan(*plan);
    return *stats;
  }
};

namespace reshard::api {

/// Of every structure with a timeout, until the caller sets another; the public header says so at each of them.
inline constexpr std::int64_t kDefaultTimeoutUs = 60'000'000;

}  // namespace reshard::api

struct reshard_comm {
  std::shared_ptr<reshard::Transport> transport;  // bindings outlive the handle
  std::shared_ptr<reshard::BindingNumbers> numbers = std::make_shared<reshard::BindingNumbers>();
  std::shared_ptr<reshard::api::DeviceAllocations> device_memory = std::make_shared<reshard::api::DeviceAllocations>();
  std::int64_t timeout_us = 0;
};

namespace reshard::api {

/// The memory of all buffers of a rank's binding.
struct BufferPlace {
  reshard_memory_kind_t memory = RESHARD_MEMORY_HOST;
  std::int32_t device = -1;
  std::string first;  ///< the buffer that said so; empty: none yet
};

}  // namespace reshard::api

struct reshard_binding {
  std::shared_ptr<reshard::Transport> transport;
  std::shared_ptr<reshard::api::DeviceAllocations> device_memory;
  std::shared_ptr<reshard::BindingNumbers> numbers;
  std::unique_ptr<reshard::PeerMemory> peer_memory;  // of buffers on a device; null: the transport's
  reshard::api::BufferPlace place;
  reshard_driver_t driver = RESHARD_DRIVER_POLL;
  std::string driver_reason;
  std::unique_ptr<reshard::Binding> binding;  // destroyed first
};
