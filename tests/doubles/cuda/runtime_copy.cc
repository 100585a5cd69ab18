// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// Copies and fills. Plain memory of the host is read when the copy is queued, as the runtime stages it, and a copy into
// it is done when the call returns; pinned memory is read and written when the stream gets there.
#include <cstring>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "tests/doubles/cuda/capture.h"
#include "tests/doubles/cuda/memory.h"
#include "tests/doubles/cuda/scheduler.h"
#include "tests/doubles/cuda/state.h"

using cuda_double::Allocation;
using cuda_double::Kind;
using cuda_double::runtime_call;
using cuda_double::State;

namespace {

enum class Side { kPlain, kPinned, kDevice, kWrong };

Side side_of(const void* ptr, std::size_t size_bytes) {
  const Allocation* found = cuda_double::find(ptr);
  if (found == nullptr) {
    if (cuda_double::was_freed(ptr)) cuda_double::defect(fmt::format("a copy of {}, which was freed", ptr));
    return Side::kPlain;
  }
  if (!cuda_double::covers(ptr, size_bytes)) return Side::kWrong;
  return found->kind == Kind::kPinned || found->kind == Kind::kManaged ? Side::kPinned : Side::kDevice;
}

void count(Side destination, Side source, std::size_t size_bytes) {
  cuda_double_counters& counters = State::get().counters;
  if (destination == Side::kDevice && source == Side::kDevice) {
    ++counters.device_copies;
  } else if (destination == Side::kDevice) {
    ++counters.uploads;
    counters.uploaded_bytes += static_cast<std::int64_t>(size_bytes);
  } else if (source == Side::kDevice) {
    ++counters.downloads;
  }
}

struct Rows {  // a box of bytes
  std::byte* destination;
  const std::byte* source;
  std::size_t row_bytes;
  std::size_t num_rows;
  std::size_t num_layers;
  std::size_t destination_pitch;
  std::size_t source_pitch;
  std::size_t destination_layer;  // bytes from layer to layer
  std::size_t source_layer;

