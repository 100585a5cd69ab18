// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/save.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace reshard {
namespace {

constexpr int kFormatVersion = 2;

using Json = nlohmann::json;

std::string hex(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

Status mismatch(std::string message) {
  return {RESHARD_ERR_PLAN_MISMATCH, std::move(message)};
}

Status damaged(const std::string& what) {
  return mismatch("the saved plan is damaged: " + what + "; plan again");
}

/// An integer member; false when it is missing or of another kind.
bool read(const Json& object, const char* key, std::int64_t* value) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer()) return false;
  *value = found->get<std::int64_t>();
  return true;
}

Status check_layout(const Json& json, const char* side, const ModelLayout& layout) {
  const auto found = json.find(side);
  if (found == json.end() || !found->is_string()) return damaged(fmt::format("no \"{}\"", side));
  if (found->get<std::string>() == hex(layout.digest())) return {};
  return mismatch(
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
  return mismatch(fmt::format("the saved plan is for another machine (digest {}, this one is {}); plan again",
                              found->get<std::string>(), machine_text(options)));
}

/// Reads a list of integers, `width` of them for each element of the list that is filled by `make`.
template <typename Make>
Status read_rows(const Json& json, const char* key, std::size_t width, const Make& make) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array() || found->size() % width != 0) return damaged(key);
  std::vector<std::int64_t> row(width);
  for (std::size_t i = 0; i < found->size(); i += width) {
    for (std::size_t k = 0; k < width; ++k) {
      const Json& value = (*found)[i + k];
      if (!value.is_number_integer()) return damaged(fmt::format("{} holds what is not an integer", key));
      row[k] = value.get<std::int64_t>();
    }
    make(row);
  }
  return {};
}

template <typename Int>
Int narrow(std::int64_t value) {
  return static_cast<Int>(value);  // what does not fit gives another hash
}

Status read_routes(const Json& json, Plan* plan) {
  RESHARD_TRY(
      read_rows(json, "slots", 1, [&](const auto& row) { plan->slots.push_back(narrow<std::int32_t>(row[0])); }));
  plan->first_groups.clear();
  RESHARD_TRY(read_rows(json, "first_groups", 1,
                        [&](const auto& row) { plan->first_groups.push_back(narrow<std::int32_t>(row[0])); }));
  RESHARD_TRY(read_rows(json, "ranges", 3, [&](const auto& row) {
    plan->ranges.push_back({narrow<std::int32_t>(row[0]), row[1], row[2]});
  }));
  RESHARD_TRY(read_rows(json, "hops", 6, [&](const auto& row) {
    plan->hops.push_back({narrow<std::int32_t>(row[0]), narrow<std::int32_t>(row[1]), narrow<std::int32_t>(row[2]),
                          narrow<std::int16_t>(row[3]), narrow<std::int16_t>(row[4]), row[5] != 0});
  }));
  std::int64_t first_range = 0;
  std::int64_t first_hop = 0;
  return read_rows(json, "routes", 6, [&](const auto& row) {
    plan->routes.push_back({first_range, first_hop, narrow<std::int32_t>(row[0]), narrow<std::int32_t>(row[1]), row[2],
                            narrow<std::int32_t>(row[3]), narrow<std::int32_t>(row[4]), narrow<std::int32_t>(row[5])});
    first_range += row[0];
    first_hop += row[1];
  });
}

Json routes_json(const Plan& plan) {
  Json ranges = Json::array();
  for (const Route& route : plan.routes) {
    for (std::int32_t i = 0; i < route.num_ranges; ++i) {
      const Range& range = plan.begin_ranges(route)[i];
      for (const std::int64_t value : {std::int64_t{range.bundle}, range.begin, range.end}) ranges.push_back(value);
    }
  }
  Json hops = Json::array();
  for (const Hop& hop : plan.hops) {
    for (const int value : {hop.src, hop.dst, hop.parent, int{hop.delay}, int{hop.step}, hop.to_staging ? 1 : 0}) {
      hops.push_back(value);
    }
  }
  Json routes = Json::array();
  for (const Route& route : plan.routes) {
    for (const std::int64_t value :
         {std::int64_t{route.num_ranges}, std::int64_t{route.num_hops}, route.size_bytes,
          std::int64_t{route.first_group}, std::int64_t{route.first_slot}, std::int64_t{route.num_slots}}) {
      routes.push_back(value);
    }
  }
  return {{"slots", plan.slots},
          {"first_groups", plan.first_groups},
          {"ranges", std::move(ranges)},
          {"hops", std::move(hops)},
          {"routes", std::move(routes)}};
}

}  // namespace

std::string save_plan(const Plan& plan) {
  Json json = routes_json(plan);
  json["reshard_plan"] = kFormatVersion;
  json["source"] = hex(plan.src->digest());
  json["destination"] = hex(plan.dst->digest());
  json["machine"] = machine_text(plan.options);
  json["order"] = static_cast<int>(plan.options.order);
  json["open_groups"] = plan.options.open_groups;
  json["skips_unmatched"] = plan.options.unmatched == Unmatched::kSkip ? 1 : 0;
  json["hash"] = hex(plan.hash);
  json["staging_bytes"] = plan.options.staging_bytes;
  json["certificate"] = {plan.certificate.level_bytes, plan.certificate.bound_bytes};
  return json.dump();
}

Result<Plan> load_plan(const std::string& text, std::shared_ptr<const ModelLayout> src,
                       std::shared_ptr<const ModelLayout> dst, std::shared_ptr<const Machine> machine) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return damaged("it is not a JSON object");
  std::int64_t version = 0;
  if (!read(json, "reshard_plan", &version)) return damaged("it is not a plan");
  if (version != kFormatVersion) {
    return mismatch(
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
  if (!read(json, "open_groups", &options.open_groups)) return damaged("no open_groups");
  std::int64_t skips_unmatched = 0;
  (void)read(json, "skips_unmatched", &skips_unmatched);  // plans saved before it existed skip nothing
  options.unmatched = skips_unmatched == 0 ? Unmatched::kRefuse : Unmatched::kSkip;
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), options));
  const auto certificate = json.find("certificate");
  if (certificate == json.end() || !certificate->is_array() || certificate->size() != 2 ||
      !(*certificate)[0].is_number_integer() || !(*certificate)[1].is_number_integer()) {
    return damaged("certificate");
  }
  plan.certificate = {(*certificate)[0].get<std::int64_t>(), (*certificate)[1].get<std::int64_t>()};
  RESHARD_TRY(read_routes(json, &plan));
  plan.hash = hash_plan(plan);
  if (json.value("hash", Json()) != hex(plan.hash)) return damaged("its hash does not match its content");
  RESHARD_TRY(check_routes(plan));
  return plan;
}

}  // namespace reshard
