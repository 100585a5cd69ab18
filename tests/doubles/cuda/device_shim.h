// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Included before the sources of the kernels, makes them plain C++: the words of the language extension become nothing,
// and this file stands for ptx.cuh, whose guard it defines. Accesses are told to an observer, if there is one.
// Addresses must be aligned as the device demands it; where they are not, std::runtime_error is thrown.
#pragma once

#define RESHARD_KERNELS_CUDA_PTX_CUH

#define __device__
#define __global__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local  // blocks of a thread run one after another

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/float_bits.h"
#include "kernels/scale_bits.h"
#include "tests/doubles/cuda/access_observer.h"
#include "tests/doubles/cuda/bulk_copies.h"
#include "tests/doubles/cuda/fibers.h"

struct uint4 {
  std::uint32_t x, y, z, w;
};

#include "kernels/cuda/word.cuh"

namespace reshard::testing {

// device_kernels.cc
void pause_kernel();
std::int64_t kernel_clock_ns();

/// Where the caller is in the code: the functions of a kernel are inlined into it, those here, too.
__attribute__((noinline)) inline const void* code_site() {
  return __builtin_return_address(0);
}

[[noreturn]] inline void refuse_misaligned(std::uint32_t num_bytes) {
  throw std::runtime_error("a misaligned access of " + std::to_string(num_bytes) + " bytes");
}

inline __attribute__((always_inline)) void check_alignment(std::uint64_t address, std::uint32_t num_bytes) {
  if (address % num_bytes != 0) refuse_misaligned(num_bytes);
}

}  // namespace reshard::testing

