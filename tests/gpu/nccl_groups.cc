// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: nccl_groups [LARGEST]      1024 unless given
//
// NCCL itself, behind the same table and communicator that a binding uses, with two ranks as threads. On one device,
// which takes NCCL 2.30 or newer and NCCL_MULTI_RANK_GPU_ENABLE=1, or on two where there are two. Groups of 6, 140 and
// LARGEST operations, half of them sends, of 64 KiB each: every byte is compared, the time of each is printed. Then a
// receive that nobody answers: it must be under way, be given up within a second, and leave the stream usable. Prints a
// JSON object for each; the exit status is 1 when one of them failed, 77 when this NCCL does not take the ranks.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/transport/local.h"
#include "src/transport/nccl/comm.h"

namespace reshard::testing {
namespace {

constexpr std::int32_t kNumRanks = 2;
constexpr std::int64_t kMessageBytes = 64 << 10;
constexpr std::int64_t kTimeoutUs = 20'000'000;
constexpr int kNumRounds = 5;  // of which the first warms up
using Clock = std::chrono::steady_clock;

std::mutex output;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void fail(std::int32_t rank, const char* what, const Status& status) {
  const std::lock_guard lock(output);
  std::fprintf(stderr, "nccl_groups: rank %d: %s: %s\n", rank, what, status.message().c_str());
  std::_Exit(status.code() == RESHARD_ERR_NOT_SUPPORTED ? 77 : 1);
}

template <typename T>
T take(std::int32_t rank, const char* what, Result<T> result) {
  if (!result.ok()) fail(rank, what, result.status());
  return result.take();
}
void require(std::int32_t rank, const char* what, const Status& status) {
  if (!status.ok()) fail(rank, what, status);
}

/// Byte i of message m from this rank; another in every round.
unsigned char value(std::int32_t from, std::int64_t message, std::int64_t i, int round) {
  return static_cast<unsigned char>(101 * from + 31 * message + 7 * i + i / 509 + round);
}

class Rank {
 public:
  Rank(std::int32_t number, Collective* collective)
      : number_(number),
        device_(number % take(number, "devices", num_devices())),
        collective_(collective),
        stream_(take(number, "a stream", Stream::create(device_))) {
    NcclOptions options;
    const char* library = std::getenv("RESHARD_NCCL_LIBRARY");
    if (library != nullptr) options.library = library;
    options.max_ctas = 4;  // two ranks must fit one device, and 62 operations one kernel of the older NCCL
    comm_ = take(number, "a communicator", NcclComm::create(collective, device_, options, Deadline(kTimeoutUs)));
    const std::vector<std::int32_t> peers{1 - number};
    require(number, "the first bytes", comm_->warm_up(peers, peers, collective, Deadline(kTimeoutUs)));
  }

  /// 0 where NCCL takes no group of this size.
  int run_groups(std::int64_t num_operations) {
    const std::int64_t most = comm_->max_group_operations();
    if (most != 0 && num_operations > most) {
      print("skipped", num_operations, 0, 0);
      return 0;
    }
    const std::int64_t num_messages = num_operations / 2;
    const auto size = static_cast<std::size_t>(num_messages * kMessageBytes);
    const DeviceMemory out = take(number_, "memory", DeviceMemory::allocate(device_, size));
    const DeviceMemory in = take(number_, "memory", DeviceMemory::allocate(device_, size));
    std::vector<NcclOperation> operations;
    for (std::int64_t m = 0; m < num_messages; ++m) {
      auto* sent = static_cast<std::byte*>(out.data()) + m * kMessageBytes;
      auto* received = static_cast<std::byte*>(in.data()) + m * kMessageBytes;
      operations.push_back({NcclOperation::Kind::kSend, 1 - number_, sent, kMessageBytes});
      operations.push_back({NcclOperation::Kind::kReceive, 1 - number_, received, kMessageBytes});
    }
    std::int64_t num_wrong = 0;
    double seconds = 0;
    for (int round = 0; round < kNumRounds; ++round) {
      fill(out, num_messages, round);
      meet();
      const auto start = Clock::now();
      require(number_, "a group", comm_->exchange(operations, stream_, Deadline(kTimeoutUs)));
      wait();
      if (round > 0) seconds += seconds_since(start) / (kNumRounds - 1);
      num_wrong += count_wrong(in, num_messages, round);
    }
    print("moved", num_operations, seconds, num_wrong);
    return num_wrong == 0 ? 0 : 1;
  }

