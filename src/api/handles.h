// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/exec/bind.h"
#include "src/layout/layout.h"
#include "src/plan/plan.h"
#include "src/plan/report.h"
#include "src/transport/transport.h"

// What the opaque handles of the public header point to.

struct reshard_layout {
  explicit reshard_layout(reshard::ModelLayout given)
      : layout(std::make_shared<reshard::ModelLayout>(std::move(given))) {}

  /// For building: plans made so far keep the layout as it was.
  reshard::ModelLayout& writable() {
    if (layout.use_count() > 1) layout = std::make_shared<reshard::ModelLayout>(*layout);
    buffers_rank_ = -1;
    blocks_rank_ = -1;
    return *layout;
  }

  // Callers read buffers and blocks one by one: the last list asked for is kept.
  const std::vector<std::int64_t>& buffers_of(std::int32_t rank) {
    if (buffers_rank_ != rank) buffers_ = layout->buffers_of(rank);
    buffers_rank_ = rank;
    return buffers_;
  }
  const std::vector<reshard::Block>& blocks_of(std::int32_t rank, std::int64_t tensor) {
    if (blocks_rank_ != rank || blocks_tensor_ != tensor) blocks_ = layout->blocks(rank, tensor);
    blocks_rank_ = rank;
    blocks_tensor_ = tensor;
    return blocks_;
  }

  std::shared_ptr<reshard::ModelLayout> layout;

 private:
  std::int32_t buffers_rank_ = -1;
  std::vector<std::int64_t> buffers_;
  std::int32_t blocks_rank_ = -1;
  std::int64_t blocks_tensor_ = -1;
  std::vector<reshard::Block> blocks_;
};

struct reshard_plan {
  std::shared_ptr<const reshard::Plan> plan;
  double planning_seconds = 0;
  std::optional<reshard::PlanStats> stats;  // counted when first asked for
  std::string report;

  const reshard::PlanStats& counted() {
    if (!stats.has_value()) stats = reshard::count_plan(*plan);
    return *stats;
  }
};

struct reshard_comm {
  // Flights that the transport may still read: destroyed after it.
  std::vector<std::shared_ptr<reshard::Flight>> lost;
  std::unique_ptr<reshard::Transport> transport;
  std::int64_t timeout_us = 0;
  std::uint64_t num_bindings = 0;
};

struct reshard_binding {
  reshard_comm* comm = nullptr;
  std::unique_ptr<reshard::Binding> binding;
};
