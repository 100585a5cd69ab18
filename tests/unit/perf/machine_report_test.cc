// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <gtest/gtest.h>

#include <string>

#include "perf/engine/report.h"

namespace reshard::perf {
namespace {

nlohmann::json example() {
  return nlohmann::json::parse(R"({
    "machine": "two nodes", "nodes": 2, "domains": 2, "group_order": "fixed", "open_groups": 0,
    "estimate_seconds": 3.0, "bound_seconds": 2.0, "bound_name": "LB2 domain ingress", "bound_resource": "ports into B",
    "binding_resource": "nic of A", "fill_seconds": 0.001,
    "bounds": [{"name": "LB2 domain ingress", "resource": "ports into B", "seconds": 2.0},
               {"name": "LB8 pcie", "resource": "pcie into B", "seconds": 0.5},
               {"name": "LB5 pod", "resource": "", "seconds": 0.0}],
    "link_classes": [{"class": "nic out", "bytes": 2147483648, "used": 8, "capacity_bytes_per_s": 1,
                      "busiest_seconds": 2.25, "busiest": "nic of A"}],
    "ports_out": {"max_seconds": 2.0, "mean_seconds": 1.0, "max_over_mean": 2.0},
    "ports_in": {"max_seconds": 0.5, "mean_seconds": 0.25, "max_over_mean": 2.0},
    "traffic": {"bytes_network": 1073741824, "bytes_inside_domains": 1024, "bytes_from_sources": 1048576,
                "bytes_forwarded": 3072, "bytes_through_staging": 0, "longest_chain": 5}
  })");
}

/// The line that begins with the label, its runs of spaces shortened to one; empty: none.
std::string line_of(const std::string& text, const std::string& label) {
  const std::size_t begin = text.find("\n  " + label + "  ");
  if (begin == std::string::npos) return "";
  std::string line;
  for (const char c : text.substr(begin + 3, text.find('\n', begin + 1) - begin - 3)) {
    if (c != ' ' || line.back() != ' ') line += c;
  }
  return line;
}

TEST(MachineReport, AnEstimateStandsBesideItsBound) {
  const std::string text = machine_report_text(example());
  EXPECT_EQ(line_of(text, "estimate"), "estimate 3.000 s 1.500 nic of A");
  EXPECT_EQ(line_of(text, "bound"), "bound 2.000 s LB2 domain ingress: ports into B");
  EXPECT_EQ(line_of(text, "simulated"), "");
}

TEST(MachineReport, ASimulatedTimeIsHeldAgainstBoundAndEstimate) {
  nlohmann::json report = example();
  report["simulated_seconds"] = 3.3;
  EXPECT_EQ(line_of(machine_report_text(report), "simulated"), "simulated 3.300 s 1.650 1.100 of the estimate");
}

TEST(MachineReport, WhatMulticastWouldTakeIsToldWhereThePlanCouldUseIt) {
  nlohmann::json report = example();
  EXPECT_EQ(machine_report_text(report).find("with multicast"), std::string::npos);
  report["multicast_seconds"] = 2.5;
  EXPECT_NE(machine_report_text(report).find("    with multicast            2.500 s"), std::string::npos);
}

TEST(MachineReport, EveryBoundHasItsLine) {
  const std::string text = machine_report_text(example());
  EXPECT_EQ(line_of(text, "LB2 domain ingress"), "LB2 domain ingress 2.000 s 1.000 ports into B");
  EXPECT_EQ(line_of(text, "LB8 pcie"), "LB8 pcie 500.0 ms 0.250 pcie into B");
  EXPECT_EQ(line_of(text, "LB5 pod"), "LB5 pod - -");
}

TEST(MachineReport, BytesAreToldByLinkClassAndByPath) {
  const std::string text = machine_report_text(example());
  EXPECT_EQ(line_of(text, "nic out"), "nic out 2.00 GiB 8 2.250 s: nic of A");
  EXPECT_EQ(line_of(text, "inside domains"), "inside domains 1.00 KiB");
  EXPECT_EQ(line_of(text, "over the network"),
            "over the network 1.00 GiB 1.00 MiB from sources, 3.00 KiB forwarded in chains of up to 5");
  EXPECT_EQ(line_of(text, "of receivers, in"), "of receivers, in 500.0 ms 250.0 ms 2.000");
}

TEST(MachineReport, OtherWaysStandBesideThisPlan) {
  nlohmann::json report = example();
  EXPECT_EQ(line_of(machine_report_text(report), "this plan"), "");
  report["comparison"] = {{{"name", "unicast to every destination"},
                           {"bytes_network", 2147483648},
                           {"seconds", 6.0},
                           {"over_estimate", 2.0},
                           {"resource", "nic of B"}}};
  const std::string text = machine_report_text(report);
  EXPECT_EQ(line_of(text, "this plan"), "this plan 1.00 GiB 3.000 s 1.00 nic of A");
  EXPECT_EQ(line_of(text, "unicast to every destination"),
            "unicast to every destination 2.00 GiB 6.000 s 2.00 nic of B");
}

TEST(MachineReport, AdviceSaysWhatItWouldSave) {
  nlohmann::json report = example();
  report["advice"] = {{"moved_bytes_now", 4096},
                      {"moved_bytes_best", 3072},
                      {"network_bytes_now", 2048},
                      {"network_bytes_best", 1024},
                      {"gain", 0.25}};
  const std::string text = machine_report_text(report);
  EXPECT_EQ(line_of(text, "bytes moved"), "bytes moved 4.00 KiB 3.00 KiB 25.0 % less");
  EXPECT_NE(text.find("over the network           2.00 KiB     1.00 KiB\n"), std::string::npos) << text;
}

TEST(MachineReport, ATransferThatTakesNoTimeHasNoRatio) {
  nlohmann::json report = example();
  report["estimate_seconds"] = report["bound_seconds"] = 0.0;
  EXPECT_EQ(line_of(machine_report_text(report), "estimate"), "estimate 0.000 s - nic of A");
}

TEST(MachineReport, NamesTheMachineAndTheOrderOfGroups) {
  nlohmann::json report = example();
  EXPECT_EQ(machine_line(report), "two nodes: 2 nodes, 2 domains; group order fixed, any number open at once");
  report["open_groups"] = 2;
  EXPECT_EQ(machine_line(report), "two nodes: 2 nodes, 2 domains; group order fixed, 2 open at once");
}

}  // namespace
}  // namespace reshard::perf
