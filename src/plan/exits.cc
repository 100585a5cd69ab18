// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Senders are chosen for pools: all that the holders of one set send to one leaf switch. Not bundle by bundle, because
// what makes a port busy is the sum over all bundles, and a choice that is even for each tensor need not be for the
// model (the stages of a trainer hold different layers). The leaf is part of a pool, because which holders are near
// depends on where the bytes go.
//
// The choice is made in turns. Each counts what the pools send with chains as long as they are now, fills the
// candidates by water, and looks for senders that are busier than their target: the time that the busiest domain takes
// to receive anyway. A pool with such a sender gets the cheapest help that is left:
// - wider candidates, which cost nothing but a longer way through the fabric;
// - longer chains, which take copies off the sources but make domains wait for others;
// - neighbours' ports, for which each byte takes one hop more.
// Nothing of this is ever taken back, so the turns come to an end.
//
// Why chains and no trees: a rank in a chain sends on no more than it receives, so that ports, which carry both
// directions at once, are as busy out as in; one in the middle of a k-ary tree sends k times as much, and would have to
// receive at 1 / k of its rate. The price of a chain is the time until its last domain has the first window: hence the
// limits on its length.
//
// What is left is to cut bytes: the bytes of a pool are laid end to end (Line) and each sender gets a piece as long as
// its share.
#include "src/plan/exits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <span>
#include <tuple>
#include <utility>

#include "src/plan/line.h"
#include "src/plan/loads.h"
#include "src/plan/water_fill.h"

