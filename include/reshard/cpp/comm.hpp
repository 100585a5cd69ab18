// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifndef RESHARD_CPP_COMM_HPP
#define RESHARD_CPP_COMM_HPP

/// @file
/// Ranks that are connected, and memory that they can map. reshard.hpp includes this header.

#include <reshard/cpp/result.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reshard {
inline namespace RESHARD_HPP_NAMESPACE {

/// A timeout that never expires. Every other timeout must be positive.
inline constexpr std::chrono::microseconds kInfinite{RESHARD_TIMEOUT_INFINITE};

/// Memory of reshard_alloc_on, freed with the object, which must go before the Comm that it is of.
class Memory {
 public:
  Memory() noexcept = default;
  /// Takes it over: `other` has nothing any more.
  Memory(Memory&& other) noexcept
      : comm_(other.comm_),
        ptr_(std::exchange(other.ptr_, nullptr)),
        size_bytes_(std::exchange(other.size_bytes_, 0)) {}
  /// Frees what it has and takes the other's.
  Memory& operator=(Memory&& other) noexcept {
    if (this == &other) return *this;
    reset();
    comm_ = other.comm_;
    ptr_ = std::exchange(other.ptr_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
    return *this;
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { reset(); }

  /// Frees it now.
  void reset() noexcept {
    if (ptr_ != nullptr) (void)reshard_free(comm_, std::exchange(ptr_, nullptr));
    size_bytes_ = 0;
  }

  /// Its address; NULL where there is none.
  [[nodiscard]] void* data() const noexcept { return ptr_; }
  /// As asked for.
  [[nodiscard]] std::size_t size_bytes() const noexcept { return size_bytes_; }
  /// As elements of T; what does not fill one is left out. Of memory of a device only the address may be used.
  template <typename T>
  [[nodiscard]] std::span<T> as() const noexcept {
    return {static_cast<T*>(ptr_), size_bytes_ / sizeof(T)};
  }

 private:
  friend class Comm;
  Memory(reshard_comm_t comm, void* ptr, std::size_t size_bytes) noexcept
      : comm_(comm), ptr_(ptr), size_bytes_(size_bytes) {}

  reshard_comm_t comm_ = nullptr;
  void* ptr_ = nullptr;
  std::size_t size_bytes_ = 0;
};

/// As reshard_comm_options_t.
struct CommOptions {
  std::chrono::microseconds timeout = std::chrono::seconds(60);
  std::string net_devices = {};  ///< empty: what UCX_NET_DEVICES says, or all
  void (*notice)(const char* text, void* user) = nullptr;
  void* user = nullptr;
};

/// Gathers out of band: `out` gets what every rank has as `in`, in rank order. False: it failed. Must not throw.
using Allgather = std::function<bool(std::span<const std::byte> in, std::span<std::byte> out)>;

/// reshard_unique_id_create; an empty address: 127.0.0.1.
[[nodiscard]] inline Result<reshard_unique_id_t> create_unique_id(std::string_view address = {}) {
  return detail::last_argument<reshard_unique_id_t>(reshard_unique_id_create,
                                                    detail::c_str_or_null(std::string(address)));
}

/// reshard_unique_id_destroy.
[[nodiscard]] inline Result<void> destroy_unique_id(const reshard_unique_id_t& id) {
  return detail::outcome(reshard_unique_id_destroy(&id));
}

/// reshard_device_count.
[[nodiscard]] inline Result<std::int32_t> device_count() {
  return detail::last_argument<std::int32_t>(reshard_device_count);
}

/// reshard_copy: from any memory to any other that it does not overlap.
[[nodiscard]] inline Result<void> copy(void* dst, const void* src, std::size_t size_bytes) {
  return detail::outcome(reshard_copy(dst, src, size_bytes));
}

/// The ranks of a transfer, connected: reshard_comm_t.
class Comm : public detail::Handle<reshard_comm_t, reshard_comm_destroy> {
 public:
  using Handle::Handle;

  [[nodiscard]] static Result<Comm> from_id(const reshard_unique_id_t& id, std::int32_t rank, std::int32_t num_ranks,
                                            const CommOptions& options = {}) {
    const reshard_comm_options_t given = to_c(options);
    return detail::created<Comm>(reshard_comm_create_from_id, &id, rank, num_ranks, &given);
  }

  [[nodiscard]] static Result<Comm> from_environment(const CommOptions& options = {}) {
    const reshard_comm_options_t given = to_c(options);
    return detail::created<Comm>(reshard_comm_create_from_environment, &given);
  }

  [[nodiscard]] static Result<Comm> from_callback(const Allgather& allgather, std::int32_t rank, std::int32_t num_ranks,
                                                  const CommOptions& options = {}) {
    const reshard_comm_options_t given = to_c(options);
    Callback callback{&allgather, num_ranks > 0 ? static_cast<std::size_t>(num_ranks) : 0};
    void* const user = &callback;  // given back to call() alone, before this returns
    return detail::created<Comm>(reshard_comm_create_from_callback, &Comm::call, user, rank, num_ranks, &given);
  }

  /// Comms for threads of one process, element r for rank r.
  [[nodiscard]] static Result<std::vector<Comm>> local(std::int32_t num_ranks, const CommOptions& options = {}) {
    const reshard_comm_options_t given = to_c(options);
    std::vector<reshard_comm_t> raw(num_ranks > 0 ? static_cast<std::size_t>(num_ranks) : 0);
    const reshard_status_t status = reshard_comm_create_local(num_ranks, &given, raw.data());
    if (status != RESHARD_OK) return detail::failure(status);
    std::vector<Comm> comms;
    comms.reserve(raw.size());
    for (const reshard_comm_t comm : raw) comms.emplace_back(comm);
    return comms;
  }

  [[nodiscard]] Result<std::int32_t> rank() const {
    return detail::last_argument<std::int32_t>(reshard_comm_rank, get());
  }
  [[nodiscard]] Result<std::int32_t> size() const {
    return detail::last_argument<std::int32_t>(reshard_comm_size, get());
  }

  /// Every rank's `in`, in rank order, in `out`, which must be as many times as large as there are ranks. A barrier.
  [[nodiscard]] Result<void> allgather(std::span<const std::byte> in, std::span<std::byte> out,
                                       std::chrono::microseconds timeout) const {
    const Result<std::int32_t> num_ranks = size();
    if (!num_ranks) return Failure(num_ranks.error());
    if (out.size() != in.size() * static_cast<std::size_t>(*num_ranks)) {
      return Failure({RESHARD_ERR_INVALID_ARGUMENT, "allgather: out has " + std::to_string(out.size()) + " bytes; " +
                                                        std::to_string(*num_ranks) + " ranks give " +
                                                        std::to_string(in.size()) + " each"});
    }
    return detail::outcome(reshard_comm_allgather(get(), in.data(), out.data(), in.size(), timeout.count()));
  }

  /// Zeroed memory that peers on the same host can map.
  [[nodiscard]] Result<Memory> alloc(std::size_t size_bytes, reshard_memory_kind_t memory = RESHARD_MEMORY_HOST,
                                     std::int32_t device = -1) const {
    void* ptr = nullptr;
    const reshard_status_t status = reshard_alloc_on(get(), memory, device, size_bytes, &ptr);
    if (status != RESHARD_OK) return detail::failure(status);
    return Memory(get(), ptr, size_bytes);
  }

 private:
  struct Callback {
    const Allgather* allgather;
    std::size_t num_ranks;
  };

  /// noexcept: what the caller's function throws must not pass through the library.
  static int call(const void* in, void* out, std::size_t size_bytes, void* user) noexcept {
    const Callback& callback = *static_cast<const Callback*>(user);
    const bool is_done = (*callback.allgather)({static_cast<const std::byte*>(in), size_bytes},
                                               {static_cast<std::byte*>(out), size_bytes * callback.num_ranks});
    return is_done ? 0 : 1;
  }

  /// Lives as long as `options`.
  static reshard_comm_options_t to_c(const CommOptions& options) {
    reshard_comm_options_t out;
    reshard_comm_options_init(&out);
    out.timeout_us = options.timeout.count();
    out.net_devices = detail::c_str_or_null(options.net_devices);
    out.notice = options.notice;
    out.user = options.user;
    return out;
  }
};

}  // namespace RESHARD_HPP_NAMESPACE
}  // namespace reshard

#endif  // RESHARD_CPP_COMM_HPP
