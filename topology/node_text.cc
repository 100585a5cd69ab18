// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "topology/node_type.h"
#include "topology/read/nesting.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 2;  // 1: memory was a number, and there was no multicast

// Ranks exchange these texts: a short array for each thing, in the order of the struct's members.
Json to_json(const Link& link) {
  return {link.nominal_bytes_per_s, link.efficiency_permille, link.latency_ns};
}

Status expect_array(const Json& value, std::size_t size, const char* what) {
  if (value.is_array() && value.size() == size) return {};
  return invalid_argument(fmt::format("node text: {} is no list of {}", what, size));
}

template <typename Int>
Status read(const Json& value, const char* what, Int* number) {
  if (!value.is_number_integer()) return invalid_argument(fmt::format("node text: {} is no integer", what));
  // Unsigned numbers above 2^63 come out negative, and check() refuses those.
  const auto wide = value.get<std::int64_t>();
  *number = static_cast<Int>(wide);
  if (*number == wide) return {};
  return invalid_argument(fmt::format("node text: {} is {}, which does not fit", what, wide));
}

Status read(const Json& value, const char* what, std::string* text) {
  if (!value.is_string()) return invalid_argument(fmt::format("node text: {} is no string", what));
  *text = value.get<std::string>();
  return {};
}

Status read(const Json& value, const char* what, Link* link) {
  RESHARD_TRY(expect_array(value, 3, what));
  RESHARD_TRY(read(value[0], what, &link->nominal_bytes_per_s));
  RESHARD_TRY(read(value[1], what, &link->efficiency_permille));
  return read(value[2], what, &link->latency_ns);
}

Status read(const Json& value, NodeType::Gpu* gpu) {
  RESHARD_TRY(expect_array(value, 6, "a GPU"));
  RESHARD_TRY(read(value[0], "a link group", &gpu->link_group));
  RESHARD_TRY(read(value[1], "a GPU's port", &gpu->port));
  RESHARD_TRY(read(value[2], "a GPU's link", &gpu->link));
  RESHARD_TRY(read(value[3], "a GPU's PCIe", &gpu->pcie));
  RESHARD_TRY(read(value[4], "a GPU's memory", &gpu->memory));
  return read(value[5], "a GPU's multicast", &gpu->multicast_permille);
}

Status read(const Json& value, NodeType::Port* port) {
  RESHARD_TRY(expect_array(value, 2, "a port"));
  RESHARD_TRY(read(value[0], "a rail", &port->rail));
  if (!value[1].is_array()) return invalid_argument("node text: the NICs of a port are no list");
  for (const Json& item : value[1]) {
    RESHARD_TRY(expect_array(item, 2, "a NIC"));
    NodeType::Nic nic;
    RESHARD_TRY(read(item[0], "a NIC's name", &nic.name));
    RESHARD_TRY(read(item[1], "a NIC's link", &nic.link));
    port->nics.push_back(std::move(nic));
  }
  return {};
}

template <typename T>
Status read_list(const Json& object, const char* key, std::vector<T>* list) {
  if (!object[key].is_array()) return invalid_argument(fmt::format("node text: {} is no list", key));
  for (const Json& item : object[key]) {
    list->emplace_back();
    RESHARD_TRY(read(item, &list->back()));
  }
  return {};
}

}  // namespace

std::string to_text(const NodeType& node) {
  Json gpus = Json::array();
  for (const NodeType::Gpu& gpu : node.gpus) {
    gpus.push_back(
        {gpu.link_group, gpu.port, to_json(gpu.link), to_json(gpu.pcie), to_json(gpu.memory), gpu.multicast_permille});
  }
  Json ports = Json::array();
  for (const NodeType::Port& port : node.ports) {
    Json nics = Json::array();
    for (const NodeType::Nic& nic : port.nics) nics.push_back(Json::array({nic.name, to_json(nic.link)}));
    ports.push_back(Json::array({port.rail, nics}));
  }
  const Json object = {{"version", kVersion},
                       {"name", node.name},
                       {"gpus", gpus},
                       {"ports", ports},
                       {"shared_memory", to_json(node.shared_memory)}};
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<NodeType> node_from_text(const std::string& text) {
  constexpr int kMostLevels = 16;
  if (nests_deeper_than(kMostLevels, text)) return invalid_argument("node text: nested too deep");
  const Json object = Json::parse(text, nullptr, false);
  if (!object.is_object()) return invalid_argument("node text: no JSON object");
  for (const char* key : {"version", "name", "gpus", "ports", "shared_memory"}) {
    if (!object.contains(key)) return invalid_argument(fmt::format("node text: {} is missing", key));
  }
  std::int64_t version = 0;
  RESHARD_TRY(read(object["version"], "the version", &version));
  if (version != kVersion)
    return invalid_argument(fmt::format("node text: version {}; this is version {}", version, kVersion));
  NodeType node;
  RESHARD_TRY(read(object["name"], "the name", &node.name));
  RESHARD_TRY(read_list(object, "gpus", &node.gpus));
  RESHARD_TRY(read_list(object, "ports", &node.ports));
  RESHARD_TRY(read(object["shared_memory"], "the shared memory", &node.shared_memory));
  RESHARD_TRY(check(node).with_context("node text"));
  return node;
}

}  // namespace reshard
