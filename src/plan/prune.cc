// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Cuts ranks out of a route's tree without touching the rest of it: a replica that is lost should change the routes
// that went through it and no others. Hops that fed a rank that is gone are marked (kGone), its followers attach
// elsewhere, staging that nobody uses any more goes, and at last what is left is put into order. What would break a
// rule of routes ends in nothing; then the bundle is planned anew.
#include "src/plan/prune.h"

#include <algorithm>

namespace reshard {
namespace {

class Pruner {
 public:
  Pruner(const Network& network, std::span<const Hop> hops, const std::vector<bool>& is_wanted)
      : network_(network), hops_(hops.begin(), hops.end()), is_wanted_(is_wanted) {}

  std::optional<std::vector<Hop>> run() {
    for (std::size_t h = 0; h < hops_.size(); ++h) {
      if (!hops_[h].to_staging && !is_wanted_[h]) leave_out(static_cast<std::int32_t>(h));
    }
    drop_idle_staging();
    return renumber();
  }

 private:
  bool is_inside(const Hop& hop) const { return network_.machine.same_domain(RankId(hop.src), RankId(hop.dst)); }

  /// Someone of its domain takes its place if there is one, so that the domain is still entered once; else its
  /// followers attach to what fed it.
  void leave_out(std::int32_t h) {
    const Hop gone = at(hops_, h);
    std::int32_t heir = -1;
    for (std::size_t c = 0; c < hops_.size() && heir < 0; ++c) {
      const bool follows = hops_[c].parent == h && !hops_[c].to_staging && is_wanted_[c];
      if (follows && is_inside(hops_[c])) heir = static_cast<std::int32_t>(c);
    }
    // The heir takes the place of the one that is gone, fed by what fed that; the others follow the heir.
    for (std::size_t c = 0; c < hops_.size(); ++c) {
      Hop& hop = hops_[c];
      if (hop.parent != h) continue;
      const bool takes_over = heir < 0 || static_cast<std::int32_t>(c) == heir;
      hop.parent = takes_over ? gone.parent : heir;
      hop.src = takes_over ? gone.src : at(hops_, heir).dst;
    }
    at(hops_, h).dst = kGone;
  }

  /// From the last hop to the first, since staging may feed staging, and parents come before children.
  void drop_idle_staging() {
    for (std::size_t h = hops_.size(); h-- > 0;) {
      if (!hops_[h].to_staging) continue;
      const bool is_used = std::any_of(hops_.begin(), hops_.end(), [&](const Hop& hop) {
        return hop.dst != kGone && hop.parent == static_cast<std::int32_t>(h);
      });
      if (!is_used) hops_[h].dst = kGone;
    }
  }

  /// Whether some rank of the domain at the end of a hop still wants the bytes: else it is not entered.
  bool is_wanted_beside(std::int32_t h) const {
    const std::int32_t rank = at(hops_, h).dst;
    return std::any_of(hops_.begin(), hops_.end(), [&](const Hop& hop) {
      return hop.dst != kGone && !hop.to_staging && network_.machine.same_domain(RankId(hop.dst), RankId(rank));
    });
  }

  /// Parents before children again, steps and delays counted anew (what a delay is, Hop says). An heir may stand behind
  /// those that now follow it, so the hops are gone through until no more can be added. Refused are hops that no
  /// network joins, domains entered twice, and such as are entered only to leave them again.
  std::optional<std::vector<Hop>> renumber() const {
    std::vector<Hop> out;
    std::vector<std::int32_t> crossings;  // of the network, up to and with each hop of `out`
    std::vector<std::int32_t> new_index(hops_.size(), -1);
    std::vector<std::int32_t> entered;  // domains
    for (bool moved = true; moved;) {
      moved = false;
      for (std::size_t h = 0; h < hops_.size(); ++h) {
        Hop hop = hops_[h];
        if (hop.dst == kGone || new_index[h] >= 0 || (hop.parent >= 0 && at(new_index, hop.parent) < 0)) continue;
        const bool crosses = !is_inside(hop);
        if (hop.src == hop.dst || (crosses && !network_.machine.reaches(RankId(hop.src), RankId(hop.dst))))
          return std::nullopt;
        if (crosses && hop.to_staging && !is_wanted_beside(static_cast<std::int32_t>(h))) return std::nullopt;
        const std::int32_t before = hop.parent < 0 ? 0 : at(crossings, at(new_index, hop.parent));
        if (crosses) {
          const std::int32_t domain = at(network_.machine.gpus, hop.dst).domain;
          if (std::find(entered.begin(), entered.end(), domain) != entered.end()) return std::nullopt;
          entered.push_back(domain);
        }
        // Staging that stands before a crossing goes with it; what follows one goes with that one.
        const bool goes_ahead = crosses || (hop.to_staging && before > 0);
        hop.parent = hop.parent < 0 ? -1 : at(new_index, hop.parent);
        hop.delay = goes_ahead ? before : std::max(0, before - 1);
        hop.step = hop.parent < 0 ? 0 : at(out, hop.parent).step + 1;
        new_index[h] = static_cast<std::int32_t>(out.size());
        out.push_back(hop);
        crossings.push_back(before + (crosses ? 1 : 0));
        moved = true;
      }
    }
    return out;
  }

  static constexpr std::int32_t kGone = -1;

  const Network& network_;
  std::vector<Hop> hops_;
  const std::vector<bool>& is_wanted_;
};

}  // namespace

std::optional<std::vector<Hop>> prune(const Network& network, std::span<const Hop> hops,
                                      const std::vector<bool>& is_wanted) {
  return Pruner(network, hops, is_wanted).run();
}

}  // namespace reshard
