// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/transport/ranks.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "src/transport/bootstrap.h"
#include "src/transport/local.h"
#include "src/transport/socket.h"
#ifdef RESHARD_HAVE_UCX
#include "src/transport/ucx.h"
#endif

namespace reshard::test {
namespace {

struct Child {
  pid_t pid;
  int pipe_fd;
  std::string text;
  bool ended = false;
};

// Reports through the pipe and exits normally, so that leak checkers have their say.
[[noreturn]] void run_child(int pipe_fd, const std::function<Verdict()>& body) {
  const Verdict verdict = body();
  const ssize_t written = write(pipe_fd, verdict.data(), verdict.size());
  std::exit(written == static_cast<ssize_t>(verdict.size()) ? EXIT_SUCCESS : EXIT_FAILURE);
}

Child start_child(const std::function<Verdict()>& body) {
  int fds[2];
  if (pipe(fds) != 0) std::abort();
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid < 0) std::abort();
  if (pid == 0) {
    close(fds[0]);
    run_child(fds[1], body);
  }
  close(fds[1]);
  return {pid, fds[0], {}, false};
}

// Reads what the children say until all have ended or the time is over.
void listen_to(std::vector<Child>* children, const Deadline& deadline) {
  while (!deadline.expired()) {
    std::vector<pollfd> entries;
    for (const Child& child : *children) entries.push_back({child.ended ? -1 : child.pipe_fd, POLLIN, 0});
    if (std::all_of(children->begin(), children->end(), [](const Child& child) { return child.ended; })) return;
    poll(entries.data(), entries.size(), 100);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = read(entries[i].fd, buffer, sizeof(buffer));
      if (got > 0) (*children)[i].text.append(buffer, static_cast<std::size_t>(got));
      if (got <= 0) (*children)[i].ended = true;
    }
  }
}

Verdict join_child(const Child& child, bool is_mortal) {
  if (!child.ended) kill(child.pid, SIGKILL);
  int status = 0;
  waitpid(child.pid, &status, 0);
  close(child.pipe_fd);
  if (!child.ended) return "hangs";
  if (is_mortal && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return {};
  if (WIFSIGNALED(status)) return fmt::format("killed by signal {}", WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) return fmt::format("exit code {} {}", WEXITSTATUS(status), child.text);
  return child.text;
}

Verdict join_verdicts(const std::vector<Verdict>& verdicts) {
  Verdict all;
  for (std::size_t rank = 0; rank < verdicts.size(); ++rank) {
    if (!verdicts[rank].empty()) all += fmt::format("rank {}: {}\n", rank, verdicts[rank]);
  }
  return all;
}

#ifdef RESHARD_HAVE_UCX
// The id that rank 0 makes, for the other processes to read.
struct SharedId {
  std::atomic<bool> is_ready;
  reshard_unique_id_t id;
};

Verdict connect_ucx(std::int32_t rank, std::int32_t num_ranks, SharedId* shared, std::unique_ptr<Transport>* out) {
  if (rank == 0) {
    auto id = create_unique_id(nullptr);
    RESHARD_REQUIRE_OK(id);
    shared->id = *id;
    shared->is_ready = true;
  }
  while (!shared->is_ready) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Deadline deadline(kPatienceUs);
  auto bootstrap = create_tcp_bootstrap(shared->id, rank, num_ranks, deadline);
  RESHARD_REQUIRE_OK(bootstrap);
  auto transport = create_ucx_transport(bootstrap.take(), "", deadline);
  RESHARD_REQUIRE_OK(transport);
  *out = transport.take();
  return {};
}

Verdict run_ucx(Kind kind, std::int32_t num_ranks, const Scenario& scenario, const std::set<int>& mortal) {
  void* memory = mmap(nullptr, sizeof(SharedId), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return "mmap failed";
  auto* shared = new (memory) SharedId{};
  const auto body = [&](std::int32_t rank) -> Verdict {
    if (kind == Kind::kUcxTcp) setenv("UCX_TLS", "self,tcp", 1);
    std::unique_ptr<Transport> transport;
    RESHARD_REQUIRE_HOLDS(connect_ucx(rank, num_ranks, shared, &transport));
    return scenario(*transport);
  };
  Verdict verdict = run_processes(num_ranks, body, mortal);
  munmap(memory, sizeof(SharedId));
  return verdict;
}
#endif

Verdict run_local(std::int32_t num_ranks, const Scenario& scenario) {
  auto transports = create_local_transports(num_ranks);
  RESHARD_REQUIRE_OK(transports);
  return run_threads(num_ranks, [&](std::int32_t rank) {
    const std::unique_ptr<Transport> transport = std::move((*transports)[static_cast<std::size_t>(rank)]);
    return scenario(*transport);
  });
}

}  // namespace

std::string name_of(Kind kind) {
  switch (kind) {
    case Kind::kLocal:
      return "Local";
    case Kind::kUcx:
      return "Ucx";
    case Kind::kUcxTcp:
      return "UcxTcp";
  }
  return "?";
}

Verdict run_processes(std::int32_t num_ranks, const std::function<Verdict(std::int32_t rank)>& body,
                      const std::set<int>& mortal) {
  std::vector<Child> children;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    children.push_back(start_child([&] { return body(rank); }));
  }
  listen_to(&children, Deadline(2 * kPatienceUs));
  std::vector<Verdict> verdicts;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    verdicts.push_back(join_child(children[static_cast<std::size_t>(rank)], mortal.contains(rank)));
  }
  return join_verdicts(verdicts);
}

