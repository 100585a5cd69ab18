// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <nlohmann/json.hpp>

#include "perf/data/safetensors.h"
#include "perf/engine/error.h"

namespace reshard::perf {

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<FileTensor>& tensors)
    : path_(path), file_(path, std::ios::binary | std::ios::trunc) {
  auto header = nlohmann::ordered_json::object();
  for (const FileTensor& tensor : tensors) {
    if (tensor.name == "__metadata__") fail("{}: safetensors reserves the name __metadata__; rename the tensor", path);
    const std::int64_t begin = bytes_left_;
    bytes_left_ += tensor.size_bytes();
    header[tensor.name] = {
        {"dtype", reshard_dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, bytes_left_}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data starts aligned
  const std::uint64_t header_bytes = text.size();
  file_.write(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes);
  file_ << text;
}

void SafetensorsWriter::write(const std::byte* data, std::size_t size_bytes) {
  file_.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size_bytes));
  bytes_left_ -= static_cast<std::int64_t>(size_bytes);
}

void SafetensorsWriter::finish() {
  file_.close();
  if (!file_) fail("cannot write {}: check that its folder exists and has room", path_);
  if (bytes_left_ != 0) fail("{}: {} bytes of the announced data are missing", path_, bytes_left_);
}

}  // namespace reshard::perf
