// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// Speed of CopyList beside a plain contiguous copy of the same bytes with the same kind of stores, in one thread.
// Baseline and copy alternate, each figure is a median, and only the ratio (copy's speed / baseline's speed, more is
// better) means anything on a shared machine.
//
//   bench_copy [--json FILE] [--filter TEXT] [--rounds N]
//
// Settings: `cached` both sides in the second-level cache, `memory` far above it with ordinary stores, `streaming` the
// same with non-temporal ones. The baseline is std::memcpy, and for `streaming` a plain loop of non-temporal stores.
//
// JSON, version 1; SETTING is one of the above, ROW a row length in bytes, a dot is a nested object:
//   pack_rows_ROW.SETTING.ratio      strided rows, half as long as their stride, to a contiguous destination
//   unpack_rows_ROW.SETTING.ratio    the reverse
//   run.SETTING.ratio                one contiguous run
//   pack_rows_ROW.ratio              the lowest of the three settings; likewise for all cases
//   pack_rows.min_ratio              the lowest of all rows of 512 bytes and longer
//   transpose_TYPE.SETTING.ratio     a square matrix
//   convert_FROM_TO.SETTING.ratio    a contiguous range; the baseline copies (bytes read + bytes written) / 2
//   CASE.SETTING.baseline_gbps, CASE.SETTING.gbps   bytes written (convert: as above) / second / 1e9
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "kernels/copy_list.h"
#include "perf/thread_seconds.h"

namespace reshard {
namespace {

constexpr std::int64_t kCachedBytes = 128 * 1024;
constexpr std::int64_t kMemoryBytes = 32 * 1024 * 1024;

struct Options {
  std::string json_path;
  std::string filter;
  std::int64_t rounds = 21;
};

struct Figure {
  double baseline_gbps = 0;
  double gbps = 0;
  double ratio() const { return gbps / baseline_gbps; }
};

using Figures = std::map<std::string, Figure>;   // by setting
using Results = std::map<std::string, Figures>;  // by case

enum class Setting { kCached, kMemory, kStreaming };
constexpr Setting kSettings[] = {Setting::kCached, Setting::kMemory, Setting::kStreaming};

const char* name(Setting setting) {
  switch (setting) {
    case Setting::kCached:
      return "cached";
    case Setting::kMemory:
      return "memory";
    case Setting::kStreaming:
      return "streaming";
  }
  return "";
}

// Page-aligned and touched.
class Memory {
 public:
  explicit Memory(std::int64_t size_bytes)
      : bytes_(static_cast<std::byte*>(std::aligned_alloc(4096, static_cast<std::size_t>(size_bytes)))) {
    std::memset(bytes_.get(), 1, static_cast<std::size_t>(size_bytes));
  }
  std::byte* data() const { return bytes_.get(); }

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::byte, Free> bytes_;
};

// `dst` is aligned to a cache line, `num_bytes` a multiple of one.
void stream_copy(std::byte* dst, const std::byte* src, std::int64_t num_bytes) {
#if defined(__x86_64__)
  const auto* from = reinterpret_cast<const __m128i*>(src);
  auto* to = reinterpret_cast<__m128i*>(dst);
  for (std::int64_t i = 0; i < num_bytes / 16; i += 4) {
    const __m128i a = _mm_loadu_si128(from + i);
    const __m128i b = _mm_loadu_si128(from + i + 1);
    const __m128i c = _mm_loadu_si128(from + i + 2);
    const __m128i d = _mm_loadu_si128(from + i + 3);
    _mm_stream_si128(to + i, a);
    _mm_stream_si128(to + i + 1, b);
    _mm_stream_si128(to + i + 2, c);
    _mm_stream_si128(to + i + 3, d);
  }
  _mm_sfence();
#else
  std::memcpy(dst, src, static_cast<std::size_t>(num_bytes));
#endif
}

double seconds_of(const std::function<void()>& work, std::int64_t repeats) {
  const double begin = thread_seconds();
  for (std::int64_t i = 0; i < repeats; ++i) work();
  return (thread_seconds() - begin) / static_cast<double>(repeats);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)), src_(4 * kMemoryBytes), dst_(4 * kMemoryBytes) {}

