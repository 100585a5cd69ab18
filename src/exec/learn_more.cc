// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/learn_more.h"

#include <fmt/format.h>

#include <utility>

namespace reshard {
namespace {

constexpr std::int64_t kLearnUs = 20'000;

}  // namespace

void learn_more(Control* control, Transport* transport, Status* status) {
  const Deadline deadline(kLearnUs);
  while (status->code() == RESHARD_ERR_TRANSPORT && !deadline.expired()) {
    bool moved = transport->progress();
    static_cast<void>(control->receive(&moved).ok());
    if (Status health = transport->health(); !health.ok()) *status = std::move(health);
    for (std::size_t peer = 0; peer < control->peers().size(); ++peer) {
      if (control->loss(peer) == Control::Loss::kNone || status->code() != RESHARD_ERR_TRANSPORT) continue;
      *status = {RESHARD_ERR_ABANDONED, fmt::format("rank {} gave the run up", control->peers()[peer])};
    }
    if (!moved) transport->idle();
  }
}

}  // namespace reshard
