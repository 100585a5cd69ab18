// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Where bytes enter. Each domain needs every byte once from outside, however many of its ranks want it: that no domain
// gets by with less makes LB2, so a plan that enters once, evenly over the ports, meets it. This stage settles by which
// ports.
#pragma once

#include <algorithm>
#include <vector>

#include "src/plan/network.h"

namespace reshard {

/// Bytes [begin, end) of a bundle enter a domain at one of its ranks, once, whoever in the domain needs them. Where
/// every rank is a domain of its own, one landing stands for those on all ranks that need the bundle.
struct Landing {
  std::int32_t bundle = -1;
  std::int32_t place = 0;       ///< of the domain in the order of chains; only of a landing on one rank
  std::int32_t rank = -1;       ///< -1: on each of the receivers
  std::int32_t receivers = -1;  ///< id in Landings::receivers; -1: on the rank alone
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

struct Landings {
  std::vector<Landing> all;  ///< by bundle, place, begin
  RankSets receivers;
  /// Of the domain whose network takes longest, as bytes of the fastest rank's part: bytes that enter * fastest_in /
  /// what its ports take in. It is what senders are measured by: where each domain is entered once, none of them need
  /// be quicker than this. Without a machine there is nothing that could be relieved, and it is 0.
  std::int64_t busiest_bytes = 0;
};

/// What an older plan's routes do already. Empty for a plan that is made from nothing. The bytes fill ports before
/// anything is poured into them, so that what is new goes where there is room.
struct Kept {
  std::vector<std::vector<std::int32_t>> served;  ///< by bundle: ranks that have it from them, ascending
  std::vector<std::int64_t> in_bytes;             ///< by rank: that enter its domain at it
  std::vector<std::int64_t> out_bytes;            ///< by rank: that leave its domain from it

  bool serves(std::int32_t bundle, std::int32_t rank) const {
    return !served.empty() && std::binary_search(at(served, bundle).begin(), at(served, bundle).end(), rank);
  }
};

/// Divides what must enter each domain over the ports of its ranks: over those that need the bytes, and where these
/// would be busier than the busiest domain must be on average, over all of its ranks, to be handed on inside.
/// RESHARD_ERR_INVALID_ARGUMENT where the network does not reach the domain.
Result<Landings> choose_landings(const Plan& plan, const Network& network, const DomainSets& domains, const Kept& kept);

}  // namespace reshard