namespace reshard {
namespace {

// Longest chains of domains, tried in this order; the last is one chain through all. Each step costs another count and
// fill, so they grow by a third or more. Beyond 16 one slow domain holds up too many others: only if need be.
constexpr std::array<std::int32_t, 12> kChainLengths = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 256, INT32_MAX};

// A level within 0.5 % of the target is as good as the target. A wider choice must have a rank that is at least 2 %
// less busy than any now: below that the longer way costs more than it relieves.
constexpr std::int64_t kTargetPermille = 1005;
constexpr std::int64_t kHelpPermille = 980;

/// Who may send what lands on a leaf, from near to far: holders with a port on that leaf, whose bytes pass no uplink;
/// holders on its rail; all holders; and all ranks of the holders' domains, which get the bytes over the domain's links
/// first.
enum Tier : std::int8_t { kSameLeaf, kSameRail, kAnyHolder, kAnyNeighbour, kNumTiers };

/// What the holders of one set have to send to one leaf switch. Its tier and what it lends only ever grow.
struct Pool {
  std::int32_t sources = 0;           ///< id in Plan::sets
  std::int32_t leaf = 0;              ///< of the first landings
  int tier = 0;                       ///< of the candidates, a Tier
  std::vector<std::int32_t> ranks;    ///< candidates, ascending
  std::int64_t bytes = 0;             ///< that leave ports: of each copy
  std::vector<std::int32_t> helpers;  ///< ranks that lend their ports for a part of the bytes, candidates among them
  std::int64_t lent_permille = 0;     ///< that part
};

/// By rank, how long it may be busy where receivers take groups in order, few at a time: as long as the domains take to
/// receive the groups of which it holds something, one after the other; a rank that holds nothing, all the time. With
/// the one target of the whole instead, a pipeline stage would be allowed to spread its bytes over a time in which the
/// receivers wait for other stages' groups, and its ports would hold up all of them while it is its turn.
///
/// Times are in bytes of the fastest part out, the unit of all levels here: of a group, the bytes that enter a domain
/// over what all its ports take in, for the domain that takes longest.
std::vector<std::int64_t> targets_in_order(const Plan& plan, const Network& network, const DomainSets& domains,
                                           const Landings& landings) {
  const GroupSplitter splitter(plan);
  const std::size_t num_groups = plan.groups.size();
  std::vector<std::vector<std::int64_t>> entering(network.machine.domains.size());  // by place of domain, by group
  std::vector<std::vector<bool>> groups_of(static_cast<std::size_t>(plan.sets.size()));
  std::vector<GroupBytes> parts;
  for (const Landing& landing : landings.all) {
    std::vector<std::int64_t>& here = at(entering, landing.place);
    std::vector<bool>& mine = at(groups_of, at(plan.bundles, landing.bundle).sources);
    here.resize(num_groups);
    mine.resize(num_groups);
    parts.clear();
    splitter.split({landing.bundle, landing.begin, landing.end}, &parts);
    for (const GroupBytes& part : parts) {
      at(here, part.group) += part.bytes;
      mine[static_cast<std::size_t>(part.group)] = true;
    }
  }
  std::vector<std::int64_t> busy(num_groups);
  for (std::size_t d = 0; d < network.machine.domains.size(); ++d) {
    const std::vector<std::int64_t>& here = at(entering, at(domains.place_of_domain(), d));
    std::int64_t capacity = 0;
    for (const std::int32_t rank : at(network.machine.domains, d).ranks) capacity += network.in(rank);
    for (std::size_t g = 0; g < here.size(); ++g) {
      busy[g] = std::max(busy[g],
                         static_cast<std::int64_t>(static_cast<__int128>(here[g]) * network.fastest_out() / capacity));
    }
  }
  std::vector<std::vector<bool>> groups_of_rank(static_cast<std::size_t>(plan.num_ranks));
  for (std::int32_t set = 0; set < plan.sets.size(); ++set) {
    if (at(groups_of, set).empty()) continue;
    for (const std::int32_t rank : plan.sets.ranks(set)) {
      std::vector<bool>& mine = at(groups_of_rank, rank);
      mine.resize(num_groups);
      for (std::size_t g = 0; g < num_groups; ++g) mine[g] = mine[g] || at(groups_of, set)[g];
    }
  }
  std::vector<std::int64_t> targets;
  for (const std::vector<bool>& mine : groups_of_rank) {
    std::int64_t sum = 0;
    for (std::size_t g = 0; g < num_groups; ++g) sum += mine.empty() || mine[g] ? busy[g] : 0;
    targets.push_back(sum);
  }
  return targets;
}

/// Holds the choice while it is made: pools with their candidates and, by source set, the length of chains. All else
/// (fill_, relayed_, load_) follows from these and is made anew in every turn.
class ExitChooser {
 public:
  ExitChooser(const Plan& plan, const Network& network, const DomainSets& domains, Landings landings, const Kept& kept)
      : kept_(kept),
        plan_(plan),
        network_(network),
        domains_(domains),
        landings_(std::move(landings)),
        chain_(static_cast<std::size_t>(plan.sets.size())) {
    // The time that the busiest domain takes to receive, busiest_bytes / fastest_in, as bytes of the fastest part out.
    const auto target = static_cast<std::int64_t>(static_cast<__int128>(landings_.busiest_bytes) *
                                                  network.fastest_out() / network.fastest_in());
    for (std::int32_t r = 0; r < plan.num_ranks; ++r) capacities_.push_back(network.out(r));
    targets_.assign(capacities_.size(), target);
    // Nothing is relieved without a machine, and so nothing compared with the targets. Receivers that begin with
    // different groups keep all stages busy at once: there the one target is right.
    const bool has_targets = plan.options.machine != nullptr;
    if (has_targets && plan.options.open_groups > 0 && plan.options.order == GroupOrder::kFixed) {
      targets_ = targets_in_order(plan, network, domains, landings_);
    }
  }

  /// Candidates are sought in every turn, for longer chains begin at other landings and so make new pools.
  Result<Passages> run() {
    fill_.level = 0;
    do {
      count();
      RESHARD_TRY(find_candidates());
      fill();
    } while (plan_.options.machine != nullptr && relieve());
    out_.certificate = {fill_.level, fill_.bound};
    pass_network();
    return std::move(out_);
  }

 private:
  std::int32_t chain_length(std::int32_t sources) const {
    return kChainLengths[static_cast<std::size_t>(at(chain_, sources))];
  }

  /// What leaves a source's port once: for a chain, or for each of these ranks once. The unit in which pools are
  /// counted and, at last, cut.
  struct Departure {
    Range range;
    std::span<const std::int32_t> landings;  ///< in the order of the chain
    std::int32_t receivers = -1;             ///< the landings' id in Landings::receivers; -1: of a chain
    std::int64_t num_copies() const { return receivers < 0 ? 1 : static_cast<std::int64_t>(landings.size()); }
  };

