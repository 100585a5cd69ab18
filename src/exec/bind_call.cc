// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/bind_call.h"

#include <fmt/format.h>

#include <array>

namespace reshard {
namespace {

// What other exchanges begin with is small: a count, a status, a size.
constexpr std::int64_t kFirstCall = 0x72736864'63616c00;  // "rshdcal"

constexpr std::array kBindCallNames = {"reshard_binding_create", "reshard_binding_update", "reshard_reload_create",
                                       "reshard_reload_update"};

const char* name_of_call(BindCall call) {
  return kBindCallNames[static_cast<std::size_t>(call)];
}

}  // namespace

void write_call(BindCall call, ByteWriter* writer) {
  writer->add(kFirstCall + static_cast<std::int64_t>(call));
}

Status read_same_call(BindCall mine, std::int32_t rank, ByteReader* reader) {
  const std::int64_t call = reader->number() - kFirstCall;
  if (!reader->ok() || call < 0 || call >= std::ssize(kBindCallNames)) {
    return {RESHARD_ERR_TRANSPORT,
            fmt::format("rank {} is in another collective call than this rank's {}; make the same calls in the same "
                        "order on every rank",
                        rank, name_of_call(mine))};
  }
  const auto theirs = static_cast<BindCall>(call);
  if (theirs == mine) return {};
  return {RESHARD_ERR_INVALID_ARGUMENT,
          fmt::format("rank {} called {}, and this rank {}; make the same calls in the same order on every rank", rank,
                      name_of_call(theirs), name_of_call(mine))};
}

}  // namespace reshard
