// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace reshard {

/// Appends values to a byte string; ByteReader takes them out in the same order. For messages between equal builds.
class ByteWriter {
 public:
  void add(std::int64_t value) { append(&value, sizeof(value)); }
  void add(const std::string& text) {
    add(static_cast<std::int64_t>(text.size()));
    append(text.data(), text.size());
  }
  void add(const std::vector<std::byte>& bytes) {
    add(static_cast<std::int64_t>(bytes.size()));
    append(bytes.data(), bytes.size());
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  void append(const void* data, std::size_t size) {
    const auto* first = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), first, first + size);
  }
  std::vector<std::byte> bytes_;
};

/// Reads what ByteWriter wrote. Reading past the end yields zeros and empty strings and clears ok().
class ByteReader {
 public:
  explicit ByteReader(const std::vector<std::byte>& bytes) : bytes_(bytes) {}

  std::int64_t number() {
    std::int64_t value = 0;
    if (has(sizeof(value))) std::memcpy(&value, take(sizeof(value)), sizeof(value));
    return value;
  }
  std::string text() {
    const std::size_t size = length();
    return {reinterpret_cast<const char*>(take(size)), size};
  }
  std::vector<std::byte> blob() {
    const std::size_t size = length();
    const std::byte* first = take(size);
    return {first, first + size};
  }
  bool ok() const { return ok_; }

 private:
  // Once false it stays false: after the first gap no later value can be trusted, so that callers ask once, at the end.
  bool has(std::size_t size) {
    ok_ = ok_ && size <= bytes_.size() - position_;
    return ok_;
  }
  std::size_t length() {
    const std::int64_t size = number();
    // A length comes from elsewhere: it is compared with what is there before any memory is taken for it.
    return size >= 0 && has(static_cast<std::size_t>(size)) ? static_cast<std::size_t>(size) : 0;
  }
  const std::byte* take(std::size_t size) {
    const std::byte* at = bytes_.data() + position_;
    position_ += size;
    return at;
  }

  const std::vector<std::byte>& bytes_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace reshard