  /// Calls visit(departure) for all that leaves sources, the same in every turn but for the length of chains. They are
  /// made each time anew: a thousand replicas have millions.
  template <typename Visit>
  void for_each_chain(const Visit& visit) const {
    for (auto first = landings_.all.begin(); first != landings_.all.end();) {
      auto last = first;
      while (last != landings_.all.end() && last->bundle == first->bundle) ++last;
      const std::int32_t length = chain_length(at(plan_.bundles, first->bundle).sources);
      if (length == 1) {
        for (auto l = first; l != last; ++l) visit(alone(*l));
      } else {
        for_each_chain_of({&*first, static_cast<std::size_t>(last - first)}, length, visit);
      }
      first = last;
    }
  }

  /// A landing that nobody hands on.
  Departure alone(const Landing& landing) const {
    const Range range{landing.bundle, landing.begin, landing.end};
    if (landing.receivers < 0) return {range, {&landing.rank, 1}, -1};
    return {range, landings_.receivers.ranks(landing.receivers), landing.receivers};
  }

  /// The bundle is cut wherever some domain changes the landing; each piece has one landing in every domain. They stand
  /// in the order of places, by pod and block, so that a chain crosses few boundaries of the fabric. Where there are
  /// more than `length`, they make several chains whose lengths differ by one at most, since the longest decides when
  /// the last rank is served.
  template <typename Visit>
  void for_each_chain_of(std::span<const Landing> landings, std::int32_t length, const Visit& visit) const {
    std::vector<std::int64_t> cuts;
    for (const Landing& landing : landings) cuts.push_back(landing.begin);
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    cuts.push_back(at(plan_.bundles, landings.front().bundle).size_bytes);
    std::vector<std::int32_t> ranks;
    for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
      ranks.clear();
      for (const Landing& landing : landings) {
        if (landing.begin <= cuts[c] && cuts[c] < landing.end) ranks.push_back(landing.rank);
      }
      // Another domain is first for every bundle, so that no one's port only takes and no one's only gives.
      const auto count = static_cast<std::int32_t>(ranks.size());
      std::rotate(ranks.begin(), ranks.begin() + landings.front().bundle % count, ranks.end());
      const std::int32_t num_chains = (count - 1) / length + 1;
      for (std::int32_t i = 0; i < num_chains; ++i) {
        const std::int64_t from = std::int64_t{count} * i / num_chains;
        const std::int64_t to = std::int64_t{count} * (i + 1) / num_chains;
        visit_linked(Range{landings.front().bundle, cuts[c], cuts[c + 1]},
                     {ranks.data() + from, static_cast<std::size_t>(to - from)}, visit);
      }
    }
  }

  /// Ends a chain where no port of a domain reaches the next one's, and begins another.
  template <typename Visit>
  void visit_linked(const Range& range, std::span<const std::int32_t> ranks, const Visit& visit) const {
    std::size_t first = 0;
    for (std::size_t i = 1; i <= ranks.size(); ++i) {
      if (i < ranks.size() && can_pass(range.bundle, ranks[i - 1], ranks[i])) continue;
      visit(Departure{range, ranks.subspan(first, i - first), -1});
      first = i;
    }
  }

  /// Whether a chain can go on from one landing to the next: from the rank that keeps the bytes there, or over the port
  /// of a neighbour. Not over that of the rank that only staged them: the bytes would come to it a second time, which
  /// no route may do.
  bool can_pass(std::int32_t bundle, std::int32_t landing, std::int32_t next) const {
    const std::int32_t domain = at(network_.machine.gpus, landing).domain;
    const Keeper keeper = domains_.keeper(at(plan_.bundles, bundle).destinations, domain, landing);
    return network_.exit_towards(keeper.rank, next, keeper.staged_at) >= 0;
  }

  /// What each pool sends, and what ranks forward, with chains as long as they are now. What is forwarded is booked on
  /// the landing; it may leave by another port of the same domain, but that is only settled when routes are built.
  void count() {
    relayed_ = kept_.out_bytes;
    relayed_.resize(capacities_.size());
    for (Pool& pool : pools_) pool.bytes = 0;
    for_each_chain([&](const Departure& departure) {
      const std::int64_t bytes = departure.range.end - departure.range.begin;
      pool_of(sources_of(departure), leaf_of(departure)).bytes += bytes * departure.num_copies();
      if (departure.receivers >= 0) return;
      const std::span<const std::int32_t> relays = departure.landings.first(departure.landings.size() - 1);
      for (const std::int32_t rank : relays) at(relayed_, rank) += bytes;
    });
  }

