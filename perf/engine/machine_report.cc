// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The part of a plan's report that needs a machine: the estimate, its lower bounds, and what limits them.
#include <fmt/format.h>

#include "perf/engine/report.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

using nlohmann::json;

std::string seconds(const json& value) {
  return format_seconds(value.get<double>());
}

std::string text_of(const json& value) {
  return value.get<std::string>();
}

/// "1.047", and "-" where there is nothing to compare with.
std::string ratio(double value, double of) {
  return of > 0 ? fmt::format("{:.3f}", value / of) : "-";
}

std::string row(const std::string& label, const std::string& second, const std::string& third,
                const std::string& rest) {
  const std::string text = fmt::format("  {:<22} {:>12} {:>12}  {}", label, second, third, rest);
  return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

std::string heading(const char* label, const char* second, const char* third, const char* rest) {
  return "\n" + row(label, second, third, rest);
}

/// An estimate never stands alone: what it is held against stands beside it.
std::string time_text(const json& report) {
  const double estimate = report.at("estimate_seconds").get<double>();
  const double bound = report.at("bound_seconds").get<double>();
  std::string text = heading("time", "takes", "/ bound", "set by");
  text += row("estimate", format_seconds(estimate), ratio(estimate, bound), text_of(report.at("binding_resource")));
  text += row("  of it to fill chains", seconds(report.at("fill_seconds")), "", "");
  if (report.contains("multicast_seconds")) {
    text += row("  with multicast", seconds(report.at("multicast_seconds")), "",
                "if the switch did it; nothing runs so yet");
  }
  if (report.contains("simulated_seconds")) {
    const double simulated = report.at("simulated_seconds").get<double>();
    text += row("simulated", format_seconds(simulated), ratio(simulated, bound),
                fmt::format("{} of the estimate", ratio(simulated, estimate)));
  }
  return text + row("bound", format_seconds(bound), "",
                    fmt::format("{}: {}", text_of(report.at("bound_name")), text_of(report.at("bound_resource"))));
}

std::string bounds_text(const json& report) {
  const double largest = report.at("bound_seconds").get<double>();
  std::string text = heading("lower bounds", "at least", "/ largest", "because of");
  for (const json& bound : report.at("bounds")) {
    const double value = bound.at("seconds").get<double>();
    if (value <= 0) {
      text += row(text_of(bound.at("name")), "-", "-", "");
      continue;
    }
    text += row(text_of(bound.at("name")), format_seconds(value), ratio(value, largest), text_of(bound.at("resource")));
  }
  return text;
}

std::string classes_text(const json& report) {
  std::string text = heading("link class", "bytes", "links used", "busiest");
  for (const json& kind : report.at("link_classes")) {
    text += row(text_of(kind.at("class")), bytes_text(kind.at("bytes")), kind.at("used").dump(),
                fmt::format("{}: {}", seconds(kind.at("busiest_seconds")), text_of(kind.at("busiest"))));
  }
  return text;
}

std::string traffic_text(const json& report) {
  const json& traffic = report.at("traffic");
  std::string text = heading("path", "bytes", "", "");
  text += row("inside domains", bytes_text(traffic.at("bytes_inside_domains")), "", "");
  text += row(
      "over the network", bytes_text(traffic.at("bytes_network")), "",
      fmt::format("{} from sources, {} forwarded in chains of up to {}", bytes_text(traffic.at("bytes_from_sources")),
                  bytes_text(traffic.at("bytes_forwarded")), traffic.at("longest_chain").dump()));
  text += row("through staging", bytes_text(traffic.at("bytes_through_staging")), "", "");
  text += heading("network ports", "busiest", "mean", "max / mean");
  for (const auto& [label, key] : {std::pair{"of sources, out", "ports_out"}, {"of receivers, in", "ports_in"}}) {
    const json& side = report.at(key);
    text += row(label, seconds(side.at("max_seconds")), seconds(side.at("mean_seconds")),
                fmt::format("{:.3f}", side.at("max_over_mean").get<double>()));
  }
  return text;
}

std::string comparison_text(const json& report) {
  if (!report.contains("comparison")) return "";
  std::string text =
      fmt::format("\n  {:<31} {:>12} {:>10} {:>9}  {}\n", "other ways", "network", "takes", "times", "set by");
  const auto line = [&text](const std::string& name, const json& way, const json& takes, double times,
                            const json& resource) {
    text += fmt::format("  {:<31} {:>12} {:>10} {:>9.2f}  {}\n", name, bytes_text(way), seconds(takes), times,
                        text_of(resource));
  };
  line("this plan", report.at("traffic").at("bytes_network"), report.at("estimate_seconds"), 1.0,
       report.at("binding_resource"));
  for (const json& way : report.at("comparison")) {
    line(text_of(way.at("name")), way.at("bytes_network"), way.at("seconds"), way.at("over_estimate").get<double>(),
         way.at("resource"));
  }
  return text;
}

std::string advice_text(const json& report) {
  if (!report.contains("advice")) return "";
  const json& advice = report.at("advice");
  std::string text = heading("another order of ranks", "now", "then", "--json has it");
  text += row("bytes moved", bytes_text(advice.at("moved_bytes_now")), bytes_text(advice.at("moved_bytes_best")),
              fmt::format("{:.1f} % less", advice.at("gain").get<double>() * 100));
  return text + row("over the network", bytes_text(advice.at("network_bytes_now")),
                    bytes_text(advice.at("network_bytes_best")), "");
}

}  // namespace

std::string machine_line(const json& report) {
  const std::int64_t open = report.at("open_groups").get<std::int64_t>();
  return fmt::format("{}: {} nodes, {} domains; group order {}, {} open at once", text_of(report.at("machine")),
                     report.at("nodes").dump(), report.at("domains").dump(), text_of(report.at("group_order")),
                     open == 0 ? "any number" : fmt::format("{}", open));
}

std::string machine_report_text(const json& report) {
  return time_text(report) + bounds_text(report) + classes_text(report) + traffic_text(report) +
         comparison_text(report) + advice_text(report);
}

}  // namespace reshard::perf