Verdict run_apart(const std::function<Verdict()>& body) {
#ifdef __SANITIZE_ADDRESS__
  std::vector<Child> children{start_child(body)};
  listen_to(&children, Deadline(6 * kPatienceUs));  // longer than any limit of what runs in it
  return join_child(children.front(), false);
#else
  return body();
#endif
}

Verdict run_threads(std::int32_t num_ranks, const std::function<Verdict(std::int32_t rank)>& body) {
  std::vector<Verdict> verdicts(static_cast<std::size_t>(num_ranks));
  std::vector<std::jthread> threads;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] { verdicts[static_cast<std::size_t>(rank)] = body(rank); });
  }
  threads.clear();
  return join_verdicts(verdicts);
}

Verdict run_ranks(Kind kind, std::int32_t num_ranks, const Scenario& scenario,
                  [[maybe_unused]] const std::set<int>& mortal) {
#ifdef RESHARD_HAVE_UCX
  if (kind != Kind::kLocal) return run_ucx(kind, num_ranks, scenario, mortal);
#endif
  if (kind != Kind::kLocal) return "this build has no UCX";
  return run_apart([&] { return run_local(num_ranks, scenario); });
}

Verdict await(Transport& transport, std::span<Request> requests) {
  const Deadline deadline(kPatienceUs);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    while (requests[i].pending()) {
      if (deadline.expired()) return fmt::format("request {} of {} is still pending", i, requests.size());
      if (!transport.progress()) transport.idle();
    }
  }
  return {};
}

reshard_unique_id_t new_id() {
  auto id = create_unique_id(nullptr);
  EXPECT_TRUE(id.ok()) << id.status().message();
  return *id;
}

std::uint16_t port_of(const reshard_unique_id_t& id) {
  std::int32_t listener = 0;
  std::memcpy(&listener, id.data + 24, sizeof(listener));
  return listening_port(listener);
}

Verdict barrier(Transport& transport) {
  RESHARD_REQUIRE_OK(transport.allgather({}, Deadline(kPatienceUs)));
  return {};
}

std::vector<std::byte> pattern(std::size_t size_bytes, std::int32_t source, std::int32_t destination,
                               std::uint64_t salt) {
  // Word by word, and compared by memcmp: under the thread sanitizer each access of a byte would cost as much as a
  // word's.
  const std::size_t num_words = size_bytes / 8 + 1;
  const std::unique_ptr<std::uint64_t[]> words(new std::uint64_t[num_words]);
  const std::uint64_t seed = static_cast<std::uint64_t>(source * 131 + destination) * 1009 + salt * 7919;
  std::uint64_t* const first = words.get();
  for (std::size_t i = 0; i < num_words; ++i) {
    const std::uint64_t mixed = (seed + i) * 0x9E3779B97F4A7C15u;
    first[i] = mixed ^ (mixed >> 29);
  }
  const auto* const bytes = reinterpret_cast<const std::byte*>(first);
  return {bytes, bytes + size_bytes};
}

constexpr std::byte kGuard{0xA5};

SharedCount::SharedCount() {
  void* memory = mmap(nullptr, sizeof(*count_), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  count_ = new (memory) std::atomic<int>(0);
}

SharedCount::~SharedCount() {
  munmap(count_, sizeof(*count_));
}

bool SharedCount::await(int count, std::int64_t timeout_us) const {
  const Deadline deadline(timeout_us);
  while (count_->load() < count && !deadline.expired()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return count_->load() >= count;
}

GuardedBuffer::GuardedBuffer(std::size_t size_bytes)
    : size_bytes_(size_bytes), bytes_(size_bytes + 2 * kGuardBytes, kGuard) {}

bool GuardedBuffer::holds(const std::vector<std::byte>& expected) const {
  return guards_intact() && expected.size() <= size_bytes_ &&
         (expected.empty() || std::memcmp(expected.data(), bytes_.data() + kGuardBytes, expected.size()) == 0);
}

bool GuardedBuffer::guards_intact() const {
  const auto is_guard = [](std::byte byte) { return byte == kGuard; };
  return std::all_of(bytes_.begin(), bytes_.begin() + kGuardBytes, is_guard) &&
         std::all_of(bytes_.end() - kGuardBytes, bytes_.end(), is_guard);
}

}  // namespace reshard::test
