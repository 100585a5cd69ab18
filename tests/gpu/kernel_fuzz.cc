// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// usage: kernel_fuzz SECONDS [SEED]     random batches on the first device, against two slow loops over elements: a
// kernel on the device, with CUDA's conversions, and one on the host, with arithmetic
//
// For a machine with a GPU; on the double of the runtime it runs with all other tests. Every byte of the destinations
// and of the guards around them is compared. The last line is a JSON object; the exit status is 1 when a byte was
// wrong, 2 without a device.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"
#include "src/device/device.h"
#include "src/device/memory.h"
#include "src/device/stream.h"
#include "tests/gpu/reference_kernel.h"
#include "tests/unit/kernels/reference.h"
#include "tests/unit/kernels_cuda/random_copies.h"

namespace reshard::testing {
namespace {

constexpr std::size_t kAlignment = 256;

// Memory of several copies, one after another, as the host sees it.
struct Arena {
  std::vector<std::byte> bytes;

  std::size_t add(const std::vector<std::byte>& more) {
    const std::size_t at = (bytes.size() + kAlignment - 1) / kAlignment * kAlignment;
    bytes.resize(at);
    bytes.insert(bytes.end(), more.begin(), more.end());
    return at;
  }
};

Result<DeviceMemory> upload(const std::vector<std::byte>& bytes, const Stream& stream) {
  RESHARD_TRY(DeviceMemory memory, DeviceMemory::allocate(0, std::max<std::size_t>(bytes.size(), 1)));
  RESHARD_TRY(copy_async(memory.data(), bytes.data(), bytes.size(), stream));
  return memory;
}

Result<std::vector<std::byte>> download(const DeviceMemory& memory, const Stream& stream) {
  std::vector<std::byte> bytes(memory.size_bytes());
  RESHARD_TRY(copy_async(bytes.data(), memory.data(), bytes.size(), stream));
  RESHARD_TRY(stream.synchronize());
  return bytes;
}

std::int64_t num_different(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  return std::transform_reduce(a.begin(), a.end(), b.begin(), std::int64_t{0}, std::plus<>(),
                               [](std::byte x, std::byte y) { return x == y ? 0 : 1; });
}

// Copies that one launch makes.
class Batch {
 public:
  void add(const RandomCopy& copy) {
    const std::size_t dst = dst_.add(copy.dst);
    places_.push_back({copy.op, src_.add(copy.src) + static_cast<std::size_t>(copy.src_base),
                       dst + static_cast<std::size_t>(copy.dst_base),
                       scales_.add(copy.scales) + static_cast<std::size_t>(copy.scale_base), copy.is_fill,
                       !copy.scales.empty()});
  }

  std::size_t size() const { return places_.size(); }

  /// The number of bytes that are not as they should be, by the one reference and by the other.
  Result<std::int64_t> run(int num_blocks, bool has_bulk_copies, const Stream& stream) {
    RESHARD_TRY(const DeviceMemory src, upload(src_.bytes, stream));
    RESHARD_TRY(const DeviceMemory dst, upload(dst_.bytes, stream));
    RESHARD_TRY(const DeviceMemory expected, upload(dst_.bytes, stream));
    RESHARD_TRY(const DeviceMemory scales, upload(scales_.bytes, stream));
    CopyList list;
    for (const Place& place : places_) list.add(place.bind(src.data(), dst.data(), scales.data()));
    TileTable table;
    const TileRange range = table.add(list);
    std::vector<std::byte> bytes(static_cast<std::size_t>(table.num_bytes()));
    table.write(bytes.data());
    RESHARD_TRY(const DeviceMemory uploaded, upload(bytes, stream));
    const auto launch = has_bulk_copies ? launch_copies_in_bulk : launch_copies;
    RESHARD_TRY(launch(table.at(uploaded.data()), range, num_blocks, stream.handle()));
    for (const Place& place : places_) {
      RESHARD_TRY(launch_reference_copy(place.bind(src.data(), expected.data(), scales.data()), stream.handle()));
    }
    RESHARD_TRY(const std::vector<std::byte> got, download(dst, stream));
    RESHARD_TRY(const std::vector<std::byte> wanted, download(expected, stream));
    for (const Place& place : places_) {
      reference_copy(place.bind(src_.bytes.data(), dst_.bytes.data(), scales_.bytes.data()));
    }
    return num_different(got, wanted) + num_different(got, dst_.bytes);
  }

 private:
  struct Place {
    CopyOp op;
    std::size_t src;
    std::size_t dst;
    std::size_t scales;
    bool is_fill;
    bool is_scaled;

    CopyOp bind(const void* from, void* to, const void* with) const {
      CopyOp bound = op;
      bound.src = is_fill ? nullptr : static_cast<const std::byte*>(from) + src;
      bound.dst = static_cast<std::byte*>(to) + dst;
      if (is_scaled) bound.scales.base = static_cast<const std::byte*>(with) + scales;
      return bound;
    }
  };

