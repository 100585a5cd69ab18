// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "random_copies.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

namespace reshard::testing {
namespace {

constexpr std::int64_t kEdgeBytes = 128;
constexpr std::byte kUntouched{0xa5};

using Random = std::mt19937_64;

std::int64_t draw(Random* random, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(*random);
}

bool one_in(Random* random, std::int64_t count) {
  return draw(random, 1, count) == 1;
}

template <typename T>
T any_of(Random* random, const std::vector<T>& values) {
  return values[static_cast<std::size_t>(draw(random, 0, static_cast<std::int64_t>(values.size()) - 1))];
}

// Extents of up to `most` elements together: one or two long dims and some short ones, about the sizes of tiles and
// chunks.
std::vector<std::int64_t> random_shape(Random* random, std::int64_t most) {
  std::vector<std::int64_t> shape;
  const std::int64_t num_dims = draw(random, 0, one_in(random, 4) ? 8 : 4);
  for (std::int64_t d = 0; d < num_dims; ++d) {
    const std::int64_t likely = any_of<std::int64_t>(random, {1, 2, 3, 8, 31, 64, 65, 128, 200, 4000});
    shape.push_back(std::clamp<std::int64_t>(draw(random, std::max<std::int64_t>(1, likely - 2), likely), 1, most));
    most /= shape.back();
    most = std::max<std::int64_t>(most, 1);
  }
  std::shuffle(shape.begin(), shape.end(), *random);
  return shape;
}

// Dims nested in some order, with gaps of any number of bytes between some, some of them backwards.
std::vector<std::int64_t> random_strides(Random* random, const std::vector<std::int64_t>& shape,
                                         std::int64_t element_bytes, bool is_tight) {
  std::vector<std::size_t> order(shape.size());
  std::iota(order.rbegin(), order.rend(), 0);
  if (!one_in(random, 3)) std::shuffle(order.begin(), order.end(), *random);
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = element_bytes;
  for (const std::size_t d : order) {
    if (!is_tight && one_in(random, 3)) {
      stride += any_of<std::int64_t>(random, {1, element_bytes, 16, 64, 16 - stride % 16});
    }
    strides[d] = one_in(random, 10) ? -stride : stride;
    stride *= shape[d];
  }
  return strides;
}

// Memory from the lowest to the highest byte that is touched, at any offset from a multiple of 16.
std::vector<std::byte> memory_of(Random* random, const std::vector<std::int64_t>& shape,
                                 const std::vector<std::int64_t>& strides, std::int64_t element_bytes,
                                 std::int64_t* base) {
  std::int64_t low = 0;
  std::int64_t high = element_bytes;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    const std::int64_t reach = (shape[d] - 1) * strides[d];
    (reach < 0 ? low : high) += reach;
  }
  *base = kEdgeBytes - low + (one_in(random, 2) ? 0 : draw(random, 0, 15));
  if (one_in(random, 2)) *base = (*base + 15) / 16 * 16;
  return std::vector<std::byte>(static_cast<std::size_t>(*base + high + kEdgeBytes), kUntouched);
}

// Random bytes without exponents of all ones in any position: a NaN could be written in several ways, all of them
// right. With scales there is one way.
void fill_source(Random* random, DType dtype, bool is_scaled, std::vector<std::byte>* memory) {
  const bool may_be_nan = is_scaled || (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF16);
  std::byte* const bytes = memory->data();
  const std::size_t size = memory->size();
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    std::uint64_t word = (*random)();
    // The lowest bit of each byte whose bits of 0x7c are all ones; of those, 0x04 is taken.
    const std::uint64_t full =
        word >> 2 & word >> 3 & word >> 4 & word >> 5 & word >> 6 & std::uint64_t{0x0101010101010101};
    if (!may_be_nan) word ^= full << 2;
    std::memcpy(bytes + at, &word, std::min(size - at, sizeof(word)));
  }
}

