// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifndef RESHARD_CPP_RESULT_HPP
#define RESHARD_CPP_RESULT_HPP

/// @file
/// What every call of reshard.hpp returns: a value, or an Error. reshard.hpp includes this header.

#include <reshard/reshard.h>

#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <version>

// A program may have sources of C++20 and of C++23. An inline function that returns another type in each must not have
// one name in both, so everything here lies in an inline namespace that says which Result it means.
#if defined(__cpp_lib_expected) && __cpp_lib_expected >= 202202L
#include <expected>
/// The inline namespace of everything in reshard.hpp.
#define RESHARD_HPP_NAMESPACE with_std_expected
#else
/// The inline namespace of everything in reshard.hpp.
#define RESHARD_HPP_NAMESPACE with_own_expected
#endif

/// The C++ layer over the C API. Its types and functions are those of reshard.h under their own names.
namespace reshard {
/// Which Result: std::expected (C++23), or the class below.
inline namespace RESHARD_HPP_NAMESPACE {

/// Why a call failed.
struct Error {
  reshard_status_t status = RESHARD_ERR_INTERNAL;  ///< what the call of the C API returned
  std::string message;                             ///< what failed, the values, what to do
};

#if defined(__cpp_lib_expected) && __cpp_lib_expected >= 202202L

/// What a failed function returns: `return Failure(result.error());`
using Failure = std::unexpected<Error>;

/// A value of T, or an Error.
template <typename T>
using Result = std::expected<T, Error>;

#else

/// What a failed function returns: `return Failure(result.error());`
class Failure {
 public:
  /// With this error.
  explicit Failure(Error error) : error_(std::move(error)) {}
  /// @{
  /// The error.
  [[nodiscard]] const Error& error() const& noexcept { return error_; }
  [[nodiscard]] Error&& error() && noexcept { return std::move(error_); }
  /// @}

 private:
  Error error_;
};

/// A value of T, or an Error: the part of std::expected<T, Error> that needs no exceptions. There is no value(), which
/// throws. operator* of an error, and error() of a value, are undefined, as they are of std::expected.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;      ///< what it holds when the call succeeded
  using error_type = Error;  ///< what else

  /// Of a value.
  template <typename U = T>
  requires(std::is_constructible_v<T, U> && !std::is_same_v<std::remove_cvref_t<U>, Result> &&
           !std::is_same_v<std::remove_cvref_t<U>, Failure>) explicit(!std::is_convertible_v<U, T>) Result(U&& value)
      : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  /// Of an error.
  Result(Failure failure) : state_(std::in_place_index<1>, std::move(failure).error()) {}

  /// Whether there is a value.
  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  /// Whether there is a value.
  explicit operator bool() const noexcept { return has_value(); }

  /// @{
  /// The value. @pre there is one
  [[nodiscard]] T& operator*() & noexcept { return *std::get_if<0>(&state_); }
  [[nodiscard]] const T& operator*() const& noexcept { return *std::get_if<0>(&state_); }
  [[nodiscard]] T&& operator*() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  [[nodiscard]] T* operator->() noexcept { return std::get_if<0>(&state_); }
  [[nodiscard]] const T* operator->() const noexcept { return std::get_if<0>(&state_); }
  /// @}

  /// @{
  /// The error. @pre there is no value
  [[nodiscard]] const Error& error() const& noexcept { return *std::get_if<1>(&state_); }
  [[nodiscard]] Error&& error() && noexcept { return std::move(*std::get_if<1>(&state_)); }
  /// @}

  /// @{
  /// The value, or another one where there is none.
  template <typename U>
  [[nodiscard]] T value_or(U&& other) const& {
    return has_value() ? **this : static_cast<T>(std::forward<U>(other));
  }
  template <typename U>
  [[nodiscard]] T value_or(U&& other) && {
    return has_value() ? *std::move(*this) : static_cast<T>(std::forward<U>(other));
  }
  /// @}

 private:
  std::variant<T, Error> state_;
};

/// Nothing, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;   ///< nothing
  using error_type = Error;  ///< what it holds when the call failed