  Arena src_;
  Arena dst_;
  Arena scales_;
  std::vector<Place> places_;
};

// Three rows from one offset of 16 bytes to another, with guards.
RandomCopy rows_of(std::int64_t src_offset, std::int64_t dst_offset, std::int64_t row_bytes) {
  constexpr std::int64_t kGuard = 64;
  const std::int64_t pitch = row_bytes + row_bytes % 3 * 16 + row_bytes % 2;
  RandomCopy copy;
  copy.op.num_dims = 2;
  copy.op.shape[0] = 3;
  copy.op.shape[1] = row_bytes;
  copy.op.src_strides_bytes[0] = copy.op.dst_strides_bytes[0] = pitch;
  copy.op.src_strides_bytes[1] = copy.op.dst_strides_bytes[1] = 1;
  copy.src_base = src_offset;
  copy.dst_base = kGuard + dst_offset;
  copy.src.resize(static_cast<std::size_t>(src_offset + 3 * pitch));
  for (std::size_t i = 0; i < copy.src.size(); ++i) copy.src[i] = static_cast<std::byte>(7 * i + 1);
  copy.dst.assign(static_cast<std::size_t>(2 * kGuard + dst_offset + 3 * pitch), std::byte{0xa5});
  return copy;
}

Batch misaligned_batch(std::int64_t row_bytes) {
  Batch batch;
  for (std::int64_t src = 0; src < 16; ++src) {
    for (std::int64_t dst = 0; dst < 16; ++dst) batch.add(rows_of(src, dst, row_bytes));
  }
  return batch;
}

Batch random_batch(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Batch batch;
  for (int i = 0; i < 60; ++i) batch.add(i % 3 == 0 ? random_scaled_copy(&random) : random_copy(&random));
  return batch;
}

struct Totals {
  std::int64_t batches = 0;
  std::int64_t copies = 0;
  std::int64_t wrong_bytes = 0;
};

Status check(Batch batch, const std::string& what, int num_blocks, const Stream& stream, Totals* totals) {
  RESHARD_TRY(const std::int64_t num_wrong, batch.run(num_blocks, totals->batches % 2 == 1, stream));
  if (num_wrong > 0) std::printf("%s: %lld bytes are wrong\n", what.c_str(), static_cast<long long>(num_wrong));
  ++totals->batches;
  totals->copies += static_cast<std::int64_t>(batch.size());
  totals->wrong_bytes += num_wrong;
  return {};
}

Status run_all(double seconds, std::uint64_t seed, Totals* totals) {
  RESHARD_TRY(check_device(0));
  RESHARD_TRY(const DeviceInfo info, device_info(0));
  RESHARD_TRY(const DeviceGuard guard, DeviceGuard::enter(0));
  RESHARD_TRY(const Stream stream, Stream::create(0));
  const int num_blocks = info.num_sms * kCopyBlocksPerMultiprocessor;
  for (const std::int64_t row_bytes : {1, 2, 3, 7, 15, 16, 17, 31, 47, 48, 61, 62, 63, 64, 129, 512, 1000, 40000}) {
    const std::string what = "rows of " + std::to_string(row_bytes) + " bytes of all misalignments";
    RESHARD_TRY(check(misaligned_batch(row_bytes), what, num_blocks, stream, totals));
  }
  const auto begin = std::chrono::steady_clock::now();
  const std::chrono::duration<double> limit(seconds);
  do {
    const std::string what = "random batch of seed " + std::to_string(seed);
    RESHARD_TRY(check(random_batch(seed), what, num_blocks, stream, totals));
    ++seed;
  } while (std::chrono::steady_clock::now() - begin < limit);
  return {};
}

int main_with(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fprintf(stderr, "usage: %s SECONDS [SEED]\n", argv[0]);
    return 2;
  }
  const std::uint64_t seed = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Totals totals;
  const Status status = run_all(std::atof(argv[1]), seed, &totals);
  if (!status.ok()) {
    std::fprintf(stderr, "kernel_fuzz ends with status %d: %s\n", static_cast<int>(status.code()),
                 status.message().c_str());
    return 2;
  }
  std::printf("{\"seed\": %llu, \"batches\": %lld, \"copies\": %lld, \"wrong_bytes\": %lld}\n",
              static_cast<unsigned long long>(seed), static_cast<long long>(totals.batches),
              static_cast<long long>(totals.copies), static_cast<long long>(totals.wrong_bytes));
  return totals.wrong_bytes == 0 ? 0 : 1;
}

}  // namespace
}  // namespace reshard::testing

int main(int argc, char** argv) {
  return reshard::testing::main_with(argc, argv);
}
