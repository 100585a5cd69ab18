// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What it takes to bring a byte to all ranks of a domain that lack it, where the network may enter the domain at any
// rank, at a price given for each. All arcs into ranks of the domain are paid, and none that leave it.
//
// Of all ranks of the domain that have the byte some time, let the hub be the one that sends cheapest over its link.
// Then every other rank that lacks the byte pays no less than for coming from the hub, or else over the network. And
// the hub, if it does not hold the byte, has it from a holder, from the network, or by way of one rank that has it from
// the network: more on the way to it would pay no less than the same ranks behind it. So the least is found by trying
// all hubs, and it is exact.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/plan/bounds/prices/cheapest_tails.h"

namespace reshard::bounds {

class DomainSpread {
 public:
  /// A rank's prices over its link, and of the network into it from wherever.
  struct Rank {
    std::uint64_t link_out = 0;
    std::uint64_t link_in = 0;
    ByFrom entry = {};
  };

  void clear();
  void add_holder(std::uint64_t link_out);
  void add_lacking(const Rank& rank);
  void add_idle(const Rank& rank);  ///< neither lacks nor holds the byte, but may relay it

  /// The least, where the network enters the domain at least once from there; if somebody holds the byte, it need not
  /// come from anywhere. kNoWay or more: there is no way. 0: nobody lacks the byte.
  ByFrom least();

  // After least(): where this rank, one that lacks the byte by the place in which it was added, or an idle one, has the
  // byte from its domain or for that much over the network, and not for what else the network would charge. kNoWay or
  // more: it cannot.
  std::uint64_t least_with_first(std::size_t lacking, std::uint64_t entry) const;
  std::uint64_t least_with_first(const Rank& idle, std::uint64_t entry) const;

 private:
  /// Of ranks that neither lack nor hold the byte: for an entry from there, that alone, and with the way on to the hub.
  struct IdleEntry {
    std::uint64_t alone = routing::kNoWay;
    std::uint64_t sending = routing::kNoWay;
  };

  /// What it took with one hub.
  struct Trial {
    const Rank* lacking_hub;  ///< null: the hub is another
    std::uint64_t hub_out;
    std::uint64_t hub_in;  ///< kNoWay: it holds the byte
    std::uint64_t others;  ///< that lack the byte, without the hub
    std::uint64_t price;   ///< with it
  };
  struct Through {
    std::uint64_t others;
    ByFrom price;
  };

  void keep_few_hubs();
  void try_hub(const Rank& hub, const Rank* lacking_hub, ByFrom* least);
  Through through(const Rank& hub, const Rank* lacking_hub) const;
  std::uint64_t enter(const Rank& hub, const Rank* lacking_hub, From from, std::uint64_t anyhow) const;
  std::uint64_t with_first_hub(Rank hub, const Rank* lacking_hub, std::uint64_t entry) const;
  std::uint64_t from_hub_or_network(const Rank& rank, std::uint64_t hub_out) const;

  std::uint64_t holder_out_ = routing::kNoWay;
  std::vector<Rank> lacking_;
  std::vector<Rank> hubs_;  // of the idle ones those that may be worth it
  std::array<IdleEntry, kNumFroms> idle_entry_;
  std::array<bool, kNumFroms> is_from_ = {};  // whether the network enters some rank from there
  std::uint64_t hub_out_ = routing::kNoWay;   // of the cheapest that sends in any case
  std::vector<Trial> trials_;
};

/// Makes it as good as the other in everything, so that it costs no more than either.
void make_as_good(const DomainSpread::Rank& other, DomainSpread::Rank* rank);

}  // namespace reshard::bounds
