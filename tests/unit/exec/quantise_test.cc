// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Runs that quantise and dequantise, with memory that is mapped or not, windows of any size, groups that open one after
// another, relays, and callers whose work on the sources comes late: every element and every scale, twice with other
// values.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <random>

#include "src/layout/scale_layout.h"
#include "tests/unit/exec/late_copier.h"
#include "tests/unit/exec/run.h"
#include "tests/unit/scenario/random_machine.h"

namespace reshard {
namespace {

using testing::BufferMemory;
using testing::Choices;
using testing::kTimeoutUs;

// ------------------------------------------------------------------------------------------- what tensors must hold

/// What the codes without a sign stand for, in rising order; the last, 0x7f, is no number.
const std::array<float, 0x7f>& e4m3_values() {
  static const std::array<float, 0x7f> values = [] {
    std::array<float, 0x7f> made{};
    for (int code = 0; code < 0x7f; ++code) {
      const int exponent = code >> 3;
      at(made, code) = exponent == 0 ? std::ldexp(static_cast<float>(code), -9)
                                     : std::ldexp(static_cast<float>(8 + code % 8), exponent - 10);
    }
    return made;
  }();
  return values;
}

float e4m3_value(int code) {
  return at(e4m3_values(), code);
}

/// The nearest of all values, the even code of two that are equally near.
std::uint8_t e4m3(float value) {
  const float magnitude = std::min(448.0F, std::fabs(value));
  const auto above = std::ranges::lower_bound(e4m3_values(), magnitude);
  auto best = static_cast<int>(above - e4m3_values().begin());
  if (best > 0) {
    const float to_lower = magnitude - e4m3_value(best - 1);
    const float to_upper = e4m3_value(best) - magnitude;
    if (to_lower < to_upper || (to_lower == to_upper && best % 2 == 1)) --best;
  }
  return static_cast<std::uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

std::uint64_t mix(std::uint64_t value) {
  value = (value ^ (value >> 31U)) * 0x9E3779B97F4A7C15U;
  return value ^ (value >> 29U);
}

/// One tensor of 8-bit floats and its scales.
struct Weight {
  std::string name;
  std::vector<std::int64_t> shape;
  ScaleKind kind = ScaleKind::kBlock128;
  DType wide = DType::kBF16;
  bool is_quantising = true;
  bool is_given = false;
  ScaleGrid grid;

  std::vector<float> scales;  // of the run
  std::vector<std::int64_t> scale_dims;

  float number(std::int64_t flat, int run) const {
    const std::uint64_t z = mix(static_cast<std::uint64_t>(flat) * 8 + static_cast<std::uint64_t>(run) +
                                static_cast<std::uint64_t>(name[1]));
    return std::ldexp(static_cast<float>(z % 255) - 127.0F, static_cast<int>(z / 255 % 9) - 4);
  }
  std::uint8_t code(std::int64_t flat, int run) const {
    const std::uint64_t z = mix(static_cast<std::uint64_t>(flat) * 8 + static_cast<std::uint64_t>(run) + 5);
    return static_cast<std::uint8_t>((z % 0x7f) | (z / 0x7f % 2) << 7U);
  }
  std::int64_t scale_of(std::int64_t flat) const {
    const std::int64_t row = flat / shape[1];
    const std::int64_t column = flat % shape[1];
    if (kind == ScaleKind::kChannel) return row;
    if (kind == ScaleKind::kMxfp8) return row * scale_dims[1] + column / 32;
    return row / 128 * scale_dims[1] + column / 128;
  }
  void begin_run(int run) {
    scale_dims = *scale_shape(kind, shape);
    std::int64_t count = 1;
    for (const std::int64_t extent : scale_dims) count *= extent;
    scales.assign(static_cast<std::size_t>(count), 0);
    for (std::int64_t i = 0; is_given && i < count; ++i)
      at(scales, i) = std::ldexp(1.0F, static_cast<int>(i + run) % 7 - 3);
    if (is_given) return;
    for (std::int64_t i = 0; i < shape[0] * shape[1]; ++i) {
      at(scales, scale_of(i)) = std::max(at(scales, scale_of(i)), std::fabs(number(i, run)));
    }
    for (float& scale : scales) {
      if (kind == ScaleKind::kBlock128) {
        scale = std::max(scale, 1e-4F) / 448.0F;
      } else {
        int exponent = -127;
        while (std::ldexp(448.0F, exponent) < scale) ++exponent;
        scale = std::ldexp(1.0F, exponent);
      }
    }
  }

  std::uint32_t wide_bits(float value) const {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    return wide == DType::kF32 ? bits : (bits + 0x7fff + (bits >> 16U & 1U)) >> 16U;
  }
  std::uint32_t scale_bits(std::int64_t index) const {
    const float scale = at(scales, index);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &scale, sizeof(bits));
    return kind == ScaleKind::kMxfp8 ? static_cast<std::uint32_t>(std::ilogb(scale) + 127) : bits;
  }
  /// Of an element at the source, or at the destination.
  std::uint32_t bits(std::int64_t flat, bool is_source, int run) const {
    const float scale = at(scales, scale_of(flat));
    if (is_quantising) {
      return is_source ? wide_bits(number(flat, run)) : std::uint32_t{e4m3(number(flat, run) * (1.0F / scale))};
    }
    const std::uint8_t held = code(flat, run);
    if (is_source) return held;
    return wide_bits((held & 0x80U ? -1.0F : 1.0F) * e4m3_value(held & 0x7f) * scale);
  }
};

// ------------------------------------------------------------------------------------------------------ random jobs

struct Job {
  std::shared_ptr<ModelLayout> src;
  std::shared_ptr<ModelLayout> dst;
  std::vector<Weight> weights;
};

/// Cut along one dim, at multiples of the block or anywhere, on some ranks.
Placement random_placement(Choices* choices, const Weight& weight, std::int32_t num_ranks) {
  const int dim = static_cast<int>(choices->pick(2));
  const std::int64_t parts = 1 + choices->pick(std::min(3, num_ranks));
  const std::int64_t block = choices->pick(3) > 0 ? weight.grid.block[dim] : 1;
  const std::int64_t extent = at(weight.shape, dim);
  Split split;
  split.rule = Rule::kCuts;
  split.num_parts = parts;
  split.cuts = {0, extent};
  while (std::ssize(split.cuts) < parts + 1) {
    split.cuts.push_back(std::min(extent, choices->pick(extent / block + 2) * block));
  }
  std::sort(split.cuts.begin(), split.cuts.end());
  std::vector<std::int32_t> ranks;
  const std::int64_t first = choices->pick(num_ranks);
  for (std::int64_t r = 0; r < parts; ++r) ranks.push_back(static_cast<std::int32_t>((first + r) % num_ranks));
  Placement placement;
  placement.mesh = *Mesh::create({{"x", parts}}, ranks);
  placement.dims.resize(2);
  at(placement.dims, dim) = {std::make_shared<const DimMap>(*make_dim_map(extent, {split})), {0}};
  if (choices->pick(4) == 0) placement.order = {1, 0};
  return placement;
}

void add_scales(ModelLayout* layout, const Weight& weight, std::int64_t tensor, bool is_whole) {
  const std::int64_t scales =
      *layout->add_tensor({weight.name + "_s", scale_dtype(weight.kind), *scale_shape(weight.kind, weight.shape),
                           at(layout->tensors(), tensor).group});
  const std::int64_t buffer = layout->add_buffer(weight.name + "_s", scale_dtype(weight.kind));
  const Placement of_weight = layout->placements(tensor)[0];
  if (!is_whole && !find_cut_block(*layout, tensor, weight.grid).has_value() &&
      BesidePlacer(layout).place_alike(tensor, weight.grid, scales, {{of_weight.buffer, buffer}}).ok()) {
    return;
  }
  Placement whole;
  whole.mesh = of_weight.mesh;
  whole.dims.resize(at(layout->tensors(), scales).shape.size());
  whole.buffer = buffer;
  ASSERT_TRUE(layout->place(scales, whole).ok());
}

void add_weight(Choices* choices, Job* job, const Weight& weight, std::int64_t group) {
  for (const bool is_source : {true, false}) {
    ModelLayout* layout = (is_source ? job->src : job->dst).get();
    const bool is_narrow = is_source != weight.is_quantising;
    const DType dtype = is_narrow ? DType::kF8E4M3 : weight.wide;
    const std::int64_t tensor = *layout->add_tensor({weight.name, dtype, weight.shape, group});
    Placement placement = random_placement(choices, weight, layout->num_ranks());
    placement.buffer = layout->add_buffer(weight.name, dtype);
    ASSERT_TRUE(layout->place(tensor, placement).ok());
    if (is_narrow || (is_source && weight.is_given)) add_scales(layout, weight, tensor, choices->pick(2) == 0);
    if (is_narrow) {
      ASSERT_TRUE(layout->set_scales(tensor, {weight.kind, layout->find_tensor(weight.name + "_s")}).ok());
    }
  }
  job->weights.push_back(weight);
}

Job make_job(Choices* choices, std::int32_t num_ranks) {
  Job job{std::make_shared<ModelLayout>(num_ranks), std::make_shared<ModelLayout>(num_ranks), {}};
  const std::int64_t count = 1 + choices->pick(3);
  for (std::int64_t i = 0; i < count; ++i) {
    Weight weight;
    weight.name = fmt::format("w{}", i);
    weight.shape = {1 + choices->pick(200), 1 + choices->pick(200)};
    weight.kind = std::vector{ScaleKind::kBlock128, ScaleKind::kMxfp8, ScaleKind::kChannel}.at(
        static_cast<std::size_t>(choices->pick(3)));
    weight.wide = choices->pick(2) == 0 ? DType::kBF16 : DType::kF32;
    weight.is_quantising = choices->pick(3) > 0;
    weight.is_given = !weight.is_quantising || weight.kind == ScaleKind::kChannel || choices->pick(4) == 0;
    weight.grid = *make_scale_grid(weight.kind, weight.shape, *scale_shape(weight.kind, weight.shape));
    add_weight(choices, &job, weight, choices->pick(3));
  }
  return job;
}

// ------------------------------------------------------------------------------------------------------------- runs

/// One side's buffers of a rank.
class SideMemory {
 public:
  SideMemory(const Job& job, bool is_source, std::int32_t rank, Transport* transport, bool is_mappable)
      : job_(job), layout_(is_source ? *job.src : *job.dst), is_source_(is_source), rank_(rank) {
    for (const std::int64_t id : layout_.buffers_of(rank)) {
      const std::int64_t size = layout_.buffer_size_bytes(rank, id);
      memory_[id] = BufferMemory::allocate(transport, static_cast<std::size_t>(size) + 1, is_mappable);
      bound_.push_back({id, memory_[id]->bound(), size});
    }
  }
  const std::vector<BoundBuffer>& bound() const { return bound_; }

