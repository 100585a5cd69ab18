// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The wall between C callers and C++. Every function of the public header has the same shape: set the handle that it
// would return to NULL, enter guard(), check all arguments, do the work, and write the outputs last. So an error of any
// kind leaves NULL and the caller's memory as it was, no exception ever enters a C frame, and the text of the last
// error is kept in one place.
//
// Structs that callers fill carry their size and version. A library that is newer or older than the header a program
// was compiled with would otherwise read members that are not there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "reshard/reshard.h"
#include "src/base/status.h"

namespace reshard::api {

/// Makes the status this thread's last error unless it is ok, and returns its code.
reshard_status_t record(const Status& status) noexcept;

/// The wall between C++ and C: runs `body`, which returns a Status; whatever it throws becomes a status too.
template <typename Body>
reshard_status_t guard(const Body& body) noexcept {
  try {
    return record(body());
  } catch (const std::bad_alloc&) {
    return record({RESHARD_ERR_OUT_OF_MEMORY, "an allocation failed"});
  } catch (const std::exception& error) {
    return record({RESHARD_ERR_INTERNAL, error.what()});
  } catch (...) {
    return record({RESHARD_ERR_INTERNAL, "an unknown exception"});
  }
}

/// RESHARD_ERR_INVALID_ARGUMENT naming the argument when it is NULL.
Status check_not_null(const void* pointer, const char* argument);

/// RESHARD_ERR_INVALID_ARGUMENT unless it is more than 0.
Status check_timeout(std::int64_t timeout_us);

/// Checks that a struct was initialised by this version of the library.
struct StructHeader {
  std::size_t size = 0;
  std::uint32_t version = 0;
};
Status check_header(const StructHeader& given, const StructHeader& expected, const char* type);

/// Version of a struct of the public header: goes up when it changes.
template <typename T>
inline constexpr std::uint32_t kStructVersion = 1;
template <>
inline constexpr std::uint32_t kStructVersion<reshard_binding_stats_t> = 2;
template <>
inline constexpr std::uint32_t kStructVersion<reshard_comm_options_t> = 3;
template <>
inline constexpr std::uint32_t kStructVersion<reshard_model_options_t> = 2;
template <>
inline constexpr std::uint32_t kStructVersion<reshard_placement_desc_t> = 2;
template <>
inline constexpr std::uint32_t kStructVersion<reshard_plan_options_t> = 3;
template <>
inline constexpr std::uint32_t kStructVersion<reshard_plan_info_t> = 2;
template <>
inline constexpr std::uint32_t kStructVersion<reshard_binding_desc_t> = 2;

/// The one older version of a struct that is still taken, if any.
template <typename T>
inline constexpr StructHeader kOlderStruct{};
template <>
inline constexpr StructHeader kOlderStruct<reshard_binding_stats_t>{offsetof(reshard_binding_stats_t, scratch_bytes),
                                                                    1};
template <>
inline constexpr StructHeader kOlderStruct<reshard_binding_desc_t>{offsetof(reshard_binding_desc_t, driver), 1};
template <>
inline constexpr StructHeader kOlderStruct<reshard_model_options_t>{offsetof(reshard_model_options_t, rank_list), 1};
template <>
inline constexpr StructHeader kOlderStruct<reshard_plan_options_t>{offsetof(reshard_plan_options_t, unmatched), 2};

template <typename T>
Status check_struct(const T* desc, const char* type) {
  RESHARD_TRY(check_not_null(desc, type));
  return check_header({desc->struct_size, desc->version}, {sizeof(T), kStructVersion<T>}, type);
}

/// A copy of what a caller compiled with this header or with an older one: versions only ever add members at the end,
/// so that the size of the older version says how much of it there is. The rest is zero.
template <typename T>
Result<T> read_versioned(const T* desc, const char* type) {
  constexpr StructHeader kOlder = kOlderStruct<T>;
  static_assert(kOlder.size > 0, "there is no older version: check_struct()");
  RESHARD_TRY(check_not_null(desc, type));
  const StructHeader given{desc->struct_size, desc->version};
  const bool is_older = given.size == kOlder.size && given.version == kOlder.version;
  if (!is_older) RESHARD_TRY(check_header(given, {sizeof(T), kStructVersion<T>}, type));
  T copy{};
  std::memcpy(&copy, desc, given.size);
  return copy;
}

/// Fills a struct of `size_bytes`, which the caller's header says it has, and writes nothing beyond. A size that is not
/// known is of a header that this library cannot serve: all is zero, version 0 too, and whoever takes the struct says
/// so.
template <typename T>
void init_struct(T* desc, std::size_t size_bytes, T defaults = T{}) {
  if (desc == nullptr || size_bytes < offsetof(T, version) + sizeof(desc->version)) return;
  std::memset(static_cast<void*>(desc), 0, size_bytes);
  desc->struct_size = size_bytes;
  if (size_bytes != sizeof(T) && size_bytes != kOlderStruct<T>.size) return;
  defaults.struct_size = size_bytes;
  defaults.version = size_bytes == sizeof(T) ? kStructVersion<T> : kOlderStruct<T>.version;
  std::memcpy(desc, &defaults, size_bytes);
}

}  // namespace reshard::api
