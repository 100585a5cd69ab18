// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What the ranks tell each other before any of them calls what could wait for the others: so a rank that cannot take
// part fails all at once, and not by a time-out of NCCL. Compiled with and without NCCL.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "src/base/bytes.h"
#include "src/transport/nccl/comm.h"

namespace reshard {

/// What one rank can and wants.
struct NcclOffer {
  Status usable;             ///< why it cannot take part
  std::int32_t version = 0;  ///< of its NCCL
  std::int32_t max_ctas = 0;
  std::int32_t traffic_class = -1;
  bool is_given = false;
  bool is_capturable = false;
  std::string device_uuid;    ///< the same for the same device in all processes; empty: not known
  std::vector<std::byte> id;  ///< of a new communicator, from rank 0
};

/// The most CTAs that a communicator with these options has; 0: NCCL's own choice, where it does not matter.
std::int32_t effective_max_ctas(std::int32_t version, const NcclOptions& options);

/// Numbers that are in range, and what they mean together.
Status check_nccl_options(const NcclOptions& options);

/// What this rank can and wants, but for the id: options, library, device. Waits for nobody.
NcclOffer make_offer(std::int32_t device, const NcclOptions& options);

void write_offer(const NcclOffer& offer, ByteWriter* writer);
NcclOffer read_offer(ByteReader* reader);

/// Whether ranks with these offers can have a communicator. The first rank that cannot gives the reason.
Status judge(const std::vector<NcclOffer>& offers);

/// Collective. The id of rank 0; or an error on every rank: see NcclComm::create().
Result<std::vector<std::byte>> agree(Collective* collective, const NcclOffer& mine, const Deadline& deadline);

}  // namespace reshard
