// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Bindings, and the runs of one. Creating is collective, so what is wrong with one rank's arguments must reach all:
// they are checked into BindOptions::arguments and travel with the first exchange. Only without a description or a comm
// there is nobody to tell, and the call returns at once. Runs are not collective here; how ranks wait for each other is
// the driver's.
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "src/api/bind.h"
#include "src/api/binding_driver.h"
#include "src/api/error.h"
#include "src/api/handles.h"
#include "src/device/device.h"
#include "src/device/memory_space.h"
#include "src/device/profile_range.h"
#include "src/transport/cuda_peer_memory.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::BufferPlace;
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::check_timeout;
using reshard::api::guard;
using reshard::api::kDefaultTimeoutUs;
using reshard::api::read_versioned;

namespace {

/// What the driver says of a buffer counts, not what the caller believes: host code that reads device memory dies, and
/// a kernel that reads the host's ends all work of the process on that device.
Status check_host_buffer(const reshard_buffer_t& given, const std::string& name) {
  if (given.device != -1) {
    return invalid_argument(fmt::format("{} is host memory, of device {}; give -1", name, given.device));
  }
  if (given.ptr == nullptr) return {};
  RESHARD_TRY(const PointerInfo info, pointer_info(given.ptr));
  if (info.space != MemorySpace::kDevice) return {};
  return invalid_argument(fmt::format(
      "{} was given as host memory, but is memory of device {}; give RESHARD_MEMORY_CUDA", name, info.device));
}

Status check_buffer(const reshard_buffer_t& given, const std::string& name, BufferPlace* place) {
  RESHARD_TRY(check_struct(&given, "reshard_buffer_t"));
  if (given.memory != RESHARD_MEMORY_HOST && given.memory != RESHARD_MEMORY_CUDA) {
    return invalid_argument(
        fmt::format("{} is memory of a kind {} that there is not", name, static_cast<int>(given.memory)));
  }
  if (place->first.empty()) {
    *place = {given.memory, given.device, name};
    // Of every buffer that follows it is enough to know that it is of the same device.
    if (given.memory == RESHARD_MEMORY_CUDA) {
      Status usable = check_device(given.device);
      if (!usable.ok()) return std::move(usable).with_context(name);
    }
  }
  if (given.memory != place->memory || given.device != place->device) {
    return invalid_argument(
        fmt::format("{} is memory of kind {}, device {}, and {} of kind {}, device {}; all buffers of a rank's binding "
                    "are in the same memory",
                    name, static_cast<int>(given.memory), given.device, place->first, static_cast<int>(place->memory),
                    place->device));
  }
  if (given.memory == RESHARD_MEMORY_HOST) return check_host_buffer(given, name);
  return given.ptr == nullptr ? Status() : check_device_memory(given.ptr, given.device, name);
}

/// Whether these are the buffers that the plan wants is checked where the plan is known, in check_bind_options().
Result<std::vector<BoundBuffer>> to_buffers(const reshard_buffer_t* given, std::int64_t count, const char* argument,
                                            BufferPlace* place) {
  std::vector<BoundBuffer> buffers;
  if (count < 0) return invalid_argument(fmt::format("there are {} {}", count, argument));
  if (count > 0) RESHARD_TRY(check_not_null(given, argument));
  for (std::int64_t i = 0; i < count; ++i) {
    RESHARD_TRY(check_buffer(given[i], fmt::format("{} [{}]", argument, i), place));
    buffers.push_back({given[i].id, static_cast<std::byte*>(given[i].ptr),
                       static_cast<std::int64_t>(std::min<std::size_t>(given[i].size_bytes, INT64_MAX))});
  }
  return buffers;
}

/// The device that the caller named, which is all that a rank without buffers can say of where it works.
Status settle_device(std::int32_t device, BufferPlace* place) {
  if (device == -1) return {};
  if (place->first.empty()) {
    *place = {RESHARD_MEMORY_CUDA, device, {}};
    Status usable = check_device(device);
    return usable.ok() ? Status() : std::move(usable).with_context("the binding's device");
  }
  if (place->device == device) return {};
  return invalid_argument(
      fmt::format("the binding's device is {}, and {} is memory of kind {}, device {}; give -1 or "
                  "the device of the buffers",
                  device, place->first, static_cast<int>(place->memory), place->device));
}

/// What this rank gives to an update: buffers in the same memory as those of the binding.
Status to_update(const reshard_binding_desc_t& desc, const reshard_binding& binding, UpdateOptions* options) {
  RESHARD_TRY(check_not_null(desc.plan, "plan"));
  options->plan = desc.plan->plan;
  RESHARD_TRY(check_timeout(desc.timeout_us));
  RESHARD_TRY(reshard::api::check_update(desc, binding));
  BufferPlace place = binding.place;
  RESHARD_TRY(options->src, to_buffers(desc.src_buffers, desc.num_src_buffers, "source buffers", &place));
  RESHARD_TRY(options->dst, to_buffers(desc.dst_buffers, desc.num_dst_buffers, "destination buffers", &place));
  if (place.memory == binding.place.memory && place.device == binding.place.device) return {};
  return {RESHARD_ERR_NOT_SUPPORTED,
          fmt::format("{} is memory of kind {}, device {}, and this rank had no buffers in the binding; bind anew",
                      place.first, static_cast<int>(place.memory), place.device)};
}

/// What this rank gives. Binding is collective, so an error here is not returned at once but shared with all ranks.
Status to_options(const reshard_binding_desc_t& desc, reshard_binding* made, BindOptions* options) {
  RESHARD_TRY(check_not_null(desc.plan, "plan"));
  options->plan = desc.plan->plan;
  RESHARD_TRY(check_timeout(desc.timeout_us));
  BufferPlace place;
  RESHARD_TRY(options->src, to_buffers(desc.src_buffers, desc.num_src_buffers, "source buffers", &place));
  RESHARD_TRY(options->dst, to_buffers(desc.dst_buffers, desc.num_dst_buffers, "destination buffers", &place));
  RESHARD_TRY(settle_device(desc.device, &place));
  made->place = place;
  if (place.memory != RESHARD_MEMORY_CUDA) return {};
  options->make_copier = cuda_copier_maker(place.device, options->transport);
  RESHARD_TRY(made->peer_memory, CudaPeerMemory::create(place.device));
  options->peer_memory = made->peer_memory.get();
  return {};
}

/// Of the buffers; why they are on none, in words.
Result<std::int32_t> device_of(const BufferPlace& place) {
  if (place.memory == RESHARD_MEMORY_CUDA) return place.device;
  if (!place.first.empty())
    return invalid_argument("the buffers are memory of the host, and NCCL moves that of devices");
  return invalid_argument(
      "this rank has no buffer that says on which device it works with NCCL; set device in reshard_binding_desc_t");
}

/// Callers name groups by their own values; inside they are places in the plan's ascending list.
Result<std::int32_t> index_of_group(const Binding& binding, std::int64_t group) {
  const auto& groups = binding.plan().groups;
  const auto found = std::lower_bound(groups.begin(), groups.end(), group);
  if (found != groups.end() && *found == group) return static_cast<std::int32_t>(found - groups.begin());
  return invalid_argument(fmt::format("the plan has no group {}; it has {}", group, fmt::join(groups, ", ")));
}

}  // namespace

