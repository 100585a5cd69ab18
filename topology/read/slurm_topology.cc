// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>
#include <unordered_map>

#include "src/base/at.h"
#include "topology/read/node_list.h"
#include "topology/read/places.h"

namespace reshard {
namespace {

constexpr std::size_t kMostNodes = std::size_t{1} << 20U;

std::string lower(std::string_view text) {
  std::string lowered(text);
  for (char& c : lowered) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lowered;
}

struct Switch {
  std::string name;
  std::size_t line = 0;
  bool is_block = false;
  std::vector<std::string> nodes;
  std::vector<std::string> children;
  std::int32_t parent = -1;
};

class SlurmReader {
 public:
  explicit SlurmReader(const std::string& file) : file_(file) {}

  Result<std::vector<NamedPlace>> read(std::string_view text) {
    std::string line;  // with those that continue it
    std::size_t first = 1;
    for (std::size_t number = 1; !text.empty(); ++number) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      std::string_view piece = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      if (piece.ends_with('\r')) piece.remove_suffix(1);
      piece = piece.substr(0, piece.find('#'));
      const bool continues = piece.ends_with('\\');
      line += continues ? piece.substr(0, piece.size() - 1) : piece;
      if (continues && !text.empty()) continue;
      RESHARD_TRY(read_line(line, first));
      line.clear();
      first = number + 1;
    }
    RESHARD_TRY(find_parents());
    return places();
  }

 private:
  Status error(std::size_t line, const std::string& message) const {
    return invalid_argument(fmt::format("{}:{}: {}", file_, line, message));
  }

  Status read_line(std::string_view line, std::size_t number) {
    std::map<std::string, std::string> values;
    constexpr const char* kBlank = " \t\f\v\r";
    while (true) {
      line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
      if (line.empty()) break;
      const std::string_view item = line.substr(0, line.find_first_of(kBlank));
      line.remove_prefix(item.size());
      const std::size_t equals = item.find('=');
      if (equals == std::string_view::npos || equals + 1 == item.size()) {
        return error(number, fmt::format("\"{:.60}\" is no Key=Value", item));
      }
      const std::string key = lower(item.substr(0, equals));
      static const std::vector<std::string> kKnown = {"switchname", "blockname",  "nodes",
                                                      "switches",   "blocksizes", "linkspeed"};
      if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end()) {
        return error(number, fmt::format("unknown key \"{:.60}\"; known are SwitchName, BlockName, Nodes, Switches, "
                                         "BlockSizes and LinkSpeed",
                                         item.substr(0, equals)));
      }
      if (!values.emplace(key, item.substr(equals + 1)).second)
        return error(number, fmt::format("{} is given twice", key));
    }
    if (values.empty() || (values.size() == 1 && values.count("blocksizes") == 1)) return {};
    return add_switch(values, number);
  }

  Status add_switch(const std::map<std::string, std::string>& values, std::size_t number) {
    Switch added;
    added.line = number;
    added.is_block = values.count("blockname") == 1;
    if (added.is_block == (values.count("switchname") == 1)) return error(number, "give a SwitchName or a BlockName");
    if (values.count("nodes") + values.count("switches") != 1)
      return error(number, "give Nodes or Switches, one of them");
    if (added.is_block && values.count("nodes") == 0) return error(number, "a block has Nodes");
    if (!switches_.empty() && switches_.front().is_block != added.is_block) {
      return error(number, "switches and blocks in one file");
    }
    added.name = values.at(added.is_block ? "blockname" : "switchname");
    const bool is_leaf = values.count("nodes") == 1;
    Result<std::vector<std::string>> names = expand_node_list(values.at(is_leaf ? "nodes" : "switches"));
    if (!names.ok()) return error(number, names.status().message());
    num_names_ += names->size();
    if (num_names_ > kMostNodes) return error(number, fmt::format("more than {} names in the file", kMostNodes));
    (is_leaf ? added.nodes : added.children) = names.take();
    if (!index_.emplace(added.name, static_cast<std::int32_t>(switches_.size())).second) {
      return error(number, fmt::format("{:.60} is named twice", added.name));
    }
    switches_.push_back(std::move(added));
    return {};
  }

  Status find_parents() {
    for (std::size_t s = 0; s < switches_.size(); ++s) {
      for (const std::string& name : switches_[s].children) {
        const auto child = index_.find(name);
        if (child == index_.end()) return error(switches_[s].line, fmt::format("there is no switch {:.60}", name));
        Switch& below = at(switches_, child->second);
        if (below.parent >= 0) return error(switches_[s].line, fmt::format("{:.60} is below two switches", name));
        below.parent = static_cast<std::int32_t>(s);
      }
    }
    return {};
  }

  Result<std::vector<NamedPlace>> places() const {
    std::vector<NamedPlace> places;
    std::map<std::int32_t, std::int32_t> pods;  // by the switch above the leaf; leaves without one share a pod
    std::unordered_map<std::string_view, bool> seen;
    std::int32_t block = 0;
    for (const Switch& leaf : switches_) {
      if (leaf.nodes.empty()) continue;
      const std::int32_t pod = pods.try_emplace(leaf.parent, static_cast<std::int32_t>(pods.size())).first->second;
      for (const std::string& node : leaf.nodes) {
        if (!seen.emplace(node, true).second) return error(leaf.line, fmt::format("node {:.60} is listed twice", node));
        places.push_back({node, {block, pod, -1}});
      }
      ++block;
    }
    if (places.empty()) return invalid_argument(file_ + ": no nodes");
    return places;
  }

  const std::string& file_;
  std::vector<Switch> switches_;
  std::unordered_map<std::string, std::int32_t> index_;
  std::size_t num_names_ = 0;
};

}  // namespace

Result<std::vector<NamedPlace>> read_slurm_topology(const std::string& text, const std::string& file) {
  return SlurmReader(file).read(text);
}

}  // namespace reshard
