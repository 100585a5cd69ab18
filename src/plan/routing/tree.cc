// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/routing/tree.h"

#include <algorithm>
#include <utility>

#include "src/base/hasher.h"

namespace reshard::routing {

std::uint64_t Tree::digest() const {
  Hasher hasher;
  for (const Arc& arc : arcs) {
    for (const std::int32_t value : {arc.src, arc.dst, arc.parent, arc.to_staging ? 1 : 0}) hasher.add(value);
  }
  return hasher.digest();
}

bool begins_with(const Tree& tree, const Tree& part) {
  return part.arcs.size() <= tree.arcs.size() && std::equal(part.arcs.begin(), part.arcs.end(), tree.arcs.begin());
}

/// Backwards: when an arc is looked at, all that it could feed have been.
Tree without_idle_relays(const Tree& tree) {
  const std::size_t count = tree.arcs.size();
  std::vector<bool> is_needed(count);
  for (std::size_t i = count; i-- > 0;) {
    const Tree::Arc& arc = tree.arcs[i];
    if (!arc.to_staging) is_needed[i] = true;
    if (is_needed[i] && arc.parent >= 0) is_needed[static_cast<std::size_t>(arc.parent)] = true;
  }
  Tree out;
  std::vector<std::int32_t> number(count, -1);
  for (std::size_t i = 0; i < count; ++i) {
    if (!is_needed[i]) continue;
    number[i] = static_cast<std::int32_t>(out.arcs.size());
    Tree::Arc arc = tree.arcs[i];
    if (arc.parent >= 0) arc.parent = at(number, arc.parent);
    out.arcs.push_back(arc);
  }
  return out;
}

TreePtr without_idle_relays(const TreePtr& tree) {
  const auto is_relay = [](const Tree::Arc& arc) { return arc.to_staging; };
  if (std::none_of(tree->arcs.begin(), tree->arcs.end(), is_relay)) return tree;
  Tree needed = without_idle_relays(*tree);
  return needed.arcs.size() == tree->arcs.size() ? tree : std::make_shared<const Tree>(std::move(needed));
}

}  // namespace reshard::routing
