// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/dense.h"

namespace reshard {
namespace {

/// Whether the box is dense and row-major in the block.
bool is_row_major(const Block& block, const Box& box, std::int64_t element_bytes) {
  std::int64_t stride = element_bytes;
  for (int d = box.num_dims - 1; d >= 0; --d) {
    if (box.extent(d) > 1 && block.strides_bytes[d] != stride) return false;
    stride *= box.extent(d);
  }
  return true;
}

bool contains(const Block& block, const Box& box) {
  for (int d = 0; d < box.num_dims; ++d) {
    if (box.begin[d] < block.box.begin[d] || box.end[d] > block.box.end[d]) return false;
  }
  return true;
}

/// The one block in which the rank has the box. Of a source, the first: it is taken from there. A destination with a
/// second block that meets it wants it twice.
const Block* only_block(const std::vector<Block>& blocks, const Box& box, bool is_source) {
  const Block* only = nullptr;
  for (const Block& block : blocks) {
    if (block.kind != BlockKind::kData || intersect(block.box, box).empty()) continue;
    if (only != nullptr || !contains(block, box)) return nullptr;
    only = &block;
    if (is_source) break;
  }
  return only;
}

/// A run of bytes that grows box by box.
class DenseRun {
 public:
  /// False when the box does not follow what the run has so far.
  bool add(const std::vector<Block>& blocks, const Box& box, bool is_source, std::int64_t element_bytes) {
    const Block* block = only_block(blocks, box, is_source);
    if (block == nullptr || !is_row_major(*block, box, element_bytes)) return false;
    std::int64_t offset = block->offset_bytes;
    for (int d = 0; d < box.num_dims; ++d) offset += (box.begin[d] - block->box.begin[d]) * block->strides_bytes[d];
    if (place_.buffer < 0) place_ = {block->buffer, offset};
    if (place_.buffer != block->buffer || place_.offset_bytes + size_bytes_ != offset) return false;
    size_bytes_ += box.num_elements() * element_bytes;
    return true;
  }
  const BufferPlace& place() const { return place_; }

 private:
  BufferPlace place_;
  std::int64_t size_bytes_ = 0;
};

}  // namespace

DType wire_dtype_of(const Plan& plan, std::int64_t tensor) {
  const PlanTensor& matched = at(plan.tensors, tensor);
  return wire_dtype(at(plan.src->tensors(), matched.src).dtype, at(plan.dst->tensors(), matched.dst).dtype);
}

std::optional<BufferPlace> dense_place(const Plan& plan, const RankSide& side, const Window& window) {
  DenseRun run;
  for (const Fragment& fragment : window.fragments) {
    const PlanTensor& matched = at(plan.tensors, fragment.tensor);
    const std::int64_t id = side.is_source ? matched.src : matched.dst;
    const Tensor& tensor = at((side.is_source ? *plan.src : *plan.dst).tensors(), id);
    if (tensor.dtype != wire_dtype_of(plan, fragment.tensor)) return std::nullopt;
    const std::vector<Block>& blocks = side.blocks->blocks(id);
    const Box& whole = fragment.atom->box;
    bool is_dense = true;
    const auto add = [&](const Box& box) {
      is_dense = is_dense && run.add(blocks, box, side.is_source, size_bytes(tensor.dtype));
    };
    if (fragment.begin == 0 && fragment.end == whole.num_elements()) {
      add(whole);
    } else {
      for_each_box_of_range(whole, fragment.begin, fragment.end, [&](const Box& box, std::int64_t) { add(box); });
    }
    if (!is_dense) return std::nullopt;
  }
  return run.place();
}

}  // namespace reshard
