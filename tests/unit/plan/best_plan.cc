// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/plan/best_plan.h"

#include <algorithm>
#include <set>

#include "src/base/at.h"

namespace reshard::testing {
namespace {

constexpr double kTiny = 1e-9;

bool has(Mask mask, std::int32_t rank) {
  return (mask >> rank & 1U) != 0;
}

class TreeLister {
 public:
  TreeLister(const Machine& machine, const Need& need)
      : machine_(machine), need_(need), parent_(machine.gpus.size(), kAbsent) {}

  std::vector<Tree> run() {
    choose(0);
    return std::move(out_);
  }

 private:
  void choose(std::int32_t rank) {
    if (rank == machine_.num_ranks()) {
      if (is_tree()) out_.push_back(parent_);
      return;
    }
    at(parent_, rank) = kAbsent;
    if (has(need_.sources, rank) || !has(need_.wanted, rank)) choose(rank + 1);
    if (has(need_.sources, rank)) return;
    for (std::int32_t parent = 0; parent < machine_.num_ranks(); ++parent) {
      if (parent == rank || !can_hop(parent, rank)) continue;
      at(parent_, rank) = parent;
      choose(rank + 1);
    }
    at(parent_, rank) = kAbsent;
  }

  bool can_hop(std::int32_t src, std::int32_t dst) const {
    if (machine_.same_domain(RankId(src), RankId(dst))) return true;
    if (!machine_.reaches(RankId(src), RankId(dst))) return false;
    return at(machine_.ports, at(machine_.gpus, src).port).out.bytes_per_s() > 0 &&
           at(machine_.ports, at(machine_.gpus, dst).port).in.bytes_per_s() > 0;
  }

  /// Whether every rank of it is fed from a holder, and feeds somebody or wants the bytes itself.
  bool is_tree() const {
    for (std::int32_t rank = 0; rank < machine_.num_ranks(); ++rank) {
      if (at(parent_, rank) == kAbsent) continue;
      std::int32_t above = rank;
      for (std::size_t steps = 0; at(parent_, above) != kAbsent; ++steps) {
        if (steps == parent_.size()) return false;  // a circle
        above = at(parent_, above);
      }
      if (!has(need_.sources, above)) return false;
      const bool feeds = std::find(parent_.begin(), parent_.end(), rank) != parent_.end();
      if (!feeds && !has(need_.wanted, rank)) return false;
    }
    return true;
  }

  const Machine& machine_;
  const Need& need_;
  Tree parent_;
  std::vector<Tree> out_;
};

/// How often a tree uses each row.
std::vector<int> uses(const Tree& parents, const Limits& limits) {
  std::vector<int> out(limits.capacity.size());
  for (std::size_t rank = 0; rank < parents.size(); ++rank) {
    if (parents[rank] == kAbsent) continue;
    for (const std::int32_t row : limits.rows_of_hop(parents[rank], static_cast<std::int32_t>(rank))) ++at(out, row);
  }
  return out;
}

/// Maximises the first variable under rows * x <= limits, x >= 0, with limits >= 0: a simplex from the origin. Bland's
/// rule (the first variable that gains, the first row among equals) cannot go round in circles.
class Simplex {
 public:
  Simplex(std::vector<std::vector<double>> rows, std::vector<double> limits)
      : rows_(std::move(rows)), limits_(std::move(limits)), gain_(rows_.front().size()) {
    gain_[0] = 1;
    for (std::size_t r = 0; r < rows_.size(); ++r) basic_.push_back(gain_.size() + r);
    for (std::size_t c = 0; c < gain_.size(); ++c) free_.push_back(c);
  }

  double run() {
    for (std::size_t column = entering(); column < gain_.size(); column = entering()) {
      const std::size_t row = leaving(column);
      if (row == rows_.size()) return -1;  // without end
      pivot(row, column);
    }
    return value_;
  }

 private:
  /// The variable of the lowest number that gains; the number of columns if none does.
  std::size_t entering() const {
    std::size_t best = gain_.size();
    for (std::size_t c = 0; c < gain_.size(); ++c) {
      if (gain_[c] > kTiny && (best == gain_.size() || free_[c] < free_[best])) best = c;
    }
    return best;
  }

  std::size_t leaving(std::size_t column) const {
    std::size_t best = rows_.size();
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      if (rows_[r][column] <= kTiny) continue;
      if (best == rows_.size()) {
        best = r;
        continue;
      }
      const double mine = limits_[r] / rows_[r][column];
      const double its = limits_[best] / rows_[best][column];
      if (mine < its - kTiny || (mine <= its + kTiny && basic_[r] < basic_[best])) best = r;
    }
    return best;
  }

  void pivot(std::size_t row, std::size_t column) {
    std::swap(basic_[row], free_[column]);
    const double by = rows_[row][column];
    rows_[row][column] = 1;
    for (double& value : rows_[row]) value /= by;
    limits_[row] /= by;
    for (std::size_t r = 0; r < rows_.size(); ++r) {
      const double times = rows_[r][column];
      if (r == row || times == 0) continue;
      rows_[r][column] = 0;
      for (std::size_t c = 0; c < gain_.size(); ++c) rows_[r][c] -= times * rows_[row][c];
      limits_[r] = std::max(0.0, limits_[r] - times * limits_[row]);
    }
    const double times = gain_[column];
    gain_[column] = 0;
    for (std::size_t c = 0; c < gain_.size(); ++c) gain_[c] -= times * rows_[row][c];
    value_ += times * limits_[row];
  }