  std::size_t destination_bytes() const {
    return (num_layers - 1) * destination_layer + (num_rows - 1) * destination_pitch + row_bytes;
  }
  std::size_t source_bytes() const {
    return (num_layers - 1) * source_layer + (num_rows - 1) * source_pitch + row_bytes;
  }
  void copy() const {
    cuda_double::open_range(destination, destination_bytes(), "a copy");
    cuda_double::open_range(source, source_bytes(), "a copy");
    for (std::size_t layer = 0; layer < num_layers; ++layer) {
      for (std::size_t row = 0; row < num_rows; ++row) {
        std::memcpy(destination + layer * destination_layer + row * destination_pitch,
                    source + layer * source_layer + row * source_pitch, row_bytes);
      }
    }
  }
};

int enqueue_copy(Rows rows, cudaStream_t handle) {
  const auto stream = cuda_double::stream_of(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (const int code = cuda_double::check_use(*stream); code != cudaSuccess) return code;
  (void)cuda_double::ensured_device();
  if (rows.row_bytes == 0 || rows.num_rows == 0 || rows.num_layers == 0) return cudaSuccess;
  const Side destination = side_of(rows.destination, rows.destination_bytes());
  const Side source = side_of(rows.source, rows.source_bytes());
  if (destination == Side::kWrong || source == Side::kWrong) return cudaErrorInvalidValue;
  count(destination, source, rows.row_bytes * rows.num_rows * rows.num_layers);
  std::shared_ptr<std::vector<std::byte>> staged;
  const bool is_captured = stream->capture != nullptr;  // then plain memory is read and written when the graph runs
  if (source == Side::kPlain && !is_captured) {
    staged = std::make_shared<std::vector<std::byte>>(rows.source, rows.source + rows.source_bytes());
    rows.source = staged->data();
  }
  cuda_double::enqueue(stream, {"a copy", [rows, staged] { return rows.copy(), true; }, {}});
  if (destination == Side::kPlain && !is_captured)
    cuda_double::work_until(stream->mark(stream), "a copy to plain host memory");
  return State::get().lost_code;
}

Rows line(void* destination, const void* source, std::size_t size_bytes) {
  return {static_cast<std::byte*>(destination), static_cast<const std::byte*>(source), size_bytes, 1, 1, 0, 0, 0, 0};
}

int enqueue_fill(void* destination, int value, std::size_t size_bytes, cudaStream_t handle) {
  const auto stream = cuda_double::stream_of(handle);
  if (!stream) return cudaErrorInvalidResourceHandle;
  if (const int code = cuda_double::check_use(*stream); code != cudaSuccess) return code;
  (void)cuda_double::ensured_device();
  if (size_bytes == 0) return cudaSuccess;
  const Side side = side_of(destination, size_bytes);
  if (side == Side::kWrong || side == Side::kPlain) return cudaErrorInvalidValue;
  ++State::get().counters.fills;
  cuda_double::enqueue(stream, {"a fill",
                                [=] {
                                  cuda_double::open_range(destination, size_bytes, "a fill");
                                  std::memset(destination, value, size_bytes);
                                  return true;
                                },
                                {}});
  return cudaSuccess;
}

int wait_for_default_stream() {
  const auto stream = cuda_double::stream_of(nullptr);
  cuda_double::work_until(stream->mark(stream), "a copy that blocks");
  return State::get().lost_code;
}

}  // namespace

extern "C" {

cudaError_t cudaMemcpyAsync(void* destination, const void* source, std::size_t size_bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return runtime_call("cudaMemcpyAsync", [&] { return enqueue_copy(line(destination, source, size_bytes), stream); });
}

cudaError_t cudaMemcpy(void* destination, const void* source, std::size_t size_bytes, cudaMemcpyKind) {
  return runtime_call("cudaMemcpy", [&] {
    const int code = enqueue_copy(line(destination, source, size_bytes), nullptr);
    return code == cudaSuccess ? wait_for_default_stream() : code;
  });
}

cudaError_t cudaMemcpy2DAsync(void* destination, std::size_t destination_pitch, const void* source,
                              std::size_t source_pitch, std::size_t width, std::size_t height, cudaMemcpyKind,
                              cudaStream_t stream) {
  return runtime_call("cudaMemcpy2DAsync", [&] {
    Rows rows = line(destination, source, width);
    rows.num_rows = height;
    rows.destination_pitch = destination_pitch;
    rows.source_pitch = source_pitch;
    return enqueue_copy(rows, stream);
  });
}

cudaError_t cudaMemcpy3DBatchAsync(std::size_t num_ops, cudaMemcpy3DBatchOp* ops, unsigned long long,
                                   cudaStream_t stream) {
  return runtime_call("cudaMemcpy3DBatchAsync", [&]() -> int {
    for (std::size_t index = 0; index < num_ops; ++index) {
      const cudaMemcpy3DBatchOp& op = ops[index];
      if (op.src.type != cudaMemcpyOperandTypePointer || op.dst.type != cudaMemcpyOperandTypePointer) {
        return cudaErrorNotSupported;
      }
      const auto& from = op.src.op.ptr;
      const auto& to = op.dst.op.ptr;
      Rows rows = line(to.ptr, from.ptr, op.extent.width);
      rows.num_rows = op.extent.height;
      rows.num_layers = op.extent.depth;
      rows.source_pitch = from.rowLength == 0 ? op.extent.width : from.rowLength;
      rows.destination_pitch = to.rowLength == 0 ? op.extent.width : to.rowLength;
      rows.source_layer = rows.source_pitch * (from.layerHeight == 0 ? op.extent.height : from.layerHeight);
      rows.destination_layer = rows.destination_pitch * (to.layerHeight == 0 ? op.extent.height : to.layerHeight);
      if (const int code = enqueue_copy(rows, stream); code != cudaSuccess) return code;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaMemsetAsync(void* destination, int value, std::size_t size_bytes, cudaStream_t stream) {
  return runtime_call("cudaMemsetAsync", [&] { return enqueue_fill(destination, value, size_bytes, stream); });
}

cudaError_t cudaMemset(void* destination, int value, std::size_t size_bytes) {
  return runtime_call("cudaMemset", [&] {
    const int code = enqueue_fill(destination, value, size_bytes, nullptr);
    return code == cudaSuccess ? wait_for_default_stream() : code;
  });
}

}  // extern "C"
