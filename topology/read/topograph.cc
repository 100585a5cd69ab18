// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The graph that NVIDIA's topograph writes for schedulers, in JSON: instances with the switches above them, the closest
// first, and labels that name the NVLink domain. Labels changed from release to release, so that several are known.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>
#include <string_view>

#include "topology/read/json.h"
#include "topology/read/node_list.h"
#include "topology/read/places.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Numbers for names, in the order in which they come up.
///
/// Machines count leaves, pods and domains; which number a name gets does not matter, but that it is always the same
/// one, so that every rank that reads the file builds the same machine.
class Numbers {
 public:
  std::int32_t of(const std::string& name) {
    return numbers_.try_emplace(name, static_cast<std::int32_t>(numbers_.size())).first->second;
  }

 private:
  std::map<std::string, std::int32_t> numbers_;
};

/// Where the NVLink domain stands, whichever release of topograph, or of NVIDIA's device plugin, wrote it; the first
/// that an instance has counts.
constexpr std::array<std::string_view, 5> kDomainKeys = {"nvlink", "accelerator", "accelerator.topograph.run/domain",
                                                         "network.topology.nvidia.com/accelerator",
                                                         "nvidia.com/gpu.clique"};
/// A part of a domain, all of whose NVLinks reach the whole domain.
constexpr std::string_view kSubDomainKey = "accelerator.topograph.run/sub-domain";

bool is_domain_key(std::string_view key) {
  return std::find(kDomainKeys.begin(), kDomainKeys.end(), key) != kDomainKeys.end();
}

/// Whether a label seems to tell of accelerators what this reader does not understand.
///
/// Such a label is left out with a warning and not refused: the leaves and pods of the file are good without it.
bool may_matter(std::string_view key) {
  if (is_domain_key(key) || key == kSubDomainKey) return false;
  std::string lowered(key);
  for (char& c : lowered) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lowered.find("accelerator") != std::string::npos || lowered.find("nvlink") != std::string::npos;
}

/// Attributes and labels of an instance, by name. Error: no objects.
Result<std::map<std::string, const Json*>> labels_of(const Json& instance) {
  std::map<std::string, const Json*> labels;
  for (const char* key : {"labels", "attributes"}) {
    const auto object = instance.find(key);
    if (object == instance.end() || object->is_null()) continue;
    if (!object->is_object()) return invalid_argument(fmt::format("{} is no object", key));
    for (const auto& item : object->items()) labels[item.key()] = &item.value();
  }
  return labels;
}

class TopographReader {
 public:
  Result<NamedPlace> read(const Json& instance) {
    if (!instance.is_object()) return invalid_argument("is no object");
    const auto id = instance.find("id");
    if (id == instance.end() || !id->is_string() || id->get_ref<const std::string&>().empty()) {
      return invalid_argument("has no id");
    }
    NamedPlace named{id->get<std::string>(), {}};
    if (!seen_.insert(named.node).second) return invalid_argument(fmt::format("{:.60} is listed twice", named.node));
    const auto layers = instance.find("network_layers");
    if (layers == instance.end() || !layers->is_array() || layers->empty()) {
      return invalid_argument(fmt::format("{:.60} has no network_layers", named.node));
    }
    for (const Json& layer : *layers) {
      if (!layer.is_string())
        return invalid_argument(fmt::format("{:.60} has a network layer that is no name", named.node));
    }
    // Layers above the second are not looked at: a machine has two tiers.
    named.place.block = blocks_.of((*layers)[0].get<std::string>());
    named.place.pod = pods_.of(layers->size() > 1 ? (*layers)[1].get<std::string>() : std::string());
    // A leaf is in one pod, or the tree is none.
    if (pod_of_.try_emplace(named.place.block, named.place.pod).first->second != named.place.pod) {
      return invalid_argument(fmt::format("{:.60} puts its leaf below another switch than others do", named.node));
    }
    RESHARD_TRY(named.place.domain, read_domain(instance));
    return named;
  }

  /// The names of labels that seem to matter and are not understood; of an instance, the first that had each.
  const std::map<std::string, std::string>& odd_labels() const { return odd_labels_; }

 private:
  /// The number of the instance's NVLink domain; -1: it is in none.
  Result<std::int32_t> read_domain(const Json& instance) {
    RESHARD_TRY(const auto labels, labels_of(instance));
    for (const auto& [key, value] : labels) {
      if (may_matter(key)) odd_labels_.try_emplace(key, instance["id"].get<std::string>());
    }
    for (const std::string_view key : kDomainKeys) {
      const auto found = labels.find(std::string(key));
      if (found == labels.end()) continue;
      const bool is_name = found->second->is_string() && !found->second->get_ref<const std::string&>().empty();
      if (!is_name) return invalid_argument(fmt::format("its accelerator domain, {}, is no name", key));
      return domains_.of(found->second->get<std::string>());
    }
    if (labels.count(std::string(kSubDomainKey)) == 0) return -1;
    return invalid_argument(fmt::format("has {} and no domain that it is part of", kSubDomainKey));
  }

  std::set<std::string> seen_;
  Numbers blocks_;
  Numbers pods_;
  Numbers domains_;
  std::map<std::int32_t, std::int32_t> pod_of_;  // by block
  std::map<std::string, std::string> odd_labels_;
};

}  // namespace

Result<Places> read_topograph(const std::string& text, const std::string& file) {
  RESHARD_TRY(const Json object, parse_json(text, file));
  if (!object.is_object()) return invalid_argument(file + ": no JSON object");
  const auto instances = object.find("instances");
  if (instances == object.end() || !instances->is_array() || instances->empty()) {
    return invalid_argument(file + ": no list \"instances\"");
  }
  if (instances->size() > static_cast<std::size_t>(kMaxNamedNodes)) {
    return invalid_argument(fmt::format("{}: {} instances; at most {}", file, instances->size(), kMaxNamedNodes));
  }
  TopographReader reader;
  Places places;
  for (const Json& instance : *instances) {
    Result<NamedPlace> place = reader.read(instance);
    if (!place.ok()) return place.take_status().with_context(fmt::format("{}: instance {}", file, places.nodes.size()));
    places.nodes.push_back(place.take());
  }
  places.has_switches = true;
  for (const auto& [key, id] : reader.odd_labels()) {
    places.warnings.push_back(
        fmt::format("{}: label {:.80} of {:.60} and others is not understood, and left out; "
                    "NVLink domains are read from {}",
                    file, key, id, fmt::join(kDomainKeys, ", ")));
  }
  return places;
}

}  // namespace reshard
