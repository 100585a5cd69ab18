// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifndef RESHARD_CPP_PLAN_HPP
#define RESHARD_CPP_PLAN_HPP

/// @file
/// Machines and plans. reshard.hpp includes this header.

#include <reshard/cpp/layout.hpp>

namespace reshard {
inline namespace RESHARD_HPP_NAMESPACE {

/// As reshard_machine_discover_options_t.
struct DiscoverOptions {
  std::int32_t gpu = -1;  ///< this rank's, by its index on the node; -1: its place among the ranks of its host
  std::int64_t nic_bits_per_s = 0;
  std::chrono::microseconds timeout = std::chrono::seconds(60);
};

/// What joins the ranks: reshard_machine_t.
class Machine : public detail::Handle<reshard_machine_t, reshard_machine_destroy> {
 public:
  using Handle::Handle;

  /// From a preset with settings or a file; segments: how many ranks lie on nodes of their own, one part after another.
  [[nodiscard]] static Result<Machine> create(std::string_view text, std::span<const std::int32_t> segments) {
    return detail::created<Machine>(reshard_machine_create, std::string(text).c_str(),
                                    static_cast<std::int32_t>(segments.size()), segments.data());
  }
  /// Collective: from the nodes that the ranks run on.
  [[nodiscard]] static Result<Machine> discover(const Comm& comm, const DiscoverOptions& options = {}) {
    reshard_machine_discover_options_t given;
    reshard_machine_discover_options_init(&given);
    given.gpu = options.gpu;
    given.nic_bits_per_s = options.nic_bits_per_s;
    given.timeout_us = options.timeout.count();
    return detail::created<Machine>(reshard_machine_discover, comm.get(), &given);
  }

  [[nodiscard]] Result<std::int32_t> num_ranks() const {
    return detail::last_argument<std::int32_t>(reshard_machine_num_ranks, get());
  }
  /// What was taken with doubt: to be shown to whoever described the machine. The texts are the machine's.
  [[nodiscard]] Result<std::vector<const char*>> warnings() const {
    const auto count = detail::last_argument<std::int32_t>(reshard_machine_num_warnings, get());
    if (!count) return Failure(count.error());
    std::vector<const char*> warnings;
    for (std::int32_t i = 0; i < *count; ++i) {
      const auto warning = detail::last_argument<const char*>(reshard_machine_get_warning, get(), i);
      if (!warning) return Failure(warning.error());
      warnings.push_back(*warning);
    }
    return warnings;
  }
  [[nodiscard]] Result<const char*> report_json() const {
    return detail::last_argument<const char*>(reshard_machine_report_json, get());
  }
};

/// As reshard_plan_options_t.
struct PlanOptions {
  std::int64_t staging_bytes = 64 << 20;
  const Machine* machine = nullptr;  ///< may go once the plan is made
  reshard_group_order_t group_order = RESHARD_ORDER_FIXED;
  std::int64_t open_groups = 0;
  reshard_unmatched_t unmatched = RESHARD_UNMATCHED_REFUSE;
};

/// A tensor that only one side has; the name is the plan's.
struct Unmatched {
  const char* name = nullptr;  ///< as its layout has it
  bool is_at_source = false;   ///< else only the destination has it
};

/// Which bytes go where, in which order: reshard_plan_t. Reports live until the next one of their kind.
class Plan : public detail::Handle<reshard_plan_t, reshard_plan_destroy> {
 public:
  using Handle::Handle;

  [[nodiscard]] static Result<Plan> create(const Layout& src, const Layout& dst, const PlanOptions& options = {}) {
    reshard_plan_options_t given;
    reshard_plan_options_init(&given);
    given.staging_bytes = options.staging_bytes;
    given.machine = options.machine == nullptr ? nullptr : options.machine->get();
    given.group_order = options.group_order;
    given.open_groups = options.open_groups;
    given.unmatched = options.unmatched;
    return detail::created<Plan>(reshard_plan_create, src.get(), dst.get(), &given);
  }
  [[nodiscard]] static Result<Plan> load(std::string_view path, const Layout& src, const Layout& dst,
                                         const Machine* machine = nullptr) {
    return detail::created<Plan>(reshard_plan_load, std::string(path).c_str(), src.get(), dst.get(),
                                 machine == nullptr ? nullptr : machine->get());
  }
  /// For layouts that differ little from this plan's.
  [[nodiscard]] Result<Plan> replan(const Layout& src, const Layout& dst) const {
    return detail::created<Plan>(reshard_plan_replan, get(), src.get(), dst.get());
  }
  /// For a destination whose tensors lie elsewhere.
  [[nodiscard]] Result<Plan> update(const Layout& dst) const {
    return detail::created<Plan>(reshard_plan_update, get(), dst.get());
  }
  [[nodiscard]] Result<void> save(std::string_view path) const {
    return detail::outcome(reshard_plan_save(get(), std::string(path).c_str()));
  }

  [[nodiscard]] Result<reshard_plan_info_t> info() const {
    return detail::filled<reshard_plan_info_t>(reshard_plan_info_init, reshard_plan_get_info, get());
  }
  /// In ascending order.
  [[nodiscard]] Result<std::vector<std::int64_t>> groups() const {
    const auto known = info();
    if (!known) return Failure(known.error());
    std::vector<std::int64_t> groups;
    for (std::int64_t i = 0; i < known->num_groups; ++i) {
      const auto group = detail::last_argument<std::int64_t>(reshard_plan_get_group, get(), i);
      if (!group) return Failure(group.error());
      groups.push_back(*group);
    }
    return groups;
  }
  /// What RESHARD_UNMATCHED_SKIP left out.
  [[nodiscard]] Result<std::vector<Unmatched>> unmatched() const {
    const auto count = detail::last_argument<std::int64_t>(reshard_plan_num_unmatched, get());
    if (!count) return Failure(count.error());
    std::vector<Unmatched> tensors(static_cast<std::size_t>(*count));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      std::int32_t is_at_source = 0;
      const reshard_status_t status =
          reshard_plan_get_unmatched(get(), static_cast<std::int64_t>(i), &tensors[i].name, &is_at_source);
      if (status != RESHARD_OK) return detail::failure(status);
      tensors[i].is_at_source = is_at_source != 0;
    }
    return tensors;
  }

  [[nodiscard]] Result<const char*> report_json() const {
    return detail::last_argument<const char*>(reshard_plan_report_json, get());
  }
  /// Seconds that the plan takes on its machine as a fluid.
  [[nodiscard]] Result<double> simulate() const { return detail::last_argument<double>(reshard_plan_simulate, get()); }
  [[nodiscard]] Result<const char*> details_json(std::int64_t bundle = -1) const {
    return detail::last_argument<const char*>(reshard_plan_details_json, get(), bundle);
  }
  [[nodiscard]] Result<const char*> advise_json() const {
    return detail::last_argument<const char*>(reshard_plan_advise_json, get());
  }
  [[nodiscard]] Result<const char*> stream_json(std::int32_t nccl_version, std::int32_t max_ctas = 0) const {
    return detail::last_argument<const char*>(reshard_plan_stream_json, get(), nccl_version, max_ctas);
  }
};

}  // namespace RESHARD_HPP_NAMESPACE
}  // namespace reshard

#endif  // RESHARD_CPP_PLAN_HPP
