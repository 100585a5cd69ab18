// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Names and sizes that need no handle. Integers that are no status or dtype get an answer, too: these functions are
// called to print what went wrong.
#include "src/api/error.h"
#include "src/base/dtype.h"

using reshard::DType;
using reshard::Status;
using reshard::api::check_not_null;
using reshard::api::guard;

extern "C" {

const char* reshard_status_name(reshard_status_t status) {
  switch (status) {
    case RESHARD_OK:
      return "RESHARD_OK";
    case RESHARD_ERR_INVALID_ARGUMENT:
      return "RESHARD_ERR_INVALID_ARGUMENT";
    case RESHARD_ERR_INVALID_STATE:
      return "RESHARD_ERR_INVALID_STATE";
    case RESHARD_ERR_NOT_SUPPORTED:
      return "RESHARD_ERR_NOT_SUPPORTED";
    case RESHARD_ERR_OUT_OF_MEMORY:
      return "RESHARD_ERR_OUT_OF_MEMORY";
    case RESHARD_ERR_IO:
      return "RESHARD_ERR_IO";
    case RESHARD_ERR_LAYOUT_MISMATCH:
      return "RESHARD_ERR_LAYOUT_MISMATCH";
    case RESHARD_ERR_NOT_COVERED:
      return "RESHARD_ERR_NOT_COVERED";
    case RESHARD_ERR_PLAN_MISMATCH:
      return "RESHARD_ERR_PLAN_MISMATCH";
    case RESHARD_ERR_BUFFER_TOO_SMALL:
      return "RESHARD_ERR_BUFFER_TOO_SMALL";
    case RESHARD_ERR_STAGING_TOO_SMALL:
      return "RESHARD_ERR_STAGING_TOO_SMALL";
    case RESHARD_ERR_TIMEOUT:
      return "RESHARD_ERR_TIMEOUT";
    case RESHARD_ERR_PEER_FAILED:
      return "RESHARD_ERR_PEER_FAILED";
    case RESHARD_ERR_TRANSPORT:
      return "RESHARD_ERR_TRANSPORT";
    case RESHARD_ERR_ABANDONED:
      return "RESHARD_ERR_ABANDONED";
    case RESHARD_ERR_GIVEN_UP:
      return "RESHARD_ERR_GIVEN_UP";
    case RESHARD_ERR_DATA_MISMATCH:
      return "RESHARD_ERR_DATA_MISMATCH";
    case RESHARD_ERR_INTERNAL:
      return "RESHARD_ERR_INTERNAL";
  }
  return "unknown status";
}

const char* reshard_version(void) {
  return RESHARD_VERSION_TEXT;
}

const char* reshard_build_info(void) {
#if RESHARD_HAVE_UCX
  return "reshard " RESHARD_VERSION_TEXT ", transports: local ucx, host memory only";
#else
  return "reshard " RESHARD_VERSION_TEXT ", transports: local, host memory only";
#endif
}

size_t reshard_dtype_size_bytes(reshard_dtype_t dtype) {
  const auto value = static_cast<DType>(dtype);
  return reshard::is_valid(value) ? static_cast<size_t>(reshard::size_bytes(value)) : 0;
}

const char* reshard_dtype_name(reshard_dtype_t dtype) {
  const auto value = static_cast<DType>(dtype);
  return reshard::is_valid(value) ? reshard::name(value).data() : "?";
}

reshard_status_t reshard_dtype_parse(const char* text, reshard_dtype_t* dtype) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(text, "text"));
    RESHARD_TRY(check_not_null(dtype, "dtype"));
    RESHARD_TRY(const DType parsed, reshard::parse_dtype(text));
    *dtype = static_cast<reshard_dtype_t>(parsed);
    return {};
  });
}

}  // extern "C"
