// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Values of a config.json with their ranges checked. What a key defaults to is for the family to say; defaults are
// taken from the class that transformers has for it and never guessed: where releases disagree, or where a default
// would change a shape without a word, the key is required.
#include "src/model/config_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/model/json_text.h"

namespace reshard {
namespace {

using Json = nlohmann::json;

/// The value as a message shows it; lists and objects by their kind only, for dump() recurses as deep as they do.
std::string text_of(const Json& value) {
  if (value.is_structured()) return value.type_name();
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

/// The spellings of a key, which bars separate.
std::vector<std::string_view> spellings(std::string_view key) {
  std::vector<std::string_view> all;
  for (std::size_t begin = 0, end = 0; begin <= key.size(); begin = end + 1) {
    end = std::min(key.find('|', begin), key.size());
    all.push_back(key.substr(begin, end - begin));
  }
  return all;
}

bool is_integer_within(const Json& value, std::int64_t min, std::int64_t max) {
  // Asked as a double first: an unsigned number above 2^63 would wrap round on conversion.
  return value.is_number_integer() && value.get<double>() >= static_cast<double>(min) &&
         value.get<double>() <= static_cast<double>(max);
}

}  // namespace

Result<ConfigReader> ConfigReader::parse(const std::string& config_json) {
  Result<Json> parsed = parse_json(config_json);
  if (!parsed.ok()) return parsed.take_status().with_context("config");
  if (!parsed->is_object()) {
    return invalid_argument(fmt::format("config: the text is {}, expected a JSON object", text_of(*parsed)));
  }
  return ConfigReader(parsed.take());
}

/// Also where it is null; nullptr where it is not there.
const Json* ConfigReader::value_of(std::string_view spelling) const {
  const Json* value = &object_;
  for (std::size_t begin = 0, end = 0; begin <= spelling.size(); begin = end + 1) {
    end = std::min(spelling.find('.', begin), spelling.size());
    const auto it = value->is_object() ? value->find(spelling.substr(begin, end - begin)) : value->end();
    if (it == value->end()) return nullptr;
    value = &*it;
  }
  return value;
}

ConfigReader ConfigReader::part(std::string_view key) {
  const Json* value = find(key);
  ConfigReader part(value != nullptr && value->is_object() ? *value : Json::object());
  part.prefix_ = fmt::format("{}: {}", prefix_, key);
  if (value == nullptr) {
    fail(invalid_argument(fmt::format("{}: {} is missing", prefix_, key)));
  } else if (!value->is_object()) {
    fail_value(key, *value, "an object");
  }
  return part;
}

void ConfigReader::take_part(std::string_view key) {
  if (!has(key)) return;
  const Json taken = part(key).object_;
  for (const auto& [name, value] : taken.items()) {
    const auto own = object_.find(name);
    const bool has_own = own != object_.end() && !own->is_null();
    if (name == "tie_word_embeddings" && has_own && !value.is_null() && value != *own) {
      fail(invalid_argument(
          fmt::format("{}: {} is {}, but in {} it is {}", prefix_, name, text_of(*own), key, text_of(value))));
    }
    if (!has_own || !value.is_null()) object_[name] = value;
  }
}

std::string ConfigReader::found_key(std::string_view key) const {
  for (const std::string_view name : spellings(key)) {
    const Json* value = value_of(name);
    if (value != nullptr && !value->is_null()) return std::string(name);
  }
  return "";
}

const Json* ConfigReader::find(std::string_view key) const {
  const std::string name = found_key(key);
  return name.empty() ? nullptr : value_of(name);
}

bool ConfigReader::is_null(std::string_view key) const {
  const std::vector<std::string_view> names = spellings(key);
  return std::any_of(names.begin(), names.end(), [&](std::string_view name) {
    const Json* value = value_of(name);
    return value != nullptr && value->is_null();
  });
}

std::int64_t ConfigReader::count(std::string_view key, Most most) {
  if (has(key)) return count_or(key, most, 1);
  const std::vector<std::string_view> names = spellings(key);
  std::string others;
  for (std::size_t i = 1; i < names.size(); ++i)
    others += fmt::format("{} {}", i > 1 ? "," : ", nor is there", names[i]);
  fail(invalid_argument(fmt::format("{}: {} is missing{}", prefix_, names[0], others)));
  return 1;
}

std::int64_t ConfigReader::count_or(std::string_view key, Most most, std::int64_t fallback, std::int64_t min) {
  std::int64_t value = fallback;
  std::string first;  // the spelling that gave the value
  for (const std::string_view name : spellings(key)) {
    const Json* it = value_of(name);
    if (it == nullptr || it->is_null()) continue;
    if (!is_integer_within(*it, min, most)) {
      fail_value(name, *it, fmt::format("an integer from {} to {}", min, static_cast<std::int64_t>(most)));
      return min;
    }
    if (!first.empty() && it->get<std::int64_t>() != value) {
      fail(invalid_argument(fmt::format("{}: {} is {}, but {} is {}; give one of them", prefix_, first, value, name,
                                        it->get<std::int64_t>())));
      return min;
    }
    value = it->get<std::int64_t>();
    first = name;
  }
  return value;
}

bool ConfigReader::flag(std::string_view key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  fail_value(found_key(key), *value, "true or false");
  return fallback;
}

std::string ConfigReader::word(std::string_view key, std::string fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  fail_value(found_key(key), *value, "a string");
  return fallback;
}

std::vector<std::int64_t> ConfigReader::counts(std::string_view key, Most most) {
  const Json* list = find(key);
  std::vector<std::int64_t> values;
  if (list == nullptr) return values;
  if (!list->is_array()) {
    fail_value(found_key(key), *list, "a list of numbers");
    return values;
  }
  for (const Json& value : *list) {
    if (!is_integer_within(value, 0, most)) {
      fail_value(found_key(key), value, fmt::format("integers from 0 to {}", static_cast<std::int64_t>(most)));
      return {};
    }
    values.push_back(value.get<std::int64_t>());
  }
  return values;
}

std::vector<std::string> ConfigReader::words(std::string_view key, std::size_t size) {
  const Json* list = find(key);
  std::vector<std::string> values;
  if (list == nullptr) return values;
  for (std::size_t i = 0; list->is_array() && i < list->size(); ++i) {
    if (!(*list)[i].is_string()) break;
    values.push_back((*list)[i].get<std::string>());
  }
  if (list->is_array() && values.size() == size && list->size() == size) return values;
  fail_value(found_key(key), *list, fmt::format("a list of {} strings, one for each layer", size));
  return {};
}

std::vector<bool> ConfigReader::choices(std::string_view key, std::size_t size, std::string_view yes,
                                        std::string_view no) {
  std::vector<bool> chosen;
  for (const std::string& word : words(key, size)) {
    if (word != yes && word != no) fail_value(found_key(key), Json(word), fmt::format("{} or {}", yes, no));
    chosen.push_back(word == yes);
  }
  return chosen;
}

DType ConfigReader::dtype() {
  // transformers 5 writes dtype where 4 wrote torch_dtype; of both the newer one counts there, as here.
  const char* key = has("dtype") ? "dtype" : "torch_dtype";
  const std::string name = word(key, "bfloat16");
  if (name == "float16") return DType::kF16;
  if (name == "float32") return DType::kF32;
  if (name != "bfloat16") fail_value(key, Json(name), "bfloat16, float16 or float32");
  return DType::kBF16;
}

void ConfigReader::fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void ConfigReader::fail_value(std::string_view key, const Json& value, const std::string& expected) {
  fail(invalid_argument(fmt::format("{}: {} is {}, expected {}", prefix_, key, text_of(value), expected)));
}

}  // namespace reshard
