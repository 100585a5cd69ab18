// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A reload is a binding of which the caller's buffers are not what is bound: they are where layers stay, and what is
// bound is where they land. All else of the description is a binding's, and goes through the same checks.
#include "src/reload/reload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "src/api/bind.h"
#include "src/api/error.h"
#include "src/device/profile_range.h"

using namespace reshard;  // NOLINT(google-build-using-namespace): this file is the boundary
using reshard::api::check_not_null;
using reshard::api::check_struct;
using reshard::api::check_timeout;
using reshard::api::guard;
using reshard::api::kDefaultTimeoutUs;

/// What is handed out of one layer.
struct LayerView {
  std::vector<reshard_buffer_t> buffers;
  std::vector<reshard_buffer_t> outputs;
};

struct reshard_reload {
  reshard_reload() = default;
  /// What is bound to scratch goes first, then the scratch, and last the transport that it was allocated with.
  ~reshard_reload() { binding.binding.reset(); }
  reshard_reload(const reshard_reload&) = delete;
  reshard_reload& operator=(const reshard_reload&) = delete;

  reshard_binding binding;
  Reload reload;
  std::vector<LayerView> views;  // by group
};

namespace {

Result<std::int32_t> index_of_group(const Plan& plan, std::int64_t group) {
  const auto found = std::lower_bound(plan.groups.begin(), plan.groups.end(), group);
  if (found != plan.groups.end() && *found == group) return static_cast<std::int32_t>(found - plan.groups.begin());
  return invalid_argument(fmt::format("the plan has no group {}; it has {}", group, fmt::join(plan.groups, ", ")));
}

/// An output in the middle of a buffer would be overwritten by it, or the other way round.
Status check_apart(const ReloadMemory& stable, const std::vector<BoundBuffer>& src) {
  struct Piece {
    const std::byte* begin;
    const std::byte* end;
    std::string name;
  };
  std::vector<Piece> pieces;
  const auto add = [&](const std::byte* data, std::int64_t size_bytes, std::string name) {
    if (data != nullptr && size_bytes > 0) pieces.push_back({data, data + size_bytes, std::move(name)});
  };
  const std::vector<ReloadOutput>& outputs = stable.outputs;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    add(outputs[i].data, outputs[i].size_bytes, fmt::format("output {}", i));
  for (const BoundBuffer& b : src) add(b.data, b.size_bytes, fmt::format("source buffer {}", b.id));
  for (const BoundBuffer& b : stable.buffers) add(b.data, b.size_bytes, fmt::format("destination buffer {}", b.id));
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i].begin >= pieces[i - 1].end) continue;
    return invalid_argument(
        fmt::format("{} overlaps {}; what a reload writes shares no memory", pieces[i].name, pieces[i - 1].name));
  }
  return {};
}

Result<std::vector<ReloadOutput>> to_outputs(const reshard_reload_desc_t& desc, const Plan& plan) {
  std::vector<ReloadOutput> outputs;
  if (desc.num_outputs < 0) return invalid_argument(fmt::format("there are {} outputs", desc.num_outputs));
  if (desc.num_outputs > 0) RESHARD_TRY(check_not_null(desc.outputs, "outputs"));
  for (std::int64_t i = 0; i < desc.num_outputs; ++i) {
    const reshard_reload_output_t& given = desc.outputs[i];
    RESHARD_TRY(check_struct(&given, "reshard_reload_output_t"));
    const Result<std::int32_t> group = index_of_group(plan, given.group);
    if (!group.ok()) return Status(group.status()).with_context(fmt::format("output {}", i));
    outputs.push_back({*group, static_cast<std::byte*>(given.ptr),
                       static_cast<std::int64_t>(std::min<std::size_t>(given.size_bytes, INT64_MAX / 2))});
  }
  return outputs;
}

/// In place of the caller's destination buffers, where their layers land.
Status land_in_scratch(const reshard_reload_desc_t& desc, Reload* reload, BindOptions* options) {
  ReloadMemory stable{options->dst, {}, desc.lands_directly != 0};
  RESHARD_TRY(stable.outputs, to_outputs(desc, *options->plan));
  RESHARD_TRY(check_apart(stable, options->src));
  PeerMemory* const memory = options->peer_memory == nullptr ? options->transport : options->peer_memory;
  RESHARD_TRY(reload->prepare({options->transport, memory, options->make_copier}, options->plan, std::move(stable)));
  options->dst = reload->landing();
  options->holds_groups = true;
  return {};
}

