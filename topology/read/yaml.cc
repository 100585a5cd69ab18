// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// From the events of yaml-cpp's parser to ConfigValue. Events and not its nodes, in which
// an alias is the value that it names: a small file could read as a huge value, or as one without end.
#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <string_view>

#include "topology/read/config.h"
#include "topology/read/nesting.h"

namespace reshard {
namespace {

// Far above any cluster file. The parser of yaml-cpp recurses for every level without a limit of its own, so that
// nesting is bounded before it sees the text: brackets, and the indentation and dashes that blocks nest by.
constexpr std::size_t kMostBytes = std::size_t{8} << 20U;
constexpr int kMostLevels = 16;
constexpr std::size_t kMostIndentation = 64;

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

/// Builds the value of a document from what the parser meets.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(const std::string& file) : file_(file) {}

  const Status& status() const { return status_; }
  ConfigValue take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override { root_.where = where(file_, mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(mark, ConfigValue::Kind::kNull); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    ConfigValue& value = add(mark, ConfigValue::Kind::kNull);
    if (status_.ok()) status_ = value.error("an alias; write out what it stands for");
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t, const std::string& text) override {
    add(mark, ConfigValue::Kind::kScalar).text = text;
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open_.push_back(&add(mark, ConfigValue::Kind::kList));
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    open_.push_back(&add(mark, ConfigValue::Kind::kMap));
  }
  void OnMapEnd() override {
    const ConfigValue& map = *open_.back();
    for (std::size_t i = 0; i < map.items.size(); i += 2) {
      const bool is_text = map.items[i].kind == ConfigValue::Kind::kScalar;
      if (!is_text && status_.ok()) status_ = map.items[i].error("a key that is no text");
    }
    open_.pop_back();
  }

 private:
  /// A list or map that is open does not grow while one within it is, so that these references stay good.
  ConfigValue& add(const YAML::Mark& mark, ConfigValue::Kind kind) {
    ConfigValue& value = open_.empty() ? root_ : open_.back()->items.emplace_back();
    value.kind = kind;
    value.where = where(file_, mark);
    return value;
  }

  const std::string& file_;
  ConfigValue root_;
  // The lists and maps around what comes next, the innermost last.
  std::vector<ConfigValue*> open_;
  Status status_;
};

}  // namespace

Result<ConfigValue> parse_yaml(const std::string& text, const std::string& file) {
  if (text.size() > kMostBytes) return invalid_argument(fmt::format("{}: more than {} bytes", file, kMostBytes));
  // Bytes that no UTF-8 has are marks of UTF-16 and UTF-32, which yaml-cpp would decode past the checks that follow.
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
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    Builder builder(file);
    Builder rest(file);
    if (!parser.HandleNextDocument(builder)) return invalid_argument(fmt::format("{}: nothing in it", file));
    // Not LoadAll: behind a document that ends in a stray comma it finds empty ones without end.
    if (parser.HandleNextDocument(rest)) return invalid_argument(rest.take().where + ": a second document; give one");
    RESHARD_TRY(builder.status());
    return builder.take();
  } catch (const YAML::Exception& error) {
    return invalid_argument(fmt::format("{}: {}", where(file, error.mark), error.msg));
  } catch (const std::exception&) {  // of numbers in escapes and the like, without a place
    return invalid_argument(file + ": cannot be read as YAML");
  }
}

}  // namespace reshard
