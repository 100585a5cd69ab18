// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/plan/element_machine.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/unit/scenario/scenario.h"

namespace reshard::testing {
namespace {

std::int64_t value_of(std::int64_t tensor, std::int64_t element) {
  return tensor * 1'000'003 + element * 7 + 1;
}

template <typename Visit>
void for_each_held(const ModelLayout& layout, std::int32_t rank, std::int64_t tensor, const Visit& visit) {
  const std::vector<std::int64_t>& shape = at(layout.tensors(), tensor).shape;
  for (const Block& block : layout.blocks(rank, tensor)) {
    if (block.kind != BlockKind::kData) continue;
    for_each_element(block, [&](const Dims& index, std::int64_t) { visit(flat_index(shape, index)); });
  }
}

}  // namespace

ElementMachine::ElementMachine(const Plan& plan) : plan_(plan) {
  read_layouts();
  make_legs();
}

void ElementMachine::read_layouts() {
  const auto num_ranks = static_cast<std::size_t>(plan_.num_ranks);
  sources_.resize(num_ranks);
  staging_.resize(num_ranks);
  open_.resize(num_ranks);
  std::vector<Values> nothing;
  for (const PlanTensor& tensor : plan_.tensors) {
    std::int64_t count = 1;
    for (const std::int64_t extent : at(plan_.dst->tensors(), tensor.dst).shape) count *= extent;
    nothing.emplace_back(static_cast<std::size_t>(count), -1);
  }
  received_.assign(num_ranks, nothing);
  for (std::int32_t rank = 0; rank < plan_.num_ranks; ++rank) {
    at(sources_, rank) = nothing;
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      const std::int64_t src = plan_.src->find_tensor(at(plan_.dst->tensors(), plan_.tensors[t].dst).name);
      for_each_held(*plan_.src, rank, src, [&](std::int64_t element) {
        at(at(sources_, rank)[t], element) = value_of(static_cast<std::int64_t>(t), element);
      });
    }
  }
}

void ElementMachine::make_legs() {
  for (const Route& route : plan_.routes) windows_.push_back(windows_of(plan_, route));
  for (std::size_t r = 0; r < plan_.routes.size(); ++r) {
    const Route& route = plan_.routes[r];
    for (const Window& window : windows_[r]) {
      for (std::int32_t h = 0; h < route.num_hops; ++h) {
        const Hop& hop = plan_.begin_hops(route)[h];
        legs_.push_back({window_order(plan_, static_cast<std::int64_t>(r), window, hop), route, &window, h});
      }
    }
  }
  // Hops of one step of a route are equal in the order; they have different ranks, and either may be first.
  std::stable_sort(legs_.begin(), legs_.end(), [](const Leg& a, const Leg& b) { return a.order < b.order; });
}

std::string ElementMachine::run() {
  for (const Leg& leg : legs_) {
    const std::string wrong = execute(leg);
    if (!wrong.empty()) return wrong;
    ++now_;
  }
  for (const auto& staged : staging_) {
    if (!staged.empty()) return "staging holds a window at the end";
  }
  return check_result();
}

std::string ElementMachine::execute(const Leg& leg) {
  Values values;
  const std::string wrong = load(leg, &values);
  return wrong.empty() ? store(leg, values) : wrong;
}

std::string ElementMachine::load(const Leg& leg, Values* values) {
  const HopIterator hops = plan_.begin_hops(leg.route);
  const Hop& hop = hops[leg.hop];
  if (hop.parent >= 0 && hops[hop.parent].dst != hop.src) return "a hop does not begin where its parent ends";
  if (hop.parent >= 0 && hops[hop.parent].to_staging) {
    auto& slots = at(staging_, hop.src);
    const auto staged = slots.find(leg.window);
    if (staged == slots.end()) return fmt::format("rank {} has not staged what it forwards", hop.src);
    *values = staged->second.values;
    if (--staged->second.sends_left == 0) slots.erase(staged);
    return "";
  }
  const std::vector<Values>& from = at(hop.parent < 0 ? sources_ : received_, hop.src);
  for (const Fragment& fragment : leg.window->fragments) {
    for (const std::int64_t element : elements_of(fragment)) {
      values->push_back(at(at(from, fragment.tensor), element));
      if (values->back() < 0) {
        return fmt::format("rank {} sends element {} of tensor {} before it has it", hop.src, element, fragment.tensor);
      }
    }
  }
  return "";
}

