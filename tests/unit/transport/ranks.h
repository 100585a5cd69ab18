// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "reshard/reshard.h"
#include "src/transport/transport.h"

namespace reshard::test {

/// What went wrong on a rank; empty when everything held. Ranks may be processes, so they report as text.
using Verdict = std::string;

#define RESHARD_REQUIRE(condition)                                                             \
  do {                                                                                         \
    if (!(condition)) return ::fmt::format("line {}: {} does not hold", __LINE__, #condition); \
  } while (false)
#define RESHARD_REQUIRE_OK(expression)                                                                    \
  do {                                                                                                    \
    if (const auto& required = (expression); !required.ok())                                              \
      return ::fmt::format("line {}: {}: {}", __LINE__, #expression, ::reshard::test::text_of(required)); \
  } while (false)
#define RESHARD_REQUIRE_HOLDS(verdict)                                    \
  do {                                                                    \
    if (const ::reshard::test::Verdict inner = (verdict); !inner.empty()) \
      return ::fmt::format("line {}: {}", __LINE__, inner);               \
  } while (false)

inline std::string text_of(const Status& status) {
  return status.message();
}
template <typename T>
std::string text_of(const Result<T>& result) {
  return result.status().message();
}

enum class Kind { kLocal, kUcx, kUcxTcp };
std::string name_of(Kind kind);

using Scenario = std::function<Verdict(Transport&)>;

/// Runs the scenario on num_ranks connected ranks of the kind: threads for local, forked processes for ucx.
/// `mortal` ranks are expected to kill themselves.
Verdict run_ranks(Kind kind, std::int32_t num_ranks, const Scenario& scenario, const std::set<int>& mortal = {});

/// Forks num_ranks processes and joins their verdicts; kills what has not ended after two minutes.
Verdict run_processes(std::int32_t num_ranks, const std::function<Verdict(std::int32_t rank)>& body,
                      const std::set<int>& mortal = {});
/// With the address sanitizer in a process of its own: it keeps what is freed, up to 256 MiB of it, and every process
/// that is forked later copies the tables of those pages and searches them for leaks.
Verdict run_apart(const std::function<Verdict()>& body);
Verdict run_threads(std::int32_t num_ranks, const std::function<Verdict(std::int32_t rank)>& body);

/// A generous limit for what must happen; tests of the limit itself choose a short one.
inline constexpr std::int64_t kPatienceUs = 60'000'000;

/// An id of this process, which is then the one to be rank 0.
reshard_unique_id_t new_id();

/// The port at which the process that made the id waits, of the socket whose number the id holds.
std::uint16_t port_of(const reshard_unique_id_t& id);

/// Progresses until none of the requests is pending; says which still are.
Verdict await(Transport& transport, std::span<Request> requests);
Verdict barrier(Transport& transport);

/// size_bytes that depend on who sends to whom and on `salt`, so that a mix-up shows.
std::vector<std::byte> pattern(std::size_t size_bytes, std::int32_t source, std::int32_t destination,
                               std::uint64_t salt = 0);

/// A number that the ranks of a test share, be they threads or processes. Made before they start.
class SharedCount {
 public:
  SharedCount();
  ~SharedCount();
  SharedCount(const SharedCount&) = delete;
  SharedCount& operator=(const SharedCount&) = delete;
  void add_one() const { count_->fetch_add(1); }
  /// Sleeps until the count is reached, without touching any transport; false after `timeout_us`.
  bool await(int count, std::int64_t timeout_us = kPatienceUs) const;

 private:
  std::atomic<int>* count_;
};

/// A receive buffer between guard zones that must stay untouched.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t size_bytes);
  std::byte* data() { return bytes_.data() + kGuardBytes; }
  bool holds(const std::vector<std::byte>& expected) const;
  bool guards_intact() const;

 private:
  static constexpr std::size_t kGuardBytes = 64;
  std::size_t size_bytes_;
  std::vector<std::byte> bytes_;
};

}  // namespace reshard::test