namespace reshard::cuda {

#define RESHARD_SHIM inline __attribute__((always_inline))

RESHARD_SHIM void tell_global(bool is_active, bool is_store, std::uint64_t address, std::uint32_t num_bytes) {
  if (is_active) testing::check_alignment(address, num_bytes);
  if (testing::AccessObserver* observer = testing::access_observer()) {
    observer->global({testing::code_site(), address, num_bytes, testing::current_thread(), is_store, is_active});
  }
}

RESHARD_SHIM void tell_shared(bool is_store, std::uint64_t address, std::uint32_t num_bytes) {
  testing::check_alignment(address, num_bytes);
  if (testing::AccessObserver* observer = testing::access_observer()) {
    observer->shared({testing::code_site(), address, num_bytes, testing::current_thread(), is_store, true});
  }
}

template <int kBytes>
RESHARD_SHIM Word<kBytes> load_if(bool is_active, std::uint64_t address) {
  Word<kBytes> word = {};
  tell_global(is_active, false, address, kBytes);
  if (is_active) std::memcpy(&word, reinterpret_cast<const void*>(address), kBytes);
  return word;
}

template <int kBytes>
RESHARD_SHIM void store_if(bool is_active, std::uint64_t address, Word<kBytes> word) {
  tell_global(is_active, true, address, kBytes);
  if (is_active) std::memcpy(reinterpret_cast<void*>(address), &word, kBytes);
}

using SharedAddress = std::uint64_t;

RESHARD_SHIM SharedAddress shared_address(const void* shared) {
  return reinterpret_cast<SharedAddress>(shared);
}

template <int kBytes>
RESHARD_SHIM Word<kBytes> shared_load(SharedAddress address) {
  Word<kBytes> word = {};
  tell_shared(false, address, kBytes);
  std::memcpy(&word, reinterpret_cast<const void*>(address), kBytes);
  return word;
}

template <int kBytes>
RESHARD_SHIM void shared_store(SharedAddress address, Word<kBytes> word) {
  tell_shared(true, address, kBytes);
  std::memcpy(reinterpret_cast<void*>(address), &word, kBytes);
}

inline constexpr bool kHasBulkCopies = true;

RESHARD_SHIM void init_bulk_barrier(SharedAddress barrier) {
  testing::bulk_copies().init(barrier);
}
RESHARD_SHIM void fence_bulk_shared() {}
RESHARD_SHIM void bulk_load(SharedAddress to, std::uint64_t from, std::uint32_t num_bytes, SharedAddress barrier) {
  for (std::uint32_t i = 0; i < num_bytes; i += 16) tell_global(true, false, from + i, 16);
  for (std::uint32_t i = 0; i < num_bytes; i += 16) tell_shared(true, to + i, 16);
  testing::bulk_copies().load(to, from, num_bytes, barrier);
}
RESHARD_SHIM void wait_bulk_barrier(SharedAddress barrier, std::uint32_t phase) {
  testing::bulk_copies().wait(barrier, phase);
}
RESHARD_SHIM void bulk_store(std::uint64_t to, SharedAddress from, std::uint32_t num_bytes) {
  for (std::uint32_t i = 0; i < num_bytes; i += 16) tell_shared(false, from + i, 16);
  for (std::uint32_t i = 0; i < num_bytes; i += 16) tell_global(true, true, to + i, 16);
  testing::bulk_copies().store(to, from, num_bytes);
}
RESHARD_SHIM void wait_bulk_reads() {
  testing::bulk_copies().finish_stores(1);
}
RESHARD_SHIM void wait_bulk_writes() {
  testing::bulk_copies().finish_stores(0);
}

RESHARD_SHIM void block_barrier() {
  testing::block_barrier();
}
RESHARD_SHIM std::uint32_t thread_index() {
  return testing::current_thread();
}
RESHARD_SHIM std::uint32_t block_index() {
  return testing::current_block();
}
RESHARD_SHIM void forget_memory() {}

RESHARD_SHIM std::uint32_t multiply_high(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint32_t>(std::uint64_t{a} * b >> 32);
}
// As a device converts: a NaN becomes the one NaN that the machine knows.
RESHARD_SHIM bool is_nan(float value) {
  return value != value;
}
RESHARD_SHIM bool is_any_nan(float a, float b) {
  return is_nan(a) || is_nan(b);
}
RESHARD_SHIM std::uint32_t pack_bf16(float low, float high) {
  const auto half = [](float value) -> std::uint32_t {
    return is_nan(value) ? 0x7fff : float_bits::bf16_from_f32(value);
  };
  return half(low) | half(high) << 16;
}
RESHARD_SHIM std::uint32_t pack_f16(float low, float high) {
  const auto half = [](float value) -> std::uint32_t {
    return is_nan(value) ? 0x7fff : float_bits::f16_from_f32(value);
  };
  return half(low) | half(high) << 16;
}
RESHARD_SHIM float float_of_f16(std::uint16_t half) {
  const float value = float_bits::f32_from_f16(half);
  return is_nan(value) ? std::bit_cast<float>(0x7fffffffU) : value;
}

RESHARD_SHIM bool is_any_nan(const float (&v)[4]) {
  return is_any_nan(v[0], v[1]) || is_any_nan(v[2], v[3]);
}

RESHARD_SHIM float multiply(float a, float b) {
  return a * b;
}
RESHARD_SHIM float fused_multiply_add(float a, float b, float c) {
  return std::fma(a, b, c);
}
RESHARD_SHIM float divide(float a, float b) {
  return a / b;
}
RESHARD_SHIM float reciprocal(float a) {
  return 1.0F / a;
}
RESHARD_SHIM float smaller_magnitude(float value, float most) {
  return std::fmin(std::fabs(value), most);
}
RESHARD_SHIM bool is_finite(float value) {
  return std::isfinite(value);
}
RESHARD_SHIM std::uint32_t max_bf16x2(std::uint32_t a, std::uint32_t b) {
  const auto half = [](std::uint32_t x, std::uint32_t y) -> std::uint32_t {
    return std::max(x, y) > 0x7f80 ? 0x7fff : std::max(x, y);
  };
  return half(a & 0xffff, b & 0xffff) | half(a >> 16, b >> 16) << 16;
}
RESHARD_SHIM std::uint32_t permute(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
  const std::uint64_t both = std::uint64_t{high} << 32 | low;
  std::uint32_t word = 0;
  for (std::uint32_t i = 0; i < 4; ++i) {
    word |= static_cast<std::uint32_t>(both >> (selector >> (4 * i) & 7) * 8 & 0xff) << (8 * i);
  }
  return word;
}

inline constexpr bool kHasE4M3 = true;

// As a device might: of NaNs only that they are some is relied on, so that these have another sign than the host's.
RESHARD_SHIM std::uint32_t pack_e4m3_by_machine(float low, float high) {
  const auto code = [](float value) -> std::uint32_t {
    return is_nan(value) ? 0xff : scale_bits::e4m3_from_f32(value);
  };
  return code(low) | code(high) << 8;
}
RESHARD_SHIM void unpack_e4m3_by_machine(std::uint32_t codes, float* low, float* high) {
  *low = scale_bits::f32_from_e4m3(static_cast<std::uint8_t>(codes));
  *high = scale_bits::f32_from_e4m3(static_cast<std::uint8_t>(codes >> 8));
}

RESHARD_SHIM std::uint32_t funnel_shift(std::uint32_t low, std::uint32_t high, std::uint32_t num_bits) {
  return static_cast<std::uint32_t>((std::uint64_t{high} << 32 | low) >> (num_bits & 31));
}

RESHARD_SHIM std::uint64_t load_acquire_system(const std::uint64_t* flag) {
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}
RESHARD_SHIM void store_release_system(std::uint64_t* flag, std::uint64_t value) {
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
}
RESHARD_SHIM std::uint32_t load_relaxed_system(const std::uint32_t* word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}
RESHARD_SHIM void store_release_system(std::uint32_t* word, std::uint32_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
RESHARD_SHIM std::int64_t clock_ns() {
  return testing::kernel_clock_ns();
}
RESHARD_SHIM void pause() {
  testing::pause_kernel();
}
RESHARD_SHIM bool any_lane(bool predicate) {
  return testing::any_lane(predicate);
}

}  // namespace reshard::cuda
