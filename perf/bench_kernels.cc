// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: bench_kernels [options of Google Benchmark]
//
// Each kind of copy on the first device beside what CUDA has for it: the kernel, cudaMemcpy3DBatchAsync of the same
// pieces where it can do them, and a device-to-device copy of as many bytes, measured just before. Buffers rotate
// through more than four times the second-level cache. Counters of each benchmark:
//
//   GBps    bytes written / second / 1e9
//   ratio   to the device-to-device copy: 1 is what a copy can do
#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/copy_list_builder.h"
#include "kernels/cuda/launch.h"
#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/device/stream.h"

namespace reshard {
namespace {

// What all benchmarks use; made once a device is known to be there.
struct Device {
  DeviceInfo info;
  Stream stream;
  DeviceMemory src;
  DeviceMemory dst;

  cudaStream_t handle() const { return static_cast<cudaStream_t>(stream.handle()); }
  int num_blocks() const { return info.num_sms * kCopyBlocksPerMultiprocessor; }
};
Device* g_device = nullptr;

/// A set of pieces; copy `rotation` of it begins that many strides further on both sides.
struct Case {
  std::string name;
  std::int64_t src_bytes;  ///< from one rotation to the next
  std::int64_t dst_bytes;
  std::function<void(const std::byte* src, std::byte* dst, const std::function<void(const CopyOp&)>& add)> ops;
  std::int64_t moved_bytes = 0;  ///< read and written, where that is not twice what is written
};

constexpr std::int64_t kRotationBytes = std::int64_t{64} << 20;

std::int64_t num_rotations(const Case& one) {
  const std::int64_t room = static_cast<std::int64_t>(std::min(g_device->src.size_bytes(), g_device->dst.size_bytes()));
  return std::max<std::int64_t>(1, room / std::max(one.src_bytes, one.dst_bytes));
}

std::byte* at(const DeviceMemory& memory, std::int64_t offset) {
  return static_cast<std::byte*>(memory.data()) + offset;
}

// Rows of one length, half of whose pitch they fill in the source.
Case rows_case(std::int64_t row_bytes) {
  const std::int64_t num_rows = kRotationBytes / row_bytes;
  return {
      "rows/" + std::to_string(row_bytes), 2 * kRotationBytes, kRotationBytes,
      [=](const std::byte* src, std::byte* dst, const auto& add) {
        add(CopyOp{src, dst, DType::kU8, DType::kU8, 2, {num_rows, row_bytes}, {2 * row_bytes, 1}, {row_bytes, 1}, {}});
      }};
}

Case transpose_case(std::int64_t side) {
  const std::int64_t bytes = side * side * 2;
  return {"transpose/" + std::to_string(side), bytes, bytes,
          [=](const std::byte* src, std::byte* dst, const auto& add) {
            add(CopyOp{src, dst, DType::kBF16, DType::kBF16, 2, {side, side}, {2 * side, 2}, {2, 2 * side}, {}});
          }};
}

Case convert_case() {
  constexpr std::int64_t kCount = kRotationBytes / 2;
  return {"convert/f32_bf16", 4 * kCount, 2 * kCount, [=](const std::byte* src, std::byte* dst, const auto& add) {
            add(CopyOp{src, dst, DType::kF32, DType::kBF16, 1, {kCount}, {4}, {2}, {}});
          }};
}

// A weight of 4096 columns that is quantised or dequantised, in blocks of 128 x 128 or of 32 (MXFP8). The scales lie
// behind the source: what they are does not matter for the time.
Case scaled_case(const std::string& name, DType from, DType to, bool is_mx) {
  constexpr std::int64_t kCols = 4096;
  constexpr std::int64_t kRows = kRotationBytes / 2 / kCols;
  constexpr std::int64_t kCount = kRows * kCols;
  const std::int64_t scale_bytes = is_mx ? kCount / 32 : kCount / (128 * 128) * 4;
  const std::int64_t from_bytes = size_bytes(from), to_bytes = size_bytes(to);
  Case one = {
      name, (from_bytes * kCount + scale_bytes + 255) / 256 * 256, to_bytes * kCount,
      [=](const std::byte* src, std::byte* dst, const auto& add) {
        CopyOp op{src, dst, from, to, 2, {kRows, kCols}, {kCols * from_bytes, from_bytes}, {kCols * to_bytes, to_bytes},
                  {}};
        op.scales.base = src + from_bytes * kCount;
        op.scales.dtype = is_mx ? DType::kF8E8M0 : DType::kF32;
        op.scales.dims[0] = {is_mx ? 1 : 128, 0, is_mx ? kCols / 32 : kCols / 128 * 4};
        op.scales.dims[1] = {is_mx ? 32 : 128, 0, is_mx ? 1 : 4};
        add(op);
      }};
  one.moved_bytes = (from_bytes + to_bytes) * kCount + scale_bytes;
  return one;
}

// Experts of DeepSeek-V3, one trainer's 16 to one of 32 tensor parallel ranks: 64 of 2048 rows of gate and up, columns
// of down; transposed for servers that keep them so.
Case experts_case(bool is_transposed) {
  constexpr std::int64_t kExperts = 16, kHidden = 7168, kInner = 2048, kShare = 64, kElement = 2;
  constexpr std::int64_t kMatrix = kInner * kHidden * kElement;
  constexpr std::int64_t kPiece = kShare * kHidden * kElement;
  return {is_transposed ? "experts_transposed" : "experts", kExperts * 3 * kMatrix, kExperts * 3 * kPiece,
          [=](const std::byte* src, std::byte* dst, const auto& add) {
            for (std::int64_t i = 0; i < kExperts * 3; ++i) {
              const std::int64_t rows = i % 3 == 2 ? kHidden : kShare;
              const std::int64_t cols = i % 3 == 2 ? kShare : kHidden;
              const std::int64_t pitch = (i % 3 == 2 ? kInner : kHidden) * kElement;
              CopyOp op{src + i * kMatrix,
                        dst + i * kPiece,
                        DType::kBF16,
                        DType::kBF16,
                        2,
                        {rows, cols},
                        {pitch, kElement},
                        {cols * kElement, kElement},
                        {}};
              if (is_transposed) op.dst_strides_bytes[0] = kElement, op.dst_strides_bytes[1] = rows * kElement;
              add(op);
            }
          }};
}

// Seconds of one call of `enqueue(rotation)`, from events around as many as take some milliseconds.
double seconds_of(const std::function<Status(std::int64_t)>& enqueue, std::int64_t* rotation, Status* status) {
  constexpr int kCalls = 20;
  cudaEvent_t begin = nullptr, end = nullptr;
  cudaEventCreate(&begin);
  cudaEventCreate(&end);
  cudaEventRecord(begin, g_device->handle());
  for (int i = 0; i < kCalls && status->ok(); ++i) *status = enqueue((*rotation)++);
  cudaEventRecord(end, g_device->handle());
  const cudaError_t error = cudaEventSynchronize(end);
  if (status->ok() && error != cudaSuccess) *status = {RESHARD_ERR_TRANSPORT, cudaGetErrorString(error)};
  float milliseconds = 0;
  cudaEventElapsedTime(&milliseconds, begin, end);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return milliseconds * 1e-3 / kCalls;
}

// Runs `enqueue` and, before each time, a device-to-device copy of as many bytes.
void measure(benchmark::State& state, std::int64_t num_bytes, const std::function<Status(std::int64_t)>& enqueue) {
  const std::int64_t room = static_cast<std::int64_t>(g_device->dst.size_bytes()) / num_bytes;
  const auto plain = [&](std::int64_t rotation) {
    const std::int64_t offset = rotation % room * num_bytes;
    return copy_async(at(g_device->dst, offset), at(g_device->src, offset), static_cast<std::size_t>(num_bytes),
                      g_device->stream);
  };
  Status status;
  std::int64_t rotation = 0;
  double plain_seconds = 0, seconds = 0, rounds = 0;
  seconds_of(enqueue, &rotation, &status);  // warm-up
  for (auto _ : state) {
    plain_seconds += seconds_of(plain, &rotation, &status);
    const double once = seconds_of(enqueue, &rotation, &status);
    seconds += once;
    rounds += 1;
    state.SetIterationTime(once);
    if (!status.ok()) return state.SkipWithError(status.message().c_str());
  }
  state.counters["GBps"] = static_cast<double>(num_bytes) * rounds / seconds * 1e-9;
  state.counters["ratio"] = plain_seconds / seconds;
}

void run_launches(benchmark::State& state, const Case& one, decltype(&launch_copies) launch) {
  TileTable table;
  std::vector<TileRange> batches;
  for (std::int64_t i = 0; i < num_rotations(one); ++i) {
    CopyListBuilder builder(std::make_shared<CopyTable>());
    one.ops(at(g_device->src, i * one.src_bytes), at(g_device->dst, i * one.dst_bytes),
            [&](const CopyOp& op) { builder.add(op); });
    batches.push_back(table.add(builder.take()));
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(table.num_bytes()));
  table.write(bytes.data());
  Result<DeviceMemory> uploaded = DeviceMemory::allocate(g_device->info.index, bytes.size());
  if (!uploaded.ok()) return state.SkipWithError(uploaded.status().message().c_str());
  const Status status = copy_async(uploaded->data(), bytes.data(), bytes.size(), g_device->stream);
  if (!status.ok()) return state.SkipWithError(status.message().c_str());
  // A plain copy reads and writes: of half the bytes it moves as many.
  const std::int64_t num_bytes = one.moved_bytes > 0 ? one.moved_bytes / 2 : batches[0].num_bytes;
  measure(state, num_bytes, [&](std::int64_t rotation) {
    const TileRange& batch = batches[static_cast<std::size_t>(rotation) % batches.size()];
    return launch(table.at(uploaded->data()), batch, g_device->num_blocks(), g_device->stream.handle());
  });
}

void run_kernel(benchmark::State& state, const Case& one) {
  run_launches(state, one, launch_copies);
}

void run_bulk_kernel(benchmark::State& state, const Case& one) {
  run_launches(state, one, launch_copies_in_bulk);
}

// The same pieces in one call of CUDA's. It copies rows with a pitch, and neither transposes nor converts.
cudaMemcpy3DBatchOp batch_op(const CopyOp& op) {
  const auto pointer = [](const void* ptr, std::int64_t pitch, std::int64_t rows) {
    cudaMemcpy3DOperand operand = {};
    operand.type = cudaMemcpyOperandTypePointer;
    operand.op.ptr.ptr = const_cast<void*>(ptr);
    operand.op.ptr.rowLength = static_cast<std::size_t>(pitch);
    operand.op.ptr.layerHeight = static_cast<std::size_t>(rows);
    operand.op.ptr.locHint = {cudaMemLocationTypeDevice, {0}};
    return operand;
  };
  cudaMemcpy3DBatchOp out = {};
  out.src = pointer(op.src, op.src_strides_bytes[0], op.shape[0]);
  out.dst = pointer(op.dst, op.dst_strides_bytes[0], op.shape[0]);
  out.extent = {static_cast<std::size_t>(op.shape[1] * size_bytes(op.dst_dtype)), static_cast<std::size_t>(op.shape[0]),
                1};
  out.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  return out;
}

void run_batch_copy(benchmark::State& state, const Case& one) {
  std::vector<std::vector<cudaMemcpy3DBatchOp>> rotations;
  std::int64_t num_bytes = 0;
  for (std::int64_t i = 0; i < num_rotations(one); ++i) {
    auto& ops = rotations.emplace_back();
    num_bytes = 0;
    one.ops(at(g_device->src, i * one.src_bytes), at(g_device->dst, i * one.dst_bytes), [&](const CopyOp& op) {
      ops.push_back(batch_op(op));
      num_bytes += num_bytes_of(op);
    });
  }
  measure(state, num_bytes, [&](std::int64_t rotation) -> Status {
    auto& ops = rotations[static_cast<std::size_t>(rotation) % rotations.size()];
    const cudaError_t error = cudaMemcpy3DBatchAsync(ops.size(), ops.data(), 0, g_device->handle());
    if (error == cudaSuccess) return {};
    return {RESHARD_ERR_TRANSPORT, std::string("cudaMemcpy3DBatchAsync: ") + cudaGetErrorString(error)};
  });
}

void add(const std::string& name, void (*run)(benchmark::State&, const Case&), const Case& one) {
  benchmark::RegisterBenchmark(name.c_str(), [run, one](benchmark::State& state) { run(state, one); })
      ->UseManualTime()
      ->MinTime(0.1)
      ->Unit(benchmark::kMicrosecond);
}

void add_all() {
  for (const std::int64_t row_bytes : {16, 32, 64, 128, 256, 512, 1024, 2048, 4096}) {
    add("kernel/rows/" + std::to_string(row_bytes), run_kernel, rows_case(row_bytes));
    add("batch3d/rows/" + std::to_string(row_bytes), run_batch_copy, rows_case(row_bytes));
  }
  for (const std::int64_t row_bytes : {2048, 4096, 16384, 65536}) {
    add("bulk/rows/" + std::to_string(row_bytes), run_bulk_kernel, rows_case(row_bytes));
  }
  add("kernel/experts", run_kernel, experts_case(false));
  add("bulk/experts", run_bulk_kernel, experts_case(false));
  add("batch3d/experts", run_batch_copy, experts_case(false));
  add("kernel/experts_transposed", run_kernel, experts_case(true));
  for (const std::int64_t side : {2048, 5000, 8192}) {
    add("kernel/transpose/" + std::to_string(side), run_kernel, transpose_case(side));
  }
  add("kernel/convert/f32_bf16", run_kernel, convert_case());
  constexpr DType kF8 = DType::kF8E4M3;
  for (const Case& one :
       {scaled_case("bf16_fp8_128x128", DType::kBF16, kF8, false), scaled_case("bf16_mxfp8", DType::kBF16, kF8, true),
        scaled_case("f32_fp8_128x128", DType::kF32, kF8, false),
        scaled_case("fp8_128x128_bf16", kF8, DType::kBF16, false),
        scaled_case("mxfp8_bf16", kF8, DType::kBF16, true)}) {
    add("kernel/scaled/" + one.name, run_kernel, one);
  }
}

Result<std::unique_ptr<Device>> open_device() {
  RESHARD_TRY(check_device(0));
  RESHARD_TRY(DeviceInfo info, device_info(0));
  RESHARD_TRY(Stream stream, Stream::create(0));
  // More than four times the cache, and a rotation of the largest case.
  const auto size = static_cast<std::size_t>(std::max<std::int64_t>(5 * info.l2_bytes, std::int64_t{3} << 30));
  RESHARD_TRY(DeviceMemory src, DeviceMemory::allocate(0, size));
  RESHARD_TRY(DeviceMemory dst, DeviceMemory::allocate(0, size));
  RESHARD_TRY(fill_async(src.data(), 1, size, stream));
  RESHARD_TRY(fill_async(dst.data(), 0, size, stream));
  return std::make_unique<Device>(Device{std::move(info), std::move(stream), std::move(src), std::move(dst)});
}

int main_with(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  Result<std::unique_ptr<Device>> device = open_device();
  if (!device.ok()) {
    std::fprintf(stderr, "bench_kernels ends with status %d: %s\n", static_cast<int>(device.status().code()),
                 device.status().message().c_str());
    return 2;
  }
  g_device = device->get();
  cudaSetDevice(g_device->info.index);
  add_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace reshard

int main(int argc, char** argv) {
  return reshard::main_with(argc, argv);
}