  void pack(std::int64_t row_bytes) {
    for (const Setting setting : kSettings) {
      const std::int64_t rows = bytes_of(setting) / row_bytes;
      run("pack_rows_" + std::to_string(row_bytes), setting, rows * row_bytes,
          rows_op(rows, row_bytes, 2 * row_bytes, row_bytes));
    }
  }

  void copy_run() {
    for (const Setting setting : kSettings) run("run", setting, bytes_of(setting), rows_op(1, bytes_of(setting), 0, 0));
  }

  void unpack(std::int64_t row_bytes) {
    for (const Setting setting : kSettings) {
      const std::int64_t rows = bytes_of(setting) / row_bytes;
      run("unpack_rows_" + std::to_string(row_bytes), setting, rows * row_bytes,
          rows_op(rows, row_bytes, row_bytes, 2 * row_bytes));
    }
  }

  void transpose(const char* type, DType dtype) {
    for (const Setting setting : kSettings) {
      const std::int64_t element = size_bytes(dtype);
      std::int64_t side = 64;
      while (4 * side * side * element <= bytes_of(setting)) side *= 2;
      CopyOp op = op_between(dtype, dtype);
      op.num_dims = 2;
      op.shape[0] = op.shape[1] = side;
      op.src_strides_bytes[0] = op.dst_strides_bytes[1] = element;
      op.src_strides_bytes[1] = op.dst_strides_bytes[0] = side * element;
      run(std::string("transpose_") + type, setting, side * side * element, op);
    }
  }

  void convert(const char* types, DType src_dtype, DType dst_dtype) {
    for (const Setting setting : kSettings) {
      const std::int64_t num_elements = bytes_of(setting) / 4;
      CopyOp op = op_between(src_dtype, dst_dtype);
      op.num_dims = 1;
      op.shape[0] = num_elements;
      op.src_strides_bytes[0] = size_bytes(src_dtype);
      op.dst_strides_bytes[0] = size_bytes(dst_dtype);
      run(std::string("convert_") + types, setting, num_elements * (size_bytes(src_dtype) + size_bytes(dst_dtype)) / 2,
          op);
    }
  }

  const Results& results() const { return results_; }

 private:
  static std::int64_t bytes_of(Setting setting) { return setting == Setting::kCached ? kCachedBytes : kMemoryBytes; }

  CopyOp op_between(DType src_dtype, DType dst_dtype) const {
    CopyOp op;
    op.src = src_.data();
    op.dst = dst_.data();
    op.src_dtype = src_dtype;
    op.dst_dtype = dst_dtype;
    return op;
  }

  CopyOp rows_op(std::int64_t rows, std::int64_t row_bytes, std::int64_t src_stride, std::int64_t dst_stride) const {
    CopyOp op = op_between(DType::kU8, DType::kU8);
    op.num_dims = 2;
    op.shape[0] = rows;
    op.shape[1] = row_bytes;
    op.src_strides_bytes[0] = src_stride;
    op.dst_strides_bytes[0] = dst_stride;
    op.src_strides_bytes[1] = op.dst_strides_bytes[1] = 1;
    return op;
  }

  void run(const std::string& name_of_case, Setting setting, std::int64_t num_bytes, const CopyOp& op) {
    if (name_of_case.find(options_.filter) == std::string::npos) return;
    CopyList list;
    list.add(op);
    const bool is_streaming = setting == Setting::kStreaming;
    const StoreHint hint = is_streaming ? StoreHint::kStreaming : StoreHint::kCached;
    const Figure figure = measure(
        num_bytes, [&] { plain_copy(num_bytes, is_streaming); }, [&] { list.run(hint); });
    std::printf("%-24s %-10s %10.2f %10.2f %8.3f\n", name_of_case.c_str(), name(setting), figure.baseline_gbps,
                figure.gbps, figure.ratio());
    std::fflush(stdout);
    results_[name_of_case][name(setting)] = figure;
  }

  void plain_copy(std::int64_t num_bytes, bool is_streaming) const {
    if (is_streaming) {
      stream_copy(dst_.data(), src_.data(), num_bytes & ~std::int64_t{63});
    } else {
      std::memcpy(dst_.data(), src_.data(), static_cast<std::size_t>(num_bytes));
    }
  }

