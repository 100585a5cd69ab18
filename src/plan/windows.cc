// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Cuts routes into windows, the units that travel: large enough that a message is worth its cost, small enough that
// packing, travelling and unpacking overlap. Both ends of a hop compute the same windows from the plan alone; nothing
// of them is ever sent.
#include "src/plan/windows.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/arithmetic.h"
#include "src/plan/filling.h"
#include "src/plan/loads.h"

namespace reshard {
namespace {

// Beyond 4 MiB a message gains nothing on any wire we know, and smaller windows overlap better.
constexpr std::int64_t kMostWindowBytes = std::int64_t{4} << 20;
// From here on a fragment travels alone: copying it into a shared window costs more than a message of its own.
constexpr std::int64_t kAloneBytes = std::int64_t{1} << 20;
// Enough for a message: a window that holds this much does not wait for the next group.
constexpr std::int64_t kWorthwhileBytes = std::int64_t{256} << 10;
constexpr std::int32_t kMostSlots = 4;
// The smallest that depth makes of windows, and what their size is a multiple of: below, messages cost more than it
// gains that they overlap.
constexpr std::int64_t kLeastFittedBytes = std::int64_t{64} << 10;
constexpr std::int64_t kFittedStepBytes = std::int64_t{4} << 10;
// Filling may take this part of the time, 1 / 100.
constexpr std::int64_t kFillPart = 100;
// As many windows under way keep a link busy, if each takes this part of a message's latency.
constexpr std::int64_t kInFlight = 2;

/// Where a window that starts at element `begin` of the atom should end: at most max_elements on, at a row boundary of
/// the largest rows that fit, so that the fragment stays one box. A row of dim d is all that has the same indices in
/// dims 0 to d: a matrix is cut between its rows if one fits, else within a row.
std::int64_t chunk_end(const Box& box, std::int64_t begin, std::int64_t end, std::int64_t max_elements) {
  if (end - begin <= max_elements) return end;
  std::int64_t row = box.num_elements();
  for (int d = 0; d < box.num_dims; ++d) {
    row /= box.extent(d);
    // The last boundary between rows of dim d that is within reach; an outer dim has larger rows, so it is tried first.
    const std::int64_t cut = (begin + max_elements) / row * row;
    if (cut > begin) return cut;
  }
  return begin + max_elements;
}

/// Packs the fragments of a route, in their order, into windows. `open_` is the one that small fragments share; it is
/// closed before a large one, so that windows are in the order of fragments.
class WindowBuilder {
 public:
  explicit WindowBuilder(const Plan& plan) : plan_(plan), alone_bytes_(std::min(kAloneBytes, plan.window_bytes)) {}

  void add(Fragment fragment) {
    const PlanTensor& tensor = at(plan_.tensors, fragment.tensor);
    const std::int64_t bytes = (fragment.end - fragment.begin) * tensor.wire_bytes;
    const bool is_alone = bytes >= alone_bytes_;
    // With few groups open at once a window must not hold two: the second could be closed at the receiver. Else it may,
    // unless it is large enough by itself, so that a group need not wait for bytes of the next.
    const bool ends_group =
        tensor.group != open_.last_group && (open_.size_bytes >= kWorthwhileBytes || plan_.options.open_groups > 0);
    if (is_alone || ends_group || open_.size_bytes + bytes > plan_.window_bytes) close();
    if (!is_alone) {
      append(fragment, bytes);
      return;
    }
    const std::int64_t end = fragment.end;
    while (fragment.begin < end) {
      fragment.end = chunk_end(fragment.atom->box, fragment.begin, end, plan_.window_bytes / tensor.wire_bytes);
      append(fragment, (fragment.end - fragment.begin) * tensor.wire_bytes);
      close();
      fragment.begin = fragment.end;
    }
  }

  std::vector<Window> take() {
    close();
    return std::move(windows_);
  }

 private:
  void append(const Fragment& fragment, std::int64_t bytes) {
    const std::int32_t group = at(plan_.tensors, fragment.tensor).group;
    if (open_.fragments.empty()) open_.first_group = group;
    open_.last_group = group;
    open_.fragments.push_back(fragment);
    open_.size_bytes += bytes;
  }

