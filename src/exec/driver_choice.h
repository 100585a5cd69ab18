// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Which driver runs a binding: the same on all ranks, so they agree on it before they bind.
#pragma once

#include <string>

#include "src/exec/bind_call.h"
#include "src/transport/nccl/agreement.h"
#include "src/transport/transport.h"

namespace reshard {

enum class DriverWish : std::uint8_t { kAuto, kPoll, kNccl };

/// What one rank says for the choice.
struct DriverOffer {
  BindCall call = BindCall::kCreateBinding;
  DriverWish wish = DriverWish::kAuto;
  NcclOffer nccl;        ///< what it could bring to a communicator; usable: an error where its buffers lie on the host
  std::string messages;  ///< how messages go without NCCL, if well: then kAuto does without it; empty: over the host
};

struct DriverChoice {
  bool is_nccl = false;
  std::string reason;  ///< a sentence for whoever asks why
};

/// How messages between the ranks' device memory would go without NCCL: see DriverOffer::messages.
std::string messages_without_nccl(const Transport& transport);

/// Collective. kNccl where a rank wishes so and none wishes kPoll, whatever NCCL says: what is wrong with it is then
/// the error of the binding. With kAuto alone, NCCL where every rank can use it and messages would else go over the
/// host. RESHARD_ERR_INVALID_ARGUMENT where one rank wishes kNccl and another one kPoll, or is in another call.
Result<DriverChoice> choose_driver(Collective* collective, const DriverOffer& mine, const Deadline& deadline);

}  // namespace reshard
