// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Ownership and errors: each handle is destroyed once, whatever moved, and what failed is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <reshard/reshard.hpp>

#include <optional>
#include <type_traits>

#include "tests/unit/hpp/count_destroys.h"
#include "tests/unit/hpp/transfer.h"

namespace hpp_test {
namespace {

using std::chrono_literals::operator""s;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

/// One object of every kind, made in the order of use.
struct Everything {
  std::vector<reshard::Comm> comms = must(reshard::Comm::local(1));
  reshard::LayoutPair layouts = must(reshard::Layout::from_spec(kThreeLayers));
  reshard::Machine machine = must(reshard::Machine::create("host:ranks=1", std::vector<std::int32_t>{1}));
  reshard::Plan plan = must(reshard::Plan::create(layouts.src, layouts.dst, {.machine = &machine}));
  reshard::Manifest manifest = must(reshard::Manifest::create(plan, 0));
  reshard::Memory memory = must(comms[0].alloc(96));
  reshard::Binding binding = must(reshard::Binding::create(plan, comms[0], {.src = buffers(0), .dst = buffers(3)}));
  reshard::Reload reload = must(reshard::Reload::create(plan, comms[0], {.src = buffers(0), .dst = buffers(3)}));

  std::vector<reshard::Buffer> buffers(std::size_t first) {
    std::vector<reshard::Buffer> out;
    for (std::size_t l = 0; l < 3; ++l) {
      out.push_back(
          {.id = static_cast<std::int64_t>(l), .ptr = &memory.as<float>()[4 * (first + l)], .size_bytes = 16});
    }
    return out;
  }
};

Destroyed handles_of(const Everything& all) {
  return {{"reshard_comm_destroy", {all.comms[0].get()}},
          {"reshard_layout_destroy", {all.layouts.dst.get(), all.layouts.src.get()}},
          {"reshard_machine_destroy", {all.machine.get()}},
          {"reshard_plan_destroy", {all.plan.get()}},
          {"reshard_manifest_destroy", {all.manifest.get()}},
          {"reshard_free", {all.memory.data()}},
          {"reshard_binding_destroy", {all.binding.get()}},
          {"reshard_reload_destroy", {all.reload.get()}}};
}

TEST(HppHandlesTest, EveryHandleIsDestroyedOnce) {
  take_destroyed();
  std::optional<Everything> all(std::in_place);
  const Destroyed expected = handles_of(*all);
  EXPECT_THAT(take_destroyed(), IsEmpty());  // making them destroys nothing
  all.reset();
  EXPECT_EQ(take_destroyed(), expected);
}

TEST(HppHandlesTest, WhatWasMovedIsDestroyedOnceByItsLastOwner) {
  take_destroyed();
  std::optional<Everything> all(std::in_place);
  const Destroyed expected = handles_of(*all);
  {
    Everything moved = std::move(*all);
    EXPECT_FALSE(all->plan);
    EXPECT_EQ(all->memory.data(), nullptr);
    EXPECT_EQ(all->memory.size_bytes(), 0U);
    all.reset();
    EXPECT_THAT(take_destroyed(), IsEmpty());  // what is moved from owns nothing
    Everything* const itself = &moved;
    moved.plan = std::move(itself->plan);
    moved.memory = std::move(itself->memory);
    EXPECT_EQ(handles_of(moved), expected);
  }
  EXPECT_EQ(take_destroyed(), expected);
}

TEST(HppHandlesTest, AssigningDestroysWhatWasThere) {
  auto one = must(reshard::Layout::create(1)), two = must(reshard::Layout::create(2));
  const void *const first = one.get(), *const second = two.get();
  auto comms = must(reshard::Comm::local(1));
  auto small = must(comms[0].alloc(8)), large = must(comms[0].alloc(4096));
  const void* const freed = small.data();
  take_destroyed();
  one = std::move(two);
  small = std::move(large);
  EXPECT_THAT(take_destroyed(), ElementsAre(Pair("reshard_free", ElementsAre(freed)),
                                            Pair("reshard_layout_destroy", ElementsAre(first))));
  EXPECT_EQ(one.get(), second);
  EXPECT_EQ(small.size_bytes(), 4096U);
  EXPECT_EQ(must(one.num_ranks()), 2);
}

TEST(HppHandlesTest, AHandleThatIsReleasedIsTheCallers) {
  auto layout = must(reshard::Layout::create(1));
  take_destroyed();
  reshard_layout_t raw = layout.release();
  EXPECT_FALSE(layout);
  layout.reset();
  EXPECT_THAT(take_destroyed(), IsEmpty());
  layout.reset(raw);
  layout.reset();
  EXPECT_THAT(take_destroyed(), ElementsAre(Pair("reshard_layout_destroy", ElementsAre(raw))));
}

template <typename T>
void expect_moves_only() {
  EXPECT_FALSE(std::is_copy_constructible_v<T>);
  EXPECT_FALSE(std::is_copy_assignable_v<T>);
  EXPECT_TRUE(std::is_nothrow_move_constructible_v<T>);
  EXPECT_TRUE(std::is_nothrow_move_assignable_v<T>);
  EXPECT_TRUE(std::is_nothrow_default_constructible_v<T>);
}

TEST(HppHandlesTest, HandlesMoveAndDoNotCopy) {
  expect_moves_only<reshard::Layout>();
  expect_moves_only<reshard::Machine>();
  expect_moves_only<reshard::Plan>();
  expect_moves_only<reshard::Comm>();
  expect_moves_only<reshard::Memory>();
  expect_moves_only<reshard::Binding>();
  expect_moves_only<reshard::Manifest>();
  expect_moves_only<reshard::Reload>();
}

TEST(HppErrorsTest, AFailedCallCarriesStatusAndMessageAndOwnsNothing) {
  take_destroyed();
  const auto layout = reshard::Layout::create(0);
  ASSERT_FALSE(layout.has_value());
  EXPECT_EQ(layout.error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(layout.error().message, reshard_last_error());
  EXPECT_THAT(layout.error().message, HasSubstr("0"));

  const auto spec = reshard::Layout::from_spec("{");
  ASSERT_FALSE(spec);
  EXPECT_THAT(spec.error().message, HasSubstr("line 1"));

  const auto pair = must(reshard::Layout::from_spec(kRowsToColumns));
  const auto other = must(reshard::Layout::create(3));
  const auto plan = reshard::Plan::create(pair.src, other);
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().status, RESHARD_ERR_LAYOUT_MISMATCH);
  const auto comms = reshard::Comm::local(0);
  ASSERT_FALSE(comms);
  EXPECT_EQ(comms.error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(take_destroyed(), IsEmpty());
}

TEST(HppErrorsTest, CallsWithAnEmptyHandleAreRefused) {
  reshard::Layout layout;
  reshard::Binding binding;
  reshard::Reload reload;
  const reshard::Plan plan;
  const reshard::Comm comm;
  EXPECT_EQ(layout.num_ranks().error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(layout.place(0, {}).error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(binding.start().error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reload.next(1s).error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(plan.groups().error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(comm.alloc(8).error().status, RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(reshard::Binding::create(plan, comm, {}).error().status, RESHARD_ERR_INVALID_ARGUMENT);
}

TEST(HppErrorsTest, AResultIsAValueOrAnError) {
  const reshard::Result<int> seven(7);
  const reshard::Result<int> none = reshard::Failure({RESHARD_ERR_IO, "no such file"});
  EXPECT_TRUE(seven.has_value());
  EXPECT_EQ(*seven, 7);
  EXPECT_EQ(seven.value_or(1), 7);
  EXPECT_FALSE(none.has_value());
  EXPECT_EQ(none.value_or(1), 1);
  EXPECT_EQ(none.error().message, "no such file");
  reshard::Result<std::string> text(std::string("long enough to lie on the heap, where a move shows"));
  const char* const place = text->data();
  const std::string taken = *std::move(text);
  EXPECT_EQ(taken.data(), place);
  const reshard::Result<void> done;
  const reshard::Result<void> failed = reshard::Failure(none.error());
  EXPECT_TRUE(done);
  EXPECT_FALSE(failed);
  EXPECT_EQ(failed.error().status, RESHARD_ERR_IO);
}

}  // namespace
}  // namespace hpp_test
