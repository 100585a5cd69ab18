// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Peers that leave while a run still needs them, and whose own word for it is lost: the transport knows, and says so.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "src/exec/tags.h"
#include "src/transport/local.h"
#include "tests/unit/exec/relay_plan.h"
#include "tests/unit/exec/run.h"

namespace reshard {
namespace {

using ::testing::HasSubstr;
using testing::kTimeoutUs;
using testing::RankBuffers;

/// A transport whose control messages are lost from some moment on, as those of a rank are whose connection is too slow
/// for its last words.
class Mumbling final : public Transport {
 public:
  explicit Mumbling(std::unique_ptr<Transport> inner) : inner_(std::move(inner)) {}
  void lose_control_messages() { is_losing_ = true; }

  std::int32_t rank() const override { return inner_->rank(); }
  std::int32_t num_ranks() const override { return inner_->num_ranks(); }
  std::string name() const override { return inner_->name(); }
  void reserve(std::size_t num_requests) override { inner_->reserve(num_requests); }
  Status send(std::int32_t peer, std::uint64_t tag, const void* data, std::size_t size_bytes, MemorySpace space,
              Request* request) override {
    const bool is_control = (tag & 3) == static_cast<std::uint64_t>(TagKind::kControl);
    if (!is_losing_ || !is_control) return inner_->send(peer, tag, data, size_bytes, space, request);
    request->end(RESHARD_OK);
    return {};
  }
  Status recv(std::int32_t peer, std::uint64_t tag, void* data, std::size_t size_bytes, MemorySpace space,
              Request* request) override {
    return inner_->recv(peer, tag, data, size_bytes, space, request);
  }
  bool progress() override { return inner_->progress(); }
  void idle() override { inner_->idle(); }
  bool cancel_all(std::span<Request* const> requests, const Deadline& budget) override {
    return inner_->cancel_all(requests, budget);
  }
  bool takes_back_sends(std::int32_t peer, MemorySpace space) const override {
    return inner_->takes_back_sends(peer, space);
  }
  bool takes_back_receives(std::int32_t peer) const override { return inner_->takes_back_receives(peer); }
  bool shares_memory(std::int32_t peer) const override { return inner_->shares_memory(peer); }
  std::int32_t discard(std::int32_t peer, std::uint64_t tag) override { return inner_->discard(peer, tag); }
  Result<void*> allocate(std::size_t size_bytes) override { return inner_->allocate(size_bytes); }
  Status free(void* ptr) override { return inner_->free(ptr); }
  MemoryKey export_memory(const void* ptr, std::size_t size_bytes) override {
    return inner_->export_memory(ptr, size_bytes);
  }
  Result<void*> map(std::int32_t peer, const MemoryKey& key) override { return inner_->map(peer, key); }
  void unmap(std::int32_t peer, const MemoryKey& key, void* ptr) override { inner_->unmap(peer, key, ptr); }
  Result<std::vector<std::vector<std::byte>>> allgather(const std::vector<std::byte>& mine,
                                                        const Deadline& deadline) override {
    return inner_->allgather(mine, deadline);
  }
  Status health() override { return inner_->health(); }
  std::span<const std::int32_t> departed() const override { return inner_->departed(); }

 private:
  std::unique_ptr<Transport> inner_;
  bool is_losing_ = false;
};

/// Ranks 0 and 1 give a tensor each to rank 2, of one group each.
testing::Scenario two_givers(std::int64_t num_elements) {
  auto src = std::make_shared<ModelLayout>(3);
  auto dst = std::make_shared<ModelLayout>(3);
  for (std::int32_t giver = 0; giver < 2; ++giver) {
    for (ModelLayout* side : {src.get(), dst.get()}) {
      Placement placement;
      placement.mesh = *Mesh::create({{"r", 1}}, {side == src.get() ? giver : 2});
      placement.dims.resize(1);
      const Tensor tensor{fmt::format("t{}", giver), DType::kF32, {num_elements}, giver};
      placement.buffer = side->add_buffer(tensor.name, tensor.dtype);
      EXPECT_TRUE(side->place(*side->add_tensor(tensor), placement).ok());
    }
  }
  return {src, dst};
}

/// What a rank does once all have bound, and before it destroys its binding and its transport.
using Part = std::function<void(Mumbling* transport, Driver* driver, RankBuffers* dst)>;

void play(const testing::Scenario& scenario, const Part& part) {
  auto transports = create_local_transports(3).take();
  const auto plan = std::make_shared<const Plan>(*create_plan(scenario.src, scenario.dst, {}));
  std::vector<std::thread> threads;
  for (std::unique_ptr<Transport>& inner : transports) {
    threads.emplace_back([&plan, &scenario, &part, given = std::move(inner)]() mutable {
      Mumbling transport(std::move(given));
      RankBuffers src(*scenario.src, transport.rank(), &transport, false);
      RankBuffers dst(*scenario.dst, transport.rank(), &transport, false);
      auto binding = testing::bind({plan, &transport, src.bound(), dst.bound(), nullptr, kTimeoutUs});
      ASSERT_TRUE(binding.ok()) << binding.status().message();
      src.fill(1);
      dst.poison();
      part(&transport, &(*binding)->driver(), &dst);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(DepartureTest, ALostFarewellIsToldLongBeforeTheDeadline) {
  play(two_givers(100'000), [](Mumbling* transport, Driver* driver, RankBuffers*) {
    if (transport->rank() == 1) return transport->lose_control_messages();  // and leaves without a run
    EXPECT_TRUE(driver->start().ok());
    const auto begin = std::chrono::steady_clock::now();
    const Status status = driver->finish(Deadline(kTimeoutUs));
    if (transport->rank() == 0) return;  // whether rank 2 took all of it first, is open
    EXPECT_EQ(status.code(), RESHARD_ERR_ABANDONED);
    EXPECT_THAT(status.message(), HasSubstr("rank 1 destroyed its binding"));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::microseconds(kTimeoutUs / 4));
  });
}

TEST(DepartureTest, WhoLeavesAfterItsPartOfARunDisturbsNobody) {
  if (testing::is_on_streams()) GTEST_SKIP() << "a group of NCCL ends when all of its ranks have come";
  std::atomic<bool> has_left = false;
  play(two_givers(100'000), [&](Mumbling* transport, Driver* driver, RankBuffers* dst) {
    // Rank 0 begins late: by then rank 1 has done its part and left, and all of rank 2's turns are idle.
    while (transport->rank() == 0 && !has_left) std::this_thread::yield();
    if (transport->rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    EXPECT_TRUE(driver->start().ok());
    EXPECT_EQ(driver->finish(Deadline(kTimeoutUs)).message(), "");
    if (transport->rank() == 1) has_left = true;
    EXPECT_EQ(transport->rank() == 2 ? dst->check(1) : "", "");
  });
}

}  // namespace
}  // namespace reshard
