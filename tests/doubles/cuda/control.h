/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */
/**
 * How tests steer the double of the CUDA runtime and read what was asked of it. C, so that a program that finds the
 * double inside libreshard can take these functions from there by dlsym.
 */
#ifndef RESHARD_TESTS_DOUBLES_CUDA_CONTROL_H
#define RESHARD_TESTS_DOUBLES_CUDA_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_DOUBLE_API __attribute__((visibility("default")))

/** Draws the order of work anew: priorities of streams, when they change, how much is done by a query or an enqueue. */
CUDA_DOUBLE_API void cuda_double_seed(uint64_t seed);

/** The machine. Devices: those below the number. Driver: 13000 for CUDA 13.0; 0: none. All hold from the next call on.
 */
CUDA_DOUBLE_API void cuda_double_set_devices(int count);
CUDA_DOUBLE_API void cuda_double_set_driver(int version);
CUDA_DOUBLE_API void cuda_double_set_capability(int major, int minor);
CUDA_DOUBLE_API void cuda_double_set_memory(uint64_t bytes_per_device);
CUDA_DOUBLE_API void cuda_double_set_peer_access(int is_possible);
CUDA_DOUBLE_API void cuda_double_set_fabric(int is_supported);

/** What was asked since the last reset, of this process. */
typedef struct cuda_double_counters {
  int64_t calls;    /* of the runtime and the driver, all but those that only read an error */
  int64_t launches; /* kernels */
  int64_t uploads;  /* copies from host memory to a device */
  int64_t uploaded_bytes;
  int64_t downloads;     /* copies from a device to host memory */
  int64_t device_copies; /* copies within and between devices */
  int64_t fills;
  int64_t allocations; /* of device and pinned memory */
} cuda_double_counters;
CUDA_DOUBLE_API cuda_double_counters cuda_double_count(void);
CUDA_DOUBLE_API int64_t cuda_double_calls_of(const char* function);
CUDA_DOUBLE_API void cuda_double_reset_counters(void);

/**
 * The nth call of the function from now on (1: the next one) gives this code and does nothing. "any": of any function
 * but those that give back what others gave.
 */
CUDA_DOUBLE_API void cuda_double_fail(const char* function, int64_t nth, int code);

/** The function that was last failed in this way; "" if none was. */
CUDA_DOUBLE_API const char* cuda_double_last_failed(void);

/** The nth piece of work that is done from now on fails and, as on a device, everything after it. */
CUDA_DOUBLE_API void cuda_double_fail_work(int64_t nth, int code);

/**
 * For tests of tests: leaves out one order. The nth call of cudaStreamWaitEvent is ignored; the nth call of
 * cudaEventQuery, cudaStreamQuery, cudaEventSynchronize or cudaStreamSynchronize that finds work undone says that it is
 * done. Counted from now on; 0: none.
 */
CUDA_DOUBLE_API void cuda_double_leave_out(const char* function, int64_t nth);
/** How many calls cuda_double_leave_out() could have meant since it was last called for the function. */
CUDA_DOUBLE_API int64_t cuda_double_orders_of(const char* function);

/** Ends all that was set by the functions above but the seed and the machine. */
CUDA_DOUBLE_API void cuda_double_clear(void);

/** Whether something has made a context on the device. */
CUDA_DOUBLE_API int cuda_double_has_context(int device);
/** Allocations, streams and events that were not given back. */
CUDA_DOUBLE_API int64_t cuda_double_num_live(void);
/** Times that memory of cudaMalloc was freed while a process that lives had it mapped, which CUDA leaves undefined. */
CUDA_DOUBLE_API int64_t cuda_double_num_freed_while_mapped(void);
/** Work that is queued and not done. */
CUDA_DOUBLE_API int64_t cuda_double_num_queued(void);
/** Whether a kernel of the device may touch all of these bytes. */
CUDA_DOUBLE_API int cuda_double_can_access(int device, const void* ptr, size_t size_bytes);

/** Copies bytes of device memory out or in without a call of the runtime, for what a test expects or prepares. */
CUDA_DOUBLE_API void cuda_double_peek(void* out, const void* device_memory, size_t size_bytes);
CUDA_DOUBLE_API void cuda_double_poke(void* device_memory, const void* in, size_t size_bytes);

#ifdef __cplusplus
}
#endif

#endif
