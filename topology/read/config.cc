// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "topology/read/number.h"

namespace reshard {
namespace {

const char* kind_name(ConfigValue::Kind kind) {
  switch (kind) {
    case ConfigValue::Kind::kNull:
      return "nothing";
    case ConfigValue::Kind::kScalar:
      return "a single value";
    case ConfigValue::Kind::kList:
      return "a list";
    default:
      return "a map";
  }
}

std::string named(const ConfigValue& value, std::string_view what) {
  return fmt::format("{}: {}", value.where, what);
}

Status wrong_kind(const ConfigValue& value, std::string_view what, const char* wanted) {
  return value.error(fmt::format("{} is {}; give {}", what, kind_name(value.kind), wanted));
}

}  // namespace

Status read_scalar(const ConfigValue& value, std::string_view what, std::string* text) {
  if (value.kind != ConfigValue::Kind::kScalar) return wrong_kind(value, what, "a single value");
  *text = value.text;
  return {};
}

Status read_permille(const ConfigValue& value, std::string_view what, std::int64_t min, std::int64_t max,
                     std::int32_t* permille) {
  std::string text;
  RESHARD_TRY(read_scalar(value, what, &text));
  // Fractions are kept in thousandths: a plan has no floating point, so that every rank computes the same one.
  RESHARD_TRY(const std::int64_t read, parse_decimal(text, 1000, named(value, what)));
  if (read < min || read > max) {
    return value.error(
        fmt::format("{} is {:.40}; give {}{} to {}", what, text, min > 0 ? "above " : "", 0, max / 1000));
  }
  *permille = static_cast<std::int32_t>(read);
  return {};
}

Result<ConfigMap> ConfigMap::make(const ConfigValue& value, std::string_view what,
                                  const std::vector<std::string_view>& known) {
  if (value.kind != ConfigValue::Kind::kMap) return wrong_kind(value, what, "a map");
  std::set<std::string_view> seen;
  for (std::size_t i = 0; i < value.items.size(); i += 2) {
    const ConfigValue& key = value.items[i];
    // An unknown key is an error and no warning: most are misspelt ones, and the plan would be made for another
    // machine.
    if (std::find(known.begin(), known.end(), key.text) == known.end()) {
      return key.error(
          fmt::format("unknown key \"{:.60}\" in {}; known are {}", key.text, what, fmt::join(known, ", ")));
    }
    if (!seen.insert(key.text).second) return key.error(fmt::format("{} is given twice", key.text));
  }
  ConfigMap map;
  map.map_ = &value;
  return map;
}

// A search for each key, for maps of people are short.
const ConfigValue* ConfigMap::find(std::string_view key) const {
  for (std::size_t i = 0; i < map_->items.size(); i += 2) {
    if (map_->items[i].text == key) return &map_->items[i + 1];
  }
  return nullptr;
}

Status ConfigMap::required(std::string_view key) const {
  return find(key) != nullptr ? Status() : map_->error(fmt::format("{} is missing", key));
}

Status ConfigMap::text(std::string_view key, std::string* value) const {
  const ConfigValue* found = find(key);
  return found == nullptr ? Status() : read_scalar(*found, key, value);
}

Status ConfigMap::integer(std::string_view key, std::int64_t min, std::int64_t max, std::int32_t* value) const {
  const ConfigValue* found = find(key);
  if (found == nullptr) return {};
  std::string text;
  RESHARD_TRY(read_scalar(*found, key, &text));
  RESHARD_TRY(const std::int64_t read, parse_integer(text, min, max, named(*found, key)));
  *value = static_cast<std::int32_t>(read);
  return {};
}

// YAML's yes, no, on and off are no words for it here: parsers disagree on them.
Status ConfigMap::boolean(std::string_view key, bool* value) const {
  const ConfigValue* found = find(key);
  if (found == nullptr) return {};
  std::string text;
  RESHARD_TRY(read_scalar(*found, key, &text));
  if (text != "true" && text != "false")
    return found->error(fmt::format("{} is \"{:.40}\"; give true or false", key, text));
  *value = text == "true";
  return {};
}

Status ConfigMap::bytes_per_s(std::string_view key, bool plain_is_bits, std::int64_t* value) const {
  const ConfigValue* found = find(key);
  if (found == nullptr) return {};
  std::string text;
  RESHARD_TRY(read_scalar(*found, key, &text));
  RESHARD_TRY(*value, parse_bytes_per_s(text, plain_is_bits, named(*found, key)));
  return {};
}

Status ConfigMap::permille(std::string_view key, std::int64_t min, std::int64_t max, std::int32_t* value) const {
  const ConfigValue* found = find(key);
  return found == nullptr ? Status() : read_permille(*found, key, min, max, value);
}

Result<const std::vector<ConfigValue>*> ConfigMap::list(std::string_view key) const {
  const ConfigValue* found = find(key);
  if (found == nullptr) return static_cast<const std::vector<ConfigValue>*>(nullptr);
  if (found->kind != ConfigValue::Kind::kList) return wrong_kind(*found, key, "a list");
  return &found->items;
}

}  // namespace reshard
