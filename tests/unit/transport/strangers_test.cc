// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What others may do to the port of a rendezvous, or on it in rank 0's place: the job starts all the same, and they get
// nothing from it.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include "src/transport/bootstrap.h"
#include "src/transport/channel.h"
#include "src/transport/socket.h"
#include "src/transport/tcp_handshake.h"
#include "tests/unit/transport/ranks.h"

namespace reshard::test {
namespace {

using Clock = std::chrono::steady_clock;

Channel connect_stranger(std::uint16_t port) {
  auto fd = connect_to("127.0.0.1", port, Deadline(kPatienceUs));
  EXPECT_TRUE(fd.ok()) << fd.status().message();
  return Channel(fd.take(), 1 << 20);
}

// The next frame; null when the other end closes first.
const Frame* await_frame(Channel* channel) {
  const Deadline deadline(kPatienceUs);
  while (!deadline.expired()) {
    channel->pump();
    if (const Frame* frame = channel->front()) return frame;
    if (channel->closed()) return nullptr;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ADD_FAILURE() << "neither a frame nor an end";
  return nullptr;
}

Verdict join_all(const reshard_unique_id_t& id, std::int32_t num_ranks) {
  return run_threads(num_ranks, [&](std::int32_t rank) -> Verdict {
    auto bootstrap = create_tcp_bootstrap(id, rank, num_ranks, Deadline(kPatienceUs));
    RESHARD_REQUIRE_OK(bootstrap);
    const auto blobs = (*bootstrap)->allgather(Blob(static_cast<std::size_t>(rank)), Deadline(kPatienceUs), {});
    RESHARD_REQUIRE_OK(blobs);
    for (std::size_t i = 0; i < blobs->size(); ++i) RESHARD_REQUIRE((*blobs)[i].size() == i);
    return {};
  });
}

// He sees whatever the ranks see on their first connection, and repeats it or makes it up.
TEST(StrangersTest, NobodyTakesARanksPlaceWithoutTheSecret) {
  const reshard_unique_id_t id = new_id();
  const std::uint16_t port = port_of(id);
  std::atomic<bool> is_over = false;
  std::jthread impostor([&] {
    for (std::uint64_t i = 0; !is_over && i < 20; ++i) {
      Channel channel = connect_stranger(port);
      channel.send(encode(hello_frame({i, 2, 3})));
      const Frame* challenge = await_frame(&channel);
      if (challenge == nullptr) break;                                       // the rendezvous is over
      channel.send(encode(proof_frame(read_challenge(*challenge)->proof)));  // rank 0's own proof, sent back
      channel.pop();
      EXPECT_EQ(await_frame(&channel), nullptr);
    }
  });
  const Verdict verdict = run_threads(3, [&](std::int32_t rank) -> Verdict {
    if (rank == 2) std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the impostor comes first
    auto bootstrap = create_tcp_bootstrap(id, rank, 3, Deadline(kPatienceUs));
    RESHARD_REQUIRE_OK(bootstrap);
    return {};
  });
  is_over = true;
  EXPECT_EQ(verdict, "");
}

// A listener in rank 0's place says whatever it likes: a rank that waits for rank 0 believes none of it.
TEST(StrangersTest, NobodySpeaksForRankZeroWithoutTheSecret) {
  auto listener = listen_on("127.0.0.1", 0);
  ASSERT_TRUE(listener.ok());
  const std::uint16_t port = listening_port(listener->get());
  const auto payload_of = [](std::int32_t code) {
    Blob payload(sizeof(code));
    std::memcpy(payload.data(), &code, sizeof(code));
    return payload;
  };
  const std::vector<Frame> lies{{FrameType::kFailure, ~std::uint64_t{0}, payload_of(0)},
                                {FrameType::kFailure, ~std::uint64_t{0}, payload_of(RESHARD_ERR_INVALID_ARGUMENT)},
                                {FrameType::kWelcome, 0, {}},
                                challenge_frame({{1, 1}}, {}, 1),
                                {FrameType::kResult, 0, Blob(16)}};
  std::atomic<bool> is_over = false;
  std::atomic<std::size_t> num_lies = 0;
  std::jthread liar([&] {
    std::vector<std::unique_ptr<Channel>> channels;
    while (!is_over) {
      Accepted accepted = accept_from(*listener);
      if (!accepted.fd.valid()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        continue;
      }
      channels.push_back(std::make_unique<Channel>(std::move(accepted.fd), 1 << 20));
      await_frame(channels.back().get());
      channels.back()->send(encode(lies[num_lies++ % lies.size()]));
    }
  });
  const Launch launch{1, 2, {{"127.0.0.1"}, port, 1, {{5, 6}}}, "taken as started by a test"};
  const auto joined = create_launch_bootstrap(launch, Deadline(500'000));
  is_over = true;
  EXPECT_EQ(joined.status().code(), RESHARD_ERR_TIMEOUT) << joined.status().message();
  EXPECT_NE(joined.status().message().find("started by a test"), std::string::npos) << joined.status().message();
  EXPECT_GE(num_lies, lies.size());
}

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

// Rank 0 takes from somebody who has not proved himself only what a hello needs; the rest stays with him.
TEST(StrangersTest, StrangerWhoSendsWithoutEndFillsNoMemory) {
  const reshard_unique_id_t id = new_id();
  const std::uint16_t port = port_of(id);
  std::atomic<bool> is_over = false;
  std::atomic<std::size_t> num_sent = 0;
  const std::size_t before = resident_bytes();
  std::vector<std::jthread> senders;
  for (const std::uint64_t size_bytes : {std::uint64_t{3} << 30, std::uint64_t{40}}) {
    senders.emplace_back([&, size_bytes] {
      std::vector<std::byte> bytes(1 << 20, std::byte{7});
      const struct {
        std::uint32_t magic, type;
        std::uint64_t sequence, size;
      } header{0x48535232, 1, 0, size_bytes};
      std::memcpy(bytes.data(), &header, sizeof(header));
      while (!is_over) {
        auto fd = connect_to("127.0.0.1", port, Deadline(1'000'000));
        for (int i = 0; fd.ok() && i < 100; ++i) {
          const ssize_t sent = send(fd->get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
          if (sent < 0 && errno != EAGAIN) break;
          if (sent > 0) num_sent += static_cast<std::size_t>(sent);
        }
      }
    });
  }
  const Verdict verdict = run_threads(2, [&](std::int32_t rank) -> Verdict {
    if (rank == 1) std::this_thread::sleep_for(std::chrono::seconds(1));
    auto bootstrap = create_tcp_bootstrap(id, rank, 2, Deadline(kPatienceUs));
    RESHARD_REQUIRE_OK(bootstrap);
    return {};
  });
  is_over = true;
  EXPECT_EQ(verdict, "");
  EXPECT_GT(num_sent, std::size_t{1} << 20);
  EXPECT_LT(resident_bytes(), before + (std::size_t{64} << 20));
}

// In a process of its own, because a limit of descriptors is the process's.
Verdict start_among_silent_strangers(std::size_t num_strangers) {
  const reshard_unique_id_t id = new_id();
  const std::uint16_t port = port_of(id);
  std::vector<Fd> strangers;
  for (std::size_t i = 0; i < num_strangers; ++i) {
    // Without waiting: those behind the 4096 that the kernel lines up are just as silent.
    auto fd = connect_to("127.0.0.1", port, Deadline(1'000));
    if (fd.ok()) strangers.push_back(fd.take());
  }
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    for (Fd& fd : strangers) close(fd.release());  // the parent still holds them
    limit.rlim_cur = 300;                          // fewer than there are strangers
    setrlimit(RLIMIT_NOFILE, &limit);
    const auto start = Clock::now();
    const Verdict verdict = join_all(id, 4);
    if (!verdict.empty()) std::fprintf(stderr, "%s\n", verdict.c_str());
    _exit(verdict.empty() && Clock::now() - start < std::chrono::seconds(20) ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  RESHARD_REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  RESHARD_REQUIRE_OK(destroy_unique_id(id));
  return {};
}

TEST(StrangersTest, JobStartsAmongMoreSilentStrangersThanDescriptors) {
  EXPECT_EQ(start_among_silent_strangers(1100), "");
}

TEST(StrangersTest, SilentStrangerIsDroppedAfterASecond) {
  const reshard_unique_id_t id = new_id();
  Channel stranger = connect_stranger(port_of(id));
  std::jthread root([&] {
    // Alone: rank 1 never comes.
    EXPECT_EQ(create_tcp_bootstrap(id, 0, 2, Deadline(2'500'000)).status().code(), RESHARD_ERR_TIMEOUT);
  });
  const auto start = Clock::now();
  EXPECT_EQ(await_frame(&stranger), nullptr);
  EXPECT_LT(Clock::now() - start, std::chrono::milliseconds(2'400));  // not only at the end
}

TEST(StrangersTest, RankZeroWithoutDescriptorsSaysSo) {
  const reshard_unique_id_t id = new_id();
  const pid_t child = fork();
  if (child == 0) {
    // One for the poller; then none is left to accept rank 1 with.
    const int next = dup(0);
    close(next);
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = static_cast<rlim_t>(next) + 1;
    setrlimit(RLIMIT_NOFILE, &limit);
    const auto joined = create_tcp_bootstrap(id, 0, 2, Deadline(kPatienceUs));
    const bool is_right = joined.status().code() == RESHARD_ERR_TRANSPORT &&
                          joined.status().message().find("ulimit -n") != std::string::npos;
    if (!is_right) std::fprintf(stderr, "%s\n", joined.status().message().c_str());
    _exit(is_right ? 0 : 1);
  }
  const Channel rank = connect_stranger(port_of(id));
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(destroy_unique_id(id).ok());
}

TEST(StrangersTest, DestroyedIdsLeaveNoSocketOpen) {
  const int next = dup(0);
  close(next);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(destroy_unique_id(new_id()).ok());
  const int after = dup(0);
  close(after);
  EXPECT_EQ(after, next);
  // One that is joined, or destroyed twice, takes nothing away from others.
  const reshard_unique_id_t id = new_id();
  EXPECT_EQ(join_all(id, 2), "");
  const reshard_unique_id_t other = new_id();
  EXPECT_TRUE(destroy_unique_id(id).ok());
  EXPECT_EQ(join_all(other, 2), "");
  reshard_unique_id_t damaged = new_id();
  EXPECT_TRUE(destroy_unique_id(damaged).ok());
  damaged.data[0] ^= 1;
  EXPECT_EQ(destroy_unique_id(damaged).code(), RESHARD_ERR_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace reshard::test
