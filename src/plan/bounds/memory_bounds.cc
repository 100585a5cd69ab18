// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// LB8: cuts around memories.
#include <algorithm>

#include "src/base/at.h"
#include "src/plan/bounds/cuts.h"
#include "src/plan/bounds/largest.h"

namespace reshard::bounds {
namespace {

/// What comes to a rank over its domain's links is read in the memory of another of its ranks; only what comes
/// through a port is not. So what all ranks of the domain need is written there and, but for what ports let in in
/// that time, read there.
void offer_memories(const Cuts& cuts, std::int32_t domain, Largest* out) {
  std::int64_t bytes = 0;
  std::int64_t rate = 0;
  for (const std::int32_t rank : at(cuts.machine.domains, domain).ranks) {
    const Link& memory = at(cuts.machine.gpus, rank).memory;
    if (!memory.is_limited()) return;
    rate += memory.bytes_per_s();
    bytes += 2 * (at(cuts.bytes.needed, rank) + at(cuts.bytes.copied, rank));
  }
  for (const std::int32_t port : at(cuts.machine.domains, domain).ports) rate += cuts.ports.reached_in(domain, port);
  out->offer(bytes, rate, [&] { return "memories of " + cuts.ports.name(domain); });
}

}  // namespace

/// What a rank needs and does not hold is written to its memory once, beside what it stages; what it needs and holds
/// is read there and written there; and what nobody else holds is read there at least once for all others.
Bound memory(const Cuts& cuts) {
  Largest out("LB8 memory");
  for (std::int32_t r = 0; r < cuts.machine.num_ranks(); ++r) {
    out.offer(at(cuts.bytes.needed, r) + 2 * at(cuts.bytes.copied, r) + at(cuts.bytes.read, r),
              at(cuts.machine.gpus, r).memory.bytes_per_s(),
              [&] { return cuts.machine.describe(cuts.machine.resource(ResourceKind::kMemory, r)); });
  }
  for (std::size_t d = 0; d < cuts.machine.domains.size(); ++d)
    offer_memories(cuts, static_cast<std::int32_t>(d), &out);
  return out.take();
}

/// LB2 over the ways from the ports to the ranks: a byte that comes into a domain comes to a rank with a port. Ranks
/// that share a port have ways of their own, so their rates add up; one without a limit lets everything in.
Bound pcie(const Cuts& cuts) {
  Largest out("LB8 pcie");
  for (std::size_t d = 0; d < cuts.bytes.entering.size(); ++d) {
    std::int64_t rate = 0;
    bool is_limited = true;
    for (const std::int32_t rank : at(cuts.machine.domains, d).ranks) {
      if (at(cuts.machine.gpus, rank).port < 0) continue;
      rate += at(cuts.machine.gpus, rank).pcie.bytes_per_s();
      is_limited = is_limited && at(cuts.machine.gpus, rank).pcie.bytes_per_s() > 0;
    }
    if (!is_limited) continue;
    out.offer(cuts.bytes.entering[d], rate,
              [&] { return "pcie into " + cuts.ports.name(static_cast<std::int32_t>(d)); });
  }
  return out.take();
}

}  // namespace reshard::bounds
