// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Loads are counted from routes and paths alone, the same for a plan just made, one made anew and one read from a file:
// nothing that a stage meant to do is taken for what it did.
#include "src/plan/loads.h"

#include <algorithm>

namespace reshard {

GroupSplitter::GroupSplitter(const Plan& plan) {
  for (const Bundle& bundle : plan.bundles) pattern_of_.push_back(bundle.pattern);
  for (const StrandPattern& pattern : plan.patterns) {
    std::vector<Run>& runs = runs_.emplace_back();
    for (std::size_t s = 0; s < pattern.entries.size(); ++s) {
      // Entries are in plan order, so that groups ascend along the stream and a run is all that a group has of it.
      const std::int32_t group = at(plan.tensors, pattern.entries[s].tensor).group;
      const std::int64_t end = s + 1 < pattern.entries.size() ? pattern.entries[s + 1].begin_bytes : pattern.size_bytes;
      if (!runs.empty() && runs.back().group == group) {
        runs.back().end = end;
      } else {
        runs.push_back({group, end});
      }
    }
  }
}

void GroupSplitter::split(const Range& range, std::vector<GroupBytes>* out) const {
  const std::vector<Run>& runs = at(runs_, at(pattern_of_, range.bundle));
  // The first run that ends behind the range's begin is the one in which it lies: runs follow each other without gaps.
  auto run = std::upper_bound(runs.begin(), runs.end(), range.begin,
                              [](std::int64_t offset, const Run& r) { return offset < r.end; });
  for (std::int64_t position = range.begin; position < range.end; ++run) {
    const std::int64_t end = std::min(range.end, run->end);
    out->push_back({run->group, end - position});
    position = end;
  }
}

/// Sums of 64 bits: a resource passes far less than 2^63 bytes.
std::vector<std::int64_t> loads_of(const Plan& plan) {
  std::vector<std::int64_t> loads(static_cast<std::size_t>(plan.options.machine->num_resources()));
  for_each_cargo(plan, [&](const Cargo& cargo, const std::vector<std::int32_t>& uses) {
    for (const std::int32_t resource : uses) at(loads, resource) += cargo.size_bytes;
  });
  return loads;
}

namespace {

/// Among resources [first, end).
Busiest busiest_of(const Machine& machine, const std::vector<std::int64_t>& loads, std::int32_t first,
                   std::int32_t end) {
  Busiest out;
  for (std::int32_t resource = first; resource < end; ++resource) {
    if (at(loads, resource) == 0) continue;
    const std::int64_t rate = machine.link_of(resource).bytes_per_s();
    if (rate == 0) continue;
    const double seconds = static_cast<double>(at(loads, resource)) / static_cast<double>(rate);
    if (seconds > out.seconds) out = {seconds, resource};
  }
  return out;
}

}  // namespace

Busiest busiest(const Machine& machine, const std::vector<std::int64_t>& loads) {
  return busiest_of(machine, loads, 0, machine.num_resources());
}

/// Resources of a kind have consecutive numbers, up to the first of the next kind.
Busiest busiest(const Machine& machine, const std::vector<std::int64_t>& loads, ResourceKind kind) {
  const bool is_last = static_cast<int>(kind) + 1 == kNumResourceKinds;
  const auto next = static_cast<ResourceKind>(static_cast<int>(kind) + 1);
  return busiest_of(machine, loads, machine.resource(kind, 0),
                    is_last ? machine.num_resources() : machine.resource(next, 0));
}

}  // namespace reshard
