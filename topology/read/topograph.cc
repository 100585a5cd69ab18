// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "topology/read/file.h"
#include "topology/read/nesting.h"
#include "topology/read/places.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

/// Numbers for names, in the order in which they come up.
class Numbers {
 public:
  std::int32_t of(const std::string& name) {
    return numbers_.try_emplace(name, static_cast<std::int32_t>(numbers_.size())).first->second;
  }

 private:
  std::map<std::string, std::int32_t> numbers_;
};

/// The NVLink domain among an instance's attributes or labels, whichever release wrote it; nullptr: none.
Result<const Json*> find_domain(const Json& instance) {
  const Json* found = nullptr;
  for (const char* key : {"attributes", "labels"}) {
    const auto object = instance.find(key);
    if (object == instance.end() || object->is_null()) continue;
    if (!object->is_object()) return invalid_argument(fmt::format("{} is no object", key));
    for (const auto& item : object->items()) {
      const std::string& name = item.key();
      if (name == "nvlink" || name == "accelerator" || name.ends_with("/accelerator")) found = &item.value();
    }
  }
  if (found == nullptr || (found->is_string() && !found->get_ref<const std::string&>().empty())) return found;
  return invalid_argument("its accelerator domain is no name");
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
    named.place.block = blocks_.of((*layers)[0].get<std::string>());
    named.place.pod = pods_.of(layers->size() > 1 ? (*layers)[1].get<std::string>() : std::string());
    // A leaf is in one pod, or the tree is none.
    if (pod_of_.try_emplace(named.place.block, named.place.pod).first->second != named.place.pod) {
      return invalid_argument(fmt::format("{:.60} puts its leaf below another switch than others do", named.node));
    }
    RESHARD_TRY(const Json* domain, find_domain(instance));
    if (domain != nullptr) named.place.domain = domains_.of(domain->get<std::string>());
    return named;
  }

 private:
  std::set<std::string> seen_;
  Numbers blocks_;
  Numbers pods_;
  Numbers domains_;
  std::map<std::int32_t, std::int32_t> pod_of_;  // by block
};

}  // namespace

Result<std::vector<NamedPlace>> read_topograph(const std::string& text, const std::string& file) {
  constexpr int kMostLevels = 32;
  if (nests_deeper_than(kMostLevels, text)) return invalid_argument(file + ": nested too deep");
  const Json object = Json::parse(text, nullptr, false);
  if (!object.is_object()) return invalid_argument(file + ": no JSON object");
  const auto instances = object.find("instances");
  if (instances == object.end() || !instances->is_array() || instances->empty()) {
    return invalid_argument(file + ": no list \"instances\"");
  }
  TopographReader reader;
  std::vector<NamedPlace> places;
  for (const Json& instance : *instances) {
    Result<NamedPlace> place = reader.read(instance);
    if (!place.ok()) return place.take_status().with_context(fmt::format("{}: instance {}", file, places.size()));
    places.push_back(place.take());
  }
  return places;
}

Result<std::vector<NamedPlace>> read_places(const std::string& path) {
  RESHARD_TRY(const std::string text, read_file(path));
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string::npos && text[first] == '{';
  return is_json ? read_topograph(text, path) : read_slurm_topology(text, path);
}

}  // namespace reshard
