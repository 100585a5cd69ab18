// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// What every transport must do with memory.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "tests/unit/transport/conformance.h"

namespace reshard::test {
namespace {

using Bytes = std::vector<std::byte>;

class MemoryConformance : public Conformance {};
INSTANTIATE_TEST_SUITE_P(Transports, MemoryConformance, every_transport(1), conformance_name);

TEST_P(MemoryConformance, AllocationsArePageAlignedZeroedAndCanBeFreed) {
  run([](Transport& t) -> Verdict {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4096}, std::size_t{5'000'001}}) {
      for (int again = 0; again < 2; ++again) {  // freed memory that comes back must be zero again
        auto memory = t.allocate(size);
        RESHARD_REQUIRE_OK(memory);
        RESHARD_REQUIRE(*memory != nullptr);
        RESHARD_REQUIRE(reinterpret_cast<std::uintptr_t>(*memory) % static_cast<std::uintptr_t>(getpagesize()) == 0);
        const Bytes zeros(size);
        RESHARD_REQUIRE(size == 0 || std::memcmp(*memory, zeros.data(), size) == 0);
        std::memset(*memory, 1, size);
        RESHARD_REQUIRE_OK(t.free(*memory));
      }
    }
    return barrier(t);
  });
}

// Every rank fills one allocation and reads everybody's, from the middle on.
TEST_P(MemoryConformance, PeersReadAndWriteMappedMemory) {
  const bool is_shared = kind() != Kind::kUcxTcp;  // over tcp alone nothing can be mapped but one's own
  run([is_shared](Transport& t) -> Verdict {
    constexpr std::size_t kBytes = 3'000'000;
    constexpr std::size_t kOffset = 12'345;
    auto memory = t.allocate(kBytes);
    RESHARD_REQUIRE_OK(memory);
    auto* bytes = static_cast<std::byte*>(*memory);
    const Bytes mine = pattern(kBytes, t.rank(), 0);
    std::memcpy(bytes, mine.data(), kBytes);
    const MemoryKey key = t.export_memory(bytes + kOffset, kBytes - kOffset);
    RESHARD_REQUIRE(!key.empty());
    auto keys = t.allgather(key, Deadline(kPatienceUs));
    RESHARD_REQUIRE_OK(keys);
    std::vector<std::byte*> mapped;
    for (std::int32_t peer = 0; peer < t.num_ranks(); ++peer) {
      auto view = t.map(peer, (*keys)[static_cast<std::size_t>(peer)]);
      RESHARD_REQUIRE_OK(view);
      RESHARD_REQUIRE((*view != nullptr) == (is_shared || peer == t.rank()));
      mapped.push_back(static_cast<std::byte*>(*view));
      if (*view == nullptr) continue;
      const Bytes expected = pattern(kBytes, peer, 0);
      RESHARD_REQUIRE(std::memcmp(*view, expected.data() + kOffset, kBytes - kOffset) == 0);
    }
    RESHARD_REQUIRE_HOLDS(barrier(t));
    // The other direction: each rank leaves its mark in its own place of everybody's memory.
    for (std::byte* view : mapped) {
      if (view != nullptr) view[t.rank()] = static_cast<std::byte>(t.rank() + 1);
    }
    RESHARD_REQUIRE_HOLDS(barrier(t));
    for (std::int32_t peer = 0; peer < t.num_ranks(); ++peer) {
      if (!is_shared && peer != t.rank()) continue;
      RESHARD_REQUIRE(bytes[kOffset + static_cast<std::size_t>(peer)] == static_cast<std::byte>(peer + 1));
      t.unmap(peer, (*keys)[static_cast<std::size_t>(peer)], mapped[static_cast<std::size_t>(peer)]);
    }
    RESHARD_REQUIRE_HOLDS(barrier(t));
    return text_of(t.free(*memory));
  });
}

