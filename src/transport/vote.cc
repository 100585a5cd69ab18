// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/vote.h"

#include <fmt/format.h>

#include "src/base/bytes.h"

namespace reshard {

Status vote(Collective* collective, const Status& mine, const Deadline& deadline) {
  ByteWriter writer;
  writer.add(mine.code());
  writer.add(mine.message());
  const auto votes = collective->allgather(writer.take(), deadline);
  if (!mine.ok()) return mine;  // says more than that others did not come to hear it
  if (!votes.ok()) return votes.status();
  for (std::size_t r = 0; r < votes->size(); ++r) {
    ByteReader reader((*votes)[r]);
    const auto code = static_cast<reshard_status_t>(reader.number());
    const std::string message = reader.text();
    if (!reader.ok()) return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed vote", r)};
    if (code != RESHARD_OK) return {code, fmt::format("on rank {}: {}", r, message)};
  }
  return {};
}

}  // namespace reshard
