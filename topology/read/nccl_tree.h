// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// NCCL's topology in two steps: here its elements as they stand in the file, in nccl_xml.cc what a node makes of them.
// Between the two nothing is guessed yet, so that guesses and their warnings stand in one place.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "topology/pairing.h"

namespace reshard {

/// What the elements of an NCCL topology say, before they become a node.
struct NcclGpu {
  std::string bus_id;
  DevicePlace at;
  bool has_element = false;  ///< a gpu element, not only a PCI device of that class
  bool is_nvidia = true;     ///< or of no known maker; others' devices and sm have meanings of their own
  std::int32_t dev = -1;
  std::int32_t sm = 0;            ///< 0: not said
  std::uint32_t device = 0;       ///< PCI device id; 0: not said
  std::int64_t switch_links = 0;  ///< NVLinks to switches
  // One for each GPU, though a file may name a peer in several elements: bundles of links are summed up.
  std::map<std::string, std::int64_t> peer_links{};  ///< NVLinks to GPUs, by their bus id
};

struct NcclNode {
  std::string host_hash;
  std::vector<NcclGpu> gpus;
  std::vector<NicPlace> nics;
  std::vector<std::string> warnings;
};

/// The nodes of a file. Errors name file, line and element.
Result<std::vector<NcclNode>> parse_nccl_tree(const std::string& text, const std::string& file);

}  // namespace reshard
