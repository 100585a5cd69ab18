// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/world.h"

#include <fmt/format.h>

#include <cstring>
#include <thread>
#include <utility>

#include "src/transport/local.h"

namespace reshard::testing {
namespace {

constexpr std::size_t kGuardBytes = 64;
constexpr auto kGuard = std::byte{0xA5};
constexpr auto kPoison = std::byte{0x5A};

/// 1.0 .. 100.0 in the encodings of the three float types, which hold them exactly.
std::uint32_t encode(DType dtype, std::int64_t number) {
  const auto value = static_cast<float>(number % 100 + 1);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  if (dtype == DType::kF32) return bits;
  if (dtype == DType::kBF16) return bits >> 16;
  const std::uint32_t exponent = (bits >> 23) - 127 + 15;  // normal in half precision
  return exponent << 10 | (bits >> 13 & 0x3FF);
}

}  // namespace

RankBuffers::RankBuffers(const ModelLayout& layout, std::int32_t rank, Transport* transport, bool is_mappable)
    : layout_(&layout), rank_(rank), transport_(transport) {
  for (const std::int64_t id : layout.buffers_of(rank)) {
    const std::int64_t size = layout.buffer_size_bytes(rank, id);
    const std::size_t total = static_cast<std::size_t>(size) + 2 * kGuardBytes;
    BufferMemory& memory = *memory_.emplace_back(BufferMemory::allocate(transport, total, is_mappable));
    std::memset(memory.image(), static_cast<int>(kGuard), total);
    bound_.push_back({id, memory.bound() + kGuardBytes, size});
  }
  publish();
}

BoundBuffer RankBuffers::move(std::int64_t buffer, bool is_mappable) {
  const std::size_t i = index_of(buffer);
  const std::size_t total = static_cast<std::size_t>(bound_[i].size_bytes) + 2 * kGuardBytes;
  left_.push_back(std::exchange(memory_[i], BufferMemory::allocate(transport_, total, is_mappable)));
  std::memset(memory_[i]->image(), static_cast<int>(kGuard), total);
  memory_[i]->publish(0, total, false);
  bound_[i].data = memory_[i]->bound() + kGuardBytes;
  return bound_[i];
}

void RankBuffers::publish() {
  for (std::size_t i = 0; i < memory_.size(); ++i) {
    memory_[i]->publish(0, static_cast<std::size_t>(bound_[i].size_bytes) + 2 * kGuardBytes, is_queued_);
  }
}

void RankBuffers::fetch() const {
  for (const auto& memory : memory_) memory->fetch();
}

std::size_t RankBuffers::index_of(std::int64_t buffer) const {
  std::size_t index = 0;
  while (bound_[index].id != buffer) ++index;
  return index;
}

std::byte* RankBuffers::base(std::int64_t buffer) const {
  return memory_[index_of(buffer)]->image() + kGuardBytes;
}

void RankBuffers::fill(std::int64_t salt) {
  for (std::size_t t = 0; t < layout_->tensors().size(); ++t) {
    const Tensor& tensor = layout_->tensors()[t];
    for (const Block& block : layout_->blocks(rank_, static_cast<std::int64_t>(t))) {
      if (block.kind != BlockKind::kData) continue;
      for_each_element(block, [&](const Dims& index, std::int64_t offset) {
        const std::uint32_t bits = encode(tensor.dtype, salt + flat_index(tensor.shape, index));
        std::memcpy(base(block.buffer) + offset, &bits, static_cast<std::size_t>(size_bytes(tensor.dtype)));
      });
    }
  }
  publish();
}

void RankBuffers::poison() {
  for (const BoundBuffer& bound : bound_) {
    std::memset(base(bound.id), static_cast<int>(kPoison), static_cast<std::size_t>(bound.size_bytes));
  }
  publish();
}

/// Nothing but its own bytes: what lies between belongs to groups that are arriving. In runs of bytes, as a device
/// takes long for each.
void RankBuffers::poison_group(std::int64_t group) {
  for (std::size_t t = 0; t < layout_->tensors().size(); ++t) {
    const Tensor& tensor = layout_->tensors()[t];
    if (tensor.group != group) continue;
    for (const Block& block : layout_->blocks(rank_, static_cast<std::int64_t>(t))) {
      if (block.kind == BlockKind::kData) poison_block(block, size_bytes(tensor.dtype));
    }
  }
}

void RankBuffers::poison_block(const Block& block, std::int64_t element_bytes) {
  BufferMemory& memory = *memory_[index_of(block.buffer)];
  std::int64_t begin = 0;
  std::int64_t end = 0;
  const auto flush = [&] {
    std::byte* data = memory.image() + kGuardBytes + begin;
    const auto count = static_cast<std::size_t>(end - begin);
    std::memset(data, static_cast<int>(kPoison), count);
    if (count > 0) memory.publish(kGuardBytes + static_cast<std::size_t>(begin), count, false);
  };
  for_each_element(block, [&](const Dims&, std::int64_t offset) {
    if (offset != end) {
      flush();
      begin = offset;
    }
    end = offset + element_bytes;
  });
  flush();
}

std::string RankBuffers::check_tensor(std::int64_t id, std::int64_t salt) const {
  const Tensor& tensor = at(layout_->tensors(), id);
  const auto element_bytes = static_cast<std::size_t>(size_bytes(tensor.dtype));
  std::string wrong;
  for (const Block& block : layout_->blocks(rank_, id)) {
    for_each_element(block, [&](const Dims& index, std::int64_t offset) {
      std::uint32_t expected = 0x5A5A5A5A;
      if (block.kind == BlockKind::kData) expected = encode(tensor.dtype, salt + flat_index(tensor.shape, index));
      if (block.kind == BlockKind::kZero) expected = 0;
      const std::byte* found = base(block.buffer) + offset;
      if (std::memcmp(found, &expected, element_bytes) != 0 && wrong.empty()) {
        wrong = fmt::format("rank {} tensor {} block {} kind {} offset {}: wrong element\n", rank_, tensor.name,
                            to_string(block.box), static_cast<int>(block.kind), offset);
      }
    });
    if (!wrong.empty()) return wrong;
  }
  return wrong;
}

std::string RankBuffers::check_guards() const {
  for (const BoundBuffer& bound : bound_) {
    for (std::size_t i = 0; i < kGuardBytes; ++i) {
      const std::byte* data = base(bound.id);
      if (data[-1 - static_cast<std::ptrdiff_t>(i)] != kGuard ||
          data[bound.size_bytes + static_cast<std::int64_t>(i)] != kGuard) {
        return fmt::format("rank {} buffer {}: guard zone damaged\n", rank_, bound.id);
      }
    }
  }
  return {};
}

std::string RankBuffers::check(std::int64_t salt) const {
  fetch();
  std::string wrong;
  for (std::size_t t = 0; t < layout_->tensors().size() && wrong.empty(); ++t) {
    wrong = check_tensor(static_cast<std::int64_t>(t), salt);
  }
  return wrong.empty() ? check_guards() : wrong;
}

std::string RankBuffers::check(std::int64_t salt, std::int64_t group) const {
  fetch();
  std::string wrong;
  for (std::size_t t = 0; t < layout_->tensors().size() && wrong.empty(); ++t) {
    if (layout_->tensors()[t].group == group) wrong = check_tensor(static_cast<std::int64_t>(t), salt);
  }
  return wrong.empty() ? check_guards() : wrong;
}

std::string run_ranks(std::int32_t num_ranks, const std::function<std::string(Transport*)>& body) {
  auto transports = create_local_transports(num_ranks);
  if (!transports.ok()) return transports.status().message();
  std::vector<std::string> texts(static_cast<std::size_t>(num_ranks));
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < texts.size(); ++r) {
    threads.emplace_back([&, r] { texts[r] = body((*transports)[r].get()); });
  }
  std::string all;
  for (std::size_t r = 0; r < texts.size(); ++r) {
    threads[r].join();
    all += texts[r];
  }
  return all;
}

}  // namespace reshard::testing
