// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/plan/conversions.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "src/layout/scale_layout.h"
#include "src/plan/plan.h"

namespace reshard {
namespace {

Status mismatch(std::string message) {
  return {RESHARD_ERR_LAYOUT_MISMATCH, std::move(message)};
}

bool is_wide(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16;
}

std::string text_of(const CutBlock& cut) {
  return fmt::format("dimension {} is cut at {}, inside a block of {}", cut.dim, cut.border, cut.block);
}

/// Who holds elements without holding the scales that belong to them. Tensors that are cut alike are looked at once.
class ScaleHolders {
 public:
  explicit ScaleHolders(const ModelLayout& layout) : cells_(layout, &sets_) {}

  /// A box of elements of `tensor` that some rank has without all of their scales in `scales`.
  std::optional<Box> find_without(std::int64_t tensor, std::int64_t scales, const ScaleGrid& grid) {
    const std::int32_t elements_id = cells_.partition_of(tensor);
    const std::int32_t scales_id = cells_.partition_of(scales);
    std::vector<std::int64_t> blocks(grid.block.values, grid.block.values + grid.num_dims);
    const auto [known, is_new] = known_.try_emplace({elements_id, scales_id, std::move(blocks)});
    if (is_new) known->second = look(cells_.partition(elements_id), cells_.partition(scales_id), grid);
    return known->second;
  }

 private:
  std::optional<Box> look(const Partition& elements, const Partition& scales, const ScaleGrid& grid) {
    for (const Cell& cell : elements.cells) {
      const Box needed = grid.scales_of(cell.box);
      std::int64_t num_found = 0;
      for (const Cell& there : scales.cells) {
        const Box common = reshard::intersect(there.box, needed);
        if (!common.empty() && holds(there.holders, cell.holders)) num_found += common.num_elements();
      }
      if (num_found != needed.num_elements()) return cell.box;  // cells of a partition are disjoint
    }
    return std::nullopt;
  }

  bool holds(std::int32_t holders, std::int32_t wanted) {
    const std::vector<std::int32_t>& all = sets_.ranks(holders);
    const std::vector<std::int32_t>& some = sets_.ranks(wanted);
    return holders == wanted || std::includes(all.begin(), all.end(), some.begin(), some.end());
  }

  RankSets sets_;
  Partitioner cells_;
  std::map<std::tuple<std::int32_t, std::int32_t, std::vector<std::int64_t>>, std::optional<Box>> known_;
};

/// One side of the plan while tensors are added to a copy of the caller's layout.
struct Side {
  explicit Side(const ModelLayout& given) : layout(std::make_shared<ModelLayout>(given)) {}

  std::shared_ptr<ModelLayout> layout;
  BesidePlacer placer{layout.get()};
  ScaleHolders holders{*layout};
};

class ConversionChooser {
 public:
  explicit ConversionChooser(Plan* plan)
      : plan_(plan), given_src_(*plan->given_src), given_dst_(*plan->given_dst), src_(given_src_), dst_(given_dst_) {}

  Status run() {
    for (std::int64_t d = 0; d < std::ssize(given_dst_.tensors()); ++d) {
      const std::int64_t s = given_src_.find_tensor(at(given_dst_.tensors(), d).name);
      if (s >= 0) RESHARD_TRY(choose(s, d).with_context("tensor \"" + at(given_dst_.tensors(), d).name + "\""));
    }
    if (plan_->conversions.empty()) return {};
    plan_->src = src_.layout;
    plan_->dst = dst_.layout;
    return {};
  }

 private:
  Status choose(std::int64_t s, std::int64_t d) {
    const Tensor& from = at(given_src_.tensors(), s);
    const Tensor& to = at(given_dst_.tensors(), d);
    const bool has_src_scales = given_src_.scales(s).tensor >= 0;
    const bool has_dst_scales = given_dst_.scales(d).tensor >= 0;
    if (from.shape != to.shape) return {};  // refused when tensors are matched
    if (from.dtype == to.dtype) return has_src_scales && has_dst_scales ? check_same_scales(s, d) : Status();
    if (!has_src_scales && !has_dst_scales) return {};
    if (has_src_scales ? !is_wide(to.dtype) : !is_wide(from.dtype)) {
      return mismatch(
          fmt::format("is {} at the source and {} at the destination; F32 and BF16 convert from and to "
                      "F8_E4M3 with scales",
                      name(from.dtype), name(to.dtype)));
    }
    Conversion made;
    made.is_quantising = has_dst_scales;
    made.src = s;
    made.dst = d;
    RESHARD_TRY(made.is_quantising ? quantise(&made) : dequantise(&made));
    plan_->conversions.push_back(std::move(made));
    return {};
  }

  /// 8-bit floats that only move keep their scales, which are tensors like others.
  Status check_same_scales(std::int64_t s, std::int64_t d) const {
    const Scales& a = given_src_.scales(s);
    const Scales& b = given_dst_.scales(d);
    const std::string& name_a = at(given_src_.tensors(), a.tensor).name;
    const std::string& name_b = at(given_dst_.tensors(), b.tensor).name;
    if (a.kind == b.kind && name_a == name_b) return {};
    return mismatch(
        fmt::format("has scales {} in \"{}\" at the source and {} in \"{}\" at the destination; 8-bit "
                    "floats are not quantised anew",
                    name(a.kind), name_a, name(b.kind), name_b));
  }

