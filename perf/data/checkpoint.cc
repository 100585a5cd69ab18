// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// The source of a run from safetensors files. Checkpoints keep each expert as a tensor of its own
// ("...experts.7.w1.weight"), layouts all of a layer as one with the experts in front ("...experts.w1.weight"): such a
// tensor is read from its pieces, which are never put together. What is missing or has another shape is looked for
// before anything is read, and reported for all tensors at once.
#include "perf/data/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "perf/data/convert.h"
#include "perf/engine/error.h"

namespace reshard::perf {
namespace {

constexpr std::string_view kExperts = ".experts.";
constexpr std::size_t kMaxListed = 20;

std::int64_t product(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

void convert_elements(const std::byte* in, reshard_dtype_t from, reshard_dtype_t to, std::int64_t count,
                      std::byte* out) {
  const std::size_t in_size = reshard_dtype_size_bytes(from);
  const std::size_t out_size = reshard_dtype_size_bytes(to);
  if (from == to) {
    std::memcpy(out, in, static_cast<std::size_t>(count) * in_size);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i, in += in_size, out += out_size) {
    store_number(to, load_number(from, in), out);
  }
}

}  // namespace

CheckpointSource::CheckpointSource(const std::string& path, const std::vector<TensorPair>& tensors) : files_(path) {
  std::vector<std::string> problems;
  for (const TensorPair& tensor : tensors) {
    if (tensor.is_skipped()) continue;
    try {
      pieces_.emplace(tensor.name, find_pieces(tensor));
    } catch (const Error& error) {
      problems.emplace_back(error.what());
    }
  }
  if (problems.empty()) return;
  const std::size_t num_problems = problems.size();
  problems.resize(std::min(num_problems, kMaxListed));
  if (num_problems > kMaxListed) problems.push_back(fmt::format("and {} more", num_problems - kMaxListed));
  fail("{} does not hold the source:\n  {}", path, fmt::join(problems, "\n  "));
}

const std::byte* CheckpointSource::find_piece(const TensorPair& tensor, const std::string& name,
                                              const std::vector<std::int64_t>& shape) const {
  const SafetensorsFile::Entry* entry = files_.find(name);
  if (entry == nullptr) fail("{} is missing", name);
  if (entry->tensor.dtype != tensor.src_dtype || entry->tensor.shape != shape) {
    fail("{} is {} [{}], but the source layout has {} [{}]", name, reshard_dtype_name(entry->tensor.dtype),
         fmt::join(entry->tensor.shape, ", "), reshard_dtype_name(tensor.src_dtype), fmt::join(shape, ", "));
  }
  return entry->data;
}

CheckpointSource::Pieces CheckpointSource::find_pieces(const TensorPair& tensor) const {
  const std::size_t experts = tensor.name.find(kExperts);
  const bool is_stacked = experts != std::string::npos && !tensor.shape.empty();
  if (!is_stacked || files_.find(tensor.name) != nullptr) {
    return {{find_piece(tensor, tensor.name, tensor.shape)}, product(tensor.shape)};
  }
  const std::size_t split = experts + kExperts.size();
  const std::vector<std::int64_t> shape(tensor.shape.begin() + 1, tensor.shape.end());
  Pieces pieces{{}, product(shape)};
  for (std::int64_t expert = 0; expert < tensor.shape[0]; ++expert) {
    const std::string name = fmt::format("{}{}.{}", tensor.name.substr(0, split), expert, tensor.name.substr(split));
    pieces.data.push_back(find_piece(tensor, name, shape));
  }
  return pieces;
}

void CheckpointSource::read(const TensorPair& tensor, std::int64_t first, std::int64_t count, reshard_dtype_t dtype,
                            std::byte* out) const {
  const Pieces& pieces = pieces_.find(tensor.name)->second;
  const auto in_size = static_cast<std::int64_t>(reshard_dtype_size_bytes(tensor.src_dtype));
  const auto out_size = static_cast<std::int64_t>(reshard_dtype_size_bytes(dtype));
  // Elements are counted through all pieces, which are equally large; a request may reach over several of them.
  while (count > 0) {
    const std::int64_t within = first % pieces.num_elements;
    const std::int64_t now = std::min(count, pieces.num_elements - within);
    const std::byte* in = pieces.data[static_cast<std::size_t>(first / pieces.num_elements)] + within * in_size;
    convert_elements(in, tensor.src_dtype, dtype, now, out);
    first += now;
    count -= now;
    out += now * out_size;
  }
}

}  // namespace reshard::perf
