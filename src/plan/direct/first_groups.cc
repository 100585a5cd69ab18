// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/direct/first_groups.h"

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "src/plan/loads.h"

namespace reshard::direct {
namespace {

/// For each group the sources of most of its bytes, named by the first of their ranks: what tells pipeline stages
/// apart, without knowing of any. -1 for a group without bytes.
std::vector<std::int32_t> main_sources(const Plan& plan) {
  std::vector<std::map<std::int32_t, std::int64_t>> bytes(plan.groups.size());
  const GroupSplitter splitter(plan);
  std::vector<GroupBytes> parts;
  for (std::size_t b = 0; b < plan.bundles.size(); ++b) {
    const Bundle& bundle = plan.bundles[b];
    if (bundle.size_bytes == 0) continue;
    parts.clear();
    splitter.split({static_cast<std::int32_t>(b), 0, bundle.size_bytes}, &parts);
    for (const GroupBytes& part : parts) {
      at(bytes, part.group)[plan.sets.ranks(bundle.sources).front()] += part.bytes;
    }
  }
  std::vector<std::int32_t> out;
  for (const auto& of_group : bytes) {
    const auto most = std::max_element(of_group.begin(), of_group.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    out.push_back(most == of_group.end() ? -1 : most->first);
  }
  return out;
}

/// The groups with which another stage's begin.
std::vector<std::int32_t> stage_starts(const Plan& plan) {
  std::vector<std::int32_t> starts;
  const std::vector<std::int32_t> sources = main_sources(plan);
  for (std::size_t g = 0; g < sources.size(); ++g) {
    if (g == 0 || sources[g] != sources[g - 1]) starts.push_back(static_cast<std::int32_t>(g));
  }
  return starts;
}

/// Whether receivers may begin with different groups.
bool may_rotate(const PlanOptions& options) {
  return options.open_groups > 0 && options.order != GroupOrder::kFixed;
}

}  // namespace

/// Counterparts need the same bundles: they are numbered within each bundle, those first that fewest ranks share; a
/// rank keeps its first number. Begins are those of stages.
void choose_first_groups(Plan* plan) {
  plan->first_groups.assign(static_cast<std::size_t>(plan->num_ranks), 0);
  if (!may_rotate(plan->options)) return;
  std::vector<std::span<const std::int32_t>> wanted;
  for (const Bundle& bundle : plan->bundles) wanted.emplace_back(plan->sets.ranks(bundle.destinations));
  std::stable_sort(wanted.begin(), wanted.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
  const std::vector<std::int32_t> starts = stage_starts(*plan);
  // Fewer replicas than stages keep as far from each other as they can.
  const std::int64_t num_starts = std::ssize(starts);
  const auto start_of = [&](std::int64_t replica, std::int64_t count) {
    return at(starts, count <= num_starts ? replica * num_starts / count : replica % num_starts);
  };
  std::vector<bool> has_begin(plan->first_groups.size());
  for (const std::span<const std::int32_t> ranks : wanted) {
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      const auto rank = static_cast<std::size_t>(ranks[i]);
      if (has_begin[rank]) continue;
      plan->first_groups[rank] = start_of(static_cast<std::int64_t>(i), std::ssize(ranks));
      has_begin[rank] = true;
    }
  }
}

}  // namespace reshard::direct
