// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/help.h"

#include <fmt/format.h>

#include <sstream>

namespace reshard::perf {
namespace {

constexpr std::size_t kColumns = 80;
constexpr std::size_t kTextColumn = 27;  // where the meanings begin

/// The words of `text` in lines of at most kColumns; the first one goes on at `column`, the others begin at `indent`.
std::string wrapped(const std::string& text, std::size_t column, std::size_t indent) {
  std::istringstream words(text);
  std::string out;
  std::string word;
  bool is_first = true;
  while (words >> word) {
    if (!is_first && column + 1 + word.size() > kColumns) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
      is_first = true;
    }
    if (!is_first) out += " ";
    column += word.size() + (is_first ? 0 : 1);
    out += word;
    is_first = false;
  }
  return out;
}

/// One entry: `left` in its column, or on a line of its own where it is too long.
std::string entry(const std::string& left, const std::string& text) {
  const std::string meaning = wrapped(text, kTextColumn, kTextColumn);
  if (left.size() + 1 > kTextColumn) return left + "\n" + std::string(kTextColumn, ' ') + meaning + "\n";
  return fmt::format("{:<{}}{}\n", left, kTextColumn, meaning);
}

struct Row {
  const char* name;
  const char* meaning;
};

// The keys are those of src/model and topology/read; a test compares them with what the library says that it knows.
constexpr Row kLayouts[] = {
    {"fsdp:shard=8",
     "FSDP2; also replicate; tp, and outer=tp|shard, which of both cuts first; dim=0|divisible, the dim that is cut; "
     "experts=stacked|each, as transformers 5 or 4 holds them; units=parameter|flat|aligned, FSDP2 or 1"},
    {"megatron:tp=2,pp=2",
     "also dp, cp, ep, etp; layers=A-B-C, decoder layers per pipeline stage, or first, last; vpp; noop=A-B, places "
     "without a layer; names=model|chunk; vocab_multiple; experts=each|local|gmm, how they lie; glu_interleave; "
     "mla_down, mla_up; vision_layers=A-B-C, of a vision tower; mtp_layers=0-1-0, where those of mtp are"},
    {"vllm:tp=2,dp=4",
     "also pp, ep, replicas; redundant=N experts, or eplb=FILE, a table of them; placement=linear|round_robin; "
     "all2all, how experts get their tokens; layers=A-B-C per pipeline stage; mm_encoder_tp_mode=weights|data, a "
     "vision "
     "tower cut or whole"},
    {"sglang:tp=8,ep=8",
     "also pp, replicas; attention_dp, groups of ranks that repeat attention; dense=cut|whole, output=tp|attention, "
     "all2all=none|deepep|mooncake; redundant or eplb; layers"},
    {"checkpoint", "whole tensors; ranks=N on N ranks, split=1 to deal them out"},
    {"of any kind",
     "dtype=TYPE of the elements; quant=block128|mxfp8|channel, 8-bit floats with scales; "
     "lora=RANK, adapters in place of the model, lora_targets=q_proj-v_proj of these; mtp=N, N layers for multi-token "
     "prediction, too"},
};
constexpr Row kMachines[] = {
    {"nccl", "what NCCL saw: xml=FILE, or an XML file alone"},
    {"host", "processes of hosts: ranks on each, nics of each, nic and link rates"},
    {"dgx-a100, hgx-h100", "nodes of 8 GPUs, as hgx-h200 and hgx-b200"},
    {"gb200-nvl72", "racks of 72 GPUs in one NVLink domain, as gb300-nvl72"},
};

template <std::size_t N>
std::string table(const char* title, const Row (&rows)[N]) {
  std::string text = fmt::format("\n{}:\n", title);
  for (const Row& row : rows) text += entry(fmt::format("  {}", row.name), row.meaning);
  return text;
}

}  // namespace

std::string HelpFormatter::make_option(const CLI::Option* option, bool) const {
  std::string left = "  " + option->get_name(false, true);
  for (std::size_t comma = left.find(','); comma != std::string::npos; comma = left.find(',', comma + 2)) {
    left.replace(comma, 1, ", ");
  }
  const bool takes_value = option->get_items_expected_max() > 0 && option->get_type_size_max() > 0;
  if (takes_value) left += " " + option->get_type_name();
  std::string meaning = option->get_description();
  if (takes_value && !option->get_default_str().empty()) {
    meaning += fmt::format(" (default: {})", option->get_default_str());
  }
  return entry(left, meaning);
}

std::string HelpFormatter::make_description(const CLI::App* app) const {
  return wrapped(app->get_description(), 0, 0) + "\n";
}

std::string help_footer(const std::string& known_models) {
  std::string text = table("Layouts (README, \"The tools\")", kLayouts);
  text += table("Machines (topology/README)", kMachines);
  text += entry("  any of them, with",
                "nodes, domain, rails, isolated, leaf, pod, oversub, oversub2, ecmp, degraded, topology, nic, link, "
                "ranks, nics, xml, pcie, e.g. hgx-h100:leaf=32,oversub=2");
  text += "\nModels (--model takes these names, or any config.json):\n  ";
  return text + wrapped(known_models, 2, 2);
}

}  // namespace reshard::perf