  std::int32_t sources_of(const Departure& departure) const {
    return at(plan_.bundles, departure.range.bundle).sources;
  }

  /// Ranks that get a copy each are all behind one leaf.
  std::int32_t leaf_of(const Departure& departure) const { return network_.leaf(departure.landings.front()); }

  /// Pools are numbered in the order in which their first departure comes, so that every rank numbers them alike.
  Pool& pool_of(std::int32_t sources, std::int32_t leaf) {
    const auto [entry, is_new] = pool_ids_.try_emplace({sources, leaf}, pools_.size());
    if (is_new) {
      pools_.emplace_back();
      pools_.back().sources = sources;
      pools_.back().leaf = leaf;
    }
    return pools_[entry->second];
  }

  /// The ranks of a tier, ascending as Demand wants them. Isolated rails leave no choice in any tier: a port on another
  /// rail does not reach the leaf. A leaf without a rail of its own (-1) serves all of them.
  std::vector<std::int32_t> candidates(const Pool& pool, int tier) const {
    const std::int32_t rail = at(network_.machine.leaves, pool.leaf).rail;
    const bool needs_rail = network_.machine.rail_isolated || tier == kSameRail;
    std::vector<std::int32_t> out;
    const auto add = [&](std::int32_t rank) {
      if (network_.out(rank) == 0) return;
      if (tier == kSameLeaf && network_.leaf(rank) != pool.leaf) return;
      if (needs_rail && rail >= 0 && network_.rail(rank) != rail) return;
      out.push_back(rank);
    };
    if (tier < kAnyNeighbour) {
      for (const std::int32_t rank : plan_.sets.ranks(pool.sources)) add(rank);
      return out;
    }
    for (const std::int32_t domain : domains_.of(pool.sources).domains) {
      for (const std::int32_t rank : at(network_.machine.domains, domain).ranks) add(rank);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  /// Gives each pool that has none the nearest candidates that there are. A pool may have lost its bytes since to a
  /// longer chain; then it needs none.
  Status find_candidates() {
    for (Pool& pool : pools_) {
      while (pool.ranks.empty() && pool.tier < kNumTiers) {
        pool.ranks = candidates(pool, pool.tier);
        if (pool.ranks.empty()) ++pool.tier;
      }
      if (!pool.ranks.empty() || pool.bytes == 0) continue;
      return invalid_argument(fmt::format("no port leads from rank {}, which holds what others need, into the network",
                                          plan_.sets.ranks(pool.sources).front()));
    }
    return {};
  }

  /// Where nothing is lent the second demand is of 0 bytes, and its candidates are the pool's own, as any would do.
  static const std::vector<std::int32_t>& helpers(const Pool& pool) {
    return pool.lent_permille > 0 ? pool.helpers : pool.ranks;
  }

  /// Each pool is two demands, 2 p and 2 p + 1: what its ranks send, and what others may send for them. What ranks
  /// forward is there before anything is poured.
  void fill() {
    std::vector<Demand> demands;
    for (const Pool& pool : pools_) {
      const auto lent = static_cast<std::int64_t>(static_cast<__int128>(pool.bytes) * pool.lent_permille / 1000);
      demands.push_back({pool.bytes - lent, pool.ranks});
      demands.push_back({lent, helpers(pool)});
    }
    fill_ = water_fill(demands, capacities_, relayed_);
  }

  /// Bytes by rank that a pool sends, ranks ascending.
  std::vector<std::pair<std::int32_t, std::int64_t>> shares(std::size_t pool) const {
    std::map<std::int32_t, std::int64_t> sum;
    const Pool& mine = pools_[pool];
    for (std::size_t s = 0; s < mine.ranks.size(); ++s) sum[mine.ranks[s]] += fill_.shares[2 * pool][s];
    const std::vector<std::int32_t>& lenders = helpers(mine);
    for (std::size_t s = 0; s < lenders.size(); ++s) sum[lenders[s]] += fill_.shares[2 * pool + 1][s];
    return {sum.begin(), sum.end()};
  }

  /// Bytes of the fastest part that a rank is busy with. 128 bits, as for all products of bytes and rates here: 1 TB
  /// times 50 GB/s is beyond 63.
  __int128 level(std::int32_t rank) const {
    return static_cast<__int128>(at(load_, rank)) * network_.fastest_out() / at(capacities_, rank);
  }

  bool is_too_busy(std::int32_t rank) const {
    return at(capacities_, rank) > 0 &&
           level(rank) * 1000 > static_cast<__int128>(at(targets_, rank)) * kTargetPermille;
  }

  /// Changes something for the pools whose senders are busier than they need be; false when nothing is left to change.
  bool relieve() {
    load_ = relayed_;
    for (std::size_t p = 0; p < pools_.size(); ++p) {
      for (const auto& [rank, bytes] : shares(p)) at(load_, rank) += bytes;
    }
    bool changed = false;
    std::vector<bool> grown(chain_.size());  // by source set: chains grow once a turn, however many of its pools ask
    for (std::size_t p = 0; p < pools_.size(); ++p) {
      Pool& pool = pools_[p];
      bool is_busy = false;
      for (std::size_t s = 0; s < pool.ranks.size(); ++s) {
        is_busy = is_busy || (fill_.shares[2 * p][s] > 0 && is_too_busy(pool.ranks[s]));
      }
      if (is_busy && (widen(&pool) || grow_chains(pool.sources, &grown) || lend(&pool))) changed = true;
    }
    return changed;
  }

  /// The least busy of these ranks.
  __int128 least_level(const std::vector<std::int32_t>& ranks) const {
    __int128 least = level(ranks.front());
    for (const std::int32_t rank : ranks) least = std::min(least, level(rank));
    return least;
  }

  /// Moves the pool on to the next tier of holders with less busy ones; tiers without are passed over.
  bool widen(Pool* pool) const {
    for (int tier = pool->tier + 1; tier <= kAnyHolder; ++tier) {
      std::vector<std::int32_t> wider = candidates(*pool, tier);
      if (least_level(wider) * 1000 >= least_level(pool->ranks) * kHelpPermille) continue;
      pool->ranks = std::move(wider);
      pool->tier = tier;
      return true;
    }
    return false;
  }

  /// Gives what is beyond the target to other ranks of the holders' domains: no more, for each byte costs a hop. The
  /// part is that of the busiest sender, rounded up, so that it grows in every turn and lending ends at the whole.
  bool lend(Pool* pool) const {
    if (pool->tier == kAnyNeighbour) return false;
    std::vector<std::int32_t> helpers = candidates(*pool, kAnyNeighbour);
    if (least_level(helpers) * 1000 >= least_level(pool->ranks) * kHelpPermille) return false;
    std::int64_t beyond_permille = 0;
    for (const std::int32_t rank : pool->ranks) {
      const __int128 mine = level(rank);
      if (mine > 0)
        beyond_permille =
            std::max(beyond_permille, static_cast<std::int64_t>((mine - at(targets_, rank)) * 1000 / mine));
    }
    pool->helpers = std::move(helpers);
    pool->lent_permille = std::min<std::int64_t>(1000, pool->lent_permille + beyond_permille + 1);
    return true;
  }

  /// Makes the chains of all bundles of these sources longer by a step; false where that changes nothing any more.
  bool grow_chains(std::int32_t sources, std::vector<bool>* grown) {
    if (at(*grown, sources)) return true;
    // Destinations that begin with different groups are not fed from each other.
    if (plan_.options.open_groups > 0 && plan_.options.order != GroupOrder::kFixed) return false;
    auto& chain = at(chain_, sources);
    if (chain + 1 >= static_cast<int>(kChainLengths.size()) || chain_length(sources) >= most_domains(sources)) {
      return false;
    }
    ++chain;
    (*grown)[static_cast<std::size_t>(sources)] = true;
    return true;
  }

  /// Most domains that any bundle of these sources goes to: longer chains than that there are none. Counted once, as
  /// landings stay. (They are ordered by bundle and place, so a new place is a new domain.)
  std::int32_t most_domains(std::int32_t sources) {
    if (most_domains_.empty()) {
      most_domains_.resize(chain_.size());
      for (auto first = landings_.all.begin(); first != landings_.all.end();) {
        std::int32_t count = 0;
        std::int32_t place = -1;
        auto last = first;
        for (; last != landings_.all.end() && last->bundle == first->bundle; ++last) {
          count += last->place != place ? 1 : 0;
          place = last->place;
        }
        auto& most = at(most_domains_, at(plan_.bundles, first->bundle).sources);
        most = std::max(most, count);
        first = last;
      }
    }
    return at(most_domains_, sources);
  }

  /// What a pool has to send to a landing, or to each of some.
  struct Item {
    Range range;
    std::int64_t first_landing;
    std::int32_t num_landings;
    Relation relation;
  };

  /// The ranks of a pool that send something, or could, and what each of them sends.
  struct Senders {
    std::vector<std::int32_t> exits;
    std::vector<std::int64_t> bytes;
    std::int64_t tolerance = 0;  ///< within which a sender's bytes may be more or less
  };

  /// Cuts what each pool sends among its ranks. Landings go as soon as all items are made of them, and items pool by
  /// pool: of a thousand replicas either is as large as the plan.
  void pass_network() {
    std::vector<std::vector<Item>> items(pools_.size());
    for_each_chain([&](const Departure& departure) {
      items[pool_ids_.at({sources_of(departure), leaf_of(departure)})].push_back(item_of(departure));
    });
    landings_ = {};
    std::size_t num_items = 0;
    for (const std::vector<Item>& of_pool : items) num_items += of_pool.size();
    out_.all.reserve(num_items);
    std::vector<std::int64_t> pools_of_rank(capacities_.size());
    for (std::size_t p = 0; p < pools_.size(); ++p) {
      for (const auto& [rank, bytes] : shares(p)) ++at(pools_of_rank, rank);
    }
    for (std::size_t p = 0; p < pools_.size(); ++p) {
      const Senders senders = senders_of(p, pools_of_rank);
      if (!items[p].empty() && items[p].front().relation == Relation::kEach) {
        send_to_each(senders, items[p]);
      } else {
        send(p, senders, &items[p]);
      }
      items[p] = {};
    }
  }

  /// Ranks of one receiver list are written down once, however many items go to them: passages that share the place in
  /// Passages::landings are known to go to the same ranks (PassageLists).
  Item item_of(const Departure& departure) {
    const auto num_landings = static_cast<std::int32_t>(departure.landings.size());
    if (departure.receivers < 0) {
      return {departure.range, add_landings(departure.landings), num_landings, Relation::kChain};
    }
    first_of_receivers_.resize(static_cast<std::size_t>(landings_.receivers.size()), -1);
    std::int64_t& first = at(first_of_receivers_, departure.receivers);
    if (first < 0) first = add_landings(departure.landings);
    return {departure.range, first, num_landings, Relation::kEach};
  }

  std::int64_t add_landings(std::span<const std::int32_t> ranks) {
    const auto first = static_cast<std::int64_t>(out_.landings.size());
    out_.landings.insert(out_.landings.end(), ranks.begin(), ranks.end());
    return first;
  }

  /// A source deviates by at most one tolerance at each end of its share of each of its pools: 2 % of the level in all.
  Senders senders_of(std::size_t pool, const std::vector<std::int64_t>& pools_of_rank) const {
    Senders out;
    std::int64_t most_pools = 1;
    for (const auto& [rank, share] : shares(pool)) {
      most_pools = std::max(most_pools, at(pools_of_rank, rank));
      out.exits.push_back(rank);
      out.bytes.push_back(share);
    }
    out.tolerance = fill_.level / (100 * most_pools);
    return out;
  }

  /// Lays what goes to the same first landing side by side, as one section of the line: cuts fall between sections
  /// where the tolerance allows, so that each sender has few receivers to talk to.
  void send(std::size_t pool, const Senders& senders, std::vector<Item>* items) {
    const auto head = [&](const Item& item) { return at(out_.landings, item.first_landing); };
    std::stable_sort(items->begin(), items->end(), [&](const Item& a, const Item& b) { return head(a) < head(b); });
    Line line(plan_);
    for (const Item& item : *items) line.add(item.range, head(item));
    line.divide(senders.bytes, senders.tolerance, [&](std::size_t part, std::size_t index, const Range& range) {
      const std::int32_t exit = senders.exits[part];
      const Item& item = (*items)[index];
      out_.all.push_back({origin_of(exit, pools_[pool].sources), exit, range, item.first_landing, item.num_landings,
                          Relation::kChain});
    });
  }

  /// The same for copies that each of many ranks gets for itself, on a line on which those of each rank follow each
  /// other. The senders hold the bytes themselves. Ranks that get the same from the same sender are one passage again.
  void send_to_each(const Senders& senders, const std::vector<Item>& items) {
    if (senders.exits.size() == 1) {
      const std::int32_t exit = senders.exits.front();
      for (const Item& item : items) add_to_each(exit, item.range, item.first_landing, item.num_landings);
      return;
    }
    // Rank by rank, each with its items in order: what a rank gets lies together, so few senders serve it.
    std::vector<std::pair<std::int32_t, std::size_t>> copies;  // (rank, item)
    for (std::size_t i = 0; i < items.size(); ++i) {
      for (std::int32_t l = 0; l < items[i].num_landings; ++l) {
        copies.emplace_back(at(out_.landings, items[i].first_landing + l), i);
      }
    }
    std::sort(copies.begin(), copies.end());
    Line line(plan_);
    for (const auto& [rank, item] : copies) line.add(items[item].range, rank);
    // By what a passage is, apart from its landings: (item, begin, end, part), which is which bytes from which sender.
    // In the order of items, so that what one rank gets from one sender stays in the order of the line.
    std::map<std::tuple<std::size_t, std::int64_t, std::int64_t, std::size_t>, std::vector<std::int32_t>> ranks_of;
    line.divide(senders.bytes, senders.tolerance, [&](std::size_t part, std::size_t index, const Range& range) {
      const auto& [rank, item] = copies[index];
      ranks_of[{item, range.begin, range.end, part}].push_back(rank);
    });
    for (const auto& [key, ranks] : ranks_of) {
      const auto& [item, begin, end, part] = key;
      const auto [list, is_new] = first_of_ranks_.try_emplace(ranks, 0);
      if (is_new) list->second = add_landings(ranks);
      add_to_each(senders.exits[part], {items[item].range.bundle, begin, end}, list->second,
                  static_cast<std::int32_t>(ranks.size()));
    }
  }

  void add_to_each(std::int32_t exit, const Range& range, std::int64_t first_landing, std::int32_t num_landings) {
    out_.all.push_back({exit, exit, range, first_landing, num_landings, Relation::kEach});
  }

  /// The rank itself if it holds the bytes, else a holder in its domain. Several exits use several holders, as far as
  /// the numbers of ranks spread them.
  std::int32_t origin_of(std::int32_t exit, std::int32_t sources) const {
    if (plan_.sets.contains(sources, exit)) return exit;
    const RanksByDomain& view = domains_.of(sources);
    const std::ptrdiff_t i = view.find(at(network_.machine.gpus, exit).domain, domains_.place_of_domain());
    const auto holders = view.ranks_of(static_cast<std::size_t>(i));
    return holders[static_cast<std::size_t>(exit) % holders.size()];
  }

  const Kept& kept_;
  const Plan& plan_;
  const Network& network_;
  const DomainSets& domains_;
  Landings landings_;                       // until passages are made of them
  std::vector<std::int64_t> capacities_;    // by rank
  std::vector<std::int64_t> targets_;       // by rank: bytes of the fastest part that it may be busy with, a level
  std::vector<std::int64_t> relayed_;       // by rank: bytes it forwards to other domains
  std::vector<std::int64_t> load_;          // by rank: bytes that leave by its part of a port
  std::vector<int> chain_;                  // by source set, index in kChainLengths
  std::vector<std::int32_t> most_domains_;  // by source set
  std::vector<Pool> pools_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::size_t> pool_ids_;  // by (source set, leaf)
  WaterFill fill_;
  // Where lists of ranks that get a copy each begin in out_.landings: as they came, and as they were divided.
  std::vector<std::int64_t> first_of_receivers_;
  std::map<std::vector<std::int32_t>, std::int64_t> first_of_ranks_;
  Passages out_;
};

}  // namespace

Result<Passages> choose_exits(const Plan& plan, const Network& network, const DomainSets& domains, Landings landings,
                              const Kept& kept) {
  return ExitChooser(plan, network, domains, std::move(landings), kept).run();
}

}  // namespace reshard
