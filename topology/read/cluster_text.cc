// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A cluster in one line, "hgx-h100:nodes=4,rails=8": a preset and what is different. It is what people type behind
// --cluster; what does not fit into a line is written into a cluster file (cluster_file.cc).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>

#include "topology/cluster.h"
#include "topology/presets.h"
#include "topology/read/file.h"
#include "topology/read/number.h"
#include "topology/read/places.h"
#include "topology/read/readers.h"

namespace reshard {
namespace {

/// "kind:key=value,key=value"
class ClusterText {
 public:
  static Result<ClusterText> parse(const std::string& text) {
    ClusterText parsed;
    parsed.text_ = text;
    const std::size_t colon = text.find(':');
    parsed.kind_ = text.substr(0, colon);
    std::string_view rest = colon == std::string::npos ? std::string_view() : std::string_view(text).substr(colon + 1);
    while (!rest.empty()) {
      const std::size_t comma = rest.find(',');
      RESHARD_TRY(parsed.add(rest.substr(0, comma)));
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    }
    return parsed;
  }

  const std::string& kind() const { return kind_; }
  const std::string* find(const std::string& key) const {
    const auto it = values_.find(key);
    return it == values_.end() ? nullptr : &it->second;
  }

  /// Reads an integer of [min, max] into *value, which stays as it is when the key was not given.
  Status integer(const char* key, std::int64_t min, std::int64_t max, std::int32_t* value) const {
    const std::string* text = find(key);
    if (text == nullptr) return {};
    RESHARD_TRY(const std::int64_t read, parse_integer(*text, min, max, what(key)));
    *value = static_cast<std::int32_t>(read);
    return {};
  }

  Status permille(const char* key, std::int64_t max, std::int32_t* value) const {
    const std::string* text = find(key);
    if (text == nullptr) return {};
    RESHARD_TRY(const std::int64_t read, parse_decimal(*text, 1000, what(key)));
    if (read < 1 || read > max)
      return error(fmt::format("{} is {}, not above 0 and at most {}", key, *text, max / 1000));
    *value = static_cast<std::int32_t>(read);
    return {};
  }

  std::string what(const char* key) const { return text_ + ": " + key; }
  Status error(const std::string& message) const { return invalid_argument(text_ + ": " + message); }

 private:
  Status add(std::string_view item) {
    // One list for all kinds, so that a key of another kind gets the better message of only_of() than "unknown".
    static const std::vector<std::string> kKnown = {"nodes",   "domain",   "rails", "isolated", "leaf",     "pod",
                                                    "oversub", "oversub2", "ecmp",  "degraded", "topology", "nic",
                                                    "link",    "ranks",    "nics",  "xml",      "pcie",     "memory"};
    if (item.empty()) return error("nothing between two commas, or in front of the first");
    const std::size_t equals = item.find('=');
    const std::string key(item.substr(0, equals));
    if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end()) {
      return error(fmt::format("unknown key \"{}\"; known are {}", key, fmt::join(kKnown, ", ")));
    }
    if (equals == std::string_view::npos || equals + 1 == item.size()) {
      return error(fmt::format("{} has no value; write {}=...", key, key));
    }
    if (!values_.emplace(key, item.substr(equals + 1)).second) return error(key + " is given twice");
    return {};
  }

