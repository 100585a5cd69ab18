// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Programs that were compiled with another header have structs of other sizes: what an init function writes stays
// within them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <reshard/reshard.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace {

using ::testing::HasSubstr;

constexpr auto kPoison = std::byte{0xA5};

/// A struct that `size_bytes` were allocated for, initialised, in the middle of memory that must stay as it is.
template <typename T>
class Given {
 public:
  Given(void (*init)(T*, std::size_t), std::size_t size_bytes) : size_bytes_(size_bytes) {
    memory_.fill(kPoison);
    init(data(), size_bytes);
  }
  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  bool leaves_the_rest() const {
    return std::all_of(memory_.begin() + static_cast<std::ptrdiff_t>(size_bytes_), memory_.end(),
                       [](std::byte byte) { return byte == kPoison; });
  }
  bool is_untouched() const {
    return std::all_of(memory_.begin(), memory_.end(), [](std::byte byte) { return byte == kPoison; });
  }

 private:
  std::size_t size_bytes_;
  alignas(T) std::array<std::byte, 2 * sizeof(T) + 64> memory_;
};

/// What holds for every struct: of the header's own size, of one that nobody knows, and of too little for a header.
template <typename T>
void expect_within(const char* name, void (*init)(T*, std::size_t), std::uint32_t version) {
  Given<T> same(init, sizeof(T));
  EXPECT_EQ(same.data()->struct_size, sizeof(T)) << name;
  EXPECT_EQ(same.data()->version, version) << name;
  EXPECT_TRUE(same.leaves_the_rest()) << name;
  for (const std::size_t size_bytes : {sizeof(T) + 8, std::size_t{16}}) {
    Given<T> other(init, size_bytes);
    EXPECT_EQ(other.data()->struct_size, size_bytes) << name;
    EXPECT_EQ(other.data()->version, 0U) << name << " of " << size_bytes;
    EXPECT_TRUE(other.leaves_the_rest()) << name << " of " << size_bytes;
  }
  EXPECT_TRUE(Given<T>(init, 8).is_untouched()) << name;
  init(nullptr, sizeof(T));
}

TEST(StructInitTest, NothingIsWrittenBeyondTheSizeThatIsGiven) {
#define EXPECT_WITHIN(struct_name, version) expect_within(#struct_name, reshard_##struct_name##_init_sized, version)
  EXPECT_WITHIN(tensor_desc, 1);
  EXPECT_WITHIN(axis_placement, 1);
  EXPECT_WITHIN(placement_desc, 2);
  EXPECT_WITHIN(block, 1);
  EXPECT_WITHIN(buffer_info, 1);
  EXPECT_WITHIN(tensor_info, 1);
  EXPECT_WITHIN(model_options, 2);
  EXPECT_WITHIN(plan_options, 3);
  EXPECT_WITHIN(plan_info, 2);
  EXPECT_WITHIN(comm_options, 3);
  EXPECT_WITHIN(machine_discover_options, 1);
  EXPECT_WITHIN(buffer, 1);
  EXPECT_WITHIN(binding_desc, 2);
  EXPECT_WITHIN(binding_stats, 2);
#undef EXPECT_WITHIN
}

TEST(StructInitTest, OlderSizesGetTheirVersionAndItsDefaults) {
  Given<reshard_binding_desc_t> desc(reshard_binding_desc_init_sized, offsetof(reshard_binding_desc_t, driver));
  EXPECT_EQ(desc.data()->version, 1U);
  EXPECT_GT(desc.data()->timeout_us, 0);
  EXPECT_TRUE(desc.leaves_the_rest());
  Given<reshard_plan_options_t> options(reshard_plan_options_init_sized, offsetof(reshard_plan_options_t, unmatched));
  EXPECT_EQ(options.data()->version, 2U);
  EXPECT_GT(options.data()->staging_bytes, 0);
  EXPECT_TRUE(options.leaves_the_rest());
  Given<reshard_binding_stats_t> stats(reshard_binding_stats_init_sized,
                                       offsetof(reshard_binding_stats_t, scratch_bytes));
  EXPECT_EQ(stats.data()->version, 1U);
  EXPECT_TRUE(stats.leaves_the_rest());
  Given<reshard_model_options_t> model(reshard_model_options_init_sized, offsetof(reshard_model_options_t, rank_list));
  EXPECT_EQ(model.data()->version, 1U);
  EXPECT_TRUE(model.leaves_the_rest());
}

const char kSpec[] = R"({"version": 1, "ranks": 1, "tensors": [{"name": "w", "group": 0, "shape": [4],
  "src": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]},
  "dst": {"dtype": "F32", "mesh": {"axes": [["x", 1]], "ranks": [0]}, "placements": ["replicate"]}}]})";

/// A header that is newer than the library may have members in it that the caller has set: not taken in silence.
TEST(StructInitTest, AStructOfAnUnknownSizeIsRefused) {
  reshard_layout_t src = nullptr;
  reshard_layout_t dst = nullptr;
  ASSERT_EQ(reshard_layout_create_from_spec(kSpec, &src, &dst), RESHARD_OK);
  Given<reshard_plan_options_t> options(reshard_plan_options_init_sized, sizeof(reshard_plan_options_t) + 8);
  reshard_plan_t plan = nullptr;
  EXPECT_EQ(reshard_plan_create(src, dst, options.data(), &plan), RESHARD_ERR_INVALID_ARGUMENT);
  EXPECT_THAT(reshard_last_error(), HasSubstr("and version 0"));
  EXPECT_THAT(reshard_last_error(), HasSubstr("compile with the header of the library that is loaded"));
  reshard_layout_destroy(src);
  reshard_layout_destroy(dst);
}

}  // namespace