  void poison(bool is_queued) {
    for (const BoundBuffer& buffer : bound_) {
      std::memset(memory_[buffer.id]->image(), 0x5A, static_cast<std::size_t>(buffer.size_bytes));
    }
    publish(is_queued);
  }

  void fill(int run, bool is_queued) {
    visit(run, [](std::byte* place, std::uint32_t bits, std::size_t size, const Tensor&, std::int64_t) {
      std::memcpy(place, &bits, size);
    });
    publish(is_queued);
  }

  /// Of the tensors of one group.
  std::string check(int run, std::int64_t group) {
    for (const auto& [id, memory] : memory_) memory->fetch();
    std::string wrong;
    visit(run, [&](const std::byte* place, std::uint32_t bits, std::size_t size, const Tensor& tensor,
                   std::int64_t element) {
      if (tensor.group == group && wrong.empty() && std::memcmp(place, &bits, size) != 0)
        wrong = fmt::format("rank {} {} element {}: wrong in run {}\n", rank_, tensor.name, element, run);
    });
    return wrong;
  }

 private:
  void publish(bool is_queued) {
    for (const BoundBuffer& buffer : bound_) {
      memory_[buffer.id]->publish(0, static_cast<std::size_t>(buffer.size_bytes), is_queued);
    }
  }

