// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "perf/engine/error.h"

namespace reshard::perf {
namespace {

/// Bytes of the UTF-8 character at the front of `text`; 0 when there is none. What is too long for its value, a half of
/// a surrogate pair, and what lies beyond the last code point are none either.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xC2 || first > 0xF4) return 0;
  const std::size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool is_forbidden = (first == 0xE0 && second < 0xA0) || (first == 0xED && second >= 0xA0) ||
                            (first == 0xF0 && second < 0x90) || (first == 0xF4 && second >= 0x90);
  return is_forbidden ? 0 : size;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t size = character_bytes(std::string_view(text).substr(i));
    if (size == 0) {
      out += fmt::format("\\x{:02X}", static_cast<unsigned char>(text[i++]));
    } else {
      out += text.substr(i, size);
      i += size;
    }
  }
  return out;
}

void escape_strings(nlohmann::json* value) {
  if (value->is_string()) *value = escaped(value->get<std::string>());
  if (value->is_structured()) {
    for (nlohmann::json& child : *value) escape_strings(&child);
  }
}

/// All of it, or false with errno.
///
/// A pipe or a full disk may take a part only; what is left is offered again until there is an error to report.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  constexpr mode_t kMode = 0666;  // less the user's mask
  // First as a new file, to know whether it was one: only then may it be taken away again.
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kMode);
  was_made_here_ = fd_ >= 0;
  if (fd_ < 0 && errno == EEXIST) fd_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd_ < 0) fail("cannot write {}: {}", path_, std::strerror(errno));
}

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  close(fd_);
  if (was_made_here_) unlink(path_.c_str());
}

void OutputFile::write(std::string_view text) {
  if (!is_wanted()) return;
  // What cannot be cut, as a pipe, needs no cutting.
  const bool is_cut = ftruncate(fd_, 0) == 0 || errno == EINVAL;
  const bool is_written = is_cut && write_all(fd_, text);
  const int why = errno;
  // Some file systems report a full disk only here.
  const bool is_closed = close(std::exchange(fd_, -1)) == 0;
  if (!is_written || !is_closed) fail("cannot write {}: {}", path_, std::strerror(is_written ? errno : why));
}

void print_report(std::string_view text) {
  if (std::fflush(stdout) == 0 && write_all(STDOUT_FILENO, text)) return;
  fail("the report did not get to standard output: {}", std::strerror(errno));
}

void reserve_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number is this one. Opened the wrong way round, so that using it stays the error that it was.
    const int opened = open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    static_cast<void>(opened);
  }
}

std::string json_text(nlohmann::json value, int indent) {
  escape_strings(&value);
  return value.dump(indent);
}

}  // namespace reshard::perf
