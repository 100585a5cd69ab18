// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace reshard {

/// Writes numbers and texts so that small numbers take one byte and every machine reads the same: seven bits a byte,
/// the lowest first, the eighth bit says that more follow; the sign is the lowest bit of the number.
class PackedWriter {
 public:
  void add(std::int64_t value) {
    auto rest = (static_cast<std::uint64_t>(value) << 1) ^ (value < 0 ? ~std::uint64_t{0} : 0);
    for (; rest >= 0x80; rest >>= 7) bytes_.push_back(static_cast<std::byte>((rest & 0x7F) | 0x80));
    bytes_.push_back(static_cast<std::byte>(rest));
  }
  void add(const std::string& text) {
    add(static_cast<std::int64_t>(text.size()));
    append(text.data(), text.size());
  }
  void append(const void* data, std::size_t size) {
    const auto* first = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), first, first + size);
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

/// Reads what PackedWriter wrote, from bytes that nobody vouches for. A fault clears ok(), and from then on everything
/// reads as 0 and empty: callers ask once, where it matters.
class PackedReader {
 public:
  explicit PackedReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::int64_t number() {
    std::uint64_t value = 0;
    for (int shift = 0; ok_; shift += 7) {
      const auto byte = static_cast<std::uint64_t>(next());
      const bool fits = shift < 63 || (shift == 63 && byte <= 1);
      if (!fits) ok_ = false;
      if (!ok_) break;
      value |= (byte & 0x7F) << shift;
      if ((byte & 0x80) == 0)
        return static_cast<std::int64_t>((value >> 1) ^ ((value & 1) != 0 ? ~std::uint64_t{0} : 0));
    }
    return 0;
  }

  /// A number of [low, high]; a fault otherwise.
  std::int64_t number_within(std::int64_t low, std::int64_t high) {
    const std::int64_t value = number();
    if (value >= low && value <= high) return value;
    ok_ = false;
    return 0;
  }

  /// How many things follow. Each takes a byte or more, so that no count makes room for more than the bytes can fill.
  std::int64_t count() { return number_within(0, static_cast<std::int64_t>(bytes_.size() - position_)); }

  std::string text() {
    const auto size = static_cast<std::size_t>(count());
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + position_, size);
    position_ += size;
    return text;
  }

  bool ok() const { return ok_; }
  bool at_end() const { return position_ == bytes_.size(); }

 private:
  std::byte next() {
    if (position_ < bytes_.size()) return bytes_[position_++];
    ok_ = false;
    return std::byte{0};
  }

  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace reshard
