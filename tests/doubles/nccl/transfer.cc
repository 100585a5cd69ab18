// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/doubles/nccl/transfer.h"

#include <cstring>

#include "tests/doubles/nccl/world.h"

namespace nccl_double {

Transfer::Step Transfer::send(std::uint64_t buffer_bytes) {
  if (is_lost) {
    ring->is_dead.store(1);
    return Step::kDone;
  }
  if (ring->is_dead.load() != 0) return Step::kNone;
  bool has_moved = false;
  if (!has_head) {
    if (kRingBytes - ring->num_there() < sizeof head) return Step::kNone;
    ring->write(reinterpret_cast<const std::byte*>(&head), sizeof head);
    has_head = has_moved = true;
  }
  if (num_moved < size_bytes && ring->num_there() < kRingBytes) {
    cuda().open_range(data + num_moved, size_bytes - num_moved, "a send of NCCL");
    num_moved += ring->write(data + num_moved, size_bytes - num_moved);
    has_moved = true;
  }
  // The ring is written by one rank in order: what is in it last is of this message.
  if (num_moved == size_bytes && ring->num_there() <= buffer_bytes) return Step::kDone;
  return has_moved ? Step::kMoved : Step::kNone;
}

Transfer::Step Transfer::receive() {
  if (!has_head) {
    if (ring->num_there() < sizeof found) return Step::kNone;
    ring->read(reinterpret_cast<std::byte*>(&found), sizeof found);
    if (std::memcmp(&found, &head, sizeof head) != 0) return Step::kMismatch;
    has_head = true;
  }
  if (num_moved == size_bytes) return Step::kDone;
  if (ring->num_there() == 0) return Step::kNone;
  cuda().open_range(data + num_moved, size_bytes - num_moved, "a receive of NCCL");
  num_moved += ring->read(data + num_moved, size_bytes - num_moved);
  return num_moved == size_bytes ? Step::kDone : Step::kMoved;
}

Transfer::Step Transfer::step(std::uint64_t buffer_bytes) {
  const Step result = is_send ? send(buffer_bytes) : receive();
  is_done = result == Step::kDone;
  return result;
}

}  // namespace nccl_double
