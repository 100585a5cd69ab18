// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifndef RESHARD_CPP_BINDING_HPP
#define RESHARD_CPP_BINDING_HPP

/// @file
/// Plans that are bound to a comm and to memory, and their runs. reshard.hpp includes this header.

#include <reshard/cpp/plan.hpp>

namespace reshard {
inline namespace RESHARD_HPP_NAMESPACE {

/// Where a buffer of a layout lies on this rank: as reshard_buffer_t.
struct Buffer {
  std::int64_t id = 0;  ///< reshard_buffer_info_t.id
  void* ptr = nullptr;  ///< the caller's, valid and unmoved until the binding is destroyed
  std::size_t size_bytes = 0;
  reshard_memory_kind_t memory = RESHARD_MEMORY_HOST;
  std::int32_t device = -1;  ///< whose memory it is; -1 of the host
};

/// As reshard_binding_desc_t, without plan and comm.
struct BindingOptions {
  std::vector<Buffer> src = {};  ///< every buffer of this rank in the source layout, in any order
  std::vector<Buffer> dst = {};  ///< every buffer of this rank in the destination layout, in any order
  std::chrono::microseconds timeout = std::chrono::seconds(60);  ///< for the exchange with the other ranks
  reshard_driver_t driver = RESHARD_DRIVER_AUTO;
  void* nccl_comm = nullptr;  ///< an ncclComm_t
  bool may_revoke_nccl_comm = false;
  bool capturable = false;
  std::int32_t max_ctas = 0;
  std::int32_t traffic_class = -1;
  std::int32_t device = -1;
};

/// What changes when a binding goes on to another plan: see reshard_binding_update.
struct UpdateOptions {
  std::vector<Buffer> src = {};                                  ///< those that lie elsewhere than before, or are new
  std::vector<Buffer> dst = {};                                  ///< those that lie elsewhere than before, or are new
  std::chrono::microseconds timeout = std::chrono::seconds(60);  ///< for the exchange with the other ranks
};

/// How far a run has come: see reshard_binding_poll.
struct Progress {
  std::int64_t num_groups = 0;  ///< how many are complete
  bool is_complete = false;     ///< finish() returns at once
};

/// Who runs a binding, and why, in words that are the binding's.
struct Driver {
  reshard_driver_t driver = RESHARD_DRIVER_AUTO;  ///< RESHARD_DRIVER_POLL or RESHARD_DRIVER_NCCL
  const char* reason = nullptr;                   ///< why, and with which library
};

namespace detail {

inline std::vector<reshard_buffer_t> to_c(const std::vector<Buffer>& buffers) {
  std::vector<reshard_buffer_t> out(buffers.size());
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    reshard_buffer_init(&out[i]);
    out[i].memory = buffers[i].memory;
    out[i].id = buffers[i].id;
    out[i].ptr = buffers[i].ptr;
    out[i].size_bytes = buffers[i].size_bytes;
    out[i].device = buffers[i].device;
  }
  return out;
}

/// Gives a description of a binding or of a reload its buffers, which must live until it was used.
template <typename Desc>
void set_buffers(Desc& desc, const std::vector<reshard_buffer_t>& src, const std::vector<reshard_buffer_t>& dst) {
  desc.num_src_buffers = static_cast<std::int64_t>(src.size());
  desc.src_buffers = src.data();
  desc.num_dst_buffers = static_cast<std::int64_t>(dst.size());
  desc.dst_buffers = dst.data();
}

}  // namespace detail

/// A plan bound to a comm and to this rank's memory: reshard_binding_t. It keeps plan and comm alive.
class Binding : public detail::Handle<reshard_binding_t, reshard_binding_destroy> {
 public:
  using Handle::Handle;

  /// Collective: every rank has a binding, or none has.
  [[nodiscard]] static Result<Binding> create(const Plan& plan, const Comm& comm, const BindingOptions& options) {
    const std::vector<reshard_buffer_t> src = detail::to_c(options.src);
    const std::vector<reshard_buffer_t> dst = detail::to_c(options.dst);
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan.get();
    desc.comm = comm.get();
    detail::set_buffers(desc, src, dst);
    desc.timeout_us = options.timeout.count();
    desc.driver = options.driver;
    desc.nccl_comm = options.nccl_comm;
    desc.may_revoke_nccl_comm = options.may_revoke_nccl_comm ? 1 : 0;
    desc.capturable = options.capturable ? 1 : 0;
    desc.max_ctas = options.max_ctas;
    desc.traffic_class = options.traffic_class;
    desc.device = options.device;
    return detail::created<Binding>(reshard_binding_create, static_cast<const reshard_binding_desc_t*>(&desc));
  }

  /// Collective: goes on with another plan of the same ranks, on every rank or on none.
  [[nodiscard]] Result<void> update(const Plan& plan, const UpdateOptions& options = {}) {
    const std::vector<reshard_buffer_t> src = detail::to_c(options.src);
    const std::vector<reshard_buffer_t> dst = detail::to_c(options.dst);
    reshard_binding_desc_t desc;
    reshard_binding_desc_init(&desc);
    desc.plan = plan.get();
    detail::set_buffers(desc, src, dst);
    desc.timeout_us = options.timeout.count();
    return detail::outcome(reshard_binding_update(get(), &desc));
  }

  /// Returns at once. `stream`: of device memory, a cudaStream_t.
  [[nodiscard]] Result<void> start(void* stream = nullptr) {
    return detail::outcome(reshard_binding_start(get(), stream));
  }
  /// Until the tensors of this group, and of those that come before it, are complete on this rank.
  [[nodiscard]] Result<void> wait_group(std::int64_t group, std::chrono::microseconds timeout) {
    return detail::outcome(reshard_binding_wait_group(get(), group, timeout.count()));
  }
  /// The cudaEvent_t that another stream waits for before it uses the group's tensors; the binding's.
  [[nodiscard]] Result<void*> group_event(std::int64_t group) {
    return detail::last_argument<void*>(reshard_binding_get_group_event, get(), group);
  }
  /// Advances the run without waiting. `groups` gets the first of those that are complete, as many as it has room for.
  [[nodiscard]] Result<Progress> poll(std::span<std::int64_t> groups = {}) {
    Progress progress;
    std::int32_t is_complete = 0;
    const reshard_status_t status = reshard_binding_poll(get(), static_cast<std::int64_t>(groups.size()), groups.data(),
                                                         &progress.num_groups, &is_complete);
    if (status != RESHARD_OK) return detail::failure(status);
    progress.is_complete = is_complete != 0;
    return progress;
  }
  /// Until the run is complete, and nobody reads this rank's source any more.
  [[nodiscard]] Result<void> finish(std::chrono::microseconds timeout) {
    return detail::outcome(reshard_binding_finish(get(), timeout.count()));
  }
  /// Collective: whether the last run brought what its sources hold.
  [[nodiscard]] Result<void> verify(std::chrono::microseconds timeout) {
    return detail::outcome(reshard_binding_verify(get(), timeout.count()));
  }
  [[nodiscard]] Result<Driver> driver() const {
    Driver driver;
    const reshard_status_t status = reshard_binding_get_driver(get(), &driver.driver, &driver.reason);
    if (status != RESHARD_OK) return detail::failure(status);
    return driver;
  }
  [[nodiscard]] Result<reshard_binding_stats_t> stats() const {
    return detail::filled<reshard_binding_stats_t>(reshard_binding_stats_init, reshard_binding_get_stats, get());
  }
};

}  // namespace RESHARD_HPP_NAMESPACE
}  // namespace reshard

#endif  // RESHARD_CPP_BINDING_HPP
