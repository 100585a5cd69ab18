// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// All that the kernels say to the machine directly: accesses of a stated width, order and scope. A build of the kernels
// for the processor defines the same functions itself, and the guard below.
//
// Loads and stores of data are volatile assembly: the compiler keeps their order, so that several loads are under way
// before the first store. They do not clobber memory: data is never touched in another way, and what is, the table, may
// stay in registers. None is ld.global.nc, which must not be used where another device writes while a kernel runs.
#ifndef RESHARD_KERNELS_CUDA_PTX_CUH
#define RESHARD_KERNELS_CUDA_PTX_CUH

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/word.cuh"

namespace reshard::cuda {

/// Reads global memory at an aligned address where `is_active`; else zero. Predicated, not branched around: lanes at
/// the end of a range cost nothing and hold no load back.
template <int kBytes>
__device__ __forceinline__ Word<kBytes> load_if(bool is_active, std::uint64_t address) {
  const int active = is_active ? 1 : 0;
  if constexpr (kBytes == 16) {
    uint4 word;
    asm volatile(
        "{\n .reg .pred p;\n setp.ne.s32 p, %5, 0;\n mov.u32 %0, 0;\n mov.u32 %1, 0;\n mov.u32 %2, 0;\n mov.u32 %3, "
        "0;\n"
        " @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
        : "=&r"(word.x), "=&r"(word.y), "=&r"(word.z), "=&r"(word.w)
        : "l"(address), "r"(active));
    return word;
  } else if constexpr (kBytes == 8) {
    std::uint64_t word;
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n mov.u64 %0, 0;\n @p ld.global.u64 %0, [%1];\n}"
                 : "=&l"(word)
                 : "l"(address), "r"(active));
    return word;
  } else if constexpr (kBytes == 4) {
    std::uint32_t word;
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n mov.u32 %0, 0;\n @p ld.global.u32 %0, [%1];\n}"
                 : "=&r"(word)
                 : "l"(address), "r"(active));
    return word;
  } else if constexpr (kBytes == 2) {
    std::uint16_t word;
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n mov.u16 %0, 0;\n @p ld.global.u16 %0, [%1];\n}"
                 : "=&h"(word)
                 : "l"(address), "r"(active));
    return word;
  } else {
    std::uint32_t word;
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n mov.u32 %0, 0;\n @p ld.global.u8 %0, [%1];\n}"
                 : "=&r"(word)
                 : "l"(address), "r"(active));
    return word;
  }
}

/// Writes global memory at an aligned address where `is_active`.
template <int kBytes>
__device__ __forceinline__ void store_if(bool is_active, std::uint64_t address, Word<kBytes> word) {
  const int active = is_active ? 1 : 0;
  if constexpr (kBytes == 16) {
    asm volatile(
        "{\n .reg .pred p;\n setp.ne.s32 p, %5, 0;\n @p st.global.v4.u32 [%0], {%1, %2, %3, %4};\n}" ::"l"(address),
        "r"(word.x), "r"(word.y), "r"(word.z), "r"(word.w), "r"(active));
  } else if constexpr (kBytes == 8) {
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n @p st.global.u64 [%0], %1;\n}" ::"l"(address), "l"(word),
                 "r"(active));
  } else if constexpr (kBytes == 4) {
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n @p st.global.u32 [%0], %1;\n}" ::"l"(address), "r"(word),
                 "r"(active));
  } else if constexpr (kBytes == 2) {
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n @p st.global.u16 [%0], %1;\n}" ::"l"(address), "h"(word),
                 "r"(active));
  } else {
    asm volatile("{\n .reg .pred p;\n setp.ne.s32 p, %2, 0;\n @p st.global.u8 [%0], %1;\n}" ::"l"(address), "r"(word),
                 "r"(active));
  }
}

/// A place in the shared memory of the thread block. Made once: to the compiler the number could be any, so that it
/// keeps it, rather than work it out again for each access.
using SharedAddress = std::uint32_t;

__device__ __forceinline__ SharedAddress shared_address(const void* shared) {
  SharedAddress address;
  asm volatile("mov.u32 %0, %1;" : "=r"(address) : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))));
  return address;
}

