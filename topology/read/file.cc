// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "topology/read/file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace reshard {

Result<std::string> read_file(const std::string& path) {
  constexpr std::size_t kMostBytes = std::size_t{64} << 20U;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  std::string piece(std::size_t{1} << 16U, '\0');
  // In pieces and not by the file's size: pipes and devices have none, and a device may have no end.
  while (file && text.size() <= kMostBytes) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    text.append(piece, 0, static_cast<std::size_t>(file.gcount()));
  }
  if (text.size() > kMostBytes) return invalid_argument(fmt::format("{}: more than {} bytes", path, kMostBytes));
  if (!file.eof()) return Status(RESHARD_ERR_IO, fmt::format("{}: cannot read it: {}", path, std::strerror(errno)));
  return text;
}

}  // namespace reshard
