// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/dtype.h"
#include "src/base/status.h"

namespace reshard {

/// Reads the values of a config.json. The first fault is kept and every later value reads as the least one allowed, so
/// that a family is a list of what it reads and asks status() once, at its end.
///
/// A key may be several spellings of one thing, "num_experts|num_local_experts": any of them counts, and where the
/// config has two they must agree. A null counts as absent, as in Hugging Face's own classes. A dot leads into an
/// object: "linear_attn_config.head_dim".
class ConfigReader {
 public:
  using Json = nlohmann::json;

  /// What a number counts: its greatest value. Far above every published model, and small enough that no product of a
  /// few of them leaves 64 bits and that a mistyped value cannot ask for gigabytes of layout.
  enum Most : std::int64_t { kLayers = 4096, kHeads = 1 << 14, kExperts = 1 << 14, kWidth = 1 << 20, kVocab = 1 << 26 };

  /// Error: RESHARD_ERR_INVALID_ARGUMENT for a text that is no JSON object.
  static Result<ConfigReader> parse(const std::string& config_json);

  /// A reader of the object under this key, which must be there; its faults name the key. They are its own: pass
  /// status() on to fail().
  ConfigReader part(std::string_view key);
  /// Takes the values of the object under this key for its own, before those that it has. Embeddings that one of both
  /// ties and the other does not are a fault. Nothing happens where there is no such object.
  void take_part(std::string_view key);

  /// The value of the first spelling that has one, or nullptr.
  const Json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// Whether some spelling is there with the value null, which for a few keys says more than its absence.
  bool is_null(std::string_view key) const;

  /// An integer of [1, most], which the config must have.
  std::int64_t count(std::string_view key, Most most);
  /// An integer of [min, most]; `fallback` where the config says nothing.
  std::int64_t count_or(std::string_view key, Most most, std::int64_t fallback, std::int64_t min = 1);
  /// The same, but "null" means 0 and absence is an error: what is null is not there, what is absent has a default that
  /// nobody here knows.
  std::int64_t count_or_none(std::string_view key, Most most) { return is_null(key) ? 0 : count(key, most); }

  bool flag(std::string_view key, bool fallback = false);
  std::string word(std::string_view key, std::string fallback);
  /// Integers of [0, most]; empty where the config says nothing.
  std::vector<std::int64_t> counts(std::string_view key, Most most);
  /// Strings, one for each of `size` layers; empty where the config says nothing.
  std::vector<std::string> words(std::string_view key, std::size_t size);
  /// For each of `size` layers whether its word is `yes`, else it is `no`; empty where the config says nothing.
  std::vector<bool> choices(std::string_view key, std::size_t size, std::string_view yes, std::string_view no);

  /// The type of the weights as trained. quantization_config is not looked at on purpose: it describes a published copy
  /// (DeepSeek-V3 in fp8), while a trainer holds and sends this type and the server quantises after arrival.
  DType dtype();

  void fail(Status status);
  /// Fails with "KEY is VALUE, expected EXPECTED".
  void fail_value(std::string_view key, const Json& value, const std::string& expected);
  const Status& status() const { return status_; }

 private:
  explicit ConfigReader(Json object) : object_(std::move(object)) {}

  const Json* value_of(std::string_view spelling) const;
  std::string found_key(std::string_view key) const;

  Json object_;
  std::string prefix_ = "config";  // of messages
  Status status_;
};

}  // namespace reshard
