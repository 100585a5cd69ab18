// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Every file that describes a whole cluster ends in a ClusterSpec, which says what is there and not yet how many ranks
// use it; make_machine and its like come after. Files of places (places.h) only add to one.
#pragma once

#include <string>

#include "topology/cluster.h"

namespace reshard {

/// Cluster file in YAML or JSON; README.md has its keys. `file` is for messages, and other files that it names lie
/// beside it. Errors name file, line, column and key.
Result<ClusterSpec> read_cluster_yaml(const std::string& text, const std::string& file);

/// A topology that NCCL wrote (NCCL_TOPO_DUMP_FILE) or that a cloud gave it: one node, or the nodes of one NVLink
/// domain. What it leaves out is taken from `like`, if given, else from the GPUs' model. Doubts go to the spec's
/// warnings. Errors name file, line and element.
Result<ClusterSpec> read_nccl_xml(const std::string& text, const std::string& file, const NodeType* like);

/// A file of one of these kinds.
Result<ClusterSpec> read_cluster(const std::string& path);

}  // namespace reshard