/// Aligned accesses. Volatile as those of global memory, and ordered by barriers, which are volatile, too.
template <int kBytes>
__device__ __forceinline__ Word<kBytes> shared_load(SharedAddress address) {
  Word<kBytes> word;
  if constexpr (kBytes == 16) {
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
                 : "r"(address));
  } else if constexpr (kBytes == 8) {
    asm volatile("ld.shared.u64 %0, [%1];" : "=l"(word) : "r"(address));
  } else if constexpr (kBytes == 4) {
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address));
  } else if constexpr (kBytes == 2) {
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(word) : "r"(address));
  } else {
    asm volatile("ld.shared.u8 %0, [%1];" : "=r"(word) : "r"(address));
  }
  return word;
}
template <int kBytes>
__device__ __forceinline__ void shared_store(SharedAddress address, Word<kBytes> word) {
  if constexpr (kBytes == 16) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(word.x), "r"(word.y), "r"(word.z),
                 "r"(word.w));
  } else if constexpr (kBytes == 8) {
    asm volatile("st.shared.u64 [%0], %1;" ::"r"(address), "l"(word));
  } else if constexpr (kBytes == 4) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(word));
  } else if constexpr (kBytes == 2) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(address), "h"(word));
  } else {
    asm volatile("st.shared.u8 [%0], %1;" ::"r"(address), "r"(word));
  }
}

/// All threads of the block arrive, and see each other's shared memory, before any goes on.
__device__ __forceinline__ void block_barrier() {
  __syncthreads();
}

// Bulk copies (TMA), by one thread; addresses and lengths are multiples of 16.

/// Whether what is compiled for has them.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kHasBulkCopies = true;
#else
inline constexpr bool kHasBulkCopies = false;
#endif

