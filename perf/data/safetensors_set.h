// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "perf/data/safetensors.h"

namespace reshard::perf {

/// The tensors of a checkpoint, which may lie in one safetensors file or in several.
class SafetensorsSet {
 public:
  /// `path` is a safetensors file, an index of several (as model.safetensors.index.json), or a folder that holds either
  /// an index or nothing but safetensors files. Throws Error naming the file: what an index names must be there, and
  /// no tensor may lie in two files.
  explicit SafetensorsSet(const std::string& path);

  const SafetensorsFile::Entry* find(std::string_view name) const;  ///< NULL when there is none

 private:
  void add(const std::filesystem::path& file);
  void add_indexed(const std::filesystem::path& index);
  void add_folder(const std::filesystem::path& folder);

  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile::Entry*, std::less<>> entries_;
};

}  // namespace reshard::perf
