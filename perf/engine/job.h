// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The part that both tools share: what is moved, between which ranks, over which machine. reshard_plan stops at the
// plan; reshard_perf runs it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "perf/engine/handles.h"
#include "perf/engine/options.h"
#include "reshard/reshard.h"

namespace reshard::perf {

/// Both sides of a transfer.
struct Job {
  Layout src;
  Layout dst;
  Machine machine;                    ///< null when unknown
  std::vector<std::string> warnings;  ///< what the description of the machine left in doubt
  std::int32_t num_ranks = 0;
  double layout_seconds = 0;  ///< time to build both layouts
};

/// A tensor of 8-bit floats on one of the sides, F32 or BF16 on the other, and its scales.
struct Quantised {
  std::string name;
  std::string scales;  ///< name of the scale tensor
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> scale_shape;
  std::vector<std::int64_t> blocks;  ///< elements that share a scale, by dim of the scales
  reshard_scale_kind_t kind = RESHARD_SCALES_NONE;
  reshard_dtype_t wide_dtype = RESHARD_BF16;  ///< of the other side
  bool is_quantising = true;
  bool has_given_scales = false;  ///< the source has them
};

/// One tensor as the two sides know it. One that only one side has, as computed scales, has the index -1 on the other.
struct TensorPair {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t src_index = 0;
  std::int64_t dst_index = 0;
  reshard_dtype_t src_dtype = RESHARD_BF16;
  reshard_dtype_t dst_dtype = RESHARD_BF16;
  std::shared_ptr<const Quantised> quant = nullptr;  ///< of its elements, or of what its elements are the scales of
  bool is_scales = false;

  /// That the plan leaves it as it is at the destination, for no source has it.
  bool is_skipped() const { return src_index < 0 && quant == nullptr; }
};

/// Builds the layouts of --model or --spec.
Job make_job(const JobOptions& options);

/// Tells a person, on stderr, what is in doubt of the job's machine.
void show_warnings(const Job& job, const char* tool);

/// The plan of a job, or of other layouts of its ranks.
Plan make_plan(const JobOptions& options, const Job& job);
Plan make_plan(reshard_layout_t src, reshard_layout_t dst, const reshard_plan_options_t& options);
reshard_plan_options_t plan_options(const JobOptions& options, const Job& job);

/// The tensors in the destination's order. Call it once the job has a plan: that proves that the sides agree.
std::vector<TensorPair> pair_tensors(const Job& job);

/// The names that --model takes beside files, with commas between them.
std::string known_models();

/// One line that says what the job is.
std::string describe_job(const JobOptions& options);

}  // namespace reshard::perf