/// The same for an update, which has what was given with it, and keeps the rest.
Status land_as_before(const reshard_reload_desc_t& desc, const reshard_reload& older, Reload* reload,
                      UpdateOptions* options) {
  const ReloadMemory& before = older.reload.stable();
  if (desc.lands_directly != 0 && !before.lands_directly) {
    return invalid_argument(
        "an update keeps what the reload was made with, and lands_directly is set; leave it as the "
        "init function has it, or create a reload anew");
  }
  ReloadMemory stable{options->dst, {}, before.lands_directly};
  RESHARD_TRY(stable.outputs, to_outputs(desc, *options->plan));
  RESHARD_TRY(reload->follow(older.reload, options->plan, std::move(stable)));
  std::vector<BoundBuffer> src = options->src;
  const Binding& bound = *older.binding.binding;
  if (options->plan->num_ranks == bound.plan().num_ranks) {
    const std::int32_t rank = older.binding.transport->rank();
    RESHARD_TRY(keep_buffers({"source", *bound.plan().src, bound.src(), *options->plan->src, rank}, &src));
  }
  RESHARD_TRY(check_apart(reload->stable(), src));
  options->dst = reload->landing();
  return {};
}

reshard_buffer_t to_buffer(const Layer::Part& part, const reshard_buffer_t& like) {
  reshard_buffer_t buffer = like;
  buffer.id = part.id;
  buffer.ptr = part.landed;
  buffer.size_bytes = static_cast<std::size_t>(part.size_bytes);
  return buffer;
}

/// The lists that are handed out, all at once: they stay where they are.
std::vector<LayerView> make_views(const Reload& reload, const reshard::api::BufferPlace& place) {
  reshard_buffer_t like;
  reshard_buffer_init(&like);
  like.memory = place.memory;
  like.device = place.device;
  std::vector<LayerView> views(reload.plan().groups.size());
  for (const Layer& layer : reload.layers()) {
    LayerView& view = at(views, layer.group);
    for (const Layer::Part& part : layer.buffers) view.buffers.push_back(to_buffer(part, like));
    for (const Layer::Part& part : layer.outputs) view.outputs.push_back(to_buffer(part, like));
  }
  return views;
}

reshard_binding_desc_t binding_desc(const reshard_reload_desc_t& given) {
  reshard_binding_desc_t desc;
  reshard_binding_desc_init(&desc);
  desc.plan = given.plan;
  desc.comm = given.comm;
  desc.num_src_buffers = given.num_src_buffers;
  desc.src_buffers = given.src_buffers;
  desc.num_dst_buffers = given.num_dst_buffers;
  desc.dst_buffers = given.dst_buffers;
  desc.timeout_us = given.timeout_us;
  desc.driver = RESHARD_DRIVER_POLL;
  return desc;
}

}  // namespace

