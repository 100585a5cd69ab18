/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */
/**
 * How tests steer the double of NCCL and read what it saw. What is set holds for this process, from the next call on;
 * what is read is of this process.
 */
#ifndef RESHARD_TESTS_DOUBLES_NCCL_CONTROL_H
#define RESHARD_TESTS_DOUBLES_NCCL_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NCCL_DOUBLE_API __attribute__((visibility("default")))

/** Everything back to what the environment says (README.md), and all counts to 0. Communicators stay. */
NCCL_DOUBLE_API void nccl_double_clear(void);

/** Draws delays anew: which pieces of work hesitate, after how many questions a communicator is no longer in progress.
 */
NCCL_DOUBLE_API void nccl_double_seed(uint64_t seed);

/** The version that it claims and whose rules it follows: 22809 for 2.28.9. */
NCCL_DOUBLE_API void nccl_double_set_version(int version);

/** Channels of a communicator, those that one peer is reached over, and those that one operation is spread over. Of
 * communicators that are made from now on. */
NCCL_DOUBLE_API void nccl_double_set_channels(int total, int per_peer, int per_operation);

/** An operation is spread over one channel for each so many bytes, up to the number above, as NCCL spreads small ones
 * less. 0: over all, whatever its size. Of communicators that are made from now on. */
NCCL_DOUBLE_API void nccl_double_set_part(int64_t bytes);

/** Bytes of a message that may be on their way when its send ends. 0: a send ends when the last byte was received. */
NCCL_DOUBLE_API void nccl_double_set_buffer(int64_t bytes);

/** In so many of 100 cases a piece of work that could go on hesitates. */
NCCL_DOUBLE_API void nccl_double_set_delay(int percent);

/** A deadlock: groups of a communicator wait, and for so long nothing at all was done in any process that is part of
 * it. */
NCCL_DOUBLE_API void nccl_double_set_deadlock_ms(int64_t milliseconds);

/** Whether kernels of different communicators may run on one device at the same time. */
NCCL_DOUBLE_API void nccl_double_set_concurrent_comms(int is_possible);

/** Whether the first group that has an operation with a peer waits, in ncclGroupEnd or while the communicator is in
 * progress, until the peer has ended one that has its other end. As NCCL does; 0: every connection is there. */
NCCL_DOUBLE_API void nccl_double_set_lazy_connections(int is_lazy);

/** The nth call of the function from now on (1: the next one) gives this ncclResult_t and does nothing. */
NCCL_DOUBLE_API void nccl_double_fail(const char* function, int64_t nth, int code);

/** The nth message that would be sent from now on never arrives; its send ends. 0: none. */
NCCL_DOUBLE_API void nccl_double_lose_message(int64_t nth);

/** Breaks the communicator (an ncclComm_t): its asynchronous error is this code, that of all other ranks
 * ncclRemoteError. What runs in streams does not end. */
NCCL_DOUBLE_API void nccl_double_break(void* comm, int code);
/** The same for the communicator whose kernel is the nth to start from now on. */
NCCL_DOUBLE_API void nccl_double_break_at(int64_t nth_kernel, int code);

typedef struct nccl_double_counters {
  int64_t calls;
  int64_t groups;          /* that ended with an operation in them */
  int64_t kernels;         /* that groups were cut into */
  int64_t most_operations; /* sends and receives, in one group of one communicator */
  int64_t most_kernels;    /* of one group of one communicator */
  int64_t sends;
  int64_t sent_bytes;
  int64_t comms; /* that are alive */
  int64_t deadlocks;
  int64_t misuses;
} nccl_double_counters;
NCCL_DOUBLE_API nccl_double_counters nccl_double_count(void);
NCCL_DOUBLE_API int64_t nccl_double_calls_of(const char* function);

/** What was found wrong in how NCCL was used: the last of them, in words; "" when nothing was. */
NCCL_DOUBLE_API const char* nccl_double_last_misuse(void);
/** Who waited for whom in the last deadlock; "" when there was none. */
NCCL_DOUBLE_API const char* nccl_double_last_deadlock(void);

#ifdef __cplusplus
}
#endif

#endif
