/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The reshard authors */
#ifndef RESHARD_BASE_H
#define RESHARD_BASE_H

/**
 * @file
 * What every public header of reshard uses: version, limits, status codes, element types. reshard.h includes it, and
 * says in its first comment what holds for all functions.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define RESHARD_API
#else
#define RESHARD_API __attribute__((visibility("default"))) /**< what the library exports */
#endif

/** Of these headers; before 1.0 a minor version may change what callers see. */
#define RESHARD_VERSION_MAJOR 0
/** Of these headers. */
#define RESHARD_VERSION_MINOR 2
/** Of these headers; it changes nothing that callers see. */
#define RESHARD_VERSION_PATCH 0

/** Most dimensions a tensor may have. */
#define RESHARD_MAX_DIMS 8

/** A timeout that never expires. Every other timeout must be positive. */
#define RESHARD_TIMEOUT_INFINITE INT64_MAX

/* ---------------------------------------------------------------------------------------------------- status */

/** Outcome of a call. Values are never reused. */
typedef enum reshard_status {
  RESHARD_OK = 0,

  /* The caller's fault: nothing was done. */
  RESHARD_ERR_INVALID_ARGUMENT = -1, /**< a value is out of range, malformed, or contradicts another */
  RESHARD_ERR_INVALID_STATE = -2,    /**< the call is not allowed now, e.g. start before the last run finished */
  RESHARD_ERR_NOT_SUPPORTED = -3,    /**< this build or this transport cannot do it */
  RESHARD_ERR_OUT_OF_MEMORY = -4,    /**< an allocation failed */
  RESHARD_ERR_IO = -5,               /**< a file could not be read or written */

  /* The plan is unusable: nothing was sent. */
  RESHARD_ERR_LAYOUT_MISMATCH = -10,   /**< the two sides disagree on names, shapes, dtypes or rank count */
  RESHARD_ERR_NOT_COVERED = -11,       /**< a destination element that no source holds */
  RESHARD_ERR_PLAN_MISMATCH = -12,     /**< ranks hold different plans, or a saved plan belongs to other layouts */
  RESHARD_ERR_BUFFER_TOO_SMALL = -13,  /**< a bound buffer is smaller than its layout says */
  RESHARD_ERR_STAGING_TOO_SMALL = -14, /**< the staging budget cannot hold one element */

  /* The communicator is unusable, or a peer is. */
  RESHARD_ERR_TIMEOUT = -20,       /**< the deadline passed; the message says what was still missing */
  RESHARD_ERR_PEER_FAILED = -21,   /**< a peer is known to be gone */
  RESHARD_ERR_TRANSPORT = -22,     /**< the transport reported an error */
  RESHARD_ERR_ABANDONED = -23,     /**< a peer gave the run up (its deadline passed, it failed, or it destroyed its
                                        binding); the comm is in order and the next run may succeed */
  RESHARD_ERR_GIVEN_UP = -24,      /**< the caller of a rank gave a reload up, for a reason of his own */
  RESHARD_ERR_DATA_MISMATCH = -25, /**< what a destination holds is not what its sources hold; names the tensor */

  RESHARD_ERR_INTERNAL = -30 /**< a defect of reshard: please report the message */
} reshard_status_t;

/** The enumerator's name, e.g. "RESHARD_ERR_TIMEOUT"; "unknown status" for any other integer. Never NULL. */
RESHARD_API const char* reshard_status_name(reshard_status_t status);

/** What failed last on this thread, with the values and what to do. Empty after no failure. Valid until the next call.
 */
RESHARD_API const char* reshard_last_error(void);

/** The version of the library that is loaded, e.g. "0.2.0". */
RESHARD_API const char* reshard_version(void);

/** One line on what was built in, e.g. "ucx 1.13.1, avx2". */
RESHARD_API const char* reshard_build_info(void);

/* ----------------------------------------------------------------------------------------------------- dtype */

/**
 * Element types under the names of safetensors. F32, F16 and BF16 convert into each other, F8_E4M3 from and to F32 and
 * BF16 where its layout says its scales (reshard_layout_set_scales); others only move.
 */
typedef enum reshard_dtype {
  RESHARD_BOOL = 0,
  RESHARD_U8 = 1,
  RESHARD_I8 = 2,
  RESHARD_F8_E4M3 = 3,
  RESHARD_F8_E5M2 = 4,
  RESHARD_F8_E8M0 = 5,
  RESHARD_U16 = 6,
  RESHARD_I16 = 7,
  RESHARD_F16 = 8,
  RESHARD_BF16 = 9,
  RESHARD_U32 = 10,
  RESHARD_I32 = 11,
  RESHARD_F32 = 12,
  RESHARD_U64 = 13,
  RESHARD_I64 = 14,
  RESHARD_F64 = 15
} reshard_dtype_t;

/** Bytes of one element; 0 for an unknown value. */
RESHARD_API size_t reshard_dtype_size_bytes(reshard_dtype_t dtype);

/** The safetensors name, upper case ("BF16"); "?" for an unknown value. */
RESHARD_API const char* reshard_dtype_name(reshard_dtype_t dtype);

/** Parses a safetensors name in any case. */
RESHARD_API reshard_status_t reshard_dtype_parse(const char* text, reshard_dtype_t* dtype);

#ifdef __cplusplus
}
#endif

#endif /* RESHARD_BASE_H */
