// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstdint>
#include <vector>

#include "topology/fluid.h"

namespace reshard {

/// Which flows the open limit of their receivers lets start.
class Gates {
 public:
  explicit Gates(const FluidTraffic& traffic);

  /// Appends the flows that may start at once.
  void open_first(std::vector<std::int32_t>* started);
  /// Appends the flows that were waiting for this one last.
  void finish(std::int32_t flow, std::vector<std::int32_t>* started);
  /// How many times as long as one open group all groups last, one after another.
  std::int64_t num_waves() const;

 private:
  struct Place {
    std::int32_t position;
    std::int32_t flow;
  };
  struct Receiver {
    std::vector<Place> order;  ///< by position
    std::size_t first_unfinished = 0;
    std::size_t first_closed = 0;
  };

  void advance(Receiver* receiver, std::vector<std::int32_t>* started);

  const FluidTraffic& traffic_;
  std::vector<Receiver> receivers_;
  std::vector<std::int64_t> num_closed_;  // per flow, of its memberships
  std::vector<bool> is_finished_;         // per flow
};

}  // namespace reshard
