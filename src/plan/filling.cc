// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/filling.h"

#include "src/base/arithmetic.h"
#include "src/base/at.h"

namespace reshard {

std::int64_t picoseconds(std::int64_t bytes, std::int64_t bytes_per_s) {
  if (bytes_per_s == Paths::kNoLimit) return 0;
  return static_cast<std::int64_t>(Wide{bytes} * kPicosecondsPerSecond / bytes_per_s);
}

const std::vector<Filling>& FillingCounter::count(const Route& route, std::int64_t window_bytes) {
  const Machine& machine = *plan_.options.machine;
  of_hop_.clear();
  num_passed_on_.assign(static_cast<std::size_t>(route.num_hops), {});
  for (std::int32_t h = 0; h < route.num_hops; ++h) {
    const Hop& hop = plan_.begin_hops(route)[h];
    const RankId src(hop.src);
    const RankId dst(hop.dst);
    Filling its;
    if (hop.parent >= 0) {
      its = at(of_hop_, hop.parent);
      const std::int64_t place = ++at(num_passed_on_, hop.parent)[machine.same_domain(src, dst) ? 0 : 1];
      its.waiting += place * picoseconds(window_bytes, paths_.slowest_bytes_per_s(src, dst));
    }
    its.latency += kPicosecondsPerNanosecond * paths_.latency_ns(src, dst);
    of_hop_.push_back(its);
  }
  return of_hop_;
}

}  // namespace reshard
