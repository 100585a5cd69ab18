// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <string>
#include <vector>

#include "src/plan/plan.h"

namespace reshard {

/// A time that no plan for these layouts on this machine can go below.
struct Bound {
  std::string name;      ///< e.g. "LB2 domain ingress"
  std::string resource;  ///< where it is largest, e.g. "network into n0042"
  double seconds = 0;
};

/// All bounds of the plan's layouts, options and machine. `loads` (bytes by resource) are those of any plan: they set
/// the prices of LB9 and nothing else.
///
/// A plan is any set of trees of hops that brings every byte once to each rank that wants it and does not hold it, from
/// ranks that hold it, through any other ranks: it may relay, stage, enter a domain as often as it likes, and pass on
/// what a rank keeps. Whatever it does, a byte that is needed on one side of a cut and held only on the other crosses
/// the cut at least once, so the bytes of a cut over what joins its sides is a bound. The proof of each stands at the
/// function that computes it:
///  LB1  a GPU: what it needs and has not, over its links and its port, as far as others send to it
///  LB2  into a domain: over its ports
///  LB3  out of a domain: what nobody else holds
///  LB4  out of any set of domains: what only they hold (the certificate of water-filling over domains)
///  LB5  into and out of the blocks behind leaf switches, and pods, over uplinks as far as ports can use them
///  LB6  into a domain, rail by rail, where rails are isolated
///  LB7  GPUs of a domain that share a port: LB1 with the port counted once
///  LB8  a GPU's memory, copies within it included, a domain's memories together, and its PCIe
///  LB9  prices: for any prices of links, ports, switches and memory, what all bytes pay at least, over what all of
///       them can take; the best that the loads suggest (prices/price_bound.h)
///  LB10 latency: one crossing of the network (not one for each doubling of the domains that have a byte: a sender need
///       not wait for one copy to arrive before it sends the next)
///  LB11 order: what few open groups of a fixed order cost, since they leave few senders busy
///  LB12 changes of rail: over the links of the ranks on some rails, where rails are isolated
std::vector<Bound> find_bounds(const Plan& plan, const std::vector<std::int64_t>& loads);

/// The largest; its name is empty when there is nothing to move.
Bound largest(const std::vector<Bound>& bounds);

}  // namespace reshard
