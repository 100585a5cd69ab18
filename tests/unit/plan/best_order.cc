// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/plan/best_order.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "src/base/at.h"

namespace reshard::testing {
namespace {

using Uses = std::vector<int>;  // by phase and row: how often

bool has(Mask mask, std::size_t rank) {
  return (mask >> rank & 1U) != 0;
}

/// For each rank the groups that it lacks something of, ascending.
std::vector<std::vector<std::int64_t>> groups_by_rank(std::size_t num_ranks,
                                                      const std::map<Need, std::int64_t>& needs) {
  std::vector<std::set<std::int64_t>> sets(num_ranks);
  for (const auto& [need, bytes] : needs) {
    for (std::size_t rank = 0; rank < num_ranks && bytes > 0; ++rank) {
      if (has(need.wanted & ~need.sources, rank)) sets[rank].insert(need.group);
    }
  }
  std::vector<std::vector<std::int64_t>> out;
  for (const std::set<std::int64_t>& set : sets) out.emplace_back(set.begin(), set.end());
  return out;
}

class OrderedPlans {
 public:
  OrderedPlans(const Machine& machine, const std::map<Need, std::int64_t>& needs, const Limits& limits,
               std::int64_t open_groups)
      : needs_(needs),
        limits_(limits),
        open_groups_(static_cast<std::size_t>(open_groups)),
        groups_(groups_by_rank(machine.gpus.size(), needs)) {
    for (const auto& [need, bytes] : needs) {
      if (is_served(need, bytes)) continue;
      trees_[need] = all_trees(machine, need);
    }
    for (const auto& [rank, bytes] : copied_bytes(machine.gpus.size(), needs)) {
      if (!limits.rows_of_copy(rank).empty()) copies_[rank] = bytes;
    }
  }

  double run() {
    if (trees_.empty() && copies_.empty()) return 0;
    for (const auto& [need, trees] : trees_) {
      if (trees.empty()) return -1;
    }
    // How many groups each rank has completed, phase by phase. Where no more than open_groups are left, all may be
    // open.
    phases_ = {std::vector<std::size_t>(groups_.size())};
    go_on();
    return 1 / best_rate_;
  }

 private:
  static bool is_served(const Need& need, std::int64_t bytes) {
    return (need.wanted & ~need.sources) == 0 || bytes == 0;
  }

  /// Lets each rank in turn be the next to complete a group.
  void go_on() {
    bool is_end = true;
    for (std::size_t rank = 0; rank < groups_.size(); ++rank) {
      if (phases_.back()[rank] + open_groups_ >= groups_[rank].size()) continue;
      is_end = false;
      phases_.push_back(phases_.back());
      ++phases_.back()[rank];
      go_on();
      phases_.pop_back();
    }
    if (is_end) best_rate_ = std::max(best_rate_, rate());
  }

  bool may_take(std::size_t phase, std::size_t rank, std::int64_t group) const {
    const std::vector<std::int64_t>& mine = groups_[rank];
    const auto place = static_cast<std::size_t>(std::find(mine.begin(), mine.end(), group) - mine.begin());
    return place >= phases_[phase][rank] && place < phases_[phase][rank] + open_groups_;
  }

  /// All ways to give the hops of a tree a phase, each as its uses. A holder may send in any phase, a rank that wants
  /// the bytes from the phase in which it has them, and one that relays in that phase only.
  std::set<Uses> timed(const Need& need, const Tree& tree) const {
    std::set<Uses> out;
    std::vector<std::size_t> phase_of(tree.size(), phases_.size());
    choose_phase(need, tree, 0, &phase_of, &out);
    return out;
  }

  void choose_phase(const Need& need, const Tree& tree, std::size_t rank, std::vector<std::size_t>* phase_of,
                    std::set<Uses>* out) const {
    if (rank == tree.size()) {
      if (is_in_order(need, tree, *phase_of)) out->insert(uses(tree, *phase_of));
      return;
    }
    if (tree[rank] == kAbsent) return choose_phase(need, tree, rank + 1, phase_of, out);
    for (std::size_t phase = 0; phase < phases_.size(); ++phase) {
      if (has(need.wanted, rank) && !may_take(phase, rank, need.group)) continue;
      (*phase_of)[rank] = phase;
      choose_phase(need, tree, rank + 1, phase_of, out);
    }
  }

