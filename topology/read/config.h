// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What YAML and JSON files are read into. The library's own values and not yaml-cpp's, because each one knows where it
// stands in its file: whoever wrote a file by hand gets the line and the column of what is wrong with it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/status.h"

namespace reshard {

/// A value of a YAML or JSON file, with where it stands.
struct ConfigValue {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;                ///< of a scalar
  std::vector<ConfigValue> items;  ///< of a list; of a map, in pairs of a scalar key and its value
  std::string where;               ///< "file:line:column"

  Status error(const std::string& message) const { return invalid_argument(where + ": " + message); }
};

/// The one document of a text. Errors name file, line and column.
Result<ConfigValue> parse_yaml(const std::string& text, const std::string& file);

/// A map of which all keys are known. The functions that read a value leave *value as it is when its key is not there.
///
/// Points into the ConfigValue that it was made of, which must outlive it.
class ConfigMap {
 public:
  /// Errors: no map, an unknown key (the message lists the known ones), a key given twice. `what` says what it
  /// describes.
  static Result<ConfigMap> make(const ConfigValue& value, std::string_view what,
                                const std::vector<std::string_view>& known);

  const ConfigValue* find(std::string_view key) const;
  Status required(std::string_view key) const;
  Status error(const std::string& message) const { return map_->error(message); }

  Status text(std::string_view key, std::string* value) const;
  Status integer(std::string_view key, std::int64_t min, std::int64_t max, std::int32_t* value) const;
  Status boolean(std::string_view key, bool* value) const;
  Status bytes_per_s(std::string_view key, bool plain_is_bits, std::int64_t* value) const;
  Status permille(std::string_view key, std::int64_t min, std::int64_t max, std::int32_t* value) const;
  /// nullptr where the key is not there. Error: no list.
  Result<const std::vector<ConfigValue>*> list(std::string_view key) const;

 private:
  const ConfigValue* map_ = nullptr;
};

/// Single values, for lists of them. `what` names the value in errors.
Status read_scalar(const ConfigValue& value, std::string_view what, std::string* text);
Status read_permille(const ConfigValue& value, std::string_view what, std::int64_t min, std::int64_t max,
                     std::int32_t* permille);

}  // namespace reshard
