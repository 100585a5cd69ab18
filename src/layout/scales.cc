// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/layout/scales.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "src/base/arithmetic.h"
#include "src/base/at.h"

namespace reshard {
namespace {

struct Row {
  ScaleKind kind;
  std::string_view name;
};
constexpr std::array<Row, 4> kRows = {{
    {ScaleKind::kBlock128, "block128"},
    {ScaleKind::kMxfp8, "mxfp8"},
    {ScaleKind::kChannel, "channel"},
    {ScaleKind::kTensor, "tensor"},
}};

constexpr std::int64_t kBlockExtent = 128;
constexpr std::int64_t kMxExtent = 32;

using Shape = std::vector<std::int64_t>;

/// Dims that a tensor needs so that the kind has a meaning for it.
std::size_t least_dims(ScaleKind kind) {
  if (kind == ScaleKind::kBlock128 || kind == ScaleKind::kChannel) return 2;
  return kind == ScaleKind::kMxfp8 ? 1 : 0;
}

/// Shapes that the scales may have; the first is the one that is made where nobody says.
std::vector<Shape> scale_shapes(ScaleKind kind, const Shape& elements) {
  Shape shape = elements;
  const std::size_t last = elements.size() - 1;
  switch (kind) {
    case ScaleKind::kNone:
      return {};
    case ScaleKind::kBlock128:
      for (const std::size_t d : {last - 1, last}) shape[d] = ceil_div(elements[d], kBlockExtent);
      return {shape};
    case ScaleKind::kMxfp8:
      shape[last] = ceil_div(elements[last], kMxExtent);
      return {shape};
    case ScaleKind::kChannel: {
      shape[last] = 1;
      return {{elements.begin(), elements.end() - 1}, shape};
    }
    case ScaleKind::kTensor:
      if (elements.empty()) return {{}};
      if (elements.size() < 3) return {{}, {1}};
      // A stack of matrices, as of experts: one for each of them, as a server that holds some of them needs it.
      return {{elements.begin(), elements.end() - 2}, {}, {1}};
  }
  return {};
}

}  // namespace

std::string_view name(ScaleKind kind) {
  const auto* row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& r) { return r.kind == kind; });
  return row == kRows.end() ? "none" : row->name;
}

bool is_valid(ScaleKind kind) {
  return kind == ScaleKind::kNone ||
         std::any_of(kRows.begin(), kRows.end(), [&](const Row& row) { return row.kind == kind; });
}

Result<ScaleKind> parse_scale_kind(std::string_view text) {
  std::string known;
  for (const Row& row : kRows) {
    if (row.name == text) return row.kind;
    known += known.empty() ? "" : ", ";
    known += row.name;
  }
  return invalid_argument(fmt::format("unknown kind of scales \"{}\"; known are {}", text, known));
}

DType scale_dtype(ScaleKind kind) {
  return kind == ScaleKind::kMxfp8 ? DType::kF8E8M0 : DType::kF32;
}

Result<Shape> scale_shape(ScaleKind kind, const Shape& elements) {
  if (elements.size() < least_dims(kind)) {
    return invalid_argument(fmt::format("scales {} are of tensors of {} dims or more; this one has the shape [{}]",
                                        name(kind), least_dims(kind), fmt::join(elements, ", ")));
  }
  std::vector<Shape> shapes = scale_shapes(kind, elements);
  if (shapes.empty()) return invalid_argument("no kind of scales");
  return std::move(shapes.front());
}

Result<ScaleGrid> make_scale_grid(ScaleKind kind, const Shape& elements, const Shape& scales) {
  RESHARD_TRY([[maybe_unused]] const Shape usual, scale_shape(kind, elements));
  const std::vector<Shape> known = scale_shapes(kind, elements);
  if (std::find(known.begin(), known.end(), scales) == known.end()) {
    std::string text;
    for (const Shape& shape : known) text += fmt::format("{}[{}]", text.empty() ? "" : " or ", fmt::join(shape, ", "));
    return invalid_argument(fmt::format("scales {} of the shape [{}] have the shape {}, not [{}]", name(kind),
                                        fmt::join(elements, ", "), text, fmt::join(scales, ", ")));
  }
  ScaleGrid grid;
  grid.num_dims = static_cast<int>(elements.size());
  grid.scale_dims = static_cast<int>(scales.size());
  for (int d = 0; d < grid.num_dims; ++d) {
    grid.shape[d] = at(elements, d);
    grid.block[d] = std::max<std::int64_t>(1, at(elements, d));  // all of the dim, unless the scales divide it
    if (d >= grid.scale_dims) continue;
    const bool is_last = d == grid.num_dims - 1;
    const bool is_matrix = d >= grid.num_dims - 2;
    switch (kind) {
      case ScaleKind::kNone:
        break;
      case ScaleKind::kBlock128:
        grid.block[d] = is_matrix ? kBlockExtent : 1;
        break;
      case ScaleKind::kMxfp8:
        grid.block[d] = is_last ? kMxExtent : 1;
        break;
      case ScaleKind::kChannel:
        if (!is_last) grid.block[d] = 1;
        break;
      case ScaleKind::kTensor:
        if (scales != Shape{1}) grid.block[d] = 1;
        break;
    }
  }
  return grid;
}

Box ScaleGrid::scales_of(const Box& elements) const {
  Box scales;
  scales.num_dims = scale_dims;
  for (int d = 0; d < scale_dims; ++d) {
    scales.begin[d] = elements.begin[d] / block[d];
    scales.end[d] = ceil_div(elements.end[d], block[d]);
  }
  return scales;
}

Box ScaleGrid::elements_of(const Box& scales) const {
  Box elements;
  elements.num_dims = num_dims;
  for (int d = 0; d < num_dims; ++d) {
    elements.begin[d] = d < scale_dims ? scales.begin[d] * block[d] : 0;
    elements.end[d] = d < scale_dims ? std::min(shape[d], scales.end[d] * block[d]) : shape[d];
  }
  return elements;
}

}  // namespace reshard
