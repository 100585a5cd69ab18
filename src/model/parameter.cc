// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/parameter.h"

#include <fmt/format.h>

namespace reshard {

std::string_view bare_leaf(const Param& param) {
  return param.leaf == "bias" ? "_bias" : "";
}

std::string local_name(const Param& param) {
  if (param.is_bare) return param.stem + std::string(bare_leaf(param));
  return param.leaf.empty() ? param.stem : param.stem + "." + param.leaf;
}

std::string checkpoint_name(const Model& model, const Param& param) {
  std::string name = local_name(param);
  const Stack& stack = model.stacks[static_cast<std::size_t>(param.stack)];
  if (stack.kind != Stack::Kind::kLayers) return name;
  return fmt::format("{}.{}.{}", stack.prefix, stack.first_number + param.layer, name);
}

std::int64_t group_of(const Model& model, const Param& param) {
  return model.stacks[static_cast<std::size_t>(param.stack)].first_group + param.layer;
}

std::vector<std::int64_t> shape_of(const Param& param) {
  std::vector<std::int64_t> shape;
  for (const Dim& dim : param.dims) shape.push_back(dim.extent());
  return shape;
}

int find_axis(const Param& param, Axis axis) {
  for (std::size_t d = 0; d < param.dims.size(); ++d) {
    if (param.dims[d].axis == axis) return static_cast<int>(d);
  }
  return -1;
}

}  // namespace reshard
