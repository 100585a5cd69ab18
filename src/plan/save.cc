// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A plan file holds the choices only (routes, hops, rounds) and digests of what they were made for. Bundles and atoms
// follow from the layouts and are computed again when the file is read, so that the two cannot disagree. What is read
// is believed by nobody: numbers are bounded as they come in, the hash covers all of them, and check_routes() proves
// the rest.
//
// Routes are written one by one, each with its own ranges and hops: which of them are repeated, and which share a list,
// is how a plan is kept in memory and not what it decides. So it is lost on the way, and the hash is the same.
#include "src/plan/save.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "src/base/json_fault.h"
#include "src/base/text_position.h"
#include "src/plan/windows.h"

namespace reshard {
namespace {

// 3 had figures of how sources were chosen, which were part of the hash; 2 had no most_in_flight, so that a plan came
// back without its limit of open messages.
constexpr int kFormatVersion = 4;

using Json = nlohmann::json;

/// Hashes are text in the file: JSON numbers of 64 bits do not survive tools that read them as doubles.
std::string hex(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

Status plan_mismatch(std::string message) {
  return {RESHARD_ERR_PLAN_MISMATCH, std::move(message)};
}

Status damaged(const std::string& what) {
  return plan_mismatch("the saved plan is damaged: " + what + "; plan again");
}

/// False when it is no integer, or one beyond 64 bits with a sign.
bool read(const Json& json, std::int64_t* value) {
  if (!json.is_number_integer()) return false;
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) return false;
  *value = json.get<std::int64_t>();
  return true;
}

/// An integer member; false when it is missing or of another kind.
bool read(const Json& object, const char* key, std::int64_t* value) {
  const auto found = object.find(key);
  return found != object.end() && read(*found, value);
}

/// The text as JSON; what is none is refused with the place where it stops being so.
Result<Json> parse(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_discarded()) return json;
  const std::size_t offset = find_json_fault(text).offset;
  const auto [line, column] = text_position(text, offset);
  return damaged(fmt::format("it is no JSON from line {}, column {} on{}", line, column,
                             offset == text.size() ? ", where it ends" : ""));
}

/// Layouts are known by digest: the file has no names or shapes that could be compared, and needs none.
Status check_layout(const Json& json, const char* side, const ModelLayout& layout) {
  const auto found = json.find(side);
  if (found == json.end() || !found->is_string()) return damaged(fmt::format("no \"{}\"", side));
  if (found->get<std::string>() == hex(layout.digest())) return {};
  return plan_mismatch(
      fmt::format("the saved plan belongs to another layout at the {} (digest {}, this one is {}); plan again", side,
                  found->get<std::string>(), hex(layout.digest())));
}

std::string machine_text(const PlanOptions& options) {
  return options.machine == nullptr ? "none" : hex(options.machine->digest());
}

Status check_machine(const Json& json, const PlanOptions& options) {
  const auto found = json.find("machine");
  if (found == json.end() || !found->is_string()) return damaged("no \"machine\"");
  if (found->get<std::string>() == machine_text(options)) return {};
  return plan_mismatch(fmt::format("the saved plan is for another machine (digest {}, this one is {}); plan again",
                                   found->get<std::string>(), machine_text(options)));
}

// Most that a number of a row may be: by the type that it is kept in.
constexpr std::int64_t kInt32 = INT32_MAX;
constexpr std::int64_t kInt64 = INT64_MAX;
constexpr std::int64_t kBool = 1;

/// Reads a list of integers, one row after the other. Each number of a row is at least -1, which stands for "none", and
/// at most the one at its place in `most`: what is stored in fewer bits fits there, and sums do not overflow.
template <std::size_t kWidth, typename Make>
Status read_rows(const Json& json, const char* key, const std::int64_t (&most)[kWidth], const Make& make) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array()) return damaged(fmt::format("no list \"{}\"", key));
  if (found->size() % kWidth != 0) {
    return damaged(fmt::format("\"{}\" has {} numbers, not a multiple of {}", key, found->size(), kWidth));
  }
  std::array<std::int64_t, kWidth> row;
  for (std::size_t i = 0; i < found->size(); i += kWidth) {
    for (std::size_t k = 0; k < kWidth; ++k) {
      const Json& value = (*found)[i + k];
      if (!read(value, &row[k]) || row[k] < -1 || row[k] > most[k]) {
        return damaged(fmt::format("number {} of \"{}\" is {}", i + k, key, value.dump()));
      }
    }
    make(row);
  }
  return {};
}

/// @pre the value was read with a limit that fits
std::int32_t narrow(std::int64_t value) {
  return static_cast<std::int32_t>(value);
}

Status read_routes(const Json& json, Plan* plan) {
  RESHARD_TRY(read_rows(json, "rounds", {kInt32}, [&](const auto& row) { plan->rounds.push_back(narrow(row[0])); }));
  plan->first_groups.clear();
  RESHARD_TRY(read_rows(json, "first_groups", {kInt32},
                        [&](const auto& row) { plan->first_groups.push_back(narrow(row[0])); }));
  RESHARD_TRY(read_rows(json, "ranges", {kInt32, kInt64, kInt64}, [&](const auto& row) {
    plan->ranges.push_back({narrow(row[0]), row[1], row[2]});
  }));
  RESHARD_TRY(read_rows(json, "hops", {kInt32, kInt32, kInt32, kInt32, kInt32, kBool}, [&](const auto& row) {
    plan->hops.push_back({narrow(row[0]), narrow(row[1]), narrow(row[2]), narrow(row[3]), narrow(row[4]), row[5] == 1});
  }));
  // Whoever walks over the ranges of a route, as the hash does before anything is proved, must find them there.
  std::int64_t first_range = 0;
  std::int64_t first_hop = 0;
  bool is_counted = true;
  RESHARD_TRY(read_rows(json, "routes", {kInt32, kInt32, kInt64, kInt32, kInt32, kInt32}, [&](const auto& row) {
    is_counted = is_counted && row[0] >= 0 && row[1] >= 0;
    plan->routes.push_back({first_range, first_hop, narrow(row[0]), narrow(row[1]), row[2], narrow(row[3]),
                            narrow(row[4]), narrow(row[5])});
    first_range += row[0];
    first_hop += row[1];
  }));
  const bool is_whole = is_counted && first_range == static_cast<std::int64_t>(plan->ranges.size()) &&
                        first_hop == static_cast<std::int64_t>(plan->hops.size());
  return is_whole ? Status() : damaged("the routes have other ranges or hops than there are");
}

