// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/bounds/prices/domain_spread.h"

#include <algorithm>

namespace reshard::bounds {
namespace {

using routing::kNoWay;

constexpr std::size_t kAnywhere = static_cast<std::size_t>(From::kAnywhere);
constexpr std::size_t kMostHubs = 8;  // tried one by one; more are tried several as one

bool is_no_better(const DomainSpread::Rank& a, const DomainSpread::Rank& b) {
  for (std::size_t f = 0; f < kNumFroms; ++f) {
    if (a.entry[f] < b.entry[f]) return false;
  }
  return a.link_in >= b.link_in && a.link_out >= b.link_out;
}

}  // namespace

void make_as_good(const DomainSpread::Rank& other, DomainSpread::Rank* rank) {
  for (std::size_t f = 0; f < kNumFroms; ++f) rank->entry[f] = std::min(rank->entry[f], other.entry[f]);
  rank->link_in = std::min(rank->link_in, other.link_in);
  rank->link_out = std::min(rank->link_out, other.link_out);
}

void DomainSpread::clear() {
  holder_out_ = kNoWay;
  lacking_.clear();
  hubs_.clear();
  idle_entry_.fill({});
  is_from_.fill(false);
}

void DomainSpread::add_holder(std::uint64_t link_out) {
  holder_out_ = std::min(holder_out_, link_out);
}

void DomainSpread::add_lacking(const Rank& rank) {
  for (std::size_t f = 0; f < kNumFroms; ++f) is_from_[f] = is_from_[f] || rank.entry[f] < kNoWay;
  lacking_.push_back(rank);
}

void DomainSpread::add_idle(const Rank& rank) {
  for (std::size_t f = 0; f < kNumFroms; ++f) {
    is_from_[f] = is_from_[f] || rank.entry[f] < kNoWay;
    idle_entry_[f].alone = std::min(idle_entry_[f].alone, rank.entry[f]);
    idle_entry_[f].sending = std::min(idle_entry_[f].sending, rank.entry[f] + rank.link_out);
  }
  hubs_.push_back(rank);
}

/// Leaves out those that another is no worse than; and where many are left, neighbours by their price of sending become
/// one that is as good as all of them, which at worst makes the result lower than it could be.
void DomainSpread::keep_few_hubs() {
  std::sort(hubs_.begin(), hubs_.end(), [](const Rank& a, const Rank& b) { return a.link_out < b.link_out; });
  std::size_t kept = 0;
  for (const Rank& rank : hubs_) {
    const auto end = hubs_.begin() + static_cast<std::ptrdiff_t>(kept);
    if (std::any_of(hubs_.begin(), end, [&](const Rank& other) { return is_no_better(rank, other); })) continue;
    hubs_[kept++] = rank;
  }
  hubs_.resize(kept);
  if (kept <= kMostHubs) return;
  std::size_t last = kMostHubs;
  for (std::size_t i = 0; i < kept; ++i) {
    const std::size_t as_one = i * kMostHubs / kept;  // at most i
    if (as_one == last) {
      make_as_good(hubs_[i], &hubs_[as_one]);
    } else {
      hubs_[as_one] = hubs_[i];
    }
    last = as_one;
  }
  hubs_.resize(kMostHubs);
}

std::uint64_t DomainSpread::from_hub_or_network(const Rank& rank, std::uint64_t hub_out) const {
  return std::min(rank.link_in + hub_out, rank.entry[kAnywhere]);
}

/// What the hub pays to get the byte, where the network enters the domain from there, beyond what all others that lack
/// the byte pay anyway. The rank at which it enters may lie on the way to the hub, or be the hub; or it has nothing to
/// do with it, and the hub gets the byte `anyhow`.
std::uint64_t DomainSpread::enter(const Rank& hub, const Rank* lacking_hub, From from, std::uint64_t anyhow) const {
  const auto f = static_cast<std::size_t>(from);
  std::uint64_t least = std::min({hub.entry[f], idle_entry_[f].sending + hub.link_in, idle_entry_[f].alone + anyhow});
  for (const Rank& rank : lacking_) {
    if (&rank == lacking_hub || rank.entry[f] >= kNoWay) continue;
    const std::uint64_t more = rank.entry[f] - from_hub_or_network(rank, hub.link_out);
    least = std::min(least, more + std::min(hub.link_in + rank.link_out, anyhow));
  }
  return least;
}

/// The least with this hub. @param lacking_hub the hub, if it is among those that lack the byte
DomainSpread::Through DomainSpread::through(const Rank& hub, const Rank* lacking_hub) const {
  Through out{0, {}};
  for (const Rank& rank : lacking_) {
    if (&rank != lacking_hub) out.others += from_hub_or_network(rank, hub.link_out);
  }
  std::uint64_t anyhow = std::min(kNoWay, hub.link_in + holder_out_);
  anyhow = std::min(anyhow, enter(hub, lacking_hub, From::kAnywhere, kNoWay));
  out.price.fill(out.others + anyhow);
  if (holder_out_ < kNoWay) return out;
  for (std::size_t f = kAnywhere + 1; f < kNumFroms; ++f) {
    out.price[f] = is_from_[f] ? out.others + enter(hub, lacking_hub, static_cast<From>(f), anyhow) : kNoWay;
  }
  return out;
}

void DomainSpread::try_hub(const Rank& hub, const Rank* lacking_hub, ByFrom* least) {
  const Through its = through(hub, lacking_hub);
  for (std::size_t f = 0; f < kNumFroms; ++f) (*least)[f] = std::min((*least)[f], its.price[f]);
  trials_.push_back({lacking_hub, hub.link_out, hub.link_in, its.others, its.price[kAnywhere]});
}

ByFrom DomainSpread::least() {
  trials_.clear();
  ByFrom least;
  least.fill(kNoWay);
  hub_out_ = holder_out_;
  const auto best = std::min_element(lacking_.begin(), lacking_.end(),
                                     [](const Rank& a, const Rank& b) { return a.link_out < b.link_out; });
  if (best != lacking_.end() && best->link_out < holder_out_) {
    hub_out_ = best->link_out;
    try_hub(*best, &*best, &least);
  } else {
    std::uint64_t star = 0;
    for (const Rank& rank : lacking_) star += from_hub_or_network(rank, holder_out_);
    least.fill(star);
    trials_.push_back({nullptr, holder_out_, kNoWay, star, star});
  }
  std::erase_if(hubs_, [&](const Rank& rank) { return rank.link_out >= hub_out_; });
  keep_few_hubs();
  for (const Rank& hub : hubs_) try_hub(hub, nullptr, &least);
  return least;
}

/// With the hub of each trial the rank pays for coming from there, even if the network would be cheaper. Or it is the
/// hub.
std::uint64_t DomainSpread::least_with_first(std::size_t lacking, std::uint64_t entry) const {
  const Rank* rank = &lacking_[lacking];
  std::uint64_t least = kNoWay;
  for (const Trial& trial : trials_) {
    const std::uint64_t others = trial.price - from_hub_or_network(*rank, trial.hub_out);
    least = std::min(least, trial.lacking_hub == rank ? with_first_hub(*rank, rank, entry)
                                                      : others + std::min(entry, rank->link_in + trial.hub_out));
  }
  return least;
}

/// Or the hub has the byte by way of it.
std::uint64_t DomainSpread::least_with_first(const Rank& idle, std::uint64_t entry) const {
  std::uint64_t least = idle.link_out < hub_out_ ? with_first_hub(idle, nullptr, entry) : kNoWay;
  for (const Trial& trial : trials_) {
    least = std::min({least, trial.price + std::min(entry, idle.link_in + trial.hub_out),
                      trial.others + entry + idle.link_out + trial.hub_in});
  }
  return least;
}

std::uint64_t DomainSpread::with_first_hub(Rank hub, const Rank* lacking_hub, std::uint64_t entry) const {
  hub.entry.fill(entry);
  return through(hub, lacking_hub).price[kAnywhere];
}

}  // namespace reshard::bounds
