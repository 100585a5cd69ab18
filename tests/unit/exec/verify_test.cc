// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "tests/unit/exec/run.h"
#include "tests/unit/plan/fleet.h"

namespace reshard {
namespace {

using testing::Choices;
using ::testing::HasSubstr;
using testing::kTimeoutUs;
using testing::RankBuffers;
using testing::run_ranks;

/// Overwrites what its staging holds before any copy: windows that are to be unpacked are damaged.
class DamagingCopier final : public Copier {
 public:
  explicit DamagingCopier(bool* damages) : damages_(damages) {}
  MemorySpace tensor_space() const override { return host_.tensor_space(); }
  MemorySpace staging_space() const override { return host_.staging_space(); }
  std::size_t staging_bytes() const override { return staging_bytes_; }
  Result<std::byte*> allocate_staging(std::size_t size_bytes) override {
    staging_bytes_ = size_bytes;
    RESHARD_TRY(staging_, host_.allocate_staging(size_bytes));
    return staging_;
  }
  CopyBatch add(CopyList copies, StoreHint hint) override { return host_.add(std::move(copies), hint); }
  CopyBatch add(ScaleList scales) override { return host_.add(std::move(scales)); }
  Status prepare() override { return {}; }
  Status begin(void* stream) override { return host_.begin(stream); }
  Result<bool> is_open() override { return true; }
  Status advance(CopyJob* job, bool* moved) override {
    if (*damages_ && !job->is_done) std::fill_n(staging_, staging_bytes_, std::byte{0x5a});
    return host_.advance(job, moved);
  }
  std::size_t most_jobs() const override { return 1; }
  void* completed_event() const override { return nullptr; }
  bool drain(const Deadline&) override { return true; }

