// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From a command line to the two layouts, the machine and the plan, all through the public API. Errors of the library
// become exceptions here (error.h), since a tool has nothing to do but report them.
#include "perf/engine/job.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <unordered_map>

#include "perf/engine/error.h"
#include "perf/engine/layout_view.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

namespace fs = std::filesystem;

/// Folders that hold NAME.json of the known models: the source tree's, and the one installed beside the tools.
std::vector<fs::path> model_folders() {
  std::error_code ignored;
  const fs::path self = fs::read_symlink("/proc/self/exe", ignored);
  return {RESHARD_PERF_MODELS_DIR, self.parent_path().parent_path() / RESHARD_PERF_MODELS_INSTALL_DIR};
}

std::string read_model_config(const std::string& model) {
  if (fs::is_regular_file(model)) return read_text_file(model);
  for (const fs::path& folder : model_folders()) {
    const fs::path path = folder / (model + ".json");
    if (fs::is_regular_file(path)) return read_text_file(path.string());
  }
  fail("--model {} is neither a file nor a known model; the known ones are: {}", model, known_models());
}

std::int32_t text_num_ranks(const std::string& text) {
  std::int32_t num_ranks = 0;
  check(reshard_layout_text_num_ranks(text.c_str(), &num_ranks), "reading a layout text");
  return num_ranks;
}

Layout model_layout(const std::string& config, const std::string& text, std::int64_t num_layers,
                    std::int32_t first_rank, std::int32_t num_ranks) {
  reshard_model_options_t options;
  reshard_model_options_init(&options);
  options.config_json = config.c_str();
  options.layout = text.c_str();
  options.num_layers = num_layers;
  options.first_rank = first_rank;
  options.num_ranks = num_ranks;
  reshard_layout_t layout = nullptr;
  check(reshard_layout_create_from_model(&options, &layout), "building a layout of the model");
  return Layout(layout);
}

/// Sources and destinations lie on nodes of their own unless they are the same ranks.
Machine machine_of(const std::string& cluster, const std::vector<std::int32_t>& segments) {
  if (cluster.empty()) return nullptr;
  reshard_machine_t machine = nullptr;
  check(reshard_machine_create(cluster.c_str(), static_cast<std::int32_t>(segments.size()), segments.data(), &machine),
        "reading --cluster");
  return Machine(machine);
}

std::vector<std::string> warnings_of(reshard_machine_t machine) {
  std::vector<std::string> warnings;
  std::int32_t num_warnings = 0;
  if (machine != nullptr) check(reshard_machine_num_warnings(machine, &num_warnings), "counting warnings");
  for (std::int32_t i = 0; i < num_warnings; ++i) {
    const char* warning = nullptr;
    check(reshard_machine_get_warning(machine, i, &warning), "reading a warning");
    warnings.emplace_back(warning);
  }
  return warnings;
}

Job job_from_model(const JobOptions& options) {
  const std::string config = read_model_config(options.model);
  const std::int32_t num_src = text_num_ranks(options.from);
  const std::int32_t num_dst = text_num_ranks(options.to);
  // Without --colocated the destination's ranks are numbered behind the source's, in one world of both.
  const std::int32_t first_dst = options.colocated ? 0 : num_src;
  Job job;
  job.num_ranks = options.colocated ? std::max(num_src, num_dst) : num_src + num_dst;
  job.src = model_layout(config, options.from, options.num_layers, 0, job.num_ranks);
  job.dst = model_layout(config, options.to, options.num_layers, first_dst, job.num_ranks);
  std::vector<std::int32_t> segments = {job.num_ranks};
  if (!options.colocated) segments = {num_src, num_dst};
  job.machine = machine_of(options.cluster, segments);
  return job;
}

Job job_from_spec(const std::string& path, const std::string& cluster) {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  check(reshard_layout_create_from_spec(read_text_file(path).c_str(), &src, &dst), path.c_str());
  Job job;
  job.src = Layout(src);
  job.dst = Layout(dst);
  check(reshard_layout_num_ranks(src, &job.num_ranks), "reading the rank count");
  job.machine = machine_of(cluster, {job.num_ranks});
  return job;
}

}  // namespace

std::string known_models() {
  std::vector<std::string> names;
  for (const fs::path& folder : model_folders()) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  // A build that is installed has both folders, with the same files.
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return fmt::format("{}", fmt::join(names, ", "));
}

Job make_job(const JobOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Job job = options.spec.empty() ? job_from_model(options) : job_from_spec(options.spec, options.cluster);
  job.warnings = warnings_of(job.machine.get());
  job.layout_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return job;
}

void show_warnings(const Job& job, const char* tool) {
  for (const std::string& warning : job.warnings) fmt::print(stderr, "{}: warning: {}\n", tool, warning);
}

reshard_plan_options_t plan_options(const JobOptions& options, const Job& job) {
  reshard_plan_options_t out;
  reshard_plan_options_init(&out);
  out.staging_bytes = options.staging_bytes;
  out.machine = job.machine.get();
  out.group_order = options.group_order;
  out.open_groups = options.open_groups;
  out.unmatched = options.skip_unmatched ? RESHARD_UNMATCHED_SKIP : RESHARD_UNMATCHED_REFUSE;
  return out;
}

