// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/report/quantised.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

namespace reshard {
namespace {

constexpr std::int64_t kBF16Bytes = 2;

/// Bytes that cross ranks, by tensor in plan order and over all hops. Most ranges are whole bundles, and most bundles
/// are of few patterns: their hops are counted first, and the tensors of a pattern gone through once.
std::vector<std::int64_t> crossed_bytes(const Plan& plan) {
  std::vector<std::int64_t> hops_of_pattern(plan.patterns.size());
  std::vector<std::int64_t> bytes(plan.tensors.size());
  for (const Route& route : plan.routes) {
    for (const Range& range : plan.ranges_of(route)) {
      const Bundle& bundle = at(plan.bundles, range.bundle);
      if (range.begin == 0 && range.end == bundle.size_bytes) {
        at(hops_of_pattern, bundle.pattern) += route.num_hops;
        continue;
      }
      const Strands strands = plan.strands(bundle);
      for (std::size_t s = strands.find(range.begin); s < strands.size(); ++s) {
        const Strand strand = strands[s];
        if (strand.begin_bytes >= range.end) break;
        const std::int64_t part = std::min(range.end, strand.end_bytes) - std::max(range.begin, strand.begin_bytes);
        at(bytes, strand.tensor) += part * route.num_hops;
      }
    }
  }
  for (std::size_t p = 0; p < plan.patterns.size(); ++p) {
    const std::vector<StrandPattern::Entry>& entries = plan.patterns[p].entries;
    for (std::size_t i = 0; i < entries.size() && hops_of_pattern[p] > 0; ++i) {
      const std::int64_t end = i + 1 < entries.size() ? entries[i + 1].begin_bytes : plan.patterns[p].size_bytes;
      at(bytes, entries[i].tensor) += (end - entries[i].begin_bytes) * hops_of_pattern[p];
    }
  }
  return bytes;
}

/// Numbers between dots become *.
std::string pattern_of(const std::string& name) {
  std::string out;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool is_number =
        !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
    out += (begin > 0 ? "." : "") + (is_number ? std::string("*") : part);
    begin = end + 1;
  }
  return out;
}

struct Entry {
  std::int64_t num_tensors = 0;
  std::int64_t bytes_crossed = 0;
  std::int64_t bytes_as_bf16 = 0;
};

/// For each conversion the bytes of its elements, and of its scales as far as they travel.
class EntryMaker {
 public:
  explicit EntryMaker(const Plan& plan) : plan_(plan), bytes_(crossed_bytes(plan)) {
    for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
      of_dst_[plan.tensors[t].dst] = static_cast<std::int64_t>(t);
    }
  }

  Entry make(const Conversion& conversion) const {
    Entry entry{1, 0, 0};
    const std::int64_t elements = conversion.is_at_source() ? conversion.dst : conversion.landing;
    add(elements, &entry);
    if (const auto found = of_dst_.find(elements); found != of_dst_.end()) {
      entry.bytes_as_bf16 = entry.bytes_crossed / at(plan_.tensors, found->second).wire_bytes * kBF16Bytes;
    }
    if (!conversion.is_quantising) {
      add(conversion.dst_scales, &entry);
    } else {
      add(plan_.given_dst->scales(conversion.dst).tensor, &entry);
    }
    return entry;
  }

 private:
  void add(std::int64_t dst, Entry* entry) const {
    const auto found = of_dst_.find(dst);  // scales that are computed at the destination are not matched
    if (found != of_dst_.end()) entry->bytes_crossed += at(bytes_, found->second);
  }

  const Plan& plan_;
  std::vector<std::int64_t> bytes_;
  std::map<std::int64_t, std::int64_t> of_dst_;  // tensors in plan order
};

}  // namespace

nlohmann::json quantised_json(const Plan& plan) {
  nlohmann::json out = nlohmann::json::array();
  if (plan.conversions.empty()) return out;
  using Key = std::tuple<std::string, DType, DType, ScaleKind, bool, bool, std::string>;
  std::map<Key, Entry> entries;
  const EntryMaker maker(plan);
  for (const Conversion& conversion : plan.conversions) {
    const Tensor& from = at(plan.src->tensors(), conversion.src);
    const Tensor& to = at(plan.dst->tensors(), conversion.dst);
    const Entry made = maker.make(conversion);
    Entry& entry = entries[{pattern_of(to.name), from.dtype, to.dtype, conversion.kind, conversion.has_given_scales,
                            conversion.is_at_source(), conversion.why}];
    entry.num_tensors += made.num_tensors;
    entry.bytes_crossed += made.bytes_crossed;
    entry.bytes_as_bf16 += made.bytes_as_bf16;
  }
  for (const auto& [key, entry] : entries) {
    const auto& [pattern, from, to, kind, has_given_scales, is_at_source, why] = key;
    out.push_back({{"pattern", pattern},
                   {"tensors", entry.num_tensors},
                   {"from", name(from)},
                   {"to", name(to)},
                   {"scales", name(kind)},
                   {"given", has_given_scales},
                   {"place", is_at_source ? "source" : "destination"},
                   {"why", why},
                   {"bytes_crossed", entry.bytes_crossed},
                   {"bytes_crossed_as_bf16", entry.bytes_as_bf16}});
  }
  return out;
}

}  // namespace reshard