/// Flat lists of numbers, in the rows that read_routes() reads. There may be millions, and names would be most of the
/// file.
Json routes_json(const Plan& plan) {
  Json ranges = Json::array();
  for (const Route& route : plan.routes) {
    for (const Range& range : plan.ranges_of(route)) {
      for (const std::int64_t value : {std::int64_t{range.bundle}, range.begin, range.end}) ranges.push_back(value);
    }
  }
  Json hops = Json::array();
  for (std::size_t run = 0; run < plan.routes.runs().size(); ++run) {
    auto [hop, count] = plan.hops_of(run);
    for (std::int64_t h = 0; h < count; ++h, ++hop) {
      const Hop& leg = *hop;
      for (const std::int32_t value : {leg.src, leg.dst, leg.parent, leg.delay, leg.step, leg.to_staging ? 1 : 0}) {
        hops.push_back(value);
      }
    }
  }
  Json routes = Json::array();
  for (const Route& route : plan.routes) {
    for (const std::int64_t value :
         {std::int64_t{route.num_ranges}, std::int64_t{route.num_hops}, route.size_bytes,
          std::int64_t{route.first_group}, std::int64_t{route.first_round}, std::int64_t{route.num_rounds}}) {
      routes.push_back(value);
    }
  }
  return {{"rounds", plan.rounds},
          {"first_groups", plan.first_groups},
          {"ranges", std::move(ranges)},
          {"hops", std::move(hops)},
          {"routes", std::move(routes)}};
}

}  // namespace

std::string save_plan(const Plan& plan) {
  Json json = routes_json(plan);
  json["reshard_plan"] = kFormatVersion;
  json["source"] = hex(plan.given_src->digest());
  json["destination"] = hex(plan.given_dst->digest());
  json["machine"] = machine_text(plan.options);
  json["order"] = static_cast<int>(plan.options.order);
  json["open_groups"] = plan.options.open_groups;
  json["skips_unmatched"] = plan.options.unmatched == Unmatched::kSkip ? 1 : 0;
  json["hash"] = hex(plan.hash);
  json["staging_bytes"] = plan.options.staging_bytes;
  json["window_bytes"] = plan.window_bytes;
  json["most_in_flight"] = plan.most_in_flight;
  return json.dump();
}

/// What tells that the plan is for something else comes first: "another layout" says more than the damage found later.
/// Then the bundles are made from the layouts, and last come the choices, the hash and the proof.
Result<Plan> load_plan(const std::string& text, std::shared_ptr<const ModelLayout> src,
                       std::shared_ptr<const ModelLayout> dst, std::shared_ptr<const Machine> machine) {
  RESHARD_TRY(const Json json, parse(text));
  std::int64_t version = 0;
  if (!json.is_object() || !read(json, "reshard_plan", &version)) {
    return plan_mismatch("this is not a saved plan: it has no number \"reshard_plan\", the version of the format");
  }
  if (version != kFormatVersion) {
    return plan_mismatch(
        fmt::format("the saved plan has format {}; this library reads {}; plan again", version, kFormatVersion));
  }
  RESHARD_TRY(check_layout(json, "source", *src));
  RESHARD_TRY(check_layout(json, "destination", *dst));
  PlanOptions options;
  if (!read(json, "staging_bytes", &options.staging_bytes)) return damaged("no staging_bytes");
  options.machine = std::move(machine);
  RESHARD_TRY(check_machine(json, options));
  std::int64_t order = 0;
  if (!read(json, "order", &order) || order < 0 || order > static_cast<int>(GroupOrder::kAny)) return damaged("order");
  options.order = static_cast<GroupOrder>(order);
  if (!read(json, "open_groups", &options.open_groups) || options.open_groups < 0) return damaged("open_groups");
  std::int64_t skips_unmatched = 0;
  (void)read(json, "skips_unmatched", &skips_unmatched);  // plans saved before it existed skip nothing
  options.unmatched = skips_unmatched == 0 ? Unmatched::kRefuse : Unmatched::kSkip;
  // Bundles and slots as they were when the plan was made: they follow from layouts and options alone.
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), options));
  const std::int64_t most_bytes = plan.window_bytes;
  (void)read(json, "window_bytes", &plan.window_bytes);  // plans saved before it existed have the largest
  if (plan.window_bytes < largest_element_bytes(plan) || plan.window_bytes > most_bytes) return damaged("window_bytes");
  std::int64_t most_in_flight = 0;
  if (!read(json, "most_in_flight", &most_in_flight) || most_in_flight < 1 || most_in_flight > kInt32) {
    return damaged("most_in_flight");
  }
  plan.most_in_flight = narrow(most_in_flight);
  RESHARD_TRY(read_routes(json, &plan));
  // Of what was read, against what was written: a digit changed anywhere above shows here.
  plan.hash = hash_plan(plan);
  if (json.value("hash", Json()) != hex(plan.hash)) return damaged("its hash does not match its content");
  RESHARD_TRY(check_routes(plan));
  return plan;
}

}  // namespace reshard
