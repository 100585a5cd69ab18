// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/options.h"

#include <CLI/CLI.hpp>
#include <map>

#include "perf/engine/error.h"
#include "perf/engine/text.h"
#include "reshard/reshard.h"

namespace reshard::perf {
namespace {

constexpr int kMaxCount = 1'000'000;  // of runs, of layers

void add_job_options(CLI::App& app, JobOptions* job) {
  app.set_version_flag("--version", reshard_build_info());
  auto* model = app.add_option("--model", job->model, "Hugging Face config.json, or the name of a known model");
  auto* spec = app.add_option("--spec", job->spec, "tensors and layouts in the general JSON form");
  auto* from = app.add_option("--from", job->from, "source layout, e.g. fsdp:shard=8");
  auto* to = app.add_option("--to", job->to, "destination layout, e.g. vllm:tp=2,replicas=4");
  auto* layers =
      app.add_option("--layers", job->num_layers, "only the first N decoder layers")->check(CLI::Range(1, kMaxCount));
  auto* colocated = app.add_flag("--colocated", job->colocated, "both sides on the same ranks");
  model->needs(from)->needs(to)->excludes(spec);
  for (auto* option : {from, to, layers, colocated}) option->needs(model);

  const auto set_staging = [job](const std::string& text) {
    try {
      job->staging_bytes = parse_size_bytes(text);
    } catch (const Error& error) {
      throw CLI::ValidationError("--staging", error.what());
    }
  };
  app.add_option_function<std::string>("--staging", set_staging, "most staging memory per rank (K, M, G)")
      ->type_name("SIZE")
      ->default_str("64M");
  app.add_option("--cluster", job->cluster,
                 "what joins the ranks: a preset with settings, e.g. hgx-h100:leaf=32,oversub=2, or a file");
  const std::map<std::string, reshard_group_order_t> orders = {
      {"fixed", RESHARD_ORDER_FIXED}, {"rotated", RESHARD_ORDER_ROTATED}, {"any", RESHARD_ORDER_ANY}};
  app.add_option("--order", job->group_order, "in which orders ranks accept groups: fixed, rotated, any")
      ->transform(CLI::CheckedTransformer(orders))
      ->default_str("fixed");
  app.add_option("--open-groups", job->open_groups, "most groups open on a rank at once; 0: no limit")
      ->check(CLI::Range(0, kMaxCount));
  app.add_option("--json", job->json, "write the results to this file as JSON")->type_name("FILE");
  app.callback([job] {
    if (job->model.empty() && job->spec.empty()) throw CLI::RequiredError("one of --model and --spec");
  });
}

/// What reshard_plan can say only of a plan for a machine.
void add_machine_outputs(CLI::App& app, PlanToolOptions* options) {
  CLI::Option* cluster = app.get_option("--cluster");
  app.add_flag("--simulate", options->simulate, "run the plan in the simulation of the machine (needs --cluster)")
      ->needs(cluster);
  app.add_flag("--advise", options->advise, "look for an order of ranks that moves fewer bytes (needs --cluster)")
      ->needs(cluster);
  CLI::Option* html = app.add_option("--html", options->html, "write a page about the plan (needs --cluster)");
  html->type_name("FILE")->needs(cluster);
  app.add_option("--trace", options->trace, "write the simulated flows for a trace viewer (needs --cluster)")
      ->type_name("FILE")
      ->needs(cluster);
  app.add_option("--bundle", options->bundle, "whose chains --html draws; -1: the largest that crosses the network")
      ->check(CLI::Range(std::int64_t{-1}, INT64_MAX))
      ->needs(html);
}

std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace

std::optional<int> parse_options(int argc, char** argv, PerfOptions* options) {
  CLI::App app("Moves a model between two layouts for real, checks every element, and reports times and bandwidths.");
  app.option_defaults()->always_capture_default();
  add_job_options(app, &options->job);
  std::string transport = "ucx";
  std::string alloc = "reshard";
  double timeout_seconds = 120;
  app.add_option("--transport", transport, "ucx: one process per rank; local: threads of one process")
      ->check(CLI::IsMember({"ucx", "local"}));
  app.add_option("-w,--warmups", options->num_warmups, "runs before the timed ones")->check(CLI::Range(0, kMaxCount));
  app.add_option("-n,--runs", options->num_runs, "timed runs")->check(CLI::Range(1, kMaxCount));
  app.add_option("--check", options->num_checks, "runs into a poisoned destination, every element compared; 0: none")
      ->check(CLI::Range(0, kMaxCount));
  app.add_option("--patterns", options->time_patterns, "1: time each tensor pattern on its own too; 0: do not");
  app.add_option("--alloc", alloc, "reshard: memory that peers can map; heap: ordinary memory")
      ->check(CLI::IsMember({"reshard", "heap"}));
  app.add_option("--load", options->load, "take the source tensors from this safetensors file")->type_name("FILE");
  app.add_option("--dump", options->dump, "write each destination rank to DIR/rank00000.safetensors")->type_name("DIR");
  app.add_option("--timeout", timeout_seconds, "deadline of every wait, in seconds")->check(CLI::Range(1e-3, 1e9));
  app.add_option("--net-devices", options->net_devices, "network devices that the ranks of a host take in turn")
      ->type_name("A,B");
  const auto exit_code = parse(app, argc, argv);
  options->transport = transport == "ucx" ? TransportKind::kUcx : TransportKind::kLocal;
  options->use_heap = alloc == "heap";
  options->timeout_us = static_cast<std::int64_t>(timeout_seconds * 1e6);
  return exit_code;
}

std::optional<int> parse_options(int argc, char** argv, PlanToolOptions* options) {
  CLI::App app(
      "Plans a transfer on paper, for any number of ranks, and reports what each rank would send and receive.");
  app.option_defaults()->always_capture_default();
  add_job_options(app, &options->job);
  auto* save = app.add_option("--save", options->save, "write the plan to this file")->type_name("FILE");
  app.add_option("--load,--load-plan", options->load, "read the plan from this file instead of planning")
      ->type_name("FILE")
      ->excludes(save);
  const auto set_lost = [options](const std::string& text) {
    try {
      options->lost = parse_rank_range(text);
    } catch (const Error& error) {
      throw CLI::ValidationError("--lose", error.what());
    }
  };
  app.add_option_function<std::string>("--lose", set_lost, "plan again without these destination ranks, e.g. 24-31")
      ->type_name("A-B");
  add_machine_outputs(app, options);
  return parse(app, argc, argv);
}

}  // namespace reshard::perf