  std::vector<std::vector<double>> rows_;
  std::vector<double> limits_;
  std::vector<double> gain_;        // by column: of a unit of its variable
  std::vector<std::size_t> basic_;  // by row: its variable
  std::vector<std::size_t> free_;   // by column: its variable
  double value_ = 0;
};

Limits rank_limits(const Machine& machine, bool sends) {
  return {std::vector<double>(machine.gpus.size(), 1.0),
          [sends](std::int32_t src, std::int32_t dst) { return std::vector<std::int32_t>{sends ? src : dst}; },
          [](std::int32_t) { return std::vector<std::int32_t>{}; }};
}

}  // namespace

std::vector<Tree> all_trees(const Machine& machine, const Need& need) {
  return TreeLister(machine, need).run();
}

double largest_first(std::vector<std::vector<double>> rows, std::vector<double> limits) {
  return Simplex(std::move(rows), std::move(limits)).run();
}

Limits time_limits(const Machine& machine) {
  Limits out;
  const std::int32_t num_others = machine.num_resources() - machine.num_ranks();  // memories are the last
  for (std::int32_t r = 0; r < num_others; ++r) {
    out.capacity.push_back(static_cast<double>(machine.link_of(r).bytes_per_s()));
  }
  for (const Machine::Gpu& gpu : machine.gpus) out.capacity.push_back(static_cast<double>(gpu.memory.bytes_per_s()));
  const auto memory_row = [&machine, num_others](std::int32_t rank, std::vector<std::int32_t>* rows) {
    if (at(machine.gpus, rank).memory.bytes_per_s() > 0) rows->push_back(num_others + rank);
  };
  out.rows_of_hop = [&machine, memory_row](std::int32_t src, std::int32_t dst) {
    std::vector<std::int32_t> rows;
    machine.append_path(RankId(src), RankId(dst), &rows);
    memory_row(src, &rows);  // is read
    memory_row(dst, &rows);  // is written
    return rows;
  };
  out.rows_of_copy = [memory_row](std::int32_t rank) {
    std::vector<std::int32_t> rows;
    for (int i = 0; i < 2; ++i) memory_row(rank, &rows);
    return rows;
  };
  return out;
}

std::map<std::int32_t, std::int64_t> copied_bytes(std::size_t num_ranks, const std::map<Need, std::int64_t>& needs) {
  std::map<std::int32_t, std::int64_t> out;
  for (const auto& [need, bytes] : needs) {
    for (std::int32_t rank = 0; rank < static_cast<std::int32_t>(num_ranks); ++rank) {
      if (bytes > 0 && has(need.wanted & need.sources, rank)) out[rank] += bytes;
    }
  }
  return out;
}

Limits send_limits(const Machine& machine) {
  return rank_limits(machine, true);
}

Limits receive_limits(const Machine& machine) {
  return rank_limits(machine, false);
}

double least_time(const Machine& machine, const std::map<Need, std::int64_t>& needs, const Limits& limits) {
  // The largest rate: that of each need's bytes, as a multiple of its size, that all trees together bring.
  double scale = 1;
  for (const double capacity : limits.capacity) scale = std::max(scale, capacity);
  std::vector<std::vector<double>> rows;
  std::vector<double> bounds;
  for (const double capacity : limits.capacity) {
    rows.push_back({0});
    bounds.push_back(capacity / scale);
  }
  // Copies are made in every plan: they take their part of a memory whatever the trees are.
  bool has_copies = false;
  for (const auto& [rank, bytes] : copied_bytes(machine.gpus.size(), needs)) {
    for (const std::int32_t row : limits.rows_of_copy(rank)) {
      at(rows, row)[0] += static_cast<double>(bytes) / scale;
      has_copies = true;
    }
  }
  std::size_t num_columns = 1;
  for (const auto& [need, bytes] : needs) {
    if ((need.wanted & ~need.sources) == 0 || bytes == 0) continue;
    std::set<std::vector<int>> ways;
    for (const Tree& tree : all_trees(machine, need)) ways.insert(uses(tree, limits));
    if (ways.empty()) return -1;
    rows.emplace_back(num_columns)[0] = static_cast<double>(bytes) / scale;  // rate * size - trees <= 0
    bounds.push_back(0);
    for (std::vector<double>& row : rows) row.resize(num_columns + ways.size());
    for (const std::vector<int>& way : ways) {
      for (std::size_t r = 0; r < way.size(); ++r) rows[r][num_columns] = way[r];
      rows.back()[num_columns++] = -1;
    }
  }
  if (num_columns == 1 && !has_copies) return 0;
  for (std::size_t r = limits.capacity.size(); r-- > 0;) {  // what no tree uses, or what limits nothing
    const bool is_used = std::any_of(rows[r].begin(), rows[r].end(), [](double use) { return use > 0; });
    if (is_used) continue;
    rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(r));
    bounds.erase(bounds.begin() + static_cast<std::ptrdiff_t>(r));
  }
  const double rate = largest_first(std::move(rows), std::move(bounds));
  return rate < 0 ? 0 : 1 / rate;
}

}  // namespace reshard::testing