  /// Of success.
  Result() = default;
  /// Of an error.
  Result(Failure failure) : error_(std::in_place_index<1>, std::move(failure).error()) {}

  /// Whether the call succeeded.
  [[nodiscard]] bool has_value() const noexcept { return error_.index() == 0; }
  /// Whether the call succeeded.
  explicit operator bool() const noexcept { return has_value(); }
  /// Nothing. @pre the call succeeded
  void operator*() const noexcept {}
  /// @{
  /// The error. @pre the call failed
  [[nodiscard]] const Error& error() const& noexcept { return *std::get_if<1>(&error_); }
  [[nodiscard]] Error&& error() && noexcept { return std::move(*std::get_if<1>(&error_)); }
  /// @}

 private:
  std::variant<std::monostate, Error> error_;
};

#endif

/// Not for programs: how this layer is made.
namespace detail {

/// The error of the call that has just failed on this thread.
inline Failure failure(reshard_status_t status) {
  return Failure(Error{status, reshard_last_error()});
}

/// The outcome of a call that gives nothing back.
inline Result<void> outcome(reshard_status_t status) {
  if (status != RESHARD_OK) return failure(status);
  return {};
}

/// What a function of the C API writes through its last argument.
template <typename T, typename Function, typename... Arguments>
Result<T> last_argument(Function function, const Arguments&... arguments) {
  T value{};
  if (const reshard_status_t status = function(arguments..., &value); status != RESHARD_OK) return failure(status);
  return value;
}

/// The same where it is a handle, which the object of type Owner then owns.
template <typename Owner, typename Function, typename... Arguments>
Result<Owner> created(Function function, const Arguments&... arguments) {
  typename Owner::Raw raw = nullptr;
  if (const reshard_status_t status = function(arguments..., &raw); status != RESHARD_OK) return failure(status);
  return Owner(raw);
}

/// The same where it is a struct that says its own size.
template <typename Info, typename Init, typename Function, typename... Arguments>
Result<Info> filled(Init init, Function function, const Arguments&... arguments) {
  Info info;
  init(&info);
  if (const reshard_status_t status = function(arguments..., &info); status != RESHARD_OK) return failure(status);
  return info;
}

/// Owns one handle of the C API and destroys it once. Moved from, or made without one, it is empty: every call with it
/// is refused by the library (RESHARD_ERR_INVALID_ARGUMENT).
template <typename T, void (*Destroy)(T)>
class Handle {
 public:
  using Raw = T;

  Handle() noexcept = default;
  /// Takes the handle over.
  explicit Handle(Raw raw) noexcept : raw_(raw) {}
  Handle(Handle&& other) noexcept : raw_(other.release()) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { reset(); }

  /// For calls of the C API that this layer leaves out; the object goes on owning it.
  [[nodiscard]] Raw get() const noexcept { return raw_; }
  explicit operator bool() const noexcept { return raw_ != nullptr; }
  /// Gives the handle up: the caller destroys it.
  [[nodiscard]] Raw release() noexcept { return std::exchange(raw_, nullptr); }
  /// Destroys what is owned and owns `raw` from then on.
  void reset(Raw raw = nullptr) noexcept {
    const Raw old = std::exchange(raw_, raw);
    if (old != nullptr) Destroy(old);
  }

 private:
  Raw raw_ = nullptr;
};

/// The C API takes the end of a text from its zero; NULL where there is no text.
inline const char* c_str_or_null(const std::string& text) noexcept {
  return text.empty() ? nullptr : text.c_str();
}

}  // namespace detail
}  // namespace RESHARD_HPP_NAMESPACE
}  // namespace reshard

#endif  // RESHARD_CPP_RESULT_HPP
