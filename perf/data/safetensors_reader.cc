// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "perf/data/safetensors.h"
#include "perf/engine/error.h"

namespace reshard::perf {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own reader

struct Offsets {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// One entry of the header; throws json::exception for a wrong type and Error for a wrong value.
FileTensor parse_tensor(const std::string& name, const json& entry) {
  FileTensor tensor{name, RESHARD_BF16, {}};
  const auto dtype = entry.at("dtype").get<std::string>();
  check(reshard_dtype_parse(dtype.c_str(), &tensor.dtype), "its dtype");
  for (const json& extent : entry.at("shape")) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() > INT64_MAX)
      fail("extent {} of its shape is no size", extent.dump());
    tensor.shape.push_back(extent.get<std::int64_t>());
  }
  return tensor;
}

Offsets parse_offsets(const json& entry, const FileTensor& tensor, std::uint64_t data_bytes) {
  const json& pair = entry.at("data_offsets");
  if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_unsigned() || !pair[1].is_number_unsigned()) {
    fail("data_offsets {} are not two sizes", pair.dump());
  }
  const Offsets offsets{pair[0].get<std::uint64_t>(), pair[1].get<std::uint64_t>()};
  if (offsets.begin > offsets.end || offsets.end > data_bytes) {
    fail("data_offsets {} leave the {} bytes of data", pair.dump(), data_bytes);
  }
  if (offsets.end - offsets.begin != static_cast<std::uint64_t>(tensor.size_bytes())) {
    fail("data_offsets {} do not fit its {} bytes", pair.dump(), tensor.size_bytes());
  }
  return offsets;
}

/// The format allows neither holes nor overlap.
void check_coverage(std::vector<Offsets> all, std::uint64_t data_bytes) {
  std::sort(all.begin(), all.end(),
            [](const Offsets& a, const Offsets& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  std::uint64_t covered = 0;
  for (const Offsets& offsets : all) {
    if (offsets.begin != covered)
      fail("the data has a hole or an overlap at byte {}", std::min(covered, offsets.begin));
    covered = offsets.end;
  }
  if (covered != data_bytes) fail("the tensors end at byte {} of {} of the data", covered, data_bytes);
}

}  // namespace

std::int64_t FileTensor::size_bytes() const {
  auto bytes = static_cast<std::int64_t>(reshard_dtype_size_bytes(dtype));
  for (const std::int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes)) {
      fail("tensor {} of shape [{}] has no size in 64 bits", name, fmt::join(shape, ", "));
    }
  }
  return bytes;
}

SafetensorsFile::SafetensorsFile(const std::string& path) {
  map_file(path);
  try {
    read_header(path);
  } catch (...) {
    munmap(const_cast<std::byte*>(mapping_), size_bytes_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  munmap(const_cast<std::byte*>(mapping_), size_bytes_);
}

const SafetensorsFile::Entry* SafetensorsFile::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

void SafetensorsFile::map_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("cannot open {}: {}", path, std::strerror(errno));
  struct stat info = {};
  const bool has_header = fstat(fd, &info) == 0 && info.st_size >= 8;
  if (has_header) {
    size_bytes_ = static_cast<std::size_t>(info.st_size);
    void* mapping = mmap(nullptr, size_bytes_, PROT_READ, MAP_PRIVATE, fd, 0);
    mapping_ = mapping == MAP_FAILED ? nullptr : static_cast<const std::byte*>(mapping);
  }
  close(fd);
  if (!has_header) fail("{} is no safetensors file: it is shorter than the 8 bytes of the header's length", path);
  if (mapping_ == nullptr) fail("cannot map {}: {}", path, std::strerror(errno));
}

void SafetensorsFile::read_header(const std::string& path) {
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, mapping_, sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > size_bytes_ - 8) {
    fail("{} is no safetensors file: a header of {} bytes in a file of {}", path, header_bytes, size_bytes_);
  }
  const char* text = reinterpret_cast<const char*>(mapping_) + 8;
  const std::byte* data = mapping_ + 8 + header_bytes;
  const std::uint64_t data_bytes = size_bytes_ - 8 - header_bytes;
  std::string name;
  try {
    std::vector<Offsets> all;
    const json header = json::parse(text, text + header_bytes);
    if (!header.is_object()) fail("the header is no JSON object");
    for (const auto& item : header.items()) {
      if (item.key() == "__metadata__") continue;
      name = item.key();
      FileTensor tensor = parse_tensor(name, item.value());
      const Offsets offsets = parse_offsets(item.value(), tensor, data_bytes);
      all.push_back(offsets);
      entries_.emplace(name, Entry{std::move(tensor), data + offsets.begin});
    }
    name.clear();
    check_coverage(std::move(all), data_bytes);
  } catch (const std::exception& error) {
    fail("{}{}: {}", path, name.empty() ? "" : ", tensor " + name, error.what());
  }
}

}  // namespace reshard::perf