// Most are such that elements come into the range of F8_E4M3; some are what nobody should have as a scale.
float random_scale(Random* random) {
  const auto bits = static_cast<std::uint32_t>((*random)());
  if (one_in(random, 20)) return any_of<float>(random, {0.0F, -0.0F, 1e-44F, 3e38F, -0.5F, HUGE_VALF, NAN});
  const auto exponent = static_cast<std::uint32_t>(one_in(random, 2) ? 120 + draw(random, 0, 16) : bits >> 24);
  return std::bit_cast<float>(exponent << 23 | (bits & 0x7fffffU));
}

std::vector<std::byte> random_scale_bytes(Random* random, DType dtype, std::int64_t count) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * size_bytes(dtype)));
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = random_scale(random);
    std::byte* const at = bytes.data() + i * size_bytes(dtype);
    if (dtype == DType::kF32) std::memcpy(at, &value, sizeof(value));
    if (dtype == DType::kF8E8M0) *at = static_cast<std::byte>(std::bit_cast<std::uint32_t>(value) >> 23);
  }
  return bytes;
}

// Blocks of any size in every dim, of which the box takes any part; scales in any order, some backwards.
void add_scales(Random* random, const std::vector<std::int64_t>& shape, RandomCopy* copy) {
  CopyScales& scales = copy->op.scales;
  scales.dtype = one_in(random, 2) ? DType::kF32 : DType::kF8E8M0;
  std::vector<std::size_t> order(shape.size());
  std::iota(order.rbegin(), order.rend(), 0);
  if (one_in(random, 2)) std::shuffle(order.begin(), order.end(), *random);
  std::int64_t count = 1;
  copy->scale_base = 0;
  for (const std::size_t d : order) {
    ScaleDim& dim = scales.dims[d];
    dim.block = any_of<std::int64_t>(random, {1, 2, 16, 32, 64, 128, 1024});
    const std::int64_t most = shape[d] / dim.block + 2;
    if (one_in(random, 4) || count * most > 20000) continue;  // one for all
    dim.offset = one_in(random, 2) ? 0 : draw(random, 0, dim.block - 1);
    const std::int64_t num_blocks = (dim.offset + shape[d] - 1) / dim.block + 1;
    dim.stride_bytes = count * size_bytes(scales.dtype);
    if (one_in(random, 8)) {
      copy->scale_base += (num_blocks - 1) * dim.stride_bytes;
      dim.stride_bytes = -dim.stride_bytes;
    }
    count *= num_blocks;
  }
  copy->scales = random_scale_bytes(random, scales.dtype, count);
}

}  // namespace

CopyOp RandomCopy::bind(const std::byte* from, std::byte* to, const std::byte* with) const {
  CopyOp bound = op;
  if (!scales.empty()) bound.scales.base = (with == nullptr ? scales.data() : with) + scale_base;
  bound.src = is_fill ? nullptr : from + src_base;
  bound.dst = to + dst_base;
  return bound;
}

namespace {

RandomCopy random_copy_of(Random* random, DType from, DType to, bool is_scaled) {
  RandomCopy copy;
  copy.op.src_dtype = from;
  copy.op.dst_dtype = to;
  const std::int64_t src_bytes = size_bytes(copy.op.src_dtype);
  const std::int64_t dst_bytes = size_bytes(copy.op.dst_dtype);
  const bool is_tight = one_in(random, 3);
  const auto shape = random_shape(random, any_of<std::int64_t>(random, {100, 4000, 40000}));
  auto src_strides = random_strides(random, shape, src_bytes, is_tight);
  const auto dst_strides = random_strides(random, shape, dst_bytes, is_tight);
  for (std::int64_t& stride : src_strides) {
    if (one_in(random, 15)) stride = 0;
  }
  copy.is_fill = !is_scaled && one_in(random, 8);
  copy.src = memory_of(random, shape, src_strides, src_bytes, &copy.src_base);
  copy.dst = memory_of(random, shape, dst_strides, dst_bytes, &copy.dst_base);
  fill_source(random, copy.op.src_dtype, is_scaled, &copy.src);
  if (is_scaled) add_scales(random, shape, &copy);
  copy.op.num_dims = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), copy.op.shape);
  std::copy(src_strides.begin(), src_strides.end(), copy.op.src_strides_bytes);
  std::copy(dst_strides.begin(), dst_strides.end(), copy.op.dst_strides_bytes);
  return copy;
}

}  // namespace

