// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/options.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <sstream>

#include "perf/engine/error.h"
#include "perf/engine/help.h"
#include "perf/engine/job.h"
#include "perf/engine/launcher.h"
#include "perf/engine/output.h"
#include "perf/engine/text.h"
#include "reshard/reshard.h"

namespace reshard::perf {
namespace {

constexpr int kMaxCount = 1'000'000;  // of runs, of layers
constexpr TransportKind kTransports[] = {TransportKind::kUcx, TransportKind::kLocal, TransportKind::kNccl,
                                         TransportKind::kAuto};

/// Adds an option that takes a value of the kind `type`, which --help shows as it is written here.
template <typename T>
CLI::Option* add_value(CLI::App& app, const std::string& names, T& value, const std::string& type,
                       const std::string& meaning) {
  return app.add_option(names, value, meaning)->type_name(type);
}

/// A check that --help leaves to the words of the option's meaning.
CLI::Validator quiet(CLI::Validator validator) {
  return validator.description("");
}

/// Calls `read` with the text of an option; what it throws is reported as that option's.
CLI::Option* add_text(CLI::App& app, const std::string& name, const std::function<void(const std::string&)>& read,
                      const std::string& type, const std::string& meaning) {
  const auto checked = [name, read](const std::string& text) {
    try {
      read(text);
    } catch (const Error& error) {
      throw CLI::ValidationError(name, error.what());
    }
  };
  return app.add_option_function<std::string>(name, checked, meaning)->type_name(type);
}

void add_model_options(CLI::App& app, JobOptions* job) {
  auto* model = add_value(app, "--model", job->model, "FILE|NAME", "Hugging Face config.json, or a model below");
  auto* from = add_value(app, "--from", job->from, "TEXT", "source layout, e.g. fsdp:shard=8");
  auto* to = add_value(app, "--to", job->to, "TEXT", "destination layout, e.g. vllm:tp=2,replicas=4");
  auto* layers = add_value(app, "--layers", job->num_layers, "N", "only the first N decoder layers")
                     ->check(quiet(CLI::Range(1, kMaxCount)))
                     ->default_str("");
  auto* colocated = app.add_flag("--colocated", job->colocated, "both sides on the same ranks");
  auto* spec = add_value(app, "--spec", job->spec, "FILE", "tensors and layouts as JSON, in place of all above");
  model->needs(from)->needs(to)->excludes(spec);
  for (auto* option : {from, to, layers, colocated}) option->needs(model);
}

void add_job_options(CLI::App& app, JobOptions* job) {
  app.set_version_flag("--version", reshard_build_info());
  add_model_options(app, job);
  add_text(
      app, "--staging", [job](const std::string& text) { job->staging_bytes = parse_size_bytes(text); }, "SIZE",
      "most staging memory per rank; K, M, G are powers of 1024")
      ->default_str("64M");
  add_value(app, "--cluster", job->cluster, "TEXT|FILE", "what joins the ranks: a machine below, or a file");
  const std::map<std::string, reshard_group_order_t> orders = {
      {"fixed", RESHARD_ORDER_FIXED}, {"rotated", RESHARD_ORDER_ROTATED}, {"any", RESHARD_ORDER_ANY}};
  add_value(app, "--order", job->group_order, "ORDER", "in which ranks accept groups: fixed, rotated, any")
      ->transform(quiet(CLI::CheckedTransformer(orders)))
      ->default_str("fixed");
  add_value(app, "--open-groups", job->open_groups, "N", "most groups open on a rank at once; 0: no limit")
      ->check(quiet(CLI::Range(0, kMaxCount)));
  app.add_flag("--skip-unmatched", job->skip_unmatched,
               "leave tensors that only one side has as they are, and list them");
  add_value(app, "--json", job->json, "FILE", "write the results as JSON");
  app.callback([job] {
    if (job->model.empty() && job->spec.empty()) throw CLI::RequiredError("one of --model and --spec");
  });
}

/// What reshard_plan can say only of a plan for a machine.
void add_machine_outputs(CLI::App& app, PlanToolOptions* options) {
  CLI::Option* cluster = app.get_option("--cluster");
  app.add_flag("--simulate", options->simulate, "play the plan on the machine (needs --cluster)")->needs(cluster);
  app.add_flag("--advise", options->advise, "look for an order of ranks that moves fewer bytes (needs --cluster)")
      ->needs(cluster);
  CLI::Option* html = add_value(app, "--html", options->html, "FILE", "write a page about the plan (needs --cluster)");
  html->needs(cluster);
  add_value(app, "--trace", options->trace, "FILE", "write the simulated flows for a trace viewer (needs --cluster)")
      ->needs(cluster);
  add_value(app, "--bundle", options->bundle, "N",
            "whose routes --html draws; -1: the largest that crosses the network")
      ->check(quiet(CLI::Range(std::int64_t{-1}, INT64_MAX)))
      ->needs(html);
}

/// What both command lines have in common.
void configure(CLI::App& app, JobOptions* job) {
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer([] { return help_footer(known_models()); });
  app.set_help_flag("-h,--help", "print this and exit");
  app.option_defaults()->always_capture_default()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_job_options(app, job);
  app.get_option("--version")->description("print what was built in and exit");
}

std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& shown) {  // help or the version, which are reports as any other
    std::ostringstream text;
    app.exit(shown, text, text);
    print_report(text.str());
    return kExitOk;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace

const char* name_of(TransportKind kind) {
  switch (kind) {
    case TransportKind::kUcx:
      return "ucx";
    case TransportKind::kLocal:
      return "local";
    case TransportKind::kNccl:
      return "nccl";
    case TransportKind::kAuto:
      return "auto";
  }
  return "";
}

std::optional<int> parse_options(int argc, char** argv, PerfOptions* options) {
  CLI::App app("Moves a model between two layouts for real, checks every element, and reports times and bandwidths.");
  configure(app, &options->job);
  std::string transport = "ucx";
  std::string alloc = "reshard";
  std::string memory = "host";
  double timeout_seconds = 120;
  add_value(
      app, "--transport", transport, "KIND",
      "ucx: one process per rank; local: threads of one process; nccl: messages of device memory go over NCCL, in "
      "streams; auto: over NCCL where reshard chooses it, and the report says why")
      ->check(quiet(CLI::IsMember({"ucx", "local", "nccl", "auto"})));
  app.add_flag("--threads", options->ranks_are_threads, "ranks are threads of one process, also with nccl and auto");
  add_value(app, "-w,--warmups", options->num_warmups, "N", "runs before the timed ones")
      ->check(quiet(CLI::Range(0, kMaxCount)));
  add_value(app, "-n,--runs", options->num_runs, "N", "timed runs")->check(quiet(CLI::Range(1, kMaxCount)));
  add_value(app, "--check", options->num_checks, "N",
            "runs into a poisoned destination, every element compared; 0: none")
      ->check(quiet(CLI::Range(0, kMaxCount)));
  add_value(app, "--patterns", options->time_patterns, "0|1", "1: time each tensor pattern on its own, too");
  add_value(app, "--memory", memory, "KIND", "host; cuda: the ranks of a host take its GPUs in turn, several one GPU")
      ->check(quiet(CLI::IsMember({"host", "cuda"})));
  add_value(app, "--alloc", alloc, "KIND", "reshard: memory that peers can map; heap: ordinary memory")
      ->check(quiet(CLI::IsMember({"reshard", "heap"})));
  add_value(app, "--load", options->load, "PATH",
            "take the source tensors from this safetensors file, index of several, or folder");
  add_value(app, "--dump", options->dump, "DIR", "write each destination rank to DIR/rank00000.safetensors");
  add_value(app, "--timeout", timeout_seconds, "SECONDS", "deadline of every wait")
      ->check(quiet(CLI::Range(1e-3, 1e9)));
  add_value(app, "--net-devices", options->net_devices, "A,B", "network devices that the ranks of a host take in turn");
  app.add_flag("--start-ranks", options->start_ranks,
               "start the ranks on this host, also inside a job of srun, mpirun or torchrun");
  const auto exit_code = parse(app, argc, argv);
  for (const TransportKind kind : kTransports) {
    if (transport == name_of(kind)) options->transport = kind;
  }
  if (options->transport == TransportKind::kLocal) options->ranks_are_threads = true;
  options->memory = memory == "cuda" ? RESHARD_MEMORY_CUDA : RESHARD_MEMORY_HOST;
  options->use_heap = alloc == "heap";
  options->timeout_us = static_cast<std::int64_t>(timeout_seconds * 1e6);
  return exit_code;
}

std::optional<int> parse_options(int argc, char** argv, PlanToolOptions* options) {
  CLI::App app(
      "Plans a transfer on paper, for any number of ranks, and reports what each rank would send and receive.");
  configure(app, &options->job);
  auto* save = add_value(app, "--save", options->save, "FILE", "write the plan");
  add_value(app, "--load,--load-plan", options->load, "FILE", "read the plan from this file instead of planning")
      ->excludes(save);
  CLI::Option* lose = add_text(
      app, "--lose", [options](const std::string& text) { options->lost = parse_rank_range(text); }, "A-B",
      "plan again without these destination ranks, e.g. 24-31");
  app.add_flag("--anew", options->anew, "with --lose: without them from the start, to compare")->needs(lose);
  add_value(app, "--streams", options->count_streams, "0|1", "0: leave out what a run in streams takes");
  add_machine_outputs(app, options);
  return parse(app, argc, argv);
}

}  // namespace reshard::perf
