// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Bindings, and the runs of one. Creating is collective, so what is wrong with one rank's arguments must reach all:
// they are checked into BindOptions::arguments and travel with the first exchange. Only without a description or a comm
// there is nobody to tell, and the call returns at once. Runs are not collective here; how ranks wait for each other is
// the driver's.
#include <fmt/format.h>

#include <algorithm>

#include "src/api/error.h"
#include "src/api/handles.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::guard;
using reshard::api::kDefaultTimeoutUs;

namespace {

/// Refuses now what a later build may accept, by name, instead of reading device memory as if it were the host's.
Status check_buffer(const reshard_buffer_t& given, const std::string& name) {
  RESHARD_TRY(check_struct(&given, "reshard_buffer_t"));
  if (given.memory != RESHARD_MEMORY_HOST) {
    return {RESHARD_ERR_NOT_SUPPORTED, fmt::format("{} is memory of kind {}, and this build moves host memory only",
                                                   name, static_cast<int>(given.memory))};
  }
  if (given.device != -1) {
    return invalid_argument(fmt::format("{} is host memory, of device {}; give -1", name, given.device));
  }
  return {};
}

/// Whether these are the buffers that the plan wants is checked where the plan is known, in check_bind_options().
Result<std::vector<BoundBuffer>> to_buffers(const reshard_buffer_t* given, std::int64_t count, const char* argument) {
  std::vector<BoundBuffer> buffers;
  if (count < 0) return invalid_argument(fmt::format("there are {} {}", count, argument));
  if (count > 0) RESHARD_TRY(check_not_null(given, argument));
  for (std::int64_t i = 0; i < count; ++i) {
    RESHARD_TRY(check_buffer(given[i], fmt::format("{} [{}]", argument, i)));
    buffers.push_back({given[i].id, static_cast<std::byte*>(given[i].ptr),
                       static_cast<std::int64_t>(std::min<std::size_t>(given[i].size_bytes, INT64_MAX))});
  }
  return buffers;
}

Status check_timeout(std::int64_t timeout_us) {
  if (timeout_us > 0) return {};
  return invalid_argument(fmt::format("timeout_us is {}; give more than 0", timeout_us));
}

/// What this rank gives. Binding is collective, so an error here is not returned at once but shared with all ranks.
Status to_options(const reshard_binding_desc_t& desc, const reshard_binding_t* binding, BindOptions* options) {
  RESHARD_TRY(check_not_null(binding, "binding"));
  RESHARD_TRY(check_not_null(desc.plan, "plan"));
  options->plan = desc.plan->plan;
  RESHARD_TRY(check_timeout(desc.timeout_us));
  RESHARD_TRY(options->src, to_buffers(desc.src_buffers, desc.num_src_buffers, "source buffers"));
  RESHARD_TRY(options->dst, to_buffers(desc.dst_buffers, desc.num_dst_buffers, "destination buffers"));
  return {};
}

}  // namespace

extern "C" {

void reshard_buffer_init(reshard_buffer_t* buffer) {
  reshard::api::init_struct(buffer);
  if (buffer != nullptr) buffer->device = -1;
}

void reshard_binding_desc_init(reshard_binding_desc_t* desc) {
  reshard::api::init_struct(desc);
  if (desc != nullptr) desc->timeout_us = kDefaultTimeoutUs;
}

void reshard_binding_stats_init(reshard_binding_stats_t* stats) {
  reshard::api::init_struct(stats);
}

reshard_status_t reshard_binding_create(const reshard_binding_desc_t* desc, reshard_binding_t* binding) {
  if (binding != nullptr) *binding = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_struct(desc, "reshard_binding_desc_t"));
    RESHARD_TRY(check_not_null(desc->comm, "comm"));
    auto made = std::make_unique<reshard_binding>();
    made->transport = desc->comm->transport;
    made->device_memory = desc->comm->device_memory;
    made->numbers = desc->comm->numbers;
    BindOptions options;
    options.transport = made->transport.get();
    options.numbers = made->numbers.get();
    // A bad timeout must not keep this rank from telling the others: it takes part under the comm's and fails after.
    options.timeout_us = desc->timeout_us > 0 ? desc->timeout_us : desc->comm->timeout_us;
    // From here on an error is this rank's vote, and Binding::create returns it after all ranks have heard of it.
    options.arguments = to_options(*desc, binding, &options);
    RESHARD_TRY(made->binding, Binding::create(options));
    *binding = made.release();
    return {};
  });
}

void reshard_binding_destroy(reshard_binding_t binding) {
  delete binding;
}

reshard_status_t reshard_binding_start(reshard_binding_t binding, void* stream) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    if (stream != nullptr) {
      return {RESHARD_ERR_NOT_SUPPORTED, "a stream was given, and this build moves host memory only; pass NULL"};
    }
    return binding->binding->driver().start();
  });
}

reshard_status_t reshard_binding_wait_group(reshard_binding_t binding, int64_t group, int64_t timeout_us) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(check_timeout(timeout_us));
    const auto& groups = binding->binding->plan().groups;
    // Callers name groups by their own values; inside they are places in the plan's ascending list.
    const auto found = std::lower_bound(groups.begin(), groups.end(), group);
    if (found == groups.end() || *found != group) {
      return invalid_argument(fmt::format("the plan has no group {}; it has {}", group, fmt::join(groups, ", ")));
    }
    return binding->binding->driver().wait_group(static_cast<std::int32_t>(found - groups.begin()),
                                                 Deadline(timeout_us));
  });
}

reshard_status_t reshard_binding_poll(reshard_binding_t binding, int64_t capacity, int64_t* groups, int64_t* num_groups,
                                      int32_t* is_complete) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    if (capacity < 0) return invalid_argument(fmt::format("capacity is {}; give 0 or more", capacity));
    if (capacity > 0) RESHARD_TRY(check_not_null(groups, "groups"));
    // A list that is too short is filled as far as it goes; the number says how many there are.
    RESHARD_TRY(const bool done, binding->binding->driver().poll());
    const std::int64_t num_complete = binding->binding->driver().num_groups_complete();
    for (std::int64_t i = 0; i < std::min(capacity, num_complete); ++i) groups[i] = binding->binding->group_at(i);
    if (num_groups != nullptr) *num_groups = num_complete;
    if (is_complete != nullptr) *is_complete = done ? 1 : 0;
    return {};
  });
}

reshard_status_t reshard_binding_finish(reshard_binding_t binding, int64_t timeout_us) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(check_timeout(timeout_us));
    return binding->binding->driver().finish(Deadline(timeout_us));
  });
}

reshard_status_t reshard_binding_get_stats(reshard_binding_t binding, reshard_binding_stats_t* stats) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(check_struct(stats, "reshard_binding_stats_t"));
    const Binding::Volume& volume = binding->binding->volume();
    stats->bytes_same_rank = volume.bytes_same_rank;
    stats->bytes_mapped = volume.bytes_mapped;
    stats->bytes_sent = volume.bytes_sent;
    stats->bytes_received = volume.bytes_received;
    stats->messages_sent = volume.messages_sent;
    stats->staging_bytes = volume.staging_bytes;
    stats->num_runs = binding->binding->driver().num_runs();
    stats->num_groups_complete = binding->binding->driver().num_groups_complete();
    return {};
  });
}

}  // extern "C"