  static bool is_in_order(const Need& need, const Tree& tree, const std::vector<std::size_t>& phase_of) {
    for (std::size_t rank = 0; rank < tree.size(); ++rank) {
      if (tree[rank] == kAbsent || at(tree, tree[rank]) == kAbsent) continue;
      const std::size_t before = at(phase_of, tree[rank]);
      const bool keeps = has(need.wanted, static_cast<std::size_t>(tree[rank]));
      if (keeps ? phase_of[rank] < before : phase_of[rank] != before) return false;
    }
    return true;
  }

  Uses uses(const Tree& tree, const std::vector<std::size_t>& phase_of) const {
    const std::size_t num_rows = limits_.capacity.size();
    Uses out(phases_.size() * num_rows);
    for (std::size_t rank = 0; rank < tree.size(); ++rank) {
      if (tree[rank] == kAbsent) continue;
      for (const std::int32_t row : limits_.rows_of_hop(tree[rank], static_cast<std::int32_t>(rank))) {
        ++out[phase_of[rank] * num_rows + static_cast<std::size_t>(row)];
      }
    }
    return out;
  }

  /// What part of all needs is served in one second: the variables are that part, the length of each phase, and the
  /// bytes by each way.
  double rate() const {
    std::vector<std::pair<double, std::set<Uses>>> ways;  // by need: its bytes, and how they may come
    double scale = 1;
    for (const auto& [need, trees] : trees_) {
      std::set<Uses> its;
      for (const Tree& tree : trees) its.merge(timed(need, tree));
      const auto bytes = static_cast<double>(needs_.at(need));
      scale = std::max(scale, bytes);
      ways.emplace_back(bytes, std::move(its));
    }
    const std::size_t num_rows = limits_.capacity.size();
    const std::size_t num_phases = phases_.size();
    for (const auto& [rank, bytes] : copies_) {  // whenever there is time
      std::set<Uses> its;
      for (std::size_t phase = 0; phase < num_phases; ++phase) {
        Uses uses(num_phases * num_rows);
        for (const std::int32_t row : limits_.rows_of_copy(rank)) {
          ++uses[phase * num_rows + static_cast<std::size_t>(row)];
        }
        its.insert(std::move(uses));
      }
      scale = std::max(scale, static_cast<double>(bytes));
      ways.emplace_back(static_cast<double>(bytes), std::move(its));
    }
    std::size_t num_columns = 1 + num_phases;
    for (const auto& [bytes, its] : ways) num_columns += its.size();
    std::vector<std::vector<double>> rows(1, std::vector<double>(num_columns));
    for (std::size_t phase = 0; phase < num_phases; ++phase) rows[0][1 + phase] = 1;  // a second in all
    std::vector<double> bounds = {1};
    for (std::size_t i = 0; i < num_phases * num_rows; ++i) {
      std::vector<double> row(num_columns);
      row[1 + i / num_rows] = -limits_.capacity[i % num_rows] / scale;
      std::size_t column = 1 + num_phases;
      bool is_used = false;
      for (const auto& [bytes, its] : ways) {
        for (const Uses& way : its) {
          row[column++] = way[i];
          is_used = is_used || way[i] > 0;
        }
      }
      if (!is_used) continue;
      rows.push_back(std::move(row));
      bounds.push_back(0);
    }
    std::size_t column = 1 + num_phases;
    for (const auto& [bytes, its] : ways) {
      std::vector<double> row(num_columns);
      row[0] = bytes / scale;
      for (std::size_t i = 0; i < its.size(); ++i) row[column++] = -1;
      rows.push_back(std::move(row));
      bounds.push_back(0);
    }
    return largest_first(std::move(rows), std::move(bounds));
  }

  const std::map<Need, std::int64_t>& needs_;
  const Limits& limits_;
  std::size_t open_groups_;
  std::vector<std::vector<std::int64_t>> groups_;
  std::map<Need, std::vector<Tree>> trees_;
  std::map<std::int32_t, std::int64_t> copies_;  // by rank
  std::vector<std::vector<std::size_t>> phases_;
  double best_rate_ = 0;
};

}  // namespace

std::int64_t num_waits(std::size_t num_ranks, const std::map<Need, std::int64_t>& needs, std::int64_t open_groups) {
  std::int64_t sum = 0;
  for (const std::vector<std::int64_t>& groups : groups_by_rank(num_ranks, needs)) {
    sum += std::max<std::int64_t>(0, std::ssize(groups) - open_groups);
  }
  return sum;
}

double least_time_in_order(const Machine& machine, const std::map<Need, std::int64_t>& needs, const Limits& limits,
                           std::int64_t open_groups) {
  return OrderedPlans(machine, needs, limits, open_groups).run();
}

}  // namespace reshard::testing
