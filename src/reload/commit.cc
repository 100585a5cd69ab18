// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/reload/commit.h"

#include <algorithm>
#include <memory>

#include "kernels/copy_list_builder.h"
#include "src/exec/copies.h"

namespace reshard {
namespace {

/// One layer in scratch and where it stays, by buffer; null where the layer has no such buffer, or nothing to copy.
struct Tables {
  BufferTable landed;
  BufferTable stable;

  Tables(const Layer& layer, std::size_t num_buffers) : landed(num_buffers), stable(num_buffers) {
    for (const Layer::Part& part : layer.buffers) {
      if (!part.is_in_scratch() || part.stable == nullptr) continue;
      at(landed, part.id) = part.landed;
      at(stable, part.id) = part.stable;
    }
  }
};

/// Block by block, each from the same place in scratch: an element that the rank has twice was written twice there.
void append_tensor(const Plan& plan, std::int64_t tensor, std::vector<Block> blocks, const Tables& tables,
                   CopyListBuilder* out) {
  std::erase_if(blocks, [&](const Block& block) { return at(tables.stable, block.buffer) == nullptr; });
  const DType dtype = at(plan.dst->tensors(), tensor).dtype;
  for (const Block& block : blocks) {
    if (block.kind != BlockKind::kData) continue;
    const std::vector<Block> one = {block};
    append_move({&one, &tables.landed, dtype}, {&one, &tables.stable, dtype}, block.box, out);
  }
  append_zero_fill({&blocks, &tables.stable, dtype}, out);
}

void append_output(const Layer::Part& output, CopyListBuilder* out) {
  CopyOp op;
  op.src = output.landed;
  op.dst = output.stable;
  op.num_dims = 1;
  op.shape[0] = output.size_bytes;
  op.src_strides_bytes[0] = op.dst_strides_bytes[0] = 1;
  out->add(op);
}

}  // namespace

std::vector<CopyList> commit_copies(const Plan& plan, std::int32_t rank, const LayerMap& map) {
  const auto table = std::make_shared<CopyTable>();
  std::vector<CopyList> copies;
  for (const Layer& layer : map.layers) {
    CopyListBuilder list(table);
    const Tables tables(layer, plan.dst->buffers().size());
    for (const std::int64_t tensor : layer.tensors) {
      append_tensor(plan, tensor, plan.dst->blocks(rank, tensor), tables, &list);
    }
    for (const Layer::Part& output : layer.outputs) append_output(output, &list);
    copies.push_back(list.take());
  }
  return copies;
}

}  // namespace reshard