/// A barrier of 8 bytes that one bulk load at a time completes; its phases alternate between 0 and 1.
__device__ __forceinline__ void init_bulk_barrier(SharedAddress barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // bulk copies see it
}
/// Orders ordinary accesses of shared memory before those of bulk copies.
__device__ __forceinline__ void fence_bulk_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
/// Begins a copy from global to shared memory that completes the barrier's phase.
__device__ __forceinline__ void bulk_load(SharedAddress to, std::uint64_t from, std::uint32_t num_bytes,
                                          SharedAddress barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(num_bytes) : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(num_bytes), "r"(barrier)
               : "memory");
}
/// Waits until the phase is over, and sees what its load has written.
__device__ __forceinline__ void wait_bulk_barrier(SharedAddress barrier, std::uint32_t phase) {
  std::uint32_t is_over = 0;
  while (is_over == 0) {
    asm volatile("{\n .reg .pred p;\n mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, 1, 0, p;\n}"
                 : "=r"(is_over)
                 : "r"(barrier), "r"(phase)
                 : "memory");
  }
}
/// Begins a copy from shared to global memory, a group of its own.
__device__ __forceinline__ void bulk_store(std::uint64_t to, SharedAddress from, std::uint32_t num_bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(num_bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
/// Until all stores but the newest have read their shared memory.
__device__ __forceinline__ void wait_bulk_reads() {
  asm volatile("cp.async.bulk.wait_group.read 1;" ::: "memory");
}
/// Until all stores have written.
__device__ __forceinline__ void wait_bulk_writes() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/// This thread's number in its block. Read where it is needed: what is computed from it in a loop is then computed
/// there, and not kept in registers for the length of the kernel.
__device__ __forceinline__ std::uint32_t thread_index() {
  std::uint32_t index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

/// This block's number.
__device__ __forceinline__ std::uint32_t block_index() {
  std::uint32_t index;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
  return index;
}
/// The compiler forgets what it has read from memory, so that it reads it again rather than keep or spill it.
__device__ __forceinline__ void forget_memory() {
  asm volatile("" ::: "memory");
}

/// The upper half of a product.
__device__ __forceinline__ std::uint32_t multiply_high(std::uint32_t a, std::uint32_t b) {
  return __umulhi(a, b);
}

/// Two floats as a word of two halves, `low` in its lower one, to the nearest, ties to even. A NaN loses its payload.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
__device__ __forceinline__ std::uint32_t pack_f16(float low, float high) {
  std::uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
/// A half as a float, exactly. A NaN loses its payload.
__device__ __forceinline__ float float_of_f16(std::uint16_t half) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
  return value;
}
/// Whether one of the two is a NaN, in one instruction. Not std::isunordered, which nvcc 13.0 takes for true in device
/// code.
__device__ __forceinline__ bool is_any_nan(float a, float b) {
  std::uint32_t result;
  asm("{\n .reg .pred p;\n setp.nan.f32 p, %1, %2;\n selp.u32 %0, 1, 0, p;\n}" : "=r"(result) : "f"(a), "f"(b));
  return result != 0;
}

/// Whether one of the four is.
__device__ __forceinline__ bool is_any_nan(const float (&v)[4]) {
  std::uint32_t result;
  asm("{\n .reg .pred p;\n setp.nan.f32 p, %1, %2;\n setp.nan.or.f32 p, %3, %4, p;\n selp.u32 %0, 1, 0, p;\n}"
      : "=r"(result)
      : "f"(v[0]), "f"(v[1]), "f"(v[2]), "f"(v[3]));
  return result != 0;
}

// Arithmetic as IEEE 754 has it, with denormals, whatever the compiler's options: in assembly, nothing is fused with
// anything else, and nothing is approximate.

__device__ __forceinline__ float multiply(float a, float b) {
  float result;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
__device__ __forceinline__ float fused_multiply_add(float a, float b, float c) {
  float result;
  asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(result) : "f"(a), "f"(b), "f"(c));
  return result;
}
__device__ __forceinline__ float divide(float a, float b) {
  float result;
  asm("div.rn.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}
__device__ __forceinline__ float reciprocal(float a) {
  float result;
  asm("rcp.rn.f32 %0, %1;" : "=f"(result) : "f"(a));
  return result;
}
/// The magnitude of `value`, or `most`, which is less; `most` of a NaN.
__device__ __forceinline__ float smaller_magnitude(float value, float most) {
  return fminf(fabsf(value), most);
}
__device__ __forceinline__ bool is_finite(float value) {
  return (__float_as_uint(value) & 0x7f800000U) != 0x7f800000U;
}
/// In each half the larger number, or a NaN if either is one. Neither has a sign.
__device__ __forceinline__ std::uint32_t max_bf16x2(std::uint32_t a, std::uint32_t b) {
  std::uint32_t result;
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

/// Bytes of (high, low), each chosen by four bits of the selector.
__device__ __forceinline__ std::uint32_t permute(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
  return __byte_perm(low, high, selector);
}

/// Whether what is compiled for converts to and from F8_E4M3.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
inline constexpr bool kHasE4M3 = true;
#else
inline constexpr bool kHasE4M3 = false;
#endif

/// Two codes in the lower half; to the nearest, 448 for what is above. Never called where !kHasE4M3.
__device__ __forceinline__ std::uint32_t pack_e4m3_by_machine(float low, float high) {
  std::uint16_t codes = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
#endif
  return codes;
}
/// The values of two codes; NaNs stay NaNs. Never called where !kHasE4M3.
__device__ __forceinline__ void unpack_e4m3_by_machine(std::uint32_t codes, float* low, float* high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  std::uint32_t halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<std::uint16_t>(codes)));
  *low = float_of_f16(static_cast<std::uint16_t>(halves));
  *high = float_of_f16(static_cast<std::uint16_t>(halves >> 16));
#endif
}

/// The lower word of (high, low) shifted right by 0 to 31 bits.
__device__ __forceinline__ std::uint32_t funnel_shift(std::uint32_t low, std::uint32_t high, std::uint32_t num_bits) {
  return __funnelshift_r(low, high, num_bits);
}

// Flags are seen by other devices and by the host, hence the scope of the whole system.

/// What was written before the flag's value was stored with release is visible after this.
__device__ __forceinline__ std::uint64_t load_acquire_system(const std::uint64_t* flag) {
  std::uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(flag) : "memory");
  return value;
}
/// Whoever acquires the value sees what this device wrote before: the fence takes in what other threads wrote in
/// earlier kernels of the stream.
__device__ __forceinline__ void store_release_system(std::uint64_t* flag, std::uint64_t value) {
  asm volatile("fence.acq_rel.sys;" ::: "memory");
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(flag), "l"(value) : "memory");
}
/// A word of the host's that only says stop, so that it orders nothing.
__device__ __forceinline__ std::uint32_t load_relaxed_system(const std::uint32_t* word) {
  std::uint32_t value;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}
/// To the host, which reads it when the launch has ended, or while it runs.
__device__ __forceinline__ void store_release_system(std::uint32_t* word, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/// Nanoseconds of the device's clock, which goes on by steps of up to a microsecond.
__device__ __forceinline__ std::int64_t clock_ns() {
  std::uint64_t value;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(value));
  return static_cast<std::int64_t>(value);
}

/// Leaves the memory system alone for a moment between two looks at a flag.
__device__ __forceinline__ void pause() {
  __nanosleep(100);
}

/// Whether the predicate holds in all 32 lanes, or in any.
__device__ __forceinline__ bool all_lanes(bool predicate) {
  return __all_sync(0xffffffffU, predicate) != 0;
}
__device__ __forceinline__ bool any_lane(bool predicate) {
  return __any_sync(0xffffffffU, predicate) != 0;
}

}  // namespace reshard::cuda

#endif
