// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Small jobs for tests of runs in streams, and a rank at one of them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/exec/run.h"

namespace reshard::testing {

struct StreamJob {
  std::shared_ptr<ModelLayout> src;
  std::shared_ptr<ModelLayout> dst;
  std::shared_ptr<const Plan> plan;
};

/// Rows of matrices, cut over all ranks, become columns: one matrix to a group, and every rank exchanges with every
/// other in windows of at most half of the staging.
inline StreamJob rows_to_columns(std::int32_t num_ranks, std::int64_t num_groups = 1, const PlanOptions& options = {}) {
  std::vector<std::int32_t> ranks;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) ranks.push_back(rank);
  StreamJob job;
  for (const bool is_source : {true, false}) {
    auto layout = std::make_shared<ModelLayout>(num_ranks);
    for (std::int64_t group = 0; group < num_groups; ++group) {
      const std::string name = "w" + std::to_string(group);
      Split split;
      split.num_parts = num_ranks;
      Placement placement;
      placement.mesh = *Mesh::create({{"r", num_ranks}}, ranks);
      placement.dims.resize(2);
      placement.dims[is_source ? 0 : 1] = {std::make_shared<const DimMap>(*make_dim_map(64, {split})), {0}};
      placement.buffer = layout->add_buffer(name, DType::kF32);
      EXPECT_TRUE(layout->place(*layout->add_tensor({name, DType::kF32, {64, 64}, group}), placement).ok());
    }
    (is_source ? job.src : job.dst) = std::move(layout);
  }
  job.plan = std::make_shared<const Plan>(*create_plan(job.src, job.dst, options));
  return job;
}

/// A rank of a job with its buffers, bound or not.
class StreamRank {
 public:
  StreamRank(const StreamJob& job, Transport* transport, bool is_mappable)
      : job_(job),
        transport_(transport),
        src(*job.src, transport->rank(), transport, is_mappable),
        dst(*job.dst, transport->rank(), transport, is_mappable) {}

  Status bind(const NcclOptions& comm = {}) {
    BindOptions options{job_.plan, transport_, src.bound(), dst.bound(), nullptr, kTimeoutUs};
    options.nccl.emplace().comm = comm;
    RESHARD_TRY(binding_, testing::bind(options));
    return {};
  }
  void unbind() { binding_.reset(); }
  Driver& driver() { return binding_->driver(); }
  const Binding& binding() const { return *binding_; }

  void fill(std::int64_t salt) {
    src.fill(salt);
    dst.poison();
  }
  /// One run with other values, started and finished. Empty: all is right.
  std::string run(std::int64_t salt, void* stream = nullptr) {
    fill(salt);
    Status status = driver().start(stream);
    if (status.ok()) status = driver().finish(Deadline(kTimeoutUs));
    return status.ok() ? dst.check(salt) : status.message() + "\n";
  }
  /// Until all ranks have come here.
  void meet() const { EXPECT_TRUE(transport_->allgather({}, Deadline(kTimeoutUs)).ok()); }
  std::int32_t number() const { return transport_->rank(); }

 private:
  const StreamJob& job_;
  Transport* transport_;

 public:
  RankBuffers src;
  RankBuffers dst;

 private:
  std::unique_ptr<Binding> binding_;
};

}  // namespace reshard::testing
