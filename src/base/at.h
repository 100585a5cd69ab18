// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cassert>
#include <cstddef>

namespace reshard {

/// container[index] for the signed indices that the project counts with; the one place where they become unsigned.
template <typename Container, typename Index>
decltype(auto) at(Container& container, Index index) {
  assert(index >= 0 && static_cast<std::size_t>(index) < container.size());
  return (container[static_cast<std::size_t>(index)]);
}

}  // namespace reshard
