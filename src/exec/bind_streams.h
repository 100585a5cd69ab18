// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <memory>

#include "src/exec/bind.h"
#include "src/exec/stream_work.h"

namespace reshard {

/// What a binding has by the time that it makes its stages.
struct StreamBindOptions {
  const Plan& plan;
  Transport* transport;
  PeerMemory* tensors;  ///< maps the peers' buffers, and here the flags
  const NcclChoice& choice;
  std::uint64_t tag;  ///< of messages while a binding is made
  const RankMemory& memory;
  const RankLinks& links;
  std::shared_ptr<NcclComm> comm = nullptr;  ///< of the binding before, on all ranks; null on all: a new one
};

/// Collective; every rank has its stages, with memory, flags and a communicator whose connections are made, or every
/// rank has an error. `mine`: what this rank has failed with already. The ranks agree on how finely rounds are cut into
/// stages, and, where the flags of one cannot be mapped by a peer, to send everything through NCCL.
Result<std::shared_ptr<StreamWork>> bind_streams(const StreamBindOptions& options, Status mine,
                                                 const Deadline& deadline);

}  // namespace reshard
