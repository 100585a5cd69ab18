// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/optimum/planned.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "reshard/reshard.h"

namespace reshard::optimum {
namespace {

using nlohmann::json;

constexpr std::int64_t kRowBytes = 1024;
constexpr double kRounding = 1e-6;  // times are read from text

struct Destroy {
  void operator()(reshard_layout_t layout) const { reshard_layout_destroy(layout); }
  void operator()(reshard_machine_t machine) const { reshard_machine_destroy(machine); }
  void operator()(reshard_plan_t plan) const { reshard_plan_destroy(plan); }
};

void check(reshard_status_t status, const char* what) {
  if (status != RESHARD_OK) throw std::runtime_error(std::string(what) + ": " + reshard_last_error());
}

json side(const std::vector<int>& ranks) {
  const json axis = json::array({"r", ranks.size()});
  return {{"dtype", "U8"},
          {"mesh", {{"axes", json::array({axis})}, {"ranks", ranks}}},
          {"placements", json::array({"replicate"})}};
}

/// The general form: every piece a tensor that its holders and those who want it have whole.
json spec_of(const SmallCluster& cluster, const std::vector<Piece>& pieces) {
  json tensors = json::array();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    tensors.push_back({{"name", "piece" + std::to_string(i)},
                       {"group", i},
                       {"shape", {pieces[i].bytes / kRowBytes, kRowBytes}},
                       {"src", side(pieces[i].holders)},
                       {"dst", side(pieces[i].wanted)}});
  }
  return {{"version", 1}, {"ranks", cluster.num_ranks()}, {"tensors", tensors}};
}

/// Counts routes: what passes each resource, and what comes to each rank.
class Count {
 public:
  explicit Count(const SmallCluster& cluster) : cluster_(cluster), loads_(cluster.capacities().size()) {}

  void add_bundle(const json& bundle) {
    std::map<int, std::int64_t> arrived;
    for (const json& route : bundle.at("routes")) add_route(route, bundle.at("sources"), &arrived);
    for (const json& rank : bundle.at("destinations")) {
      if (arrived[rank.get<int>()] != bundle.at("bytes").get<std::int64_t>()) {
        wrong_ = "rank " + rank.dump() + " gets " + std::to_string(arrived[rank.get<int>()]) + " bytes of bundle " +
                 bundle.at("id").dump() + ", which has " + bundle.at("bytes").dump();
      }
    }
  }

  double seconds() const {
    double most = 0;
    for (std::size_t r = 0; r < loads_.size(); ++r) most = std::max(most, loads_[r] / cluster_.capacities()[r]);
    return most;
  }
  const std::string& wrong() const { return wrong_; }

 private:
  void add_route(const json& route, const json& sources, std::map<int, std::int64_t>* arrived) {
    const auto bytes = route.at("bytes").get<std::int64_t>();
    std::vector<int> reached;  // by hop
    for (const json& hop : route.at("hops")) {
      const int src = hop.at("src").get<int>();
      const int dst = hop.at("dst").get<int>();
      const int parent = hop.at("parent").get<int>();
      const bool has_bytes = parent >= 0 ? reached.at(static_cast<std::size_t>(parent)) == src
                                         : std::find(sources.begin(), sources.end(), src) != sources.end();
      if (!has_bytes) wrong_ = "rank " + std::to_string(src) + " sends what it has not got";
      reached.push_back(dst);
      if (!hop.at("to_staging").get<bool>()) (*arrived)[dst] += bytes;
      if (!cluster_.has_way(src, dst)) {
        wrong_ = "nothing leads from rank " + std::to_string(src) + " to rank " + std::to_string(dst);
        return;
      }
      for (const int resource : cluster_.path(src, dst)) {
        loads_[static_cast<std::size_t>(resource)] += static_cast<double>(bytes);
      }
    }
  }

  const SmallCluster& cluster_;
  std::vector<double> loads_;
  std::string wrong_;
};

}  // namespace

Planned plan_pieces(const SmallCluster& cluster, const std::vector<Piece>& pieces, const std::string& file) {
  std::ofstream(file) << cluster.text();
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  check(reshard_layout_create_from_spec(spec_of(cluster, pieces).dump().c_str(), &src, &dst), "the layouts");
  const std::unique_ptr<reshard_layout, Destroy> own_src(src);
  const std::unique_ptr<reshard_layout, Destroy> own_dst(dst);
  const std::int32_t num_ranks = cluster.num_ranks();
  reshard_plan_options_t options;
  reshard_plan_options_init(&options);
  check(reshard_machine_create(file.c_str(), 1, &num_ranks, &options.machine), "the cluster");
  const std::unique_ptr<reshard_machine, Destroy> own_machine(options.machine);
  reshard_plan_t plan = nullptr;
  check(reshard_plan_create(src, dst, &options, &plan), "the plan");
  const std::unique_ptr<reshard_plan, Destroy> own_plan(plan);

  const char* text = nullptr;
  check(reshard_plan_report_json(plan, &text), "the report");
  const json report = json::parse(text);
  Count count(cluster);
  for (std::int64_t bundle = 0; bundle < report.at("bundles").get<std::int64_t>(); ++bundle) {
    check(reshard_plan_details_json(plan, bundle, &text), "the routes of a bundle");
    count.add_bundle(json::parse(text).at("bundle"));
  }
  Planned out{count.seconds(), report.at("bound_seconds").get<double>(), report.at("bound_name").get<std::string>(),
              count.wrong()};
  if (report.at("estimate_seconds").get<double>() < out.seconds * (1 - kRounding)) {
    out.wrong = "the estimate is below the time of the busiest resource";
  }
  return out;
}

}  // namespace reshard::optimum
