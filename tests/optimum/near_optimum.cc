// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: near_optimum FOLDER [--count N] [--seed S] [--ranks N] [--most RATIO] [--only K]
//
// Plans for small random clusters beside the optimum over all trees by which bytes could go:
//
//   the library's bound <= the optimum <= the plan <= RATIO * the optimum
//
// each plan by the load of its busiest resource. RATIO 0, the default: the last is not asked for. What fails is printed
// with its number; `--only` shows it again, and its cluster lies in FOLDER.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <string>

#include "tests/optimum/packing.h"
#include "tests/optimum/planned.h"
#include "tests/optimum/random.h"
#include "tests/optimum/small_cluster.h"

namespace reshard::optimum {
namespace {

constexpr double kPrecision = 1e-4;  // of the optimum
// Of ratios: the library rounds rates down to 1000 bytes a second, of which the slowest uplinks here have some 10^8.
constexpr double kRounding = 1e-5;

struct Arguments {
  std::string folder;
  std::map<std::string, double> values = {
      {"--count", 30}, {"--seed", 1}, {"--ranks", 10}, {"--most", 0}, {"--only", -1}};

  int integer(const char* key) const { return static_cast<int>(values.at(key)); }
};

std::vector<Piece> draw_pieces(Random& random, int num_ranks) {
  std::vector<Piece> pieces(static_cast<std::size_t>(random.of({1, 1, 2, 3, 4, 6, 8})));
  for (Piece& piece : pieces) {
    piece.bytes = std::int64_t{random.of({8, 16, 64, 100, 256, 512})} << 20;
    const int one_in = random.of({1, 1, 1, 2, 4});  // ranks without the piece want it
    const int first_holder = random.between(0, num_ranks - 1);
    const bool is_alone = random.one_in(2);
    for (int rank = 0; rank < num_ranks; ++rank) {
      if (rank == first_holder || (!is_alone && random.one_in(4))) {
        piece.holders.push_back(rank);
      } else if (random.one_in(one_in)) {
        piece.wanted.push_back(rank);
      }
    }
  }
  std::erase_if(pieces, [](const Piece& piece) { return piece.wanted.empty(); });
  return pieces;
}

class Comparison {
 public:
  explicit Comparison(const Arguments& arguments) : arguments_(arguments) {}

  void run(int number) {
    Random random(static_cast<std::uint64_t>(arguments_.integer("--seed")) * 1'000'003 +
                  static_cast<std::uint64_t>(number));
    const SmallCluster cluster(random, arguments_.integer("--ranks"));
    const std::vector<Piece> pieces = draw_pieces(random, cluster.num_ranks());
    if (pieces.empty()) return;
    const std::string file = arguments_.folder + "/cluster" + std::to_string(number) + ".json";
    const Planned plan = plan_pieces(cluster, pieces, file);
    const Optimum optimum = find_optimum(cluster, pieces, kPrecision);
    judge(number, plan, optimum);
    if (arguments_.integer("--only") < 0) return;
    std::printf(
        "%d: %d ranks, %zu pieces: bound %.6f s (%s), optimum %.6f to %.6f s (%d trees, %d rounds), plan %.6f s\n%s",
        number, cluster.num_ranks(), pieces.size(), plan.bound_seconds, plan.bound_name.c_str(),
        optimum.at_least_seconds, optimum.at_most_seconds, optimum.num_trees, optimum.num_rounds, plan.seconds,
        cluster.text().c_str());
    for (const Piece& piece : pieces) print(piece);
  }

  void fail(int number, const std::string& what) {
    ++num_failed_;
    std::printf("cluster %d of seed %d, --ranks %d: %s\n", number, arguments_.integer("--seed"),
                arguments_.integer("--ranks"), what.c_str());
  }

  /// The worst of all; whether everything held.
  bool report() const {
    std::printf(
        "%d clusters of seed %d: plan / optimum %.4f at most (cluster %d), %d above 1.03; optimum / bound %.4f at "
        "most (cluster %d); optimum known within %.1e; %d failed\n",
        num_, arguments_.integer("--seed"), worst_plan_, worst_plan_number_, num_above_, worst_bound_,
        worst_bound_number_, widest_, num_failed_);
    return num_failed_ == 0;
  }

 private:
  void judge(int number, const Planned& plan, const Optimum& optimum) {
    ++num_;
    const double over = plan.seconds / optimum.at_most_seconds;
    num_above_ += over > 1.03 ? 1 : 0;
    widest_ = std::max(widest_, optimum.at_most_seconds / optimum.at_least_seconds - 1);
    if (over > worst_plan_) worst_plan_ = over, worst_plan_number_ = number;
    const double weak = optimum.at_least_seconds / plan.bound_seconds;
    if (weak > worst_bound_) worst_bound_ = weak, worst_bound_number_ = number;
    if (!plan.wrong.empty()) fail(number, plan.wrong);
    if (plan.bound_seconds > optimum.at_most_seconds * (1 + kRounding)) {
      fail(number, "the bound " + plan.bound_name + " is " +
                       std::to_string(plan.bound_seconds / optimum.at_most_seconds) + " times what some plan takes");
    }
    if (plan.seconds < optimum.at_least_seconds * (1 - kRounding)) {
      fail(number, "the plan is quicker than the optimum: one of them is counted wrong");
    }
    const double most = arguments_.values.at("--most");
    if (most > 0 && over > most) fail(number, "the plan takes " + std::to_string(over) + " times the optimum");
  }

  static void print(const Piece& piece) {
    std::printf("%lld bytes, held by", static_cast<long long>(piece.bytes));
    for (const int rank : piece.holders) std::printf(" %d", rank);
    std::printf(", wanted by");
    for (const int rank : piece.wanted) std::printf(" %d", rank);
    std::printf("\n");
  }

  const Arguments& arguments_;
  int num_ = 0;
  int num_failed_ = 0;
  int num_above_ = 0;
  double worst_plan_ = 0;
  double worst_bound_ = 0;
  double widest_ = 0;
  int worst_plan_number_ = -1;
  int worst_bound_number_ = -1;
};

bool parse(int argc, char** argv, Arguments* arguments) {
  if (argc < 2 || argc % 2 != 0) return false;
  arguments->folder = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const auto value = arguments->values.find(argv[i]);
    if (value == arguments->values.end()) return false;
    value->second = std::stod(argv[i + 1]);
  }
  return true;
}

int run(const Arguments& arguments) {
  Comparison comparison(arguments);
  const int only = arguments.integer("--only");
  const int count = only >= 0 ? only + 1 : arguments.integer("--count");
  for (int number = std::max(0, only); number < count; ++number) {
    try {
      comparison.run(number);
    } catch (const std::exception& error) {
      comparison.fail(number, error.what());
    }
  }
  return comparison.report() ? 0 : 1;
}

}  // namespace
}  // namespace reshard::optimum

int main(int argc, char** argv) {
  reshard::optimum::Arguments arguments;
  if (!reshard::optimum::parse(argc, argv, &arguments)) {
    std::fprintf(stderr, "usage: near_optimum FOLDER [--count N] [--seed S] [--ranks N] [--most RATIO] [--only K]\n");
    return 2;
  }
  return reshard::optimum::run(arguments);
}
