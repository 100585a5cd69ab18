// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Layouts that place tensors elsewhere. What of them lies where it did needs no new cells.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/plan/replan.h"
#include "src/plan/replan/replan_with.h"

namespace reshard {
namespace {

bool equal(const DimMapPtr& a, const DimMapPtr& b) {
  if (a == b || a == nullptr || b == nullptr) return a == b;
  return a->owns_padding == b->owns_padding && a->parts == b->parts;
}

/// Layouts that are built apart have other objects with the same content; tensors by the thousand share these, so each
/// pair is compared once.
class TensorComparison {
 public:
  TensorComparison(const ModelLayout& a, const ModelLayout& b) : a_(a), b_(b) {}

  /// Whether the tensor has the same elements in the same places on every rank, buffers by number.
  bool is_same(std::int64_t tensor) {
    const auto& a = a_.placements(tensor);
    const auto& b = b_.placements(tensor);
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [&](const Placement& x, const Placement& y) { return are_equal(x, y); }) &&
           are_equal(a_.rank_blocks(tensor), b_.rank_blocks(tensor));
  }

 private:
  bool are_equal(const Placement& a, const Placement& b) {
    if (a.order != b.order || a.buffer != b.buffer || a.offset_bytes != b.offset_bytes || a.padding != b.padding ||
        a.dims.size() != b.dims.size() || !have_equal_ranks(a.mesh, b.mesh)) {
      return false;
    }
    for (std::size_t d = 0; d < a.dims.size(); ++d) {
      if (a.dims[d].axes != b.dims[d].axes || !have_equal_parts(a.dims[d].map, b.dims[d].map)) return false;
    }
    return true;
  }

  bool have_equal_ranks(const MeshPtr& a, const MeshPtr& b) {
    const auto [entry, is_new] = meshes_.try_emplace({a.get(), b.get()}, false);
    if (!is_new) return entry->second;
    const auto is_alike = [](const MeshAxis& x, const MeshAxis& y) { return x.size == y.size; };
    entry->second = a->ranks() == b->ranks() &&
                    std::equal(a->axes().begin(), a->axes().end(), b->axes().begin(), b->axes().end(), is_alike);
    return entry->second;
  }

  bool have_equal_parts(const DimMapPtr& a, const DimMapPtr& b) {
    const auto [entry, is_new] = maps_.try_emplace({a.get(), b.get()}, false);
    if (is_new) entry->second = equal(a, b);
    return entry->second;
  }

  static bool are_equal(const std::vector<RankBlock>& a, const std::vector<RankBlock>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const RankBlock& x, const RankBlock& y) {
      return x.rank == y.rank && x.block.kind == y.block.kind && x.block.buffer == y.block.buffer &&
             x.block.box == y.block.box && x.block.offset_bytes == y.block.offset_bytes &&
             std::equal(x.block.strides_bytes.values, x.block.strides_bytes.values + x.block.box.num_dims,
                        y.block.strides_bytes.values);
    });
  }

  const ModelLayout& a_;
  const ModelLayout& b_;
  std::map<std::pair<const Mesh*, const Mesh*>, bool> meshes_;
  std::map<std::pair<const DimMap*, const DimMap*>, bool> maps_;
};

/// An update moves tensors about; what they are, and in which group they come, is as it was.
Status check_same_tensors(const ModelLayout& old, const ModelLayout& now) {
  const auto other = [](const std::string& what) {
    return Status(RESHARD_ERR_LAYOUT_MISMATCH, what + "; an update changes where tensors lie, plan anew for all else");
  };
  if (old.tensors().size() != now.tensors().size()) {
    return other(fmt::format("the destination had {} tensors and has {}", old.tensors().size(), now.tensors().size()));
  }
  for (std::size_t t = 0; t < old.tensors().size(); ++t) {
    const Tensor& before = old.tensors()[t];
    const Tensor& after = now.tensors()[t];
    if (before.name != after.name) {
      return other(fmt::format("destination tensor {} was \"{}\" and is \"{}\"", t, before.name, after.name));
    }
    const auto index = static_cast<std::int64_t>(t);
    if (before.shape != after.shape || before.dtype != after.dtype || before.group != after.group ||
        !(old.scales(index) == now.scales(index))) {
      return other(fmt::format("destination tensor \"{}\" has another shape, dtype, group or scales", before.name));
    }
  }
  return {};
}

