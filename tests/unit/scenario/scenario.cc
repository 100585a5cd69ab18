// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/scenario/scenario.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace reshard::testing {
namespace {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) {
    fmt::print(stderr, "scenario: {}\n", result.status().message());
    std::abort();
  }
  return std::move(result).take();
}

void must(const Status& status) {
  if (!status.ok()) {
    fmt::print(stderr, "scenario: {}\n", status.message());
    std::abort();
  }
}

template <typename T>
void shuffle(Choices* choices, std::vector<T>* values) {
  for (std::size_t i = values->size(); i > 1; --i) {
    std::swap((*values)[i - 1],
              at(*values, static_cast<std::int64_t>(i) - 1 - choices->pick(static_cast<std::int64_t>(i))));
  }
}

MeshPtr make_mesh(Choices* choices, std::int32_t num_ranks) {
  std::vector<std::int32_t> ranks(static_cast<std::size_t>(num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  shuffle(choices, &ranks);
  std::vector<MeshAxis> axes;
  std::int64_t size = 1;
  for (std::int64_t a = 1 + choices->pick(3); a > 0; --a) {
    const std::int64_t most = num_ranks / size;
    axes.push_back({fmt::format("a{}", a), 1 + choices->pick(most)});
    size *= axes.back().size;
  }
  ranks.resize(static_cast<std::size_t>(size));
  return must(Mesh::create(std::move(axes), std::move(ranks)));
}

/// A table that deals the n entries out at random; at a destination some are left out and some repeat.
std::vector<IndexList> make_table(Choices* choices, std::int64_t n, std::int64_t parts, bool is_source) {
  std::vector<std::int64_t> entries(static_cast<std::size_t>(n));
  std::iota(entries.begin(), entries.end(), std::int64_t{0});
  shuffle(choices, &entries);
  if (!is_source && n > 0) {
    for (std::int64_t more = choices->pick(3); more > 0; --more) entries.push_back(choices->pick(n));
    for (std::int64_t less = choices->pick(3); less > 0 && !entries.empty(); --less) entries.pop_back();
  }
  std::vector<IndexList> table(static_cast<std::size_t>(parts));
  for (const std::int64_t entry : entries) at(table, choices->pick(parts)).push_back({entry, entry + 1});
  return table;
}

Split make_split(Choices* choices, std::int64_t n, std::int64_t parts, bool may_be_explicit, bool is_source) {
  Split split;
  split.num_parts = parts;
  switch (choices->pick(may_be_explicit ? 5 : 3)) {
    case 0:
      split.rule = Rule::kChunk;
      break;
    case 1:
      split.rule = Rule::kBalanced;
      break;
    case 2:
      split.rule = Rule::kCyclic;
      split.block = 1 + choices->pick(3);
      break;
    case 3:
      split.rule = Rule::kCuts;
      for (std::int64_t c = 1; c < parts; ++c) split.cuts.push_back(choices->pick(n + 1));
      std::sort(split.cuts.begin(), split.cuts.end());
      split.cuts.insert(split.cuts.begin(), 0);
      split.cuts.push_back(n);
      break;
    default:
      split.rule = Rule::kTable;
      split.table = make_table(choices, n, parts, is_source);
      break;
  }
  return split;
}

Placement make_placement(Choices* choices, const Tensor& tensor, std::int32_t num_ranks, bool is_source) {
  Placement placement;
  placement.mesh = make_mesh(choices, num_ranks);
  const auto num_dims = static_cast<std::int64_t>(tensor.shape.size());
  placement.dims.resize(tensor.shape.size());
  std::vector<std::vector<Split>> splits(tensor.shape.size());
  for (int axis = 0; axis < placement.mesh->num_axes(); ++axis) {
    const std::int64_t dim = choices->pick(num_dims + 1) - 1;
    if (dim < 0) continue;  // replicate
    // Cuts and tables fit one list only, so they come first on their dimension.
    at(splits, dim)
        .push_back(make_split(choices, at(tensor.shape, dim), at(placement.mesh->axes(), axis).size,
                              at(splits, dim).empty(), is_source));
    at(placement.dims, dim).axes.push_back(axis);
  }
  for (std::int64_t d = 0; d < num_dims; ++d) {
    if (at(splits, d).empty() && choices->pick(4) != 3) continue;
    DimMap map = must(make_dim_map(at(tensor.shape, d), at(splits, d)));
    if (choices->pick(3) == 2) {
      map.owns_padding = true;
      std::int64_t widest = 0;
      for (const DimPart& part : map.parts) widest = std::max(widest, part.extent);
      for (DimPart& part : map.parts) part.extent = widest + 1;
    }
    at(placement.dims, d).map = std::make_shared<const DimMap>(std::move(map));
  }
  if (choices->pick(3) == 2) {
    for (int d = 0; d < static_cast<int>(num_dims); ++d) placement.order.push_back(d);
    shuffle(choices, &placement.order);
  }
  placement.padding = choices->pick(2) == 0 ? Padding::kZero : Padding::kUntouched;
  return placement;
}

/// The tensor flattened and dealt out in ranges that cut rows, as flat parameters are.
void add_flat(Choices* choices, std::int64_t tensor, ModelLayout* layout) {
  const Tensor& described = at(layout->tensors(), tensor);
  const std::int64_t count = must(checked_num_elements(described.shape));
  const std::int64_t element_bytes = size_bytes(described.dtype);
  const std::int64_t parts = 1 + choices->pick(layout->num_ranks());
  std::vector<std::int64_t> cuts = {0, count};
  for (std::int64_t c = 1; c < parts; ++c) cuts.push_back(choices->pick(count + 1));
  std::sort(cuts.begin(), cuts.end());
  for (std::int64_t p = 0; p < parts; ++p) {
    const auto rank = static_cast<std::int32_t>(p);
    const std::int64_t bytes = (at(cuts, p + 1) - at(cuts, p)) * element_bytes;
    const std::int64_t lead = choices->pick(3);
    const std::int64_t buffer = must(layout->add_rank_buffer(rank, described.name, lead + bytes + 1));
    must(layout->add_flat_range(rank, tensor, at(cuts, p), at(cuts, p + 1), buffer, lead));
  }
}

Tensor make_tensor(Choices* choices, std::int64_t index) {
  Tensor tensor;
  tensor.name = fmt::format("t{}", index);
  for (std::int64_t d = choices->pick(4); d > 0; --d) tensor.shape.push_back(choices->pick(13));
  tensor.group = choices->pick(3) - 1;
  return tensor;
}

}  // namespace

Scenario make_scenario(Choices* choices, std::int32_t num_ranks) {
  static constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
  auto src = std::make_shared<ModelLayout>(num_ranks);
  auto dst = std::make_shared<ModelLayout>(num_ranks);
  const std::int64_t num_tensors = 1 + choices->pick(4);
  for (std::int64_t t = 0; t < num_tensors; ++t) {
    Tensor tensor = make_tensor(choices, t);
    for (ModelLayout* side : {src.get(), dst.get()}) {
      tensor.dtype = kFloats[choices->pick(3)];
      const std::int64_t id = must(side->add_tensor(tensor));
      if (choices->pick(4) == 3) {
        add_flat(choices, id, side);
        continue;
      }
      Placement placement = make_placement(choices, tensor, num_ranks, side == src.get());
      placement.buffer = side->add_buffer(tensor.name, tensor.dtype);
      must(side->place(id, std::move(placement)));
    }
  }
  return {std::move(src), std::move(dst)};
}

std::int64_t flat_index(const std::vector<std::int64_t>& shape, const Dims& index) {
  std::int64_t flat = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) flat = flat * shape[d] + index[static_cast<int>(d)];
  return flat;
}

}  // namespace reshard::testing