 private:
  HostCopier host_;
  bool* damages_;
  std::byte* staging_ = nullptr;
  std::size_t staging_bytes_ = 0;
};

using Spoil = std::function<void(std::int32_t rank, const std::vector<BoundBuffer>& dst)>;

/// Runs once, spoils what it brought, and verifies: what that says on each rank.
std::vector<Status> verify_after(const testing::RunOptions& options, const Spoil& spoil = {},
                                 bool damages_staging = false) {
  std::vector<Status> said(static_cast<std::size_t>(options.plan->num_ranks));
  const std::string wrong = run_ranks(options.plan->num_ranks, [&](Transport* transport) -> std::string {
    RankBuffers src(*options.scenario.src, transport->rank(), transport, options.src_mappable);
    RankBuffers dst(*options.scenario.dst, transport->rank(), transport, options.dst_mappable);
    BindOptions bind_options{options.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs};
    bool damages = damages_staging;
    bind_options.make_copier = [&] { return std::unique_ptr<Copier>(std::make_unique<DamagingCopier>(&damages)); };
    auto binding = Binding::create(bind_options);
    if (!binding.ok()) return binding.status().message();
    src.fill(1);
    dst.poison();
    Status status = (*binding)->driver().start();
    if (status.ok()) status = (*binding)->driver().finish(Deadline(kTimeoutUs));
    if (!status.ok()) return status.message();
    if (spoil) spoil(transport->rank(), dst.bound());
    at(said, transport->rank()) = (*binding)->verify(Deadline(kTimeoutUs));
    binding->reset();
    static_cast<void>(transport->allgather({}, Deadline(kTimeoutUs)).ok());
    return "";
  });
  EXPECT_EQ(wrong, "");
  return said;
}

/// Random layouts, machines, conversions and replicas: what arrived is found to have arrived.
RC_GTEST_PROP(VerifyTest, WhatArrivedIsFoundRight, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  testing::RunOptions options;
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(8));
  options.src_mappable = choices.pick(2) == 0;
  options.scenario = testing::make_scenario(&choices, num_ranks);
  const Result<Plan> plan = create_plan(options.scenario.src, options.scenario.dst, {});
  RC_ASSERT(plan.ok());
  options.plan = std::make_shared<const Plan>(*plan);
  for (const Status& status : verify_after(options)) {
    if (!status.ok()) RC_FAIL(status.message());
  }
}

/// One bit of one element anywhere at a destination, be it one that stands there twice, is found on all ranks.
RC_GTEST_PROP(VerifyTest, AFlippedBitIsFoundAndItsTensorAndRankAreNamed, ()) {
  const std::vector<std::uint32_t> numbers = testing::random_numbers();
  Choices choices(numbers);
  testing::RunOptions options;
  const auto num_ranks = static_cast<std::int32_t>(1 + choices.pick(6));
  options.scenario = testing::make_scenario(&choices, num_ranks);
  const Result<Plan> plan = create_plan(options.scenario.src, options.scenario.dst, {});
  RC_ASSERT(plan.ok());
  options.plan = std::make_shared<const Plan>(*plan);
  struct Place {
    std::int32_t rank;
    std::int64_t buffer;
    std::int64_t offset;
    std::string tensor;
  };
  std::vector<Place> places;
  const ModelLayout& dst = *options.scenario.dst;
  for (std::int32_t rank = 0; rank < num_ranks; ++rank) {
    for (std::size_t t = 0; t < dst.tensors().size(); ++t) {
      for (const Block& block : dst.blocks(rank, static_cast<std::int64_t>(t))) {
        if (block.kind != BlockKind::kData) continue;
        testing::for_each_element(block, [&](const Dims&, std::int64_t offset) {
          places.push_back({rank, block.buffer, offset, dst.tensors()[t].name});
        });
      }
    }
  }
  if (places.empty()) return;
  const Place place = places[static_cast<std::size_t>(choices.pick(static_cast<std::int64_t>(places.size())))];
  const auto said = verify_after(options, [&](std::int32_t rank, const std::vector<BoundBuffer>& buffers) {
    for (const BoundBuffer& buffer : buffers) {
      if (rank == place.rank && buffer.id == place.buffer) buffer.data[place.offset] ^= std::byte{4};
    }
  });
  for (const Status& status : said) {
    RC_ASSERT(status.code() == RESHARD_ERR_DATA_MISMATCH);
    RC_ASSERT(status.message().find(fmt::format("\"{}\"", place.tensor)) != std::string::npos);
    RC_ASSERT(status.message().find(fmt::format("not on ranks {};", place.rank)) != std::string::npos);
  }
}

/// A tensor that stands twice on its rank, whole each time, as a tied embedding does: neither place hides the other.
TEST(VerifyTest, BothPlacesOfATensorThatStandsTwiceAreLookedAt) {
  auto src = std::make_shared<ModelLayout>(2);
  auto dst = std::make_shared<ModelLayout>(2);
  testing::add_sharded(src.get(), {"w", DType::kBF16, {6, 4}, 0}, 0, 1, 1);
  const std::int64_t tensor = *dst->add_tensor({"w", DType::kBF16, {6, 4}, 0});
  for (const char* name : {"embedding", "output"}) {
    Placement placement;
    placement.mesh = *Mesh::create({{"r", 1}}, {1});
    placement.dims.resize(2);
    placement.buffer = dst->add_buffer(name, DType::kBF16);
    ASSERT_TRUE(dst->place(tensor, placement).ok());
  }
  testing::RunOptions options;
  options.scenario = {src, dst};
  options.plan = std::make_shared<const Plan>(*create_plan(src, dst, {}));
  for (const std::int64_t spoilt : {-1, 0, 1}) {
    const auto said = verify_after(options, [&](std::int32_t rank, const std::vector<BoundBuffer>& buffers) {
      if (rank == 1 && spoilt >= 0) at(buffers, spoilt).data[5] ^= std::byte{4};
    });
    for (const Status& status : said) EXPECT_EQ(status.ok(), spoilt < 0) << spoilt << ": " << status.message();
  }
}

/// Ranks 0 and 1 have a half each, ranks 2 and 3 all of it, in a longer dtype: they unpack it from staging.
testing::RunOptions two_replicas(std::int64_t rows) {
  auto src = std::make_shared<ModelLayout>(4);
  auto dst = std::make_shared<ModelLayout>(4);
  testing::add_sharded(src.get(), {"w", DType::kBF16, {rows, 64}, 0}, 0, 1, 2);
  testing::add_sharded(dst.get(), {"w", DType::kF32, {rows, 64}, 0}, 2, 2, 1);
  testing::RunOptions options;
  options.scenario = {src, dst};
  options.plan = std::make_shared<const Plan>(*create_plan(src, dst, {}));
  options.src_mappable = options.dst_mappable = false;
  return options;
}

TEST(VerifyTest, TwoRowsThatChangedPlacesAreFound) {
  const auto said = verify_after(two_replicas(40), [](std::int32_t rank, const std::vector<BoundBuffer>& dst) {
    if (rank == 3) std::swap_ranges(dst[0].data + 256 * 5, dst[0].data + 256 * 6, dst[0].data + 256 * 21);
  });
  for (const Status& status : said) {
    EXPECT_EQ(status.code(), RESHARD_ERR_DATA_MISMATCH);
    EXPECT_THAT(status.message(),
                HasSubstr("tensor \"w\" is not at its destinations what it is at its sources: not on ranks 3;"));
  }
}

TEST(VerifyTest, WindowsDamagedInStagingAreFound) {
  for (const Status& status : verify_after(two_replicas(40), {}, true)) {
    EXPECT_EQ(status.code(), RESHARD_ERR_DATA_MISMATCH);
    EXPECT_THAT(status.message(), HasSubstr("not on ranks 2, 3;"));
  }
}

TEST(VerifyTest, IsOfFinishedRunsOnly) {
  const testing::RunOptions options = two_replicas(40);
  const std::string wrong = run_ranks(4, [&](Transport* transport) -> std::string {
    RankBuffers src(*options.scenario.src, transport->rank(), transport, false);
    RankBuffers dst(*options.scenario.dst, transport->rank(), transport, false);
    auto binding = Binding::create({options.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs});
    EXPECT_EQ((*binding)->verify(Deadline(kTimeoutUs)).code(), RESHARD_ERR_INVALID_STATE);
    // A rank that is within a run says so, and the others hear of it.
    src.fill(0);
    const bool is_late = transport->rank() == 1;
    Driver& driver = (*binding)->driver();
    EXPECT_TRUE(driver.start().ok());
    if (!is_late) {
      EXPECT_TRUE(driver.finish(Deadline(kTimeoutUs)).ok());
    }
    while (is_late && !*driver.poll()) {
    }
    EXPECT_EQ((*binding)->verify(Deadline(kTimeoutUs)).code(), RESHARD_ERR_INVALID_STATE);
    if (is_late) {
      EXPECT_TRUE(driver.finish(Deadline(kTimeoutUs)).ok());
    }
    EXPECT_TRUE((*binding)->verify(Deadline(kTimeoutUs)).ok());
    binding->reset();
    static_cast<void>(transport->allgather({}, Deadline(kTimeoutUs)).ok());
    return "";
  });
  EXPECT_EQ(wrong, "");
}

}  // namespace
}  // namespace reshard
