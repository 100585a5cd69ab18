// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A file for each rank, as another program would load it: its local tensors, dense and in the order of their dims,
// whatever strides, fusions and padding they have in the rank's buffers.
#include "perf/data/dump.h"

#include <filesystem>
#include <limits>

#include "perf/data/rows.h"
#include "perf/data/safetensors.h"
#include "perf/engine/error.h"
#include "perf/engine/layout_view.h"

namespace reshard::perf {
namespace {

/// The rank's whole local tensor as a dense row-major array; places that no block covers are zero.
std::vector<std::byte> gather_local(reshard_layout_t dst, std::int32_t rank, const TensorPair& tensor,
                                    const FileTensor& local, const Arena& arena) {
  const std::size_t size = reshard_dtype_size_bytes(tensor.dst_dtype);
  std::vector<std::byte> dense(static_cast<std::size_t>(local.size_bytes()));
  for (const reshard_block_t& block : blocks_of(dst, rank, tensor.dst_index)) {
    const std::byte* memory = arena.buffer(block.buffer);
    const std::int64_t first = linear_index(local.shape, block.local_begin);
    for_each_row(row_dims(block, local.shape), first, block.offset_bytes, std::numeric_limits<std::int64_t>::max(),
                 [&](const Row& row) {
                   gather_row(memory, size, row, dense.data() + static_cast<std::size_t>(row.first) * size);
                 });
  }
  return dense;
}

}  // namespace

void dump_destination(const std::string& folder, reshard_layout_t dst, std::int32_t rank,
                      const std::vector<TensorPair>& tensors, const Arena& arena) {
  std::vector<FileTensor> locals;
  std::vector<const TensorPair*> held;
  for (const TensorPair& tensor : tensors) {
    if (tensor.dst_index < 0 || tensor.is_skipped()) continue;
    LocalShape shape = local_shape_of(dst, rank, tensor.dst_index, tensor.shape.size());
    if (!shape.is_present) continue;
    locals.push_back({tensor.name, tensor.dst_dtype, std::move(shape.extents)});
    held.push_back(&tensor);
  }
  if (held.empty()) return;
  std::filesystem::create_directories(folder);
  SafetensorsWriter writer(fmt::format("{}/rank{:05}.safetensors", folder, rank), locals);
  for (std::size_t i = 0; i < held.size(); ++i) {
    const std::vector<std::byte> dense = gather_local(dst, rank, *held[i], locals[i], arena);
    writer.write(dense.data(), dense.size());
  }
  writer.finish();
}

}  // namespace reshard::perf
