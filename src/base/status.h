// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// How everything fallible reports. Not by exceptions: the library is called from C and from other languages' runtimes,
// through which none may pass, and a signature that returns a Result says that a call can fail.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>

#include "reshard/base.h"

namespace reshard {

/// Outcome of a fallible call: a code of the public header and, unless it is RESHARD_OK, a message saying what
/// failed, with which values, and what to do. A plain value: errors are returned, never thrown, inside the library.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(reshard_status_t code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == RESHARD_OK; }
  reshard_status_t code() const { return code_; }
  const std::string& message() const { return message_; }

  /// The same status with `context` in front of the message: "context: message". No effect on success.
  Status with_context(const std::string& context) && {
    if (!ok()) message_ = context + ": " + message_;
    return std::move(*this);
  }

 private:
  reshard_status_t code_ = RESHARD_OK;
  std::string message_;
};

inline Status invalid_argument(std::string message) {
  return {RESHARD_ERR_INVALID_ARGUMENT, std::move(message)};
}

/// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor): `return value;` is the idiom
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  Status&& take_status() { return std::move(status_); }

  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T&& take() { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace reshard

#define RESHARD_INTERNAL_CONCAT2(a, b) a##b
#define RESHARD_INTERNAL_CONCAT(a, b) RESHARD_INTERNAL_CONCAT2(a, b)
// The macro chooses by the number of its arguments: PICK returns its third one, which is TRY1 after one argument and
// TRY2 after two. The line number keeps the names of several in one scope apart.
#define RESHARD_INTERNAL_TRY1(expr)                                                 \
  do {                                                                              \
    if (::reshard::Status try_status = (expr); !try_status.ok()) return try_status; \
  } while (false)
#define RESHARD_INTERNAL_TRY2_NAMED(name, decl, expr) \
  auto name = (expr);                                 \
  if (!name.ok()) return name.take_status();          \
  decl = name.take()
#define RESHARD_INTERNAL_TRY2(decl, expr) \
  RESHARD_INTERNAL_TRY2_NAMED(RESHARD_INTERNAL_CONCAT(try_result_, __LINE__), decl, expr)
#define RESHARD_INTERNAL_PICK(a, b, name, ...) name

/// RESHARD_TRY(status_expr): return the status from the enclosing function unless it is ok.
/// RESHARD_TRY(decl, result_expr): the same for a Result, else move its value into `decl`.
#define RESHARD_TRY(...) \
  RESHARD_INTERNAL_PICK(__VA_ARGS__, RESHARD_INTERNAL_TRY2, RESHARD_INTERNAL_TRY1, unused)(__VA_ARGS__)