RandomCopy random_copy(Random* random) {
  const std::vector<DType> floats = {DType::kF32, DType::kBF16, DType::kF16};
  const std::vector<DType> all = {DType::kU8, DType::kBF16, DType::kF32, DType::kF64};
  const bool converts = one_in(random, 2);
  const DType from = any_of(random, converts ? floats : all);
  return random_copy_of(random, from, converts ? any_of(random, floats) : from, false);
}

// Of blocks in up to two dims, of all sizes and kinds; sources of which every byte is random, which have a NaN in most
// blocks, or zeros, or numbers of a few binades, so that the largest counts.
RandomScales random_scales(Random* random) {
  RandomScales one;
  ScaleOp& op = one.op;
  op.src_dtype = one_in(random, 2) ? DType::kBF16 : DType::kF32;
  op.rule = any_of<ScaleRule>(random, {ScaleRule::kF32, ScaleRule::kE8M0Up, ScaleRule::kE8M0Down});
  op.num_dims = static_cast<int>(draw(random, 0, one_in(random, 8) ? 4 : 2));
  const bool is_tight = one_in(random, 2);
  std::int64_t src_stride = size_bytes(op.src_dtype);
  std::int64_t scale_stride = size_bytes(scale_dtype(op.rule));
  std::int64_t left = 30000;
  std::int64_t largest_block = 32768;
  int num_blocked = 0;
  const bool is_turned = one_in(random, 4);
  for (int i = 0; i < op.num_dims; ++i) {
    const int d = is_turned ? i : op.num_dims - 1 - i;
    op.shape[d] = draw(random, 1, std::min<std::int64_t>(left, one_in(random, 2) ? 9 : 700));
    if (is_tight) op.shape[d] = std::max<std::int64_t>(1, op.shape[d] / 32 * 32);
    left = std::max<std::int64_t>(1, left / op.shape[d]);
    op.blocks[d] = num_blocked < 2 ? any_of<std::int64_t>(random, {1, 2, 8, 32, 32, 128, 128, 256}) : 1;
    if (op.blocks[d] > largest_block) op.blocks[d] = 1;
    largest_block /= op.blocks[d];
    num_blocked += op.blocks[d] > 1 ? 1 : 0;
    op.src_strides_bytes[d] = src_stride;
    op.scale_strides_bytes[d] = scale_stride;
    src_stride = src_stride * op.shape[d] + (!is_tight && one_in(random, 4) ? draw(random, 1, 20) : 0);
    scale_stride = scale_stride * ((op.shape[d] + op.blocks[d] - 1) / op.blocks[d]) + (one_in(random, 4) ? 8 : 0);
  }
  one.src_base = is_tight ? 0 : draw(random, 0, 15);
  one.src.resize(static_cast<std::size_t>(one.src_base + src_stride));
  const std::int64_t kind = draw(random, 0, 3);
  for (std::byte& byte : one.src) byte = kind == 0 ? std::byte{0} : static_cast<std::byte>((*random)());
  if (kind > 1) {
    for (std::byte& byte : one.src) byte &= std::byte{0x83};
  }
  one.scales.assign(static_cast<std::size_t>(scale_stride + 64), kUntouched);
  return one;
}

RandomCopy random_scaled_copy(Random* random) {
  const DType wide = one_in(random, 2) ? DType::kBF16 : DType::kF32;
  const bool quantises = one_in(random, 2);
  return random_copy_of(random, quantises ? wide : DType::kF8E4M3, quantises ? DType::kF8E4M3 : wide, true);
}

}  // namespace reshard::testing
