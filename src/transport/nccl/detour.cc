// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/transport/nccl/detour.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

namespace reshard {
namespace {

// Between questions to the collective, which cost a system call.
constexpr std::int64_t kHealthUs = 10'000;

struct Meeting {
  std::mutex mutex;
  std::condition_variable ended;
  bool is_over = false;
  Status status;
};

}  // namespace

Deadline later(std::int64_t timeout_us, std::int64_t more_us) {
  return Deadline(timeout_us > INT64_MAX - more_us ? timeout_us : timeout_us + more_us);
}

Detour make_detour(const std::string& what, std::function<Status()> call, const Deadline& deadline,
                   Collective* collective) {
  auto meeting = std::make_shared<Meeting>();
  std::thread thread([meeting, call = std::move(call)] {
    Status status = call();
    const std::lock_guard lock(meeting->mutex);
    meeting->status = std::move(status);
    meeting->is_over = true;
    meeting->ended.notify_all();
  });
  Status lost;
  std::unique_lock lock(meeting->mutex);
  while (!meeting->is_over && !deadline.expired() && lost.ok()) {
    const auto turn = std::chrono::microseconds(std::min(deadline.remaining_us(), kHealthUs));
    if (meeting->ended.wait_for(lock, turn, [&] { return meeting->is_over; })) break;
    if (collective != nullptr) lost = collective->health();
  }
  if (meeting->is_over) {
    lock.unlock();
    thread.join();
    return {true, std::move(meeting->status)};
  }
  thread.detach();
  if (!lost.ok()) return {false, std::move(lost).with_context(what)};
  return {false,
          {RESHARD_ERR_TIMEOUT, fmt::format("{} did not return within {} ms", what, deadline.timeout_us() / 1000)}};
}

}  // namespace reshard
