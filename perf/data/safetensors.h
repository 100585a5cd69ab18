// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/reshard.h"

namespace reshard::perf {

/// Name, dtype and shape of a tensor in a safetensors file.
struct FileTensor {
  std::string name;
  reshard_dtype_t dtype = RESHARD_BF16;
  std::vector<std::int64_t> shape;

  /// Throws Error when an extent is negative or the product does not fit.
  std::int64_t size_bytes() const;
};

/// A safetensors file, mapped for reading. Opening it validates everything: header length, JSON, dtypes, shapes, and
/// data offsets, which must cover the data without gap or overlap. Throws Error naming the file and the tensor.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  struct Entry {
    FileTensor tensor;
    const std::byte* data = nullptr;
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  const Entry* find(std::string_view name) const;  ///< NULL when there is none

 private:
  void map_file(const std::string& path);
  void read_header(const std::string& path);

  const std::byte* mapping_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::map<std::string, Entry, std::less<>> entries_;
};

/// Writes a safetensors file front to back: the tensors first, then their bytes in the same order.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<FileTensor>& tensors);

  /// The next bytes of the data.
  void write(const std::byte* data, std::size_t size_bytes);

  /// Closes the file. Throws Error when the disk is full or when more or fewer bytes were written than announced.
  void finish();

 private:
  std::string path_;
  std::ofstream file_;
  std::int64_t bytes_left_ = 0;
};

}  // namespace reshard::perf