  int give_up() {
    const DeviceMemory memory = take(number_, "memory", DeviceMemory::allocate(device_, 64));
    double seconds = 0;
    bool was_under_way = true;
    if (number_ == 0) {
      const NcclOperation lonely{NcclOperation::Kind::kReceive, 1, memory.data(), 64};
      require(0, "a receive", comm_->exchange({&lonely, 1}, stream_, Deadline(kTimeoutUs)));
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      was_under_way = !take(0, "the stream", stream_.is_done());
    }
    meet();
    const auto start = Clock::now();
    require(number_, "giving up", comm_->give_up(Deadline(kTimeoutUs)));
    require(number_, "the stream after giving up", stream_.synchronize());
    seconds = seconds_since(start);
    require(number_, "work after giving up", fill_async(memory.data(), 1, 64, stream_));
    require(number_, "work after giving up", stream_.synchronize());
    const bool is_right = was_under_way && seconds < 1;
    print(is_right ? "given up" : "not given up as it should be", 1, seconds, 0);
    meet();
    return is_right ? 0 : 1;
  }

 private:
  void meet() { take(number_, "meeting", collective_->allgather({}, Deadline(kTimeoutUs))); }

  /// With a deadline: a group that hangs is what this program is there to find.
  void wait() {
    const Deadline deadline(kTimeoutUs);
    while (!take(number_, "the stream", stream_.is_done())) {
      require(number_, "the communicator", comm_->poll());
      if (deadline.expired()) fail(number_, "a group", {RESHARD_ERR_TIMEOUT, "it hangs"});
    }
  }

  void fill(const DeviceMemory& out, std::int64_t num_messages, int round) {
    std::vector<unsigned char> bytes(out.size_bytes());
    for (std::int64_t m = 0; m < num_messages; ++m) {
      for (std::int64_t i = 0; i < kMessageBytes; ++i) {
        bytes[static_cast<std::size_t>(m * kMessageBytes + i)] = value(number_, m, i, round);
      }
    }
    require(number_, "filling", copy_and_wait(out.data(), bytes.data(), bytes.size(), stream_));
  }

  std::int64_t count_wrong(const DeviceMemory& in, std::int64_t num_messages, int round) {
    std::vector<unsigned char> bytes(in.size_bytes());
    require(number_, "reading", copy_and_wait(bytes.data(), in.data(), bytes.size(), stream_));
    std::int64_t num_wrong = 0;
    for (std::int64_t m = 0; m < num_messages; ++m) {
      for (std::int64_t i = 0; i < kMessageBytes; ++i) {
        const unsigned char want = value(1 - number_, m, i, round);
        num_wrong += bytes[static_cast<std::size_t>(m * kMessageBytes + i)] == want ? 0 : 1;
      }
    }
    return num_wrong;
  }

  void print(const char* what, std::int64_t num_operations, double seconds, std::int64_t num_wrong) const {
    const std::lock_guard lock(output);
    std::printf(
        "{\"nccl\": \"%s\", \"rank\": %d, \"group\": \"%s\", \"operations\": %lld, \"seconds\": %.6f, "
        "\"wrong_bytes\": %lld}\n",
        nccl_version_text(comm_->library().version()).c_str(), number_, what, static_cast<long long>(num_operations),
        seconds, static_cast<long long>(num_wrong));
  }

  std::int32_t number_;
  std::int32_t device_;
  Collective* collective_;
  Stream stream_;
  std::unique_ptr<NcclComm> comm_;
};

int run(std::int64_t largest) {
  auto world = take(0, "threads", create_local_transports(kNumRanks));
  std::vector<int> failed(kNumRanks);
  std::vector<std::thread> threads;
  for (std::int32_t r = 0; r < kNumRanks; ++r) {
    threads.emplace_back([&, r] {
      Rank rank(r, world[static_cast<std::size_t>(r)].get());
      int& mine = failed[static_cast<std::size_t>(r)];
      for (const std::int64_t operations : {std::int64_t{6}, std::int64_t{140}, largest}) {
        mine += rank.run_groups(operations);
      }
      mine += rank.give_up();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return failed[0] + failed[1] == 0 ? 0 : 1;
}

}  // namespace
}  // namespace reshard::testing

int main(int argc, char** argv) {
  return reshard::testing::run(argc > 1 ? std::atoll(argv[1]) : 1024);
}
