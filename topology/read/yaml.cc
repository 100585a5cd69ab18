// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "topology/read/config.h"
#include "topology/read/nesting.h"

namespace reshard {
namespace {

// Far above any cluster file. The parser of yaml-cpp recurses for every level without a limit of its own, so that
// nesting is bounded before it sees the text: brackets, and the indentation and dashes that blocks nest by.
constexpr std::size_t kMostBytes = std::size_t{8} << 20U;
constexpr int kMostLevels = 16;
constexpr std::size_t kMostIndentation = 64;
constexpr std::int64_t kMostValues = 1 << 20;

std::string where(const std::string& file, const YAML::Mark& mark) {
  return mark.is_null() ? file : fmt::format("{}:{}:{}", file, mark.line + 1, mark.column + 1);
}

/// The number of the first line that begins with more indentation than is read; 0: none.
std::size_t line_indented_too_far(std::string_view text) {
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::size_t end = text.find_first_of("\r\n");
    const std::string_view piece = text.substr(0, end);
    const std::size_t indentation = std::min(piece.find_first_not_of(" \t-?:"), piece.size());
    if (indentation > kMostIndentation) return line;
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + (text.substr(end, 2) == "\r\n" ? 2 : 1));
  }
  return 0;
}

/// Copies what yaml-cpp made, within bounds: an alias may stand for any part of the document, also for one it is in.
class Copier {
 public:
  explicit Copier(const std::string& file) : file_(file) {}

  Status copy(const YAML::Node& node, int depth, ConfigValue* value) {
    value->where = where(file_, node.Mark());
    if (depth > kMostLevels) return value->error(fmt::format("nested more than {} levels deep", kMostLevels));
    if (++num_values_ > kMostValues) return value->error(fmt::format("more than {} values", kMostValues));
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        value->kind = ConfigValue::Kind::kScalar;
        value->text = node.Scalar();
        return {};
      case YAML::NodeType::Sequence:
        value->kind = ConfigValue::Kind::kList;
        for (const YAML::Node& item : node) {
          value->items.emplace_back();
          RESHARD_TRY(copy(item, depth + 1, &value->items.back()));
        }
        return {};
      case YAML::NodeType::Map:
        value->kind = ConfigValue::Kind::kMap;
        for (const auto& entry : node) {
          value->items.emplace_back();
          RESHARD_TRY(copy(entry.first, depth + 1, &value->items.back()));
          if (value->items.back().kind != ConfigValue::Kind::kScalar)
            return value->items.back().error("a key that is no text");
          value->items.emplace_back();
          RESHARD_TRY(copy(entry.second, depth + 1, &value->items.back()));
        }
        return {};
      default:
        return {};
    }
  }

 private:
  const std::string& file_;
  std::int64_t num_values_ = 0;
};

}  // namespace

Result<ConfigValue> parse_yaml(const std::string& text, const std::string& file) {
  if (text.size() > kMostBytes) return invalid_argument(fmt::format("{}: more than {} bytes", file, kMostBytes));
  // Bytes that no UTF-8 has are marks of UTF-16 and UTF-32, which yaml-cpp would decode past the checks that follow, and
  // of which it reads an unfinished character for ever.
  if (text.find_first_of(std::string_view("\0\xfe\xff", 3)) != std::string::npos) {
    return invalid_argument(fmt::format("{}: not a text in UTF-8", file));
  }
  if (nests_deeper_than(kMostLevels, text)) {
    return invalid_argument(fmt::format("{}: brackets nested more than {} levels deep", file, kMostLevels));
  }
  if (const std::size_t line = line_indented_too_far(text); line > 0) {
    return invalid_argument(
        fmt::format("{}:{}: begins with more than {} blanks and dashes", file, line, kMostIndentation));
  }
  // The only place where exceptions of yaml-cpp come up.
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() != 1)
      return invalid_argument(fmt::format("{}: {} documents; give one", file, documents.size()));
    ConfigValue value;
    RESHARD_TRY(Copier(file).copy(documents.front(), 0, &value));
    return value;
  } catch (const YAML::Exception& error) {
    return invalid_argument(fmt::format("{}: {}", where(file, error.mark), error.msg));
  } catch (const std::exception& error) {
    return invalid_argument(fmt::format("{}: {}", file, error.what()));
  }
}

}  // namespace reshard