extern "C" {

void reshard_reload_output_init_sized(reshard_reload_output_t* output, size_t struct_size) {
  reshard::api::init_struct(output, struct_size);
}

void reshard_reload_desc_init_sized(reshard_reload_desc_t* desc, size_t struct_size) {
  reshard_reload_desc_t defaults{};
  defaults.timeout_us = kDefaultTimeoutUs;
  reshard::api::init_struct(desc, struct_size, defaults);
}

void reshard_reload_layer_init_sized(reshard_reload_layer_t* layer, size_t struct_size) {
  reshard::api::init_struct(layer, struct_size);
}

reshard_status_t reshard_reload_create(const reshard_reload_desc_t* desc, reshard_reload_t* reload) {
  if (reload != nullptr) *reload = nullptr;
  return guard([&]() -> Status {
    RESHARD_TRY(check_struct(desc, "reshard_reload_desc_t"));
    auto made = std::make_unique<reshard_reload>();
    const auto amend = [&](BindOptions* options) { return land_in_scratch(*desc, &made->reload, options); };
    RESHARD_TRY(reshard::api::bind(binding_desc(*desc),
                                   {BindCall::kCreateReload, check_not_null(reload, "reload"), amend}, &made->binding));
    made->reload.attach(made->binding.binding.get());
    made->views = make_views(made->reload, made->binding.place);
    *reload = made.release();
    return {};
  });
}

reshard_status_t reshard_reload_update(reshard_reload_t reload, const reshard_reload_desc_t* desc) {
  return guard([&]() -> Status {
    const ProfileRange range("update");
    RESHARD_TRY(check_not_null(reload, "reload"));
    RESHARD_TRY(check_struct(desc, "reshard_reload_desc_t"));
    Reload next;
    const auto amend = [&](UpdateOptions* options) { return land_as_before(*desc, *reload, &next, options); };
    RESHARD_TRY(reshard::api::rebind(binding_desc(*desc), BindCall::kUpdateReload, amend, &reload->binding));
    next.attach(reload->binding.binding.get());
    reload->reload = std::move(next);
    reload->views = make_views(reload->reload, reload->binding.place);
    return {};
  });
}

void reshard_reload_destroy(reshard_reload_t reload) {
  delete reload;
}

reshard_status_t reshard_reload_start(reshard_reload_t reload, void* stream) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    return reload->reload.start(stream);
  });
}

reshard_status_t reshard_reload_next(reshard_reload_t reload, int64_t timeout_us, reshard_reload_layer_t* layer,
                                     int32_t* has_layer) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    RESHARD_TRY(check_timeout(timeout_us));
    RESHARD_TRY(check_struct(layer, "reshard_reload_layer_t"));
    RESHARD_TRY(check_not_null(has_layer, "has_layer"));
    RESHARD_TRY(const Layer* next, reload->reload.next(Deadline(timeout_us)));
    *has_layer = next == nullptr ? 0 : 1;
    if (next == nullptr) return {};
    const LayerView& view = at(reload->views, next->group);
    layer->group = at(reload->reload.plan().groups, next->group);
    layer->num_buffers = std::ssize(view.buffers);
    layer->buffers = view.buffers.data();
    layer->num_outputs = std::ssize(view.outputs);
    layer->outputs = view.outputs.data();
    return {};
  });
}

reshard_status_t reshard_reload_poll(reshard_reload_t reload, int32_t* has_layer) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    RESHARD_TRY(const bool is_there, reload->reload.poll());
    if (has_layer != nullptr) *has_layer = is_there ? 1 : 0;
    return {};
  });
}

reshard_status_t reshard_reload_commit(reshard_reload_t reload, int64_t group, void* stream) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    RESHARD_TRY(const std::int32_t index, index_of_group(reload->reload.plan(), group));
    return reload->reload.commit(index, stream);
  });
}

reshard_status_t reshard_reload_give_up(reshard_reload_t reload, const char* reason) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    return reload->reload.give_up({RESHARD_ERR_GIVEN_UP, reason == nullptr ? "no reason was given" : reason});
  });
}

reshard_status_t reshard_reload_finish(reshard_reload_t reload, int64_t timeout_us) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    RESHARD_TRY(check_timeout(timeout_us));
    return reload->reload.finish(timeout_us);
  });
}

reshard_status_t reshard_reload_get_state(reshard_reload_t reload, int64_t group, reshard_layer_state_t* state) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    RESHARD_TRY(check_not_null(state, "state"));
    RESHARD_TRY(const std::int32_t index, index_of_group(reload->reload.plan(), group));
    *state = static_cast<reshard_layer_state_t>(reload->reload.state(index));
    return {};
  });
}

reshard_status_t reshard_reload_get_stats(reshard_reload_t reload, reshard_binding_stats_t* stats,
                                          int64_t* scratch_bytes) {
  return guard([&]() -> Status {
    RESHARD_TRY(check_not_null(reload, "reload"));
    if (stats != nullptr && reshard_binding_get_stats(&reload->binding, stats) != RESHARD_OK) {
      return {RESHARD_ERR_INVALID_ARGUMENT, reshard_last_error()};
    }
    if (scratch_bytes != nullptr) *scratch_bytes = reload->reload.scratch_bytes();
    return {};
  });
}

}  // extern "C"
