// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#ifndef RESHARD_CPP_RELOAD_HPP
#define RESHARD_CPP_RELOAD_HPP

/// @file
/// New weights for a server that is up, layer by layer. reshard.hpp includes this header.

#include <reshard/cpp/binding.hpp>

namespace reshard {
inline namespace RESHARD_HPP_NAMESPACE {

/// What a run of a plan brings to one rank: reshard_manifest_t. Names are the manifest's.
class Manifest : public detail::Handle<reshard_manifest_t, reshard_manifest_destroy> {
 public:
  using Handle::Handle;

  [[nodiscard]] static Result<Manifest> create(const Plan& plan, std::int32_t rank) {
    return detail::created<Manifest>(reshard_manifest_create, plan.get(), rank);
  }
  [[nodiscard]] Result<std::int64_t> num_tensors() const {
    return detail::last_argument<std::int64_t>(reshard_manifest_num_tensors, get());
  }
  [[nodiscard]] Result<reshard_manifest_tensor_t> tensor(std::int64_t index) const {
    return detail::filled<reshard_manifest_tensor_t>(reshard_manifest_tensor_init, reshard_manifest_get_tensor, get(),
                                                     index);
  }
  /// Piece `piece` of the tensor at `index`.
  [[nodiscard]] Result<reshard_manifest_piece_t> piece(std::int64_t index, std::int64_t piece) const {
    return detail::filled<reshard_manifest_piece_t>(reshard_manifest_piece_init, reshard_manifest_get_piece, get(),
                                                    index, piece);
  }
};

/// Memory that the caller fills out of a layer: as reshard_reload_output_t.
struct ReloadOutput {
  std::int64_t group = 0;
  void* ptr = nullptr;
  std::size_t size_bytes = 0;
};

/// As reshard_reload_desc_t, without plan and comm.
struct ReloadOptions {
  std::vector<Buffer> src = {};
  std::vector<Buffer> dst = {};  ///< ptr NULL: in scratch alone
  std::vector<ReloadOutput> outputs = {};
  bool lands_directly = false;
  std::chrono::microseconds timeout = std::chrono::seconds(60);  ///< for the exchange with the other ranks
};

/// What changes when a reload goes on to another plan: see reshard_reload_update.
struct ReloadUpdateOptions {
  std::vector<Buffer> src = {};                                  ///< those that lie elsewhere than before, or are new
  std::vector<Buffer> dst = {};                                  ///< those that stay elsewhere than before, or are new
  std::vector<ReloadOutput> outputs = {};                        ///< all of them; none: those that the reload has
  std::chrono::microseconds timeout = std::chrono::seconds(60);  ///< for the exchange with the other ranks
};

namespace detail {

inline std::vector<reshard_reload_output_t> to_c(const std::vector<ReloadOutput>& outputs) {
  std::vector<reshard_reload_output_t> out(outputs.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    reshard_reload_output_init(&out[i]);
    out[i].group = outputs[i].group;
    out[i].ptr = outputs[i].ptr;
    out[i].size_bytes = outputs[i].size_bytes;
  }
  return out;
}

/// A description of a reload with all that it has in common with that of an update.
template <typename Options>
reshard_reload_desc_t reload_desc(const Plan& plan, const Options& options, const std::vector<reshard_buffer_t>& src,
                                  const std::vector<reshard_buffer_t>& dst,
                                  const std::vector<reshard_reload_output_t>& outputs) {
  reshard_reload_desc_t desc;
  reshard_reload_desc_init(&desc);
  desc.plan = plan.get();
  set_buffers(desc, src, dst);
  desc.num_outputs = static_cast<std::int64_t>(outputs.size());
  desc.outputs = outputs.data();
  desc.timeout_us = options.timeout.count();
  return desc;
}

}  // namespace detail

/// A layer that has landed. The memory is the reload's; it may be read and changed until the layer is committed.
struct Layer {
  std::int64_t group = 0;                          ///< as the plan numbers it
  std::span<const reshard_buffer_t> buffers = {};  ///< its destination buffers, where they landed
  std::span<const reshard_buffer_t> outputs = {};  ///< in the order of ReloadOptions::outputs
};

/// Counters of a reload.
struct ReloadStats {
  reshard_binding_stats_t binding = {};  ///< as of a binding
  std::int64_t scratch_bytes = 0;        ///< memory of the open layers
};

/// A binding whose layers land in scratch and are committed one by one: reshard_reload_t.
class Reload : public detail::Handle<reshard_reload_t, reshard_reload_destroy> {
 public:
  using Handle::Handle;

  /// Collective.
  [[nodiscard]] static Result<Reload> create(const Plan& plan, const Comm& comm, const ReloadOptions& options) {
    const std::vector<reshard_buffer_t> src = detail::to_c(options.src);
    const std::vector<reshard_buffer_t> dst = detail::to_c(options.dst);
    const std::vector<reshard_reload_output_t> outputs = detail::to_c(options.outputs);
    reshard_reload_desc_t desc = detail::reload_desc(plan, options, src, dst, outputs);
    desc.comm = comm.get();
    desc.lands_directly = options.lands_directly ? 1 : 0;
    return detail::created<Reload>(reshard_reload_create, static_cast<const reshard_reload_desc_t*>(&desc));
  }

  /// Collective: goes on with another plan of the same ranks, on every rank or on none. What is committed stays.
  [[nodiscard]] Result<void> update(const Plan& plan, const ReloadUpdateOptions& options = {}) {
    const std::vector<reshard_buffer_t> src = detail::to_c(options.src);
    const std::vector<reshard_buffer_t> dst = detail::to_c(options.dst);
    const std::vector<reshard_reload_output_t> outputs = detail::to_c(options.outputs);
    const reshard_reload_desc_t desc = detail::reload_desc(plan, options, src, dst, outputs);
    return detail::outcome(reshard_reload_update(get(), &desc));
  }

  [[nodiscard]] Result<void> start(void* stream = nullptr) {
    return detail::outcome(reshard_reload_start(get(), stream));
  }
  /// The next layer that lands; nothing when all have been handed out. After an error finish() is called all the same.
  [[nodiscard]] Result<std::optional<Layer>> next(std::chrono::microseconds timeout) {
    reshard_reload_layer_t layer;
    reshard_reload_layer_init(&layer);
    std::int32_t has_layer = 0;
    const reshard_status_t status = reshard_reload_next(get(), timeout.count(), &layer, &has_layer);
    if (status != RESHARD_OK) return detail::failure(status);
    if (has_layer == 0) return std::nullopt;
    return Layer{layer.group,
                 {layer.buffers, static_cast<std::size_t>(layer.num_buffers)},
                 {layer.outputs, static_cast<std::size_t>(layer.num_outputs)}};
  }
  /// Moves the run on without waiting. Whether next() hands a layer out at once.
  [[nodiscard]] Result<bool> poll() {
    const auto has_layer = detail::last_argument<std::int32_t>(reshard_reload_poll, get());
    if (!has_layer) return Failure(has_layer.error());
    return *has_layer != 0;
  }
  /// Copies a layer, its outputs included, to where it stays.
  [[nodiscard]] Result<void> commit(std::int64_t group, void* stream = nullptr) {
    return detail::outcome(reshard_reload_commit(get(), group, stream));
  }
  /// The caller cannot go on, for this reason.
  [[nodiscard]] Result<void> give_up(std::string_view reason) {
    return detail::outcome(reshard_reload_give_up(get(), std::string(reason).c_str()));
  }
  /// Collective, after every start, whatever failed meanwhile.
  [[nodiscard]] Result<void> finish(std::chrono::microseconds timeout) {
    return detail::outcome(reshard_reload_finish(get(), timeout.count()));
  }
  [[nodiscard]] Result<reshard_layer_state_t> state(std::int64_t group) const {
    return detail::last_argument<reshard_layer_state_t>(reshard_reload_get_state, get(), group);
  }
  [[nodiscard]] Result<ReloadStats> stats() const {
    ReloadStats stats;
    reshard_binding_stats_init(&stats.binding);
    const reshard_status_t status = reshard_reload_get_stats(get(), &stats.binding, &stats.scratch_bytes);
    if (status != RESHARD_OK) return detail::failure(status);
    return stats;
  }
};

}  // namespace RESHARD_HPP_NAMESPACE
}  // namespace reshard

#endif  // RESHARD_CPP_RELOAD_HPP