TEST_P(MemoryConformance, MessagesMoveBetweenAllocatedBuffers) {
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kBytes = 2'000'000;
    const std::int32_t next = (t.rank() + 1) % t.num_ranks();
    const std::int32_t previous = (t.rank() + t.num_ranks() - 1) % t.num_ranks();
    auto source = t.allocate(kBytes);
    auto destination = t.allocate(kBytes);
    RESHARD_REQUIRE_OK(source);
    RESHARD_REQUIRE_OK(destination);
    const Bytes mine = pattern(kBytes, t.rank(), next);
    std::memcpy(*source, mine.data(), kBytes);
    std::vector<Request> requests(2);
    RESHARD_REQUIRE_OK(t.send(next, 0, *source, kBytes, &requests[0]));
    RESHARD_REQUIRE_OK(t.recv(previous, 0, *destination, kBytes, &requests[1]));
    RESHARD_REQUIRE_HOLDS(await(t, requests));
    const Bytes expected = pattern(kBytes, previous, t.rank());
    RESHARD_REQUIRE(std::memcmp(*destination, expected.data(), kBytes) == 0);
    return barrier(t);  // what is left allocated goes with the transport
  });
}

// The segment of a peer finds no room: an error that says what to do, where UCX would die of a signal.
TEST_P(MemoryConformance, AMappingThatFindsNoAddressSpaceIsRefused) {
  if (kind() != Kind::kUcx) GTEST_SKIP() << "nothing is mapped here";
  run([](Transport& t) -> Verdict {
    constexpr std::size_t kBytes = 64 << 20;
    const auto memory = t.allocate(kBytes);
    RESHARD_REQUIRE_OK(memory);
    const auto keys = t.allgather(t.export_memory(*memory, kBytes), Deadline(kPatienceUs));
    RESHARD_REQUIRE_OK(keys);
    rlimit before{};
    getrlimit(RLIMIT_AS, &before);
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit tight{pages * static_cast<std::size_t>(getpagesize()) + kBytes, before.rlim_max};
    RESHARD_REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
    const std::int32_t peer = (t.rank() + 1) % t.num_ranks();
    const MemoryKey& key = (*keys)[static_cast<std::size_t>(peer)];
    const auto refused = t.map(peer, key);
    setrlimit(RLIMIT_AS, &before);
    if (peer != t.rank()) {
      RESHARD_REQUIRE(refused.status().code() == RESHARD_ERR_OUT_OF_MEMORY);
      RESHARD_REQUIRE(refused.status().message().find("ulimit -v") != std::string::npos);
    }
    RESHARD_REQUIRE_OK(t.map(peer, key));
    return barrier(t);
  });
}

TEST_P(MemoryConformance, OnlyOwnAllocationsHaveKeys) {
  run([](Transport& t) -> Verdict {
    Bytes foreign(10'000);
    RESHARD_REQUIRE(t.export_memory(foreign.data(), foreign.size()).empty());
    RESHARD_REQUIRE(t.free(foreign.data()).code() == RESHARD_ERR_INVALID_ARGUMENT);
    auto memory = t.allocate(10'000);
    RESHARD_REQUIRE_OK(memory);
    auto* bytes = static_cast<std::byte*>(*memory);
    RESHARD_REQUIRE(!t.export_memory(bytes, 10'000).empty());
    RESHARD_REQUIRE(!t.export_memory(bytes + 9'999, 1).empty());
    RESHARD_REQUIRE(t.export_memory(bytes, 10'001).empty());
    RESHARD_REQUIRE(t.export_memory(bytes - 1, 10).empty());
    RESHARD_REQUIRE(t.free(bytes + 1).code() == RESHARD_ERR_INVALID_ARGUMENT);
    RESHARD_REQUIRE_OK(t.free(*memory));
    RESHARD_REQUIRE(t.export_memory(bytes, 1).empty());
    RESHARD_REQUIRE(t.free(*memory).code() == RESHARD_ERR_INVALID_ARGUMENT);
    const auto nothing = t.map(t.rank(), {});
    RESHARD_REQUIRE_OK(nothing);
    RESHARD_REQUIRE(*nothing == nullptr);
    RESHARD_REQUIRE(t.map(t.num_ranks(), {}).status().code() == RESHARD_ERR_INVALID_ARGUMENT);
    RESHARD_REQUIRE(t.map(t.rank(), MemoryKey(3)).status().code() == RESHARD_ERR_INVALID_ARGUMENT);
    return barrier(t);
  });
}

}  // namespace
}  // namespace reshard::test