/// Whether cells of the old plan may serve a new one: it has kept them, and not too many sets of ranks that none of its
/// bundles has any more, which would grow from update to update.
bool keeps_cells(const Plan& old) {
  constexpr std::int64_t kFewSets = 1024;
  return old.src_partitions != nullptr && old.conversions.empty() &&
         old.sets.size() <= kFewSets + 4 * std::ssize(old.bundles);
}

/// KiB of the tensors that lie elsewhere than before, or of the others: their sum stays within 63 bits.
std::int64_t changed_kib(const ModelLayout& layout, const std::vector<bool>& is_same, bool is_changed) {
  std::int64_t kib = 0;
  for (std::size_t t = 0; t < is_same.size(); ++t) {
    const Tensor& tensor = layout.tensors()[t];
    if (is_same[t] == is_changed) continue;
    kib += whole_box(tensor.shape).num_elements() * size_bytes(tensor.dtype) / 1024;
  }
  return kib;
}

/// Of a plan that was made anew since little would have stayed: keeping that costs more than it saves.
Changes all_changed(const Plan& plan) {
  Changes changes;
  for (const Route& route : plan.routes) changes.bytes += route.size_bytes * route.num_hops;
  changes.bytes_changed = changes.bytes;
  changes.bundles = changes.bundles_changed = std::ssize(plan.bundles);
  return changes;
}

}  // namespace

std::vector<bool> same_places(const ModelLayout& old, const ModelLayout& now) {
  std::vector<bool> is_same(now.tensors().size(), &old == &now);
  if (&old == &now) return is_same;
  TensorComparison comparison(old, now);
  for (std::size_t t = 0; t < std::min(old.tensors().size(), is_same.size()); ++t) {
    const auto tensor = static_cast<std::int64_t>(t);
    is_same[t] = old.tensors()[t].shape == now.tensors()[t].shape && old.tensors()[t].dtype == now.tensors()[t].dtype &&
                 old.scales(tensor) == now.scales(tensor) && comparison.is_same(tensor);
  }
  return is_same;
}

Result<Plan> update_plan(const Plan& old, const std::shared_ptr<const ModelLayout>& dst, Changes* changes) {
  const ModelLayout& before = *(old.given_dst != nullptr ? old.given_dst : old.dst);
  RESHARD_TRY(check_same_tensors(before, *dst));
  Unchanged unchanged{old, {}};
  TensorComparison comparison(before, *dst);
  for (std::size_t t = 0; t < before.tensors().size(); ++t) {
    unchanged.dst_tensors.push_back(comparison.is_same(static_cast<std::int64_t>(t)));
  }
  const std::shared_ptr<const ModelLayout>& src = old.given_src != nullptr ? old.given_src : old.src;
  const bool is_mostly_new =
      changed_kib(before, unchanged.dst_tensors, true) > changed_kib(before, unchanged.dst_tensors, false);
  RESHARD_TRY(Plan plan, is_mostly_new ? create_plan(src, dst, old.options)
                                       : replan_with(old, src, dst, keeps_cells(old) ? &unchanged : nullptr, changes));
  if (is_mostly_new) *changes = all_changed(plan);
  changes->tensors = static_cast<std::int64_t>(before.tensors().size());
  changes->tensors_changed = std::count(unchanged.dst_tensors.begin(), unchanged.dst_tensors.end(), false);
  return plan;
}

}  // namespace reshard
