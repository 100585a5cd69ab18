// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "tests/unit/exec/buffer_memory.h"

namespace reshard::testing {
namespace {

class HostMemory final : public BufferMemory {
 public:
  HostMemory(Transport* transport, std::size_t size_bytes, bool is_mappable)
      : transport_(is_mappable ? transport : nullptr),
        data_(is_mappable ? static_cast<std::byte*>(*transport->allocate(size_bytes)) : new std::byte[size_bytes]) {}
  ~HostMemory() override {
    if (transport_ == nullptr) {
      delete[] data_;
    } else {
      static_cast<void>(transport_->free(data_).ok());
    }
  }
  std::byte* bound() const override { return data_; }
  std::byte* image() override { return data_; }
  void publish(std::size_t, std::size_t, bool) override {}
  void fetch() override {}

 private:
  Transport* transport_;  // null: it is of the heap
  std::byte* data_;
};

}  // namespace

std::unique_ptr<BufferMemory> BufferMemory::allocate(Transport* transport, std::size_t size_bytes, bool is_mappable) {
  return std::make_unique<HostMemory>(transport, size_bytes, is_mappable);
}

bool is_on_device() {
  return false;
}

bool is_on_streams() {
  return false;
}

void* callers_stream() {
  return nullptr;
}

void seed_streams(std::uint64_t) {}

void choose_memory(BindOptions*) {}

}  // namespace reshard::testing
