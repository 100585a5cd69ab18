// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Slurm's topology.conf, the older of its two forms. Lines are "Key=Value" pairs; a backslash joins a line with the
// next, and errors name the line where the joined one began.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>

#include "topology/read/slurm_units.h"

namespace reshard {
namespace {

std::string lower(std::string_view text) {
  std::string lowered(text);
  for (char& c : lowered) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lowered;
}

/// A line's "Key=Value", by keys in small letters, for Slurm does not tell them apart.
using Values = std::map<std::string, std::string>;

class SlurmConfReader {
 public:
  explicit SlurmConfReader(const std::string& file) : file_(file), units_(file) {}

  Result<Places> read(std::string_view text) {
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
      RESHARD_TRY(read_line(line, fmt::format("{}:{}", file_, first)));
      line.clear();
      first = number + 1;
    }
    return units_.places();
  }

 private:
  static Status error(const std::string& where, const std::string& message) {
    return invalid_argument(where + ": " + message);
  }

  Status read_line(std::string_view line, const std::string& where) {
    constexpr const char* kBlank = " \t\f\v\r";
    Values values;
    while (true) {
      line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
      if (line.empty()) break;
      const std::string_view item = line.substr(0, line.find_first_of(kBlank));
      line.remove_prefix(item.size());
      RESHARD_TRY(read_item(item, where, &values));
    }
    // The sizes of blocks are for placing jobs; what nodes a block has, its own line says.
    if (values.empty() || (values.size() == 1 && values.count("blocksizes") == 1)) return {};
    return add_unit(values, where);
  }

  static Status read_item(std::string_view item, const std::string& where, Values* values) {
    static const std::vector<std::string> kKnown = {"switchname", "blockname",  "nodes",
                                                    "switches",   "blocksizes", "linkspeed"};
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals + 1 == item.size()) {
      return error(where, fmt::format("\"{:.60}\" is no Key=Value", item));
    }
    const std::string key = lower(item.substr(0, equals));
    if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end()) {
      return error(where, fmt::format("unknown key \"{:.60}\"; known are SwitchName, BlockName, Nodes, Switches, "
                                      "BlockSizes and LinkSpeed",
                                      item.substr(0, equals)));
    }
    if (values->emplace(key, item.substr(equals + 1)).second) return {};
    return error(where, fmt::format("{} is given twice", key));
  }

  Status add_unit(const Values& values, const std::string& where) {
    // A line with both names, or with none, is not one of Slurm's: guessing which was meant could move nodes.
    const bool is_block = values.count("blockname") == 1;
    if (is_block == (values.count("switchname") == 1)) return error(where, "give a SwitchName or a BlockName");
    if (values.count("nodes") + values.count("switches") > 1) {
      return error(where, "give Nodes or Switches, one of them");
    }
    if (is_block && values.count("switches") == 1) return error(where, "a block has Nodes, and no Switches");
    SlurmUnit unit{values.at(is_block ? "blockname" : "switchname"), where};
    if (const auto nodes = values.find("nodes"); nodes != values.end()) {
      RESHARD_TRY(unit.nodes, units_.names(nodes->second, where));
    }
    if (const auto children = values.find("switches"); children != values.end()) {
      RESHARD_TRY(unit.children, units_.names(children->second, where));
    }
    return is_block ? units_.add_block(std::move(unit)) : units_.add_switch(std::move(unit));
  }

  const std::string& file_;
  SlurmUnits units_;
};

}  // namespace

Result<Places> read_slurm_conf(const std::string& text, const std::string& file) {
  return SlurmConfReader(file).read(text);
}

}  // namespace reshard