Status reshard::api::bind(const reshard_binding_desc_t& desc, Amendment amendment, reshard_binding* made) {
  RESHARD_TRY(check_not_null(desc.comm, "comm"));
  made->transport = desc.comm->transport;
  made->device_memory = desc.comm->device_memory;
  made->numbers = desc.comm->numbers;
  BindOptions options;
  options.transport = made->transport.get();
  options.numbers = made->numbers.get();
  // A bad timeout must not keep this rank from telling the others: it takes part under the comm's and fails after.
  options.timeout_us = desc.timeout_us > 0 ? desc.timeout_us : desc.comm->timeout_us;
  // From here on an error is this rank's vote, and Binding::create returns it after all ranks have heard of it.
  options.arguments = std::move(amendment.arguments);
  options.call = amendment.call;
  if (options.arguments.ok()) options.arguments = to_options(desc, made, &options);
  if (options.arguments.ok() && amendment.amend) options.arguments = amendment.amend(&options);
  RESHARD_TRY(choose(desc, device_of(made->place), made, &options));
  RESHARD_TRY(made->binding, Binding::create(options));
  return {};
}

Status reshard::api::rebind(const reshard_binding_desc_t& desc, BindCall call, const AmendUpdate& amend,
                            reshard_binding* binding) {
  UpdateOptions options;
  options.call = call;
  // A bad timeout must not keep this rank from telling the others, as at a bind.
  options.timeout_us = desc.timeout_us > 0 ? desc.timeout_us : kDefaultTimeoutUs;
  options.arguments = to_update(desc, *binding, &options);
  if (options.arguments.ok() && amend) options.arguments = amend(&options);
  RESHARD_TRY(binding->binding, Binding::update(*binding->binding, std::move(options)));
  return {};
}

