// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A checkpoint of one file, of the files that an index names, or of all in a folder; a tensor lies in one of them.
#include "perf/data/safetensors_set.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "perf/engine/error.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kIndexEnd = ".index.json";

bool ends_with(const fs::path& path, std::string_view end) {
  return path.native().ends_with(end);
}

/// Tensor -> file, as an index says it. A file's name may not lead out of the index's folder.
std::map<std::string, std::string> read_index(const fs::path& index) {
  const json text = json::parse(read_text_file(index.string()), nullptr, false);
  const bool has_map = text.is_object() && text.contains("weight_map") && text["weight_map"].is_object();
  if (!has_map) fail("{} is no index of safetensors files: it has no object \"weight_map\"", index.string());
  std::map<std::string, std::string> file_of;
  for (const auto& item : text["weight_map"].items()) {
    if (!item.value().is_string()) fail("{}: the file of tensor {} is no text", index.string(), item.key());
    const auto name = item.value().get<std::string>();
    if (fs::path(name).filename() != name) fail("{}: \"{}\" is no name of a file beside it", index.string(), name);
    file_of.emplace(item.key(), name);
  }
  return file_of;
}

}  // namespace

SafetensorsSet::SafetensorsSet(const std::string& path) {
  if (fs::is_directory(path)) {
    add_folder(path);
  } else if (ends_with(path, kIndexEnd)) {
    add_indexed(path);
  } else {
    add(path);
  }
}

const SafetensorsFile::Entry* SafetensorsSet::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second;
}

void SafetensorsSet::add(const fs::path& file) {
  files_.push_back(std::make_unique<SafetensorsFile>(file.string()));
  for (const auto& [name, entry] : files_.back()->entries()) {
    if (!entries_.emplace(name, &entry).second) {
      fail("{}: tensor {} lies in another file of the same checkpoint, too", file.string(), name);
    }
  }
}

void SafetensorsSet::add_indexed(const fs::path& index) {
  const std::map<std::string, std::string> file_of = read_index(index);
  std::set<std::string> names;
  for (const auto& [tensor, file] : file_of) names.insert(file);
  for (const std::string& name : names) add(index.parent_path() / name);
  for (const auto& [tensor, file] : file_of) {
    if (find(tensor) == nullptr) fail("{}: tensor {} is not in {}", index.string(), tensor, file);
  }
}

void SafetensorsSet::add_folder(const fs::path& folder) {
  std::vector<fs::path> indices;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (ends_with(entry.path(), ".safetensors" + std::string(kIndexEnd))) indices.push_back(entry.path());
    if (ends_with(entry.path(), ".safetensors")) files.push_back(entry.path());
  }
  if (indices.size() > 1) fail("{} holds {} indices; name the one that is meant", folder.string(), indices.size());
  if (indices.size() == 1) return add_indexed(indices.front());
  if (files.empty()) fail("{} holds neither safetensors files nor an index of them", folder.string());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) add(file);
}

}  // namespace reshard::perf