  Figure measure(std::int64_t num_bytes, const std::function<void()>& baseline,
                 const std::function<void()>& copy) const {
    constexpr std::int64_t kSampleBytes = 16 * 1024 * 1024;  // about a millisecond
    const std::int64_t repeats = std::max<std::int64_t>(1, kSampleBytes / num_bytes);
    std::vector<double> baseline_seconds;
    std::vector<double> seconds;
    for (std::int64_t round = 0; round <= options_.rounds; ++round) {
      const double first = seconds_of(baseline, repeats);
      const double second = seconds_of(copy, repeats);
      if (round == 0) continue;  // warm-up
      baseline_seconds.push_back(first);
      seconds.push_back(second);
    }
    const double gigabytes = static_cast<double>(num_bytes) * 1e-9;
    return {gigabytes / median(baseline_seconds), gigabytes / median(seconds)};
  }

  Options options_;
  Memory src_;
  Memory dst_;
  Results results_;
};

double lowest(const Figures& figures) {
  double least = figures.begin()->second.ratio();
  for (const auto& [setting, figure] : figures) least = std::min(least, figure.ratio());
  return least;
}

bool write_json(const std::string& path, const Results& results, double min_ratio) {
  std::ofstream out(path);
  out << "{\n  \"version\": 1,\n  \"pack_rows\": {\"min_ratio\": " << min_ratio << "}";
  for (const auto& [name_of_case, figures] : results) {
    out << ",\n  \"" << name_of_case << "\": {\"ratio\": " << lowest(figures);
    for (const auto& [setting, figure] : figures) {
      out << ",\n    \"" << setting << "\": {\"ratio\": " << figure.ratio()
          << ", \"baseline_gbps\": " << figure.baseline_gbps << ", \"gbps\": " << figure.gbps << "}";
    }
    out << "}";
  }
  out << "\n}\n";
  return out.flush().good();
}

bool parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return false;
    const std::string_view flag = argv[i];
    const std::string_view value = argv[i + 1];
    if (flag == "--json") {
      options->json_path = value;
    } else if (flag == "--filter") {
      options->filter = value;
    } else if (flag == "--rounds") {
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), options->rounds);
      if (error != std::errc() || end != value.data() + value.size() || options->rounds < 1) return false;
    } else {
      return false;
    }
  }
  return true;
}

void run_all(Bench* bench) {
  bench->copy_run();
  for (const std::int64_t row_bytes : {64, 128, 256, 512, 1000, 1024, 2048, 4096, 16384, 65536}) bench->pack(row_bytes);
  for (const std::int64_t row_bytes : {64, 512, 1000, 4096}) bench->unpack(row_bytes);
  bench->transpose("f32", DType::kF32);
  bench->transpose("bf16", DType::kBF16);
  bench->transpose("u8", DType::kU8);
  bench->transpose("f64", DType::kF64);
  bench->convert("f32_bf16", DType::kF32, DType::kBF16);
  bench->convert("bf16_f32", DType::kBF16, DType::kF32);
  bench->convert("f32_f16", DType::kF32, DType::kF16);
  bench->convert("f16_f32", DType::kF16, DType::kF32);
  bench->convert("bf16_f16", DType::kBF16, DType::kF16);
}

// The figure that the project promises; 0 when the filter left nothing of it.
double min_pack_ratio(const Results& results) {
  double least = 0;
  for (const std::int64_t row_bytes : {512, 1000, 1024, 2048, 4096, 16384, 65536}) {
    const auto found = results.find("pack_rows_" + std::to_string(row_bytes));
    if (found == results.end()) continue;
    least = least == 0 ? lowest(found->second) : std::min(least, lowest(found->second));
  }
  return least;
}

int main_with(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, &options)) {
    std::fprintf(stderr, "usage: %s [--json FILE] [--filter TEXT] [--rounds N >= 1]\n", argv[0]);
    return 2;
  }
  Bench bench(options);
  std::printf("%-24s %-10s %10s %10s %8s\n", "case", "setting", "plain GB/s", "list GB/s", "ratio");
  run_all(&bench);
  const double min_ratio = min_pack_ratio(bench.results());
  std::printf("pack_rows.min_ratio %.3f (rows of 512 bytes and longer; goal 0.9)\n", min_ratio);
  if (!options.json_path.empty() && !write_json(options.json_path, bench.results(), min_ratio)) {
    std::fprintf(stderr, "cannot write %s\n", options.json_path.c_str());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace reshard

int main(int argc, char** argv) {
  return reshard::main_with(argc, argv);
}