  /// Ends the open window and gives it its place: `number` among all of the route, `ordinal` among those that begin
  /// with the same group.
  void close() {
    if (open_.fragments.empty()) return;
    open_.number = static_cast<std::int32_t>(windows_.size());
    open_.offset_bytes = windows_.empty() ? 0 : windows_.back().offset_bytes + windows_.back().size_bytes;
    // Windows of one group are counted, as their order within it where no schedule gives rounds.
    const bool same = !windows_.empty() && windows_.back().first_group == open_.first_group;
    open_.ordinal = same ? windows_.back().ordinal + 1 : 0;
    windows_.push_back(std::move(open_));
    open_ = {};
  }

  const Plan& plan_;
  std::int64_t alone_bytes_;
  Window open_;
  std::vector<Window> windows_;
};

}  // namespace

/// The shift and the sender are those of the route's first hop, for all of its hops: each hop's own would put later
/// hops of a window before earlier ones.
WindowOrder window_order(const Plan& plan, std::int64_t id, const Window& window, const Hop& hop) {
  const Route& route = at(plan.routes, id);
  const Hop& head = *plan.begin_hops(route);
  WindowOrder order;
  // Without a schedule the groups are the coarsest order; with one they are its business, unless receivers insist.
  const bool by_group = route.num_rounds == 0 || plan.options.open_groups > 0;
  order.phase = by_group ? plan.position_of(window.first_group, route.first_group) : 0;
  order.round = window.ordinal;
  if (route.num_rounds > 0) {
    // A route's rounds share its bytes evenly: the window is in the round in which its first byte falls.
    const std::int64_t passed = window.offset_bytes * route.num_rounds / route.size_bytes;
    order.round = at(plan.rounds, route.first_round + passed);
  }
  order.round += hop.delay;
  // Ranks walk their receivers in a circle that begins behind themselves, so that not all begin with the same one.
  order.shift = (head.dst - head.src + plan.num_ranks) % plan.num_ranks;
  order.src = head.src;
  order.route = id;
  order.number = window.number;
  order.step = hop.step;
  return order;
}

/// Cuts of ranges lie between elements (Line), so that divisions by the element's size leave nothing.
std::vector<Fragment> fragments_of(const Plan& plan, std::int32_t bundle_id, std::int64_t begin, std::int64_t end) {
  std::vector<Fragment> fragments;
  const Bundle& bundle = at(plan.bundles, bundle_id);
  const Strands strands = plan.strands(bundle);
  for (std::size_t s = strands.find(begin); s < strands.size(); ++s) {
    const Strand strand = strands[s];
    if (strand.begin_bytes >= end) break;
    const PlanTensor& tensor = at(plan.tensors, strand.tensor);
    // Atoms of a strand lie one behind another in the bundle; those outside [begin, end) are passed over.
    std::int64_t position = strand.begin_bytes;
    for (std::int32_t i = 0; i < strand.num_atoms && position < end; ++i) {
      const Atom& atom = at(at(plan.classes, tensor.atom_class).atoms, strand.first_atom + i);
      const std::int64_t bytes = atom.box.num_elements() * tensor.wire_bytes;
      const std::int64_t from = std::max(begin, position);
      const std::int64_t to = std::min(end, position + bytes);
      if (from < to) {
        fragments.push_back(
            {strand.tensor, &atom, (from - position) / tensor.wire_bytes, (to - position) / tensor.wire_bytes});
      }
      position += bytes;
    }
  }
  return fragments;
}

/// Fragments come bundle by bundle; they are put into the receivers' order of groups, and within one into plan order,
/// so that the windows of a group follow each other and it can be complete before the next begins.
std::vector<Window> windows_of(const Plan& plan, const Route& route) {
  std::vector<Fragment> fragments;
  for (const Range& range : plan.ranges_of(route)) {
    const std::vector<Fragment> more = fragments_of(plan, range.bundle, range.begin, range.end);
    fragments.insert(fragments.end(), more.begin(), more.end());
  }
  const auto key = [&](const Fragment& fragment) {
    return std::pair{plan.position_of(at(plan.tensors, fragment.tensor).group, route.first_group), fragment.tensor};
  };
  // The order of the fragments of one tensor is that of the ranges. Those of a single range are in order already,
  // unless the receivers begin with another group.
  const auto is_before = [&](const Fragment& a, const Fragment& b) { return key(a) < key(b); };
  if (!std::is_sorted(fragments.begin(), fragments.end(), is_before)) {
    std::stable_sort(fragments.begin(), fragments.end(), is_before);
  }
  WindowBuilder builder(plan);
  for (const Fragment& fragment : fragments) builder.add(fragment);
  return builder.take();
}

std::int64_t largest_element_bytes(const Plan& plan) {
  std::int64_t bytes = 1;
  for (const PlanTensor& tensor : plan.tensors) bytes = std::max(bytes, tensor.wire_bytes);
  return bytes;
}

Status choose_windows(Plan* plan) {
  const std::int64_t element_bytes = largest_element_bytes(*plan);
  const std::int64_t budget = plan->options.staging_bytes;
  // Half of the budget is for sending, half for receiving; as many slots as leave windows worth a message.
  plan->num_slots = kMostSlots;
  while (plan->num_slots > 1 && budget / (2 * plan->num_slots) < kWorthwhileBytes) plan->num_slots /= 2;
  plan->window_bytes = std::min(kMostWindowBytes, budget / (2 * plan->num_slots));
  if (plan->window_bytes < element_bytes) {
    return {RESHARD_ERR_STAGING_TOO_SMALL,
            fmt::format("a staging budget of {} bytes cannot hold one element of {} bytes to send and one to receive; "
                        "give at least {}",
                        budget, element_bytes, 2 * element_bytes)};
  }
  return {};
}

namespace {

std::vector<std::int64_t> rates_of(const Machine& machine) {
  std::vector<std::int64_t> rates;  // by resource
  for (std::int32_t r = 0; r < machine.num_resources(); ++r) rates.push_back(machine.link_of(r).bytes_per_s());
  return rates;
}

/// Of the busiest resource, filling apart. In integers, since ranks must agree on the windows to the byte.
std::int64_t busiest_picoseconds(const Plan& plan, const std::vector<std::int64_t>& rates) {
  const std::vector<std::int64_t> loads = loads_of(plan);
  std::int64_t most = 0;
  for (std::size_t r = 0; r < rates.size(); ++r) {
    if (loads[r] > 0 && rates[r] > 0) most = std::max(most, picoseconds(loads[r], rates[r]));
  }
  return most;
}

}  // namespace

/// What a route may wait: a hundredth of the time less its latencies, or half as long as these where they are most of
/// it already, for then smaller windows gain little. A route that is shorter than its window waits for its bytes alone.
/// Slots stay as they are.
void fit_windows(Plan* plan) {
  if (plan->options.machine == nullptr || plan->routes.empty()) return;
  const bool is_deep =
      std::any_of(plan->hops.begin(), plan->hops.end(), [](const Hop& hop) { return hop.parent >= 0; });
  if (!is_deep) return;
  const std::vector<std::int64_t> rates = rates_of(*plan->options.machine);
  // Where receivers limit open groups, those that are open come to an end before the next begin to fill.
  const auto num_groups = static_cast<std::int64_t>(plan->groups.size());
  const std::int64_t num_fillings =
      plan->options.open_groups > 0 ? ceil_div(num_groups, std::int64_t{plan->options.open_groups}) : 1;
  const std::int64_t allowed = busiest_picoseconds(*plan, rates) / num_fillings / kFillPart;
  FillingCounter counter(*plan);
  std::int64_t fitted = plan->window_bytes;
  for (const Route& route : plan->routes) {
    for (const Filling& filling : counter.count(route, plan->window_bytes)) {
      const std::int64_t may_wait = std::max(allowed - filling.latency, filling.latency / kInFlight);
      if (filling.waiting <= may_wait) continue;
      const auto bytes = static_cast<std::int64_t>(Wide{plan->window_bytes} * may_wait / filling.waiting);
      if (route.size_bytes > bytes) fitted = std::min(fitted, bytes);
    }
  }
  if (fitted == plan->window_bytes) return;
  fitted = std::max(fitted / kFittedStepBytes * kFittedStepBytes, kLeastFittedBytes);
  plan->window_bytes = std::min(plan->window_bytes, fitted);
}

}  // namespace reshard
