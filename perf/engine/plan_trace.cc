// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The simulated flows as events of the format that trace viewers read. A rank is a process there and a lane a thread:
// as a thread may show one thing at a time, flows of a rank that overlap get lanes of their own.
#include "perf/engine/plan_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "perf/engine/error.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

using nlohmann::json;

constexpr double kMicrosecondsPerSecond = 1e6;

double microseconds(const json& seconds) {
  return seconds.get<double>() * kMicrosecondsPerSecond;
}

json name_event(const char* what, std::int64_t process, std::int64_t thread, const std::string& name) {
  return {{"name", what}, {"ph", "M"}, {"ts", 0}, {"pid", process}, {"tid", thread}, {"args", {{"name", name}}}};
}

/// Threads of one rank: each shows flows that do not overlap.
struct Lane {
  std::int64_t thread = 0;
  double free_from = 0;
};

class TraceWriter {
 public:
  explicit TraceWriter(const json& details) : details_(details) {}

  json write() {
    add_domains();
    add_flows();
    add_counters();
    // Stable, so that the same plan gives the same file.
    std::stable_sort(events_.begin(), events_.end(),
                     [](const json& a, const json& b) { return a.at("ts").get<double>() < b.at("ts").get<double>(); });
    return {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events_)}};
  }

 private:
  /// Domains hold consecutive ranks.
  void add_domains() {
    std::int64_t domain = 0;
    for (const json& entry : details_.at("domains")) {
      events_.push_back(name_event("process_name", domain, 0, entry.at("name").get<std::string>()));
      domain_of_.insert(domain_of_.end(), entry.at("ranks").get<std::size_t>(), domain);
      ++domain;
    }
    lanes_.resize(domain_of_.size());
    next_thread_ = static_cast<std::int64_t>(domain_of_.size());
  }

  void add_flows() {
    std::vector<const json*> flows;
    for (const json& flow : details_.at("flows")) flows.push_back(&flow);
    std::stable_sort(flows.begin(), flows.end(), [](const json* a, const json* b) {
      return a->at("start").get<double>() < b->at("start").get<double>();
    });
    for (const json* flow : flows) add_flow(*flow);
  }

  void add_flow(const json& flow) {
    const auto src = flow.at("src").get<std::size_t>();
    if (src >= domain_of_.size()) fail("a flow comes from rank {}, which lies in no domain", src);
    const double start = microseconds(flow.at("start"));
    const double end = std::max(start, microseconds(flow.at("end")));
    const std::int64_t thread = take_lane(src, start, end);
    const json args = {{"bytes", flow.at("bytes")},
                       {"route", flow.at("route")},
                       {"src", src},
                       {"dst", flow.at("dst")},
                       {"network", flow.at("network")}};
    events_.push_back({{"name", fmt::format("{} to rank {}", format_bytes(flow.at("bytes").get<std::int64_t>()),
                                            flow.at("dst").get<std::int64_t>())},
                       {"cat", flow.at("network").get<bool>() ? "network" : "inside"},
                       {"ph", "X"},
                       {"ts", start},
                       {"dur", end - start},
                       {"pid", domain_of_[src]},
                       {"tid", thread},
                       {"args", args}});
  }

  std::int64_t take_lane(std::size_t rank, double start, double end) {
    std::vector<Lane>& lanes = lanes_[rank];
    auto lane = std::find_if(lanes.begin(), lanes.end(), [&](const Lane& l) { return l.free_from <= start; });
    if (lane == lanes.end()) {
      const auto number = static_cast<std::int64_t>(rank);
      const std::int64_t thread = lanes.empty() ? number : next_thread_++;
      const std::string name = lanes.empty() ? fmt::format("rank {}", rank)
                                             : fmt::format("rank {}, flow {} at once", rank, lanes.size() + 1);
      events_.push_back(name_event("thread_name", domain_of_[rank], thread, name));
      json order = name_event("thread_sort_index", domain_of_[rank], thread, "");
      order["args"] = {{"sort_index", number}};
      events_.push_back(std::move(order));
      lane = lanes.insert(lanes.end(), Lane{thread, 0});
    }
    lane->free_from = end;
    return lane->thread;
  }

  void add_counters() {
    const auto process = static_cast<std::int64_t>(details_.at("domains").size());
    events_.push_back(name_event("process_name", process, 0, "use of links"));
    const json& timeline = details_.at("timeline");
    const double bucket = microseconds(timeline.at("bucket_seconds"));
    for (const json& kind : timeline.at("classes")) {
      double time = 0;
      for (const json& value : kind.at("utilisation")) {
        add_counter(process, kind.at("class"), time, value);
        time += bucket;
      }
      add_counter(process, kind.at("class"), time, 0.0);
    }
  }

  void add_counter(std::int64_t process, const json& kind, double time, const json& value) {
    events_.push_back(
        {{"name", kind}, {"ph", "C"}, {"ts", time}, {"pid", process}, {"tid", 0}, {"args", {{"utilisation", value}}}});
  }

  const json& details_;
  std::vector<json> events_;
  std::vector<std::int64_t> domain_of_;   ///< [rank]
  std::vector<std::vector<Lane>> lanes_;  ///< [rank]
  std::int64_t next_thread_ = 0;
};

}  // namespace

nlohmann::json plan_trace(const json& details) {
  return TraceWriter(details).write();
}

}  // namespace reshard::perf
