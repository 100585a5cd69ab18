// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/quantise.h"

#include <algorithm>
#include <memory>
#include <set>

#include "src/exec/copies.h"

namespace reshard {
namespace {

ScaleRule rule_of(ScaleKind kind) {
  return kind == ScaleKind::kMxfp8 ? ScaleRule::kE8M0Up : ScaleRule::kF32;
}

class ConversionMaker {
 public:
  ConversionMaker(const Plan& plan, const Schedule& schedule, const RankMemory& memory)
      : plan_(plan),
        schedule_(schedule),
        memory_(memory),
        src_blocks_(*plan.src, schedule.rank),
        dst_blocks_(*plan.dst, schedule.rank),
        table_(std::make_shared<CopyTable>()) {}

  ConversionCopies make() {
    ConversionCopies made;
    std::vector<CopyListBuilder> of_position(plan_.groups.size(), CopyListBuilder(table_));
    for (const std::int32_t position : schedule_.finishes) made.finishes.push_back({position, {}, {}});
    for (const Conversion& conversion : plan_.conversions) {
      if (conversion.is_at_source()) {
        if (conversion.computes()) {
          append_scales(source(conversion.src), source(conversion.src_scales), conversion, &made.before);
        }
        continue;
      }
      const std::int32_t position = position_of(plan_, schedule_, conversion);
      const auto finish = std::find_if(made.finishes.begin(), made.finishes.end(),
                                       [&](const ConversionCopies::Finish& f) { return f.position == position; });
      if (finish == made.finishes.end()) continue;  // this rank wants nothing of it
      if (conversion.computes()) {
        append_scales(destination(conversion.landing), destination(conversion.dst_scales), conversion, &finish->scales);
      }
      append_finish(conversion, &of_position[static_cast<std::size_t>(position)]);
    }
    for (ConversionCopies::Finish& finish : made.finishes) finish.copies = at(of_position, finish.position).take();
    return made;
  }

  static std::int32_t position_of(const Plan& plan, const Schedule& schedule, const Conversion& conversion) {
    const std::int64_t group = at(plan.dst->tensors(), conversion.dst).group;
    const auto index = std::lower_bound(plan.groups.begin(), plan.groups.end(), group) - plan.groups.begin();
    return schedule.position_of(static_cast<std::int32_t>(index));
  }

 private:
  PlacedTensor source(std::int64_t id) {
    return {&src_blocks_.blocks(id), &memory_.src, at(plan_.src->tensors(), id).dtype, {}};
  }
  PlacedTensor destination(std::int64_t id) {
    return {&dst_blocks_.blocks(id), &memory_.dst, at(plan_.dst->tensors(), id).dtype, {}};
  }

  /// All scales that the rank has beside these elements. That no piece of the elements' memory cuts a block was made
  /// sure of when the place of the conversion was chosen.
  static void append_scales(const PlacedTensor& elements, const PlacedTensor& scales, const Conversion& conversion,
                            ScaleList* out) {
    for (const Block& block : *elements.blocks) {
      if (block.kind != BlockKind::kData || block.box.empty()) continue;
      for_each_held(scales, conversion.grid.scales_of(block.box), [&](const Block& held, const Box& part) {
        const Box box = conversion.grid.elements_of(part);
        ScaleOp op;
        op.src = address_in(elements, block, box);
        op.scales = address_in(scales, held, part);
        op.src_dtype = elements.dtype;
        op.rule = rule_of(conversion.kind);
        op.num_dims = box.num_dims;
        for (int d = 0; d < box.num_dims; ++d) {
          op.shape[d] = box.extent(d);
          op.blocks[d] = conversion.grid.block[d];
          op.src_strides_bytes[d] = block.strides_bytes[d];
          op.scale_strides_bytes[d] = held.strides_bytes[d];
        }
        out->add(op);
      });
    }
  }

  /// Padding was left out where elements landed.
  void append_finish(const Conversion& conversion, CopyListBuilder* out) {
    const PlacedTensor wanted = destination(conversion.dst);
    append_zero_fill(wanted, out);
    PlacedTensor landed = destination(conversion.landing);
    const PlacedTensor scales = destination(conversion.dst_scales);
    landed.scales = {&conversion.grid, scales.blocks, scales.buffers, scales.dtype};
    append_move(landed, wanted, whole_box(at(plan_.dst->tensors(), conversion.dst).shape), out);
    if (conversion.scales_out < 0) return;
    const PlacedTensor given_out = destination(conversion.scales_out);
    append_zero_fill(given_out, out);
    append_move(scales, given_out, whole_box(at(plan_.dst->tensors(), conversion.scales_out).shape), out);
  }

  const Plan& plan_;
  const Schedule& schedule_;
  const RankMemory& memory_;
  BlockCache src_blocks_;
  BlockCache dst_blocks_;
  std::shared_ptr<CopyTable> table_;
};

}  // namespace

ConversionCopies make_conversion_copies(const Plan& plan, const Schedule& schedule, const RankMemory& memory) {
  return ConversionMaker(plan, schedule, memory).make();
}

std::vector<std::int32_t> finished_positions(const Plan& plan, const Schedule& schedule, BlockCache* dst_blocks) {
  std::set<std::int32_t> positions;
  for (const Conversion& conversion : plan.conversions) {
    if (conversion.is_at_source()) continue;
    const bool is_here = !dst_blocks->blocks(conversion.dst).empty() ||
                         (conversion.scales_out >= 0 && !dst_blocks->blocks(conversion.scales_out).empty());
    if (is_here) positions.insert(ConversionMaker::position_of(plan, schedule, conversion));
  }
  return {positions.begin(), positions.end()};
}

void ConversionRun::begin() {
  before_ = CopyJob(bound_.scales_before);
  next_ = 0;
  is_begun_ = false;
}

Result<bool> ConversionRun::prepare(bool* moved) {
  RESHARD_TRY(bound_.copier->advance(&before_, moved));
  return before_.is_done;
}

Status ConversionRun::step(bool* moved) {
  if (next_ >= bound_.finishes.size()) return {};
  const BoundFinish& finish = bound_.finishes[next_];
  if (!is_begun_) {
    if (groups_->num_left(finish.position) > 1) return {};  // one is the finish itself
    is_begun_ = true;
    scales_ = CopyJob(finish.scales);
    copies_ = CopyJob(finish.copies);
  }
  RESHARD_TRY(bound_.copier->advance(&scales_, moved));
  if (scales_.is_done) RESHARD_TRY(bound_.copier->advance(&copies_, moved));
  if (!scales_.is_done || !copies_.is_done) return {};
  *moved = true;
  is_begun_ = false;
  ++next_;
  groups_->complete(finish.position);
  return {};
}

}  // namespace reshard