  /// Calls visit(place, bits, size, tensor, element) for each element of weights and scales that the side has on the
  /// rank.
  template <typename Visit>
  void visit(int run, const Visit& visit) {
    for (const Weight& given : job_.weights) {
      Weight weight = given;
      weight.begin_run(run);
      for (const bool is_scales : {false, true}) {
        const std::int64_t id = layout_.find_tensor(is_scales ? weight.name + "_s" : weight.name);
        if (id < 0) continue;
        const Tensor& tensor = at(layout_.tensors(), id);
        for (const Block& block : layout_.blocks(rank_, id)) {
          std::byte* image = memory_[block.buffer]->image();
          testing::for_each_element(block, [&](const Dims& index, std::int64_t offset) {
            const std::int64_t flat = testing::flat_index(tensor.shape, index);
            const std::uint32_t bits = is_scales ? weight.scale_bits(flat) : weight.bits(flat, is_source_, run);
            visit(image + offset, bits, static_cast<std::size_t>(size_bytes(tensor.dtype)), tensor, flat);
          });
        }
      }
    }
  }

  const Job& job_;
  const ModelLayout& layout_;
  bool is_source_;
  std::int32_t rank_;
  std::map<std::int64_t, std::unique_ptr<BufferMemory>> memory_;
  std::vector<BoundBuffer> bound_;
};

struct Runs {
  Job job;
  std::shared_ptr<const Plan> plan;
  bool src_mappable = true;
  bool dst_mappable = true;
  std::uint64_t late_seed = 0;
};

/// Waits for the groups in the rank's order, and looks at each as soon as it is said to be complete.
Status wait_for_groups(const Runs& runs, std::int32_t rank, Driver* driver, SideMemory* dst, int run,
                       std::string* wrong) {
  const auto count = static_cast<std::int32_t>(runs.plan->groups.size());
  for (std::int32_t position = 0; position < count; ++position) {
    const std::int32_t group = (position + at(runs.plan->first_groups, rank)) % count;
    RESHARD_TRY(driver->wait_group(group, Deadline(kTimeoutUs)));
    *wrong += dst->check(run, at(runs.plan->groups, group));
  }
  return driver->finish(Deadline(kTimeoutUs));
}

std::string run_rank(const Runs& runs, Transport* transport) {
  SideMemory src(runs.job, true, transport->rank(), transport, runs.src_mappable);
  SideMemory dst(runs.job, false, transport->rank(), transport, runs.dst_mappable);
  BindOptions options{runs.plan, transport, src.bound(), dst.bound(), nullptr, kTimeoutUs};
  const bool is_late = runs.late_seed != 0;
  const std::uint64_t seed = runs.late_seed + static_cast<std::uint64_t>(transport->rank());
  if (is_late && !testing::is_on_device()) {
    options.make_copier = [seed] { return std::unique_ptr<Copier>(std::make_unique<testing::LateCopier>(seed)); };
  }
  Result<std::unique_ptr<Binding>> binding = testing::bind(options);
  if (!binding.ok()) return binding.status().message() + "\n";
  std::string wrong;
  for (int run = 0; run < 2; ++run) {
    const bool is_queued = is_late && testing::is_on_device();
    testing::LateCopier::Work prepare = [&] {
      src.fill(run, is_queued);
      dst.poison(is_queued);
    };
    src.poison(false);
    if (!is_late || testing::is_on_device()) prepare();
    void* stream = testing::is_on_device() ? testing::callers_stream() : &prepare;
    Driver& driver = (*binding)->driver();
    Status status = driver.start(is_late ? stream : nullptr);
    if (status.ok()) status = wait_for_groups(runs, transport->rank(), &driver, &dst, run, &wrong);
    if (!status.ok()) return wrong + status.message() + "\n";
  }
  binding->reset();
  const auto barrier = transport->allgather({}, Deadline(kTimeoutUs));
  return barrier.ok() ? wrong : barrier.status().message() + "\n";
}

/// A job with its plan; nothing where no side can convert it or no machine connects its ranks.
std::optional<Runs> draw_runs(Choices* choices) {
  const auto num_ranks = static_cast<std::int32_t>(1 + choices->pick(6));
  Runs runs;
  runs.src_mappable = choices->pick(2) == 0;
  runs.dst_mappable = choices->pick(2) == 0;
  runs.late_seed = choices->pick(2) == 0 ? 0 : 1 + static_cast<std::uint64_t>(choices->pick(1000));
  PlanOptions options;
  options.staging_bytes = std::int64_t{8} << choices->pick(16);
  options.open_groups = choices->pick(3);
  if (choices->pick(2) == 0) options.machine = testing::make_random_machine(choices, num_ranks);
  runs.job = make_job(choices, num_ranks);
  Result<Plan> plan = create_plan(runs.job.src, runs.job.dst, options);
  if (!plan.ok() && plan.status().code() == RESHARD_ERR_LAYOUT_MISMATCH) return std::nullopt;
  if (testing::is_out_of_reach(plan.status())) return std::nullopt;
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  if (!plan.ok()) return std::nullopt;
  runs.plan = std::make_shared<const Plan>(std::move(plan).take());
  return runs;
}

TEST(QuantiseTest, RandomJobsHoldWhatTheirDefinitionsSay) {
  ASSERT_TRUE(rc::check([&](const std::vector<std::uint32_t>& numbers) {
    Choices choices(numbers);
    const std::optional<Runs> runs = draw_runs(&choices);
    if (!runs) return;
    testing::seed_streams(runs->late_seed);
    RC_ASSERT(testing::run_ranks(runs->plan->num_ranks,
                                 [&](Transport* transport) { return run_rank(*runs, transport); }) == "");
  }));
}

// A sanitizer has time for few runs, and few may well convert at one side only: what can be drawn is asked of many
// plans.
TEST(QuantiseTest, DrawnJobsConvertAtEitherSide) {
  int at_source = 0;
  int at_destination = 0;
  std::mt19937 random(1);
  for (int job = 0; job < 50; ++job) {
    std::vector<std::uint32_t> numbers(100);
    std::ranges::generate(numbers, std::ref(random));
    Choices choices(numbers);
    const std::optional<Runs> runs = draw_runs(&choices);
    if (!runs) continue;
    for (const Conversion& conversion : runs->plan->conversions) {
      ++(conversion.is_at_source() ? at_source : at_destination);
    }
  }
  EXPECT_GT(at_source, 10);
  EXPECT_GT(at_destination, 10);
}

}  // namespace
}  // namespace reshard
