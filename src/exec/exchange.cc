// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/exec/exchange.h"

#include <fmt/format.h>

#include <map>

#include "src/base/bytes.h"
#include "src/base/hasher.h"

namespace reshard {
namespace {

using Blob = std::vector<std::byte>;

Status check_local(const ModelLayout& local, const Transport& transport) {
  if (local.num_ranks() != transport.num_ranks()) {
    return invalid_argument(
        fmt::format("the layout is for {} ranks and the comm has {}", local.num_ranks(), transport.num_ranks()));
  }
  for (std::size_t t = 0; t < local.tensors().size(); ++t) {
    const auto tensor = static_cast<std::int64_t>(t);
    if (!local.placements(tensor).empty()) {
      return invalid_argument(fmt::format("tensor \"{}\" is placed on a mesh; only explicit blocks are exchanged",
                                          local.tensors()[t].name));
    }
    for (const RankBlock& given : local.rank_blocks(tensor)) {
      if (given.rank == transport.rank()) continue;
      return invalid_argument(fmt::format("tensor \"{}\" has a block of rank {}; rank {} describes its own",
                                          local.tensors()[t].name, given.rank, transport.rank()));
    }
  }
  return {};
}

void write_dims(const Dims& dims, int num_dims, ByteWriter* out) {
  for (int d = 0; d < num_dims; ++d) out->add(dims[d]);
}

/// Everything but the rank, so that replicas write the same.
Blob describe(const ModelLayout& local) {
  ByteWriter out;
  out.add(static_cast<std::int64_t>(local.buffers().size()));
  for (const Buffer& buffer : local.buffers()) {
    out.add(buffer.name);
    out.add(buffer.size_bytes);
  }
  out.add(static_cast<std::int64_t>(local.tensors().size()));
  for (std::size_t t = 0; t < local.tensors().size(); ++t) {
    const Tensor& tensor = local.tensors()[t];
    out.add(tensor.name);
    out.add(static_cast<std::int64_t>(tensor.dtype));
    out.add(tensor.group);
    out.add(static_cast<std::int64_t>(tensor.shape.size()));
    for (const std::int64_t extent : tensor.shape) out.add(extent);
    const auto& blocks = local.rank_blocks(static_cast<std::int64_t>(t));
    out.add(static_cast<std::int64_t>(blocks.size()));
    for (const RankBlock& given : blocks) {
      out.add(static_cast<std::int64_t>(given.block.kind));
      out.add(given.block.buffer);
      out.add(given.block.offset_bytes);
      write_dims(given.block.box.begin, given.block.box.num_dims, &out);
      write_dims(given.block.box.end, given.block.box.num_dims, &out);
      write_dims(given.block.strides_bytes, given.block.box.num_dims, &out);
    }
  }
  return out.take();
}

void read_dims(ByteReader* in, int num_dims, Dims* dims) {
  for (int d = 0; d < num_dims; ++d) (*dims)[d] = in->number();
}

/// The tensor's index in the merged layout, added when it is new there.
Result<std::int64_t> merge_tensor(Tensor tensor, std::int32_t rank, ModelLayout* merged) {
  const std::int64_t known = merged->find_tensor(tensor.name);
  if (known < 0) return merged->add_tensor(std::move(tensor));
  const Tensor& other = at(merged->tensors(), known);
  if (other.shape == tensor.shape && other.dtype == tensor.dtype && other.group == tensor.group) return known;
  return Status(
      RESHARD_ERR_LAYOUT_MISMATCH,
      fmt::format("rank {} describes tensor \"{}\" as {} [{}] in group {} and a lower rank as {} [{}] in group {}",
                  rank, tensor.name, name(tensor.dtype), fmt::join(tensor.shape, ", "), tensor.group, name(other.dtype),
                  fmt::join(other.shape, ", "), other.group));
}

Status merge_tensor_blocks(ByteReader* in, std::int32_t rank, std::int64_t first_buffer, ModelLayout* merged) {
  Tensor tensor;
  tensor.name = in->text();
  tensor.dtype = static_cast<DType>(in->number());
  tensor.group = in->number();
  for (std::int64_t d = in->number(); d > 0 && in->ok(); --d) tensor.shape.push_back(in->number());
  Block block;
  block.box.num_dims = static_cast<int>(tensor.shape.size());
  RESHARD_TRY(block.tensor, merge_tensor(std::move(tensor), rank, merged));
  for (std::int64_t i = in->number(); i > 0 && in->ok(); --i) {
    block.kind = static_cast<BlockKind>(in->number());
    block.buffer = first_buffer + in->number();
    block.offset_bytes = in->number();
    read_dims(in, block.box.num_dims, &block.box.begin);
    read_dims(in, block.box.num_dims, &block.box.end);
    read_dims(in, block.box.num_dims, &block.strides_bytes);
    RESHARD_TRY(merged->add_block(rank, block));
  }
  return {};
}

Status merge(const Blob& description, std::int32_t rank, ModelLayout* merged) {
  ByteReader in(description);
  const auto first_buffer = static_cast<std::int64_t>(merged->buffers().size());
  for (std::int64_t i = in.number(); i > 0 && in.ok(); --i) {
    const std::string name = in.text();
    const std::int64_t size_bytes = in.number();
    RESHARD_TRY(const std::int64_t added, merged->add_rank_buffer(rank, name, size_bytes));
    static_cast<void>(added);
  }
  for (std::int64_t i = in.number(); i > 0 && in.ok(); --i) {
    RESHARD_TRY(merge_tensor_blocks(&in, rank, first_buffer, merged));
  }
  if (in.ok()) return {};
  return {RESHARD_ERR_TRANSPORT, fmt::format("rank {} sent a malformed layout", rank)};
}

}  // namespace

Result<ModelLayout> exchange_layout(const ModelLayout& local, Transport* transport, const Deadline& deadline) {
  const Status checked = check_local(local, *transport);
  const Blob mine = describe(local);
  Hasher hasher;
  hasher.add_all(mine);
  ByteWriter header;
  header.add(checked.code());
  header.add(checked.message());
  header.add(static_cast<std::int64_t>(hasher.digest()));
  RESHARD_TRY(const std::vector<Blob> headers, transport->allgather(header.take(), deadline));
  std::map<std::int64_t, std::size_t> first_with;  // digest -> the rank that sends it
  std::vector<std::int64_t> digests;
  for (std::size_t r = 0; r < headers.size(); ++r) {
    ByteReader in(headers[r]);
    const auto code = static_cast<reshard_status_t>(in.number());
    const std::string message = in.text();
    if (code != RESHARD_OK) return Status(code, fmt::format("on rank {}: {}", r, message));
    digests.push_back(in.number());
    first_with.emplace(digests.back(), r);
  }
  const auto rank = static_cast<std::size_t>(transport->rank());
  const bool sends = first_with.at(digests[rank]) == rank;
  RESHARD_TRY(const std::vector<Blob> descriptions, transport->allgather(sends ? mine : Blob(), deadline));
  ModelLayout merged(local.num_ranks());
  for (std::size_t r = 0; r < descriptions.size(); ++r) {
    RESHARD_TRY(merge(descriptions[first_with.at(digests[r])], static_cast<std::int32_t>(r), &merged));
  }
  return merged;
}

}  // namespace reshard
