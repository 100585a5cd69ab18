// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Both of Slurm's file formats end here: topology.conf and topology.yaml say the same in other words.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/status.h"
#include "topology/read/node_list.h"
#include "topology/read/places.h"

namespace reshard {

/// A switch or a block of Slurm, from whichever form of its file.
struct SlurmUnit {
  std::string name;
  std::string where;                    ///< "topology.conf:3", for messages
  std::vector<std::string> nodes{};     ///< that hang on it
  std::vector<std::string> children{};  ///< switches below this one
};

/// The units of a file, and what its nodes' places follow from.
class SlurmUnits {
 public:
  explicit SlurmUnits(std::string file) : file_(std::move(file)) {}

  /// The names of a node list, within what the whole file may name.
  Result<std::vector<std::string>> names(std::string_view list, const std::string& where);
  /// Error: a name that another unit of its kind has.
  Status add_switch(SlurmUnit unit);
  Status add_block(SlurmUnit unit);

  /// Errors: a node on two switches or in two blocks; a switch that is not there, or below two others; no nodes.
  Result<Places> places() const;

 private:
  std::string file_;
  std::vector<SlurmUnit> switches_;
  std::vector<SlurmUnit> blocks_;
  std::set<std::string> switch_names_;
  std::set<std::string> block_names_;
  std::int64_t num_names_ = 0;
};

}  // namespace reshard
