// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "perf/engine/plan_layouts.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "perf/engine/error.h"
#include "perf/engine/layout_view.h"
#include "perf/engine/text.h"

namespace reshard::perf {
namespace {

using nlohmann::json;

// As many as a person looks at, and as a picture of this size can show.
constexpr std::size_t kMostKinds = 60;
constexpr std::size_t kMostBoxes = 256;

using Box = std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>;  ///< begin and end

/// "0-3, 8"
std::string ranks_text(const std::vector<std::int32_t>& ranks) {
  std::string out;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (!out.empty()) out += ", ";
    out += last == i ? fmt::format("{}", ranks[i]) : fmt::format("{}-{}", ranks[i], ranks[last]);
    i = last + 1;
  }
  return out;
}

/// The boxes of a tensor in the order of their first elements, each with the ranks that hold it, ascending.
std::map<Box, std::vector<std::int32_t>> holders_of(reshard_layout_t layout, std::int64_t tensor,
                                                    std::size_t num_dims) {
  std::int32_t num_ranks = 0;
  check(reshard_layout_num_ranks(layout, &num_ranks), "reading a layout");
  std::map<Box, std::vector<std::int32_t>> holders;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    for (const reshard_block_t& block : blocks_of(layout, rank, tensor)) {
      if (block.kind != RESHARD_BLOCK_DATA) continue;
      std::vector<std::int32_t>& ranks =
          holders[{{block.begin, block.begin + num_dims}, {block.end, block.end + num_dims}}];
      if (ranks.empty() || ranks.back() != rank) ranks.push_back(rank);  // a rank may hold a box twice
    }
  }
  return holders;
}

json side_json(reshard_layout_t layout, const TensorView& tensor, std::int64_t index) {
  const auto holders = holders_of(layout, index, tensor.shape.size());
  json boxes = json::array();
  for (const auto& [box, ranks] : holders) {
    if (boxes.size() == kMostBoxes) break;
    boxes.push_back(
        {{"begin", box.first}, {"end", box.second}, {"ranks", ranks_text(ranks)}, {"num_ranks", ranks.size()}});
  }
  return {{"dtype", reshard_dtype_name(tensor.dtype)}, {"num_boxes", holders.size()}, {"boxes", std::move(boxes)}};
}

/// A kind, with the index of its first tensor on each side; -1 where that has none of the name.
struct Kind {
  std::string pattern;
  std::string tensor;
  std::int64_t src = -1;
  std::int64_t dst = -1;
  std::set<std::string> names = {};  ///< of all its tensors, on either side
};

std::vector<Kind> kinds_of(reshard_layout_t src, const std::vector<TensorView>& src_tensors, reshard_layout_t dst,
                           const std::vector<TensorView>& dst_tensors) {
  std::vector<Kind> kinds;
  std::map<std::string, std::size_t> index_of;
  for (const auto* tensors : {&src_tensors, &dst_tensors}) {
    for (const TensorView& tensor : *tensors) {
      const std::string pattern = name_pattern(tensor.name);
      const auto [at, is_new] = index_of.try_emplace(pattern, kinds.size());
      if (is_new) kinds.push_back({pattern, tensor.name});
      kinds[at->second].names.insert(tensor.name);
    }
  }
  for (Kind& kind : kinds) {
    check(reshard_layout_find_tensor(src, kind.tensor.c_str(), &kind.src), "looking a tensor up");
    check(reshard_layout_find_tensor(dst, kind.tensor.c_str(), &kind.dst), "looking a tensor up");
  }
  return kinds;
}

}  // namespace

json layout_pictures(reshard_layout_t src, reshard_layout_t dst) {
  const std::vector<TensorView> src_tensors = tensors_of(src), dst_tensors = tensors_of(dst);
  const std::vector<Kind> kinds = kinds_of(src, src_tensors, dst, dst_tensors);
  json out = json::array();
  for (const Kind& kind : kinds) {
    if (out.size() == kMostKinds) break;
    const TensorView& first = kind.src >= 0 ? src_tensors[static_cast<std::size_t>(kind.src)]
                                            : dst_tensors[static_cast<std::size_t>(kind.dst)];
    json entry = {{"kind", kind.pattern}, {"tensor", kind.tensor}, {"tensors", kind.names.size()},
                  {"shape", first.shape}, {"src", nullptr},        {"dst", nullptr}};
    if (kind.src >= 0) entry["src"] = side_json(src, src_tensors[static_cast<std::size_t>(kind.src)], kind.src);
    if (kind.dst >= 0) entry["dst"] = side_json(dst, dst_tensors[static_cast<std::size_t>(kind.dst)], kind.dst);
    out.push_back(std::move(entry));
  }
  return {{"left_out", kinds.size() - out.size()}, {"kinds", std::move(out)}};
}

}  // namespace reshard::perf
