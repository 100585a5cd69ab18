// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/save.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace reshard {
namespace {

constexpr int kFormatVersion = 1;

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

Status read_shares(const Json& json, std::vector<Pool>* pools) {
  const auto found = json.find("shares");
  if (found == json.end() || !found->is_array() || found->size() != pools->size()) return damaged("shares");
  for (std::size_t p = 0; p < pools->size(); ++p) {
    Pool& pool = (*pools)[p];
    std::int64_t begin = 0;
    for (const Json& entry : (*found)[p]) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_number_integer() || !entry[1].is_number_integer()) {
        return damaged("a share is not [rank, end]");
      }
      const auto end = entry[1].get<std::int64_t>();
      if (end <= begin) return damaged("shares are not ascending");
      pool.shares.push_back({entry[0].get<std::int32_t>(), begin, end});
      begin = end;
    }
    if (begin != pool.starts.back()) return damaged("shares do not cover their line");
  }
  return {};
}

}  // namespace

std::string save_plan(const Plan& plan) {
  Json shares = Json::array();
  for (const Pool& pool : plan.pools) {
    Json line = Json::array();
    for (const Share& share : pool.shares) line.push_back({share.rank, share.end});
    shares.push_back(std::move(line));
  }
  const Json json = {{"reshard_plan", kFormatVersion},
                     {"source", hex(plan.src->digest())},
                     {"destination", hex(plan.dst->digest())},
                     {"hash", hex(plan.hash)},
                     {"staging_bytes", plan.options.staging_bytes},
                     {"certificate", {plan.certificate.level_bytes, plan.certificate.bound_bytes}},
                     {"shares", std::move(shares)}};
  return json.dump();
}

Result<Plan> load_plan(const std::string& text, std::shared_ptr<const ModelLayout> src,
                       std::shared_ptr<const ModelLayout> dst) {
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
  RESHARD_TRY(Plan plan, prepare_plan(std::move(src), std::move(dst), options));
  const auto certificate = json.find("certificate");
  if (certificate == json.end() || !certificate->is_array() || certificate->size() != 2 ||
      !(*certificate)[0].is_number_integer() || !(*certificate)[1].is_number_integer()) {
    return damaged("certificate");
  }
  plan.certificate = {(*certificate)[0].get<std::int64_t>(), (*certificate)[1].get<std::int64_t>()};
  RESHARD_TRY(read_shares(json, &plan.pools));
  plan.hash = hash_plan(plan);
  if (json.value("hash", Json()) != hex(plan.hash)) return damaged("its hash does not match its content");
  return plan;
}

}  // namespace reshard