Plan make_plan(reshard_layout_t src, reshard_layout_t dst, const reshard_plan_options_t& options) {
  reshard_plan_t plan = nullptr;
  check(reshard_plan_create(src, dst, &options, &plan), "planning");
  return Plan(plan);
}

Plan make_plan(const JobOptions& options, const Job& job) {
  return make_plan(job.src.get(), job.dst.get(), plan_options(options, job));
}

namespace {

/// Elements that share a scale, by dim of the scales; reshard_scale_kind_t says the kinds.
std::vector<std::int64_t> blocks_of_kind(reshard_scale_kind_t kind, const std::vector<std::int64_t>& shape,
                                         const std::vector<std::int64_t>& scale_shape) {
  std::vector<std::int64_t> blocks;
  for (std::size_t d = 0; d < scale_shape.size(); ++d) {
    const std::size_t from_last = shape.size() - 1 - d;
    std::int64_t block = 1;
    if (kind == RESHARD_SCALES_BLOCK128 && from_last <= 1) block = 128;
    if (kind == RESHARD_SCALES_MXFP8 && from_last == 0) block = 32;
    if (scale_shape[d] == 1) block = std::max(block, shape[d]);
    blocks.push_back(block);
  }
  return blocks;
}

/// The pair that has this name on a side; null for a tensor that no pair is of.
TensorPair* find_pair(std::vector<TensorPair>* pairs, const std::string& name) {
  const auto found = std::find_if(pairs->begin(), pairs->end(), [&](const TensorPair& p) { return p.name == name; });
  return found == pairs->end() ? nullptr : &*found;
}

/// Finds the pairs that convert from or to 8-bit floats, and tells them and their scales of each other.
void mark_quantised(const std::vector<TensorView>& side, bool is_dst, std::vector<TensorPair>* pairs) {
  for (std::size_t i = 0; i < side.size(); ++i) {
    if (side[i].scales < 0) continue;
    const TensorView& scales = side[static_cast<std::size_t>(side[i].scales)];
    TensorPair* weight = find_pair(pairs, side[i].name);
    if (weight == nullptr || weight->src_dtype == weight->dst_dtype) continue;
    TensorPair* of_scales = find_pair(pairs, scales.name);
    if (of_scales == nullptr) {  // at the source alone, where the destination takes no scales
      const auto index = static_cast<std::int64_t>(side[i].scales);
      pairs->push_back({scales.name, scales.shape, index, -1, scales.dtype, scales.dtype});
      of_scales = &pairs->back();
      weight = find_pair(pairs, side[i].name);
    }
    auto quant = std::make_shared<Quantised>();
    quant->name = weight->name;
    quant->scales = scales.name;
    quant->shape = weight->shape;
    quant->scale_shape = scales.shape;
    quant->blocks = blocks_of_kind(side[i].scale_kind, weight->shape, scales.shape);
    quant->kind = side[i].scale_kind;
    quant->wide_dtype = is_dst ? weight->src_dtype : weight->dst_dtype;
    quant->is_quantising = is_dst;
    quant->has_given_scales = of_scales->src_index >= 0;
    weight->quant = of_scales->quant = quant;
    of_scales->is_scales = true;
  }
}

}  // namespace

/// The plan that was made proves that what one side alone has are scales, or was to be skipped.
std::vector<TensorPair> pair_tensors(const Job& job) {
  const std::vector<TensorView> src_tensors = tensors_of(job.src.get());
  const std::vector<TensorView> dst_tensors = tensors_of(job.dst.get());
  std::unordered_map<std::string, std::size_t> src_of_name;
  for (std::size_t i = 0; i < src_tensors.size(); ++i) src_of_name.emplace(src_tensors[i].name, i);
  std::vector<TensorPair> pairs;
  for (const TensorView& dst : dst_tensors) {
    const auto found = src_of_name.find(dst.name);
    // Every destination tensor gives one pair, so that its index is the number of pairs before it.
    const auto dst_index = static_cast<std::int64_t>(pairs.size());
    const bool is_new = found == src_of_name.end();
    const std::int64_t src_index = is_new ? -1 : static_cast<std::int64_t>(found->second);
    pairs.push_back(
        {dst.name, dst.shape, src_index, dst_index, is_new ? dst.dtype : src_tensors[found->second].dtype, dst.dtype});
  }
  mark_quantised(src_tensors, false, &pairs);
  mark_quantised(dst_tensors, true, &pairs);
  return pairs;
}

std::string describe_job(const JobOptions& options) {
  if (!options.spec.empty()) return options.spec;
  const std::string layers = options.num_layers == 0 ? "" : fmt::format(", first {} layers", options.num_layers);
  return fmt::format("{}{}: {} -> {}{}", options.model, layers, options.from, options.to,
                     options.colocated ? ", colocated" : "");
}

}  // namespace reshard::perf