std::string ElementMachine::store(const Leg& leg, const Values& values) {
  const HopIterator hops = plan_.begin_hops(leg.route);
  const Hop& hop = hops[leg.hop];
  if (hop.to_staging) {
    Staged staged{values, 0};
    for (std::int32_t h = 0; h < leg.route.num_hops; ++h) staged.sends_left += hops[h].parent == leg.hop ? 1 : 0;
    if (staged.sends_left == 0) return fmt::format("rank {} stages what nobody wants", hop.dst);
    at(staging_, hop.dst)[leg.window] = std::move(staged);
    most_slots_ = std::max(most_slots_, static_cast<std::int32_t>(at(staging_, hop.dst).size()));
    return "";
  }
  auto value = values.begin();
  for (const Fragment& fragment : leg.window->fragments) {
    const std::int32_t group = at(plan_.tensors, fragment.tensor).group;
    const auto [entry, is_new] = at(open_, hop.dst).try_emplace(group, now_, now_);
    entry->second.second = now_;
    for (const std::int64_t element : elements_of(fragment)) {
      std::int64_t& place = at(at(at(received_, hop.dst), fragment.tensor), element);
      if (place >= 0) {
        return fmt::format("rank {} gets element {} of tensor {} twice", hop.dst, element, fragment.tensor);
      }
      place = *value++;
    }
  }
  return value == values.end() ? "" : "a window has shrunk on its way";
}

std::string ElementMachine::check_result() const {
  for (std::int32_t rank = 0; rank < plan_.num_ranks; ++rank) {
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
      std::string wrong;
      std::vector<bool> is_wanted(at(received_, rank)[t].size());
      for_each_held(*plan_.dst, rank, plan_.tensors[t].dst, [&](std::int64_t element) {
        is_wanted[static_cast<std::size_t>(element)] = true;
        const std::int64_t local = at(at(sources_, rank)[t], element);
        const std::int64_t come = at(at(received_, rank)[t], element);
        if (local >= 0 && come >= 0) wrong = fmt::format("rank {} gets what it has: {} of {}", rank, element, t);
        if (std::max(local, come) == value_of(static_cast<std::int64_t>(t), element)) return;
        wrong = fmt::format("rank {} lacks element {} of tensor {}", rank, element, t);
      });
      for (std::size_t i = 0; i < is_wanted.size(); ++i) {
        if (!is_wanted[i] && at(received_, rank)[t][i] >= 0)
          wrong = fmt::format("rank {} keeps what it does not want", rank);
      }
      if (!wrong.empty()) return wrong;
    }
  }
  return "";
}

std::vector<std::int64_t> ElementMachine::elements_of(const Fragment& fragment) const {
  const std::vector<std::int64_t>& shape = at(plan_.dst->tensors(), at(plan_.tensors, fragment.tensor).dst).shape;
  const Box& box = fragment.atom->box;
  std::vector<std::int64_t> out;
  for (std::int64_t i = fragment.begin; i < fragment.end; ++i) {
    Dims index;
    std::int64_t rest = i;
    for (int d = box.num_dims - 1; d >= 0; --d) {
      index[d] = box.begin[d] + rest % box.extent(d);
      rest /= box.extent(d);
    }
    out.push_back(flat_index(shape, index));
  }
  return out;
}

std::int64_t ElementMachine::most_open_groups() const {
  std::int64_t most = 0;
  for (const auto& groups : open_) {
    for (const auto& [group, when] : groups) {
      most =
          std::max<std::int64_t>(most, std::count_if(groups.begin(), groups.end(), [&, &its = when](const auto& other) {
                                   return other.second.first <= its.first && its.first <= other.second.second;
                                 }));
    }
  }
  return most;
}

}  // namespace reshard::testing
