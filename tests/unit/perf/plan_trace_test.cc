// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_trace.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace reshard::perf {
namespace {

using nlohmann::json;

json flow(int src, int dst, std::int64_t bytes, double start, double end) {
  return {{"route", 3},     {"src", src}, {"dst", dst},     {"bytes", bytes},
          {"start", start}, {"end", end}, {"network", true}};
}

json details_of(json flows) {
  return json{{"domains", {{{"name", "n1"}, {"ranks", 2}}, {{"name", "n2"}, {"ranks", 3}}}},
              {"timeline", {{"bucket_seconds", 0.5}, {"classes", json::array()}}},
              {"flows", std::move(flows)}};
}

std::vector<json> events_of(const json& trace, const std::string& phase) {
  std::vector<json> out;
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") == phase) out.push_back(event);
  }
  return out;
}

TEST(PlanTrace, AFlowIsAnEventAtItsSender) {
  const json trace = plan_trace(details_of(json::array({flow(3, 0, 4096, 0.25, 1.0)})));
  const std::vector<json> flows = events_of(trace, "X");
  ASSERT_EQ(flows.size(), 1U);
  EXPECT_EQ(flows[0].at("pid"), 1) << "the domain of rank 3";
  EXPECT_EQ(flows[0].at("tid"), 3);
  EXPECT_EQ(flows[0].at("ts"), 250000.0);
  EXPECT_EQ(flows[0].at("dur"), 750000.0);
  EXPECT_EQ(flows[0].at("args").at("bytes"), 4096);
  EXPECT_EQ(flows[0].at("args").at("route"), 3);
  EXPECT_EQ(flows[0].at("name"), "4.00 KiB to rank 0");
}

TEST(PlanTrace, ProcessesAndThreadsHaveNames) {
  std::set<std::string> names;
  for (const json& event : events_of(plan_trace(details_of(json::array({flow(3, 0, 1, 0, 1)}))), "M")) {
    names.insert(event.at("name").get<std::string>() + ": " + event.at("args").value("name", ""));
  }
  EXPECT_TRUE(names.count("process_name: n1") == 1 && names.count("process_name: n2") == 1);
  EXPECT_TRUE(names.count("thread_name: rank 3") == 1);
}

TEST(PlanTrace, CountsTheUseOfEachClassAndEndsAtZero) {
  json details = details_of(json::array());
  details["timeline"]["classes"] = {{{"class", "nic out"}, {"utilisation", {0.5, 1.0}}}};
  const std::vector<json> counters = events_of(plan_trace(details), "C");
  ASSERT_EQ(counters.size(), 3U);
  const std::vector<double> times = {0, 500000, 1000000};
  const std::vector<double> use = {0.5, 1.0, 0.0};
  for (std::size_t i = 0; i < counters.size(); ++i) {
    EXPECT_EQ(counters[i].at("name"), "nic out");
    EXPECT_EQ(counters[i].at("ts").get<double>(), times[i]);
    EXPECT_EQ(counters[i].at("args").at("utilisation").get<double>(), use[i]);
  }
}

TEST(PlanTrace, AFlowFromNowhereIsAnError) {
  EXPECT_THROW(plan_trace(details_of(json::array({flow(5, 0, 1, 0, 1)}))), std::exception);
}

/// Every flow once, all bytes, in order of time, and no two at once on one thread.
void check_law() {
  json flows = json::array();
  std::multiset<std::int64_t> sizes;
  const int count = *rc::gen::inRange(0, 40);
  for (int i = 0; i < count; ++i) {
    const int start = *rc::gen::inRange(0, 20);
    const int end = start + *rc::gen::inRange(0, 8);
    const std::int64_t bytes = *rc::gen::inRange(1, 1000);
    sizes.insert(bytes);
    flows.push_back(flow(*rc::gen::inRange(0, 5), *rc::gen::inRange(0, 5), bytes, start, end));
  }
  const json trace = plan_trace(details_of(flows));
  double last = 0;
  for (const json& event : trace.at("traceEvents")) {
    RC_ASSERT(event.at("ts").get<double>() >= last);
    last = event.at("ts").get<double>();
  }
  std::multiset<std::int64_t> shown;
  std::map<std::int64_t, double> end_of_thread;
  std::map<std::int64_t, std::int64_t> sender_of_thread;
  for (const json& event : events_of(trace, "X")) {
    const auto thread = event.at("tid").get<std::int64_t>();
    const auto sender = event.at("args").at("src").get<std::int64_t>();
    shown.insert(event.at("args").at("bytes").get<std::int64_t>());
    RC_ASSERT(sender_of_thread.try_emplace(thread, sender).first->second == sender);
    RC_ASSERT(event.at("ts").get<double>() >= end_of_thread[thread]);
    end_of_thread[thread] = event.at("ts").get<double>() + event.at("dur").get<double>();
  }
  RC_ASSERT(shown == sizes);
}

TEST(PlanTrace, ShowsEveryFlowOnceInOrderWithoutOverlap) {
  ASSERT_TRUE(rc::check(check_law));
}

}  // namespace
}  // namespace reshard::perf
