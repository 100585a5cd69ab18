// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <string>

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

/// Checks that a struct was initialised by this version of the library.
Status check_header(const void* pointer, std::size_t struct_size, std::uint32_t version, std::size_t expected_size,
                    const char* type);

template <typename T>
Status check_struct(const T* desc, const char* type) {
  RESHARD_TRY(check_not_null(desc, type));
  return check_header(desc, desc->struct_size, desc->version, sizeof(T), type);
}

/// Defaults of a struct: all zero, size and version set.
inline constexpr std::uint32_t kStructVersion = 1;
template <typename T>
void init_struct(T* desc) {
  if (desc == nullptr) return;
  *desc = T{};
  desc->struct_size = sizeof(T);
  desc->version = kStructVersion;
}

}  // namespace reshard::api