  Status quantise(Conversion* made) {
    const Scales& wanted = given_dst_.scales(made->dst);
    const std::string& scales_name = at(given_dst_.tensors(), wanted.tensor).name;
    made->kind = wanted.kind;
    made->grid = given_dst_.scale_grid(made->dst);
    const std::int64_t given = given_src_.find_tensor(scales_name);
    made->has_given_scales = given >= 0;
    if (made->has_given_scales) return quantise_by_given(given, wanted.tensor, made);
    if (is_computable(made->kind)) return quantise_by_computed(wanted.tensor, made);
    return mismatch(
        fmt::format("scales {} follow from all shards together and are not computed; give them as tensor "
                    "\"{}\" at the source",
                    name(made->kind), scales_name));
  }

  Status quantise_by_given(std::int64_t given, std::int64_t wanted, Conversion* made) {
    const Tensor& scales = at(given_src_.tensors(), given);
    if (scales.shape != at(given_dst_.tensors(), wanted).shape || scales.dtype != scale_dtype(made->kind)) {
      return mismatch(fmt::format("its scales \"{}\" are {} [{}] at the source and {} [{}] at the destination",
                                  scales.name, name(scales.dtype), fmt::join(scales.shape, ", "),
                                  name(scale_dtype(made->kind)),
                                  fmt::join(at(given_dst_.tensors(), wanted).shape, ", ")));
    }
    const std::optional<Box> without = src_.holders.find_without(made->src, given, made->grid);
    if (!without.has_value()) {
      made->src_scales = given;
      made->why = "each rank of the source holds the scales of its elements";
      return {};
    }
    const std::optional<Box> missing = dst_.holders.find_without(made->dst, wanted, made->grid);
    if (missing.has_value()) {
      return mismatch(
          fmt::format("no side can quantise: a rank of the source holds elements {} without their scales in "
                      "\"{}\", and a rank of the destination elements {}; place the scales beside their "
                      "elements on one side",
                      to_string(*without), scales.name, to_string(*missing)));
    }
    made->why = fmt::format("a rank of the source holds elements {} without their scales", to_string(*without));
    made->dst_scales = wanted;
    return land(at(given_src_.tensors(), made->src).dtype, made);
  }

  Status quantise_by_computed(std::int64_t wanted, Conversion* made) {
    const Tensor& scales = at(given_dst_.tensors(), wanted);
    const std::optional<CutBlock> cut = find_cut_block(given_src_, made->src, made->grid);
    if (!cut.has_value()) {
      made->why = "no border at the source cuts a block";
      RESHARD_TRY(made->src_scales, src_.placer.add_dense(made->src, made->grid, scales));
      return {};
    }
    made->why = "at the source " + text_of(*cut);
    RESHARD_TRY(land(at(given_src_.tensors(), made->src).dtype, made));
    const std::optional<CutBlock> other = find_cut_block(*dst_.layout, made->landing, made->grid);
    if (other.has_value()) {
      return mismatch(
          fmt::format("no side can compute the scales {}: at the source {}, at the destination {}; cut at "
                      "multiples of the block on one side, or give \"{}\" at the source",
                      name(made->kind), text_of(*cut), text_of(*other), scales.name));
    }
    RESHARD_TRY(made->dst_scales, dst_.placer.add_dense(made->dst, made->grid, scales));
    made->scales_out = wanted;
    const std::optional<Box> missing = dst_.holders.find_without(wanted, made->dst_scales, element_grid(scales.shape));
    if (!missing.has_value()) return {};
    return mismatch(
        fmt::format("a rank of the destination holds the scales {} in \"{}\" without their elements, and they "
                    "are computed there since {}; place scales beside their elements",
                    to_string(*missing), scales.name, made->why));
  }

  Status dequantise(Conversion* made) {
    const Scales& scales = given_src_.scales(made->src);
    made->kind = scales.kind;
    made->grid = given_src_.scale_grid(made->src);
    made->has_given_scales = true;
    made->src_scales = scales.tensor;
    made->why = "8-bit floats and their scales are shorter on the wire";
    RESHARD_TRY(land(DType::kF8E4M3, made));
    Tensor landed = at(given_src_.tensors(), scales.tensor);
    landed.group = at(given_dst_.tensors(), made->dst).group;
    RESHARD_TRY(made->dst_scales, dst_.placer.add_dense(made->dst, made->grid, std::move(landed)));
    return {};
  }

  /// Elements land beside where they are wanted, in the dtype of the wire.
  Status land(DType dtype, Conversion* made) {
    made->place = Conversion::Place::kDestination;
    Tensor landing = at(given_dst_.tensors(), made->dst);
    landing.dtype = dtype;
    const ScaleGrid grid = element_grid(landing.shape);
    RESHARD_TRY(made->landing, dst_.placer.add_dense(made->dst, grid, std::move(landing)));
    return {};
  }

  Plan* plan_;
  const ModelLayout& given_src_;
  const ModelLayout& given_dst_;
  Side src_;
  Side dst_;
};

}  // namespace

Status choose_conversions(Plan* plan) {
  plan->given_src = plan->src;
  plan->given_dst = plan->dst;
  if (!plan->src->has_scales() && !plan->dst->has_scales()) return {};
  return ConversionChooser(plan).run();
}

}  // namespace reshard