extern "C" {

void reshard_buffer_init_sized(reshard_buffer_t* buffer, size_t struct_size) {
  reshard_buffer_t defaults{};
  defaults.device = -1;
  reshard::api::init_struct(buffer, struct_size, defaults);
}

void reshard_binding_desc_init_sized(reshard_binding_desc_t* desc, size_t struct_size) {
  reshard_binding_desc_t defaults{};
  defaults.timeout_us = kDefaultTimeoutUs;
  defaults.traffic_class = -1;
  defaults.device = -1;
  reshard::api::init_struct(desc, struct_size, defaults);
}

void reshard_binding_stats_init_sized(reshard_binding_stats_t* stats, size_t struct_size) {
  reshard::api::init_struct(stats, struct_size);
}

reshard_status_t reshard_binding_create(const reshard_binding_desc_t* given, reshard_binding_t* binding) {
  if (binding != nullptr) *binding = nullptr;
  return guard([&]() -> Status {
    const ProfileRange range("bind");
    RESHARD_TRY(const reshard_binding_desc_t desc, reshard::api::read_binding_desc(given));
    auto made = std::make_unique<reshard_binding>();
    RESHARD_TRY(
        reshard::api::bind(desc, {BindCall::kCreateBinding, check_not_null(binding, "binding"), {}}, made.get()));
    *binding = made.release();
    return {};
  });
}

reshard_status_t reshard_binding_update(reshard_binding_t binding, const reshard_binding_desc_t* given) {
  return guard([&]() -> Status {
    const ProfileRange range("update");
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(const reshard_binding_desc_t desc, reshard::api::read_binding_desc(given));
    return reshard::api::rebind(desc, BindCall::kUpdateBinding, {}, binding);
  });
}

void reshard_binding_destroy(reshard_binding_t binding) {
  delete binding;
}

reshard_status_t reshard_binding_get_driver(reshard_binding_t binding, reshard_driver_t* driver, const char** reason) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    if (driver != nullptr) *driver = binding->driver;
    if (reason != nullptr) *reason = binding->driver_reason.c_str();
    return {};
  });
}

reshard_status_t reshard_binding_start(reshard_binding_t binding, void* stream) {
  return guard([&]() -> Status {
    const ProfileRange range("start");
    RESHARD_TRY(check_not_null(binding, "binding"));
    return binding->binding->driver().start(stream);
  });
}

reshard_status_t reshard_binding_wait_group(reshard_binding_t binding, int64_t group, int64_t timeout_us) {
  return guard([&]() -> Status {
    const ProfileRange range("wait_group");
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(check_timeout(timeout_us));
    RESHARD_TRY(const std::int32_t index, index_of_group(*binding->binding, group));
    return binding->binding->driver().wait_group(index, Deadline(timeout_us));
  });
}

reshard_status_t reshard_binding_get_group_event(reshard_binding_t binding, int64_t group, void** event) {
  if (event != nullptr) *event = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(check_not_null(event, "event"));
    RESHARD_TRY(const std::int32_t index, index_of_group(*binding->binding, group));
    RESHARD_TRY(*event, binding->binding->driver().group_event(index));
    return {};
  });
}

reshard_status_t reshard_binding_poll(reshard_binding_t binding, int64_t capacity, int64_t* groups, int64_t* num_groups,
                                      int32_t* is_complete) {
  return guard([&]() -> Status {
    const ProfileRange range("poll");
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
    const ProfileRange range("finish");
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(check_timeout(timeout_us));
    return binding->binding->driver().finish(Deadline(timeout_us));
  });
}

reshard_status_t reshard_binding_verify(reshard_binding_t binding, int64_t timeout_us) {
  return guard([&]() -> Status {
    const ProfileRange range("verify");
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(check_timeout(timeout_us));
    return binding->binding->verify(Deadline(timeout_us));
  });
}

reshard_status_t reshard_binding_get_stats(reshard_binding_t binding, reshard_binding_stats_t* stats) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(binding, "binding"));
    RESHARD_TRY(reshard_binding_stats_t filled, read_versioned(stats, "reshard_binding_stats_t"));
    const Binding::Volume& volume = binding->binding->volume();
    filled.bytes_same_rank = volume.bytes_same_rank;
    filled.bytes_mapped = volume.bytes_mapped;
    filled.bytes_sent = volume.bytes_sent;
    filled.bytes_received = volume.bytes_received;
    filled.messages_sent = volume.messages_sent;
    filled.staging_bytes = volume.staging_bytes;
    filled.num_runs = binding->binding->driver().num_runs();
    filled.num_groups_complete = binding->binding->driver().num_groups_complete();
    filled.scratch_bytes = volume.scratch_bytes;
    std::memcpy(stats, &filled, filled.struct_size);  // no more than the caller's version has
    return {};
  });
}

}  // extern "C"