  std::string text_;
  std::string kind_;
  std::map<std::string, std::string> values_;
};

Status only_of(const ClusterText& text, const char* key, bool is_right_kind, const char* kind) {
  if (text.find(key) == nullptr || is_right_kind) return {};
  return text.error(fmt::format("{} goes with {} only", key, kind));
}

/// A host's own settings: its processes, its NICs, its memory.
Status make_host(const ClusterText& text, NodeType* node) {
  std::int32_t num_processes = 0;
  std::int32_t num_nics = 1;
  RESHARD_TRY(text.integer("ranks", 1, kMaxPerNode, &num_processes));
  RESHARD_TRY(text.integer("nics", 0, kMaxPerNode, &num_nics));
  if (num_processes == 0) return text.error("say how many ranks each host has: ranks=N");
  const NodeType::Port first = node->ports.front();
  node->ports.clear();
  for (std::int32_t i = 0; i < num_nics; ++i) {
    node->ports.push_back(first);
    node->ports.back().nics.front().name = fmt::format("eth{}", i);
    node->ports.back().rail = i;
  }
  *node = with_processes(std::move(*node), num_processes);
  return {};
}

Status set_speeds(const ClusterText& text, NodeType* node) {
  if (const std::string* nic = text.find("nic")) {
    RESHARD_TRY(const std::int64_t bytes_per_s, parse_bytes_per_s(*nic, true, text.what("nic")));
    for (NodeType::Port& port : node->ports) {
      for (NodeType::Nic& each : port.nics) each.link.nominal_bytes_per_s = bytes_per_s;
    }
  }
  if (const std::string* link = text.find("link")) {
    RESHARD_TRY(const std::int64_t bytes_per_s, parse_bytes_per_s(*link, false, text.what("link")));
    for (NodeType::Gpu& gpu : node->gpus) {
      gpu.link.nominal_bytes_per_s = bytes_per_s;
      if (text.kind() == "host") gpu.memory = memory_of_process(gpu.link);  // both are what a core copies
    }
  }
  if (const std::string* pcie = text.find("pcie")) {
    RESHARD_TRY(const std::int64_t bytes_per_s, parse_bytes_per_s(*pcie, false, text.what("pcie")));
    for (NodeType::Gpu& gpu : node->gpus) gpu.pcie.nominal_bytes_per_s = bytes_per_s;
  }
  if (const std::string* memory = text.find("memory")) {
    RESHARD_TRY(const std::int64_t bytes_per_s, parse_bytes_per_s(*memory, false, text.what("memory")));
    for (NodeType::Gpu& gpu : node->gpus) gpu.memory.nominal_bytes_per_s = bytes_per_s;
  }
  return {};
}

/// "NODE/NIC/FRACTION+NODE/NIC/FRACTION"
Status read_degraded(const ClusterText& text, std::vector<DegradedNic>* list) {
  const std::string* value = text.find("degraded");
  std::string_view rest = value == nullptr ? std::string_view() : *value;
  while (!rest.empty()) {
    const std::size_t plus = rest.find('+');
    const std::string_view item = rest.substr(0, plus);
    rest = plus == std::string_view::npos ? std::string_view() : rest.substr(plus + 1);
    const std::size_t first = item.find('/');
    const std::size_t last = item.rfind('/');
    if (first == last) return text.error("degraded is NODE/NIC/FRACTION, several joined by +");
    RESHARD_TRY(const std::int64_t permille, parse_decimal(item.substr(last + 1), 1000, text.what("degraded")));
    if (permille > 1000) return text.error("degraded has a fraction above 1");
    list->push_back({std::string(item.substr(0, first)), std::string(item.substr(first + 1, last - first - 1)),
                     static_cast<std::int32_t>(permille)});
  }
  return {};
}

Status set_fabric(const ClusterText& text, Fabric* fabric) {
  constexpr std::int64_t kMaxRatio = 1'000'000;
  std::int32_t isolated = fabric->rail_isolated ? 1 : 0;
  RESHARD_TRY(text.integer("rails", 1, kMaxPerNode, &fabric->num_rails));
  RESHARD_TRY(text.integer("isolated", 0, 1, &isolated));
  RESHARD_TRY(text.integer("leaf", 1, kMaxNodes, &fabric->leaf_nodes));
  RESHARD_TRY(text.integer("pod", 1, kMaxNodes, &fabric->leaves_per_pod));
  RESHARD_TRY(text.permille("oversub", kMaxRatio, &fabric->leaf_oversubscription_permille));
  RESHARD_TRY(text.permille("oversub2", kMaxRatio, &fabric->pod_oversubscription_permille));
  RESHARD_TRY(text.permille("ecmp", 1000, &fabric->uplink_efficiency_permille));
  fabric->rail_isolated = isolated == 1;
  return read_degraded(text, &fabric->degraded);
}

Result<ClusterSpec> base_spec(const ClusterText& text) {
  if (text.kind() == "nccl") {
    if (text.find("xml") == nullptr) return text.error("say which file: xml=FILE");
    RESHARD_TRY(const std::string xml, read_file(*text.find("xml")));
    return read_nccl_xml(xml, *text.find("xml"), nullptr);
  }
  RESHARD_TRY(Preset preset, find_preset(text.kind()));
  if (text.kind() == "host") RESHARD_TRY(make_host(text, &preset.node));
  if (text.find("xml") != nullptr) {
    RESHARD_TRY(const std::string xml, read_file(*text.find("xml")));
    return read_nccl_xml(xml, *text.find("xml"), &preset.node);
  }
  ClusterSpec spec;
  ClusterSpec::Group group;
  group.domain_nodes = preset.domain_nodes;
  spec.types.push_back(std::move(preset.node));
  spec.groups.push_back(group);
  if (text.kind() == "host") spec.fabric.num_rails = 1;
  return spec;
}

Result<ClusterSpec> parse_text(const std::string& line) {
  RESHARD_TRY(const ClusterText text, ClusterText::parse(line));
  const bool is_host = text.kind() == "host";
  RESHARD_TRY(only_of(text, "ranks", is_host, "host"));
  RESHARD_TRY(only_of(text, "nics", is_host, "host"));
  RESHARD_TRY(only_of(text, "xml", !is_host, "GPU nodes"));
  RESHARD_TRY(ClusterSpec spec, base_spec(text));
  spec.name = line;
  // Speeds of the line win over those of the preset or of the file: they are what somebody has just typed.
  for (NodeType& type : spec.types) RESHARD_TRY(set_speeds(text, &type));
  // A count for all would not say of which kind.
  if (spec.groups.size() > 1 && (text.find("nodes") != nullptr || text.find("domain") != nullptr)) {
    return text.error("the file has nodes of several kinds; list them in a cluster file");
  }
  RESHARD_TRY(text.integer("nodes", 1, kMaxNodes, &spec.groups.front().num_nodes));
  RESHARD_TRY(text.integer("domain", 1, kMaxNodes, &spec.groups.front().domain_nodes));
  RESHARD_TRY(set_fabric(text, &spec.fabric));
  // Last, since it looks up nodes by the number that the keys before have set.
  if (const std::string* topology = text.find("topology")) {
    RESHARD_TRY(const Places places, read_places(*topology));
    RESHARD_TRY(apply_places(places, *topology, &spec));
  }
  return spec;
}

}  // namespace

Result<ClusterSpec> parse_cluster(const std::string& text) {
  const std::vector<std::string> presets = preset_names();
  const std::string kind = text.substr(0, text.find(':'));
  if (kind == "nccl" || std::find(presets.begin(), presets.end(), kind) != presets.end()) return parse_text(text);
  bool is_file = false;
  for (const char* suffix : {".yaml", ".yml", ".xml", ".json", ".conf"}) is_file = is_file || text.ends_with(suffix);
  std::error_code ignored;  // a name that the system refuses is no file
  if (is_file || std::filesystem::is_regular_file(text, ignored)) return read_cluster(text);
  return invalid_argument(
      fmt::format("cluster \"{}\": neither a file nor one of nccl, {}", text, fmt::join(presets, ", ")));
}

}  // namespace reshard
