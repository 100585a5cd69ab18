// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors

// The inner kernels one by one: every row length about the limits where they change method, at every alignment.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "kernels_under_test.h"
#include "reference.h"

namespace reshard::testing {
namespace {

constexpr std::byte kRowPoison{0xa5};
constexpr std::int64_t kRowGuardBytes = 64;

std::vector<std::byte> counting_bytes(std::int64_t size) {
  static std::vector<std::byte> counted;  // as many as anybody asked for
  for (std::size_t i = counted.size(); i < static_cast<std::size_t>(size); ++i) {
    counted.push_back(static_cast<std::byte>((i * 7 + i / 251) & 0xff));
  }
  return {counted.begin(), counted.begin() + size};
}

std::vector<std::byte> poisoned(std::int64_t size) {
  return std::vector(static_cast<std::size_t>(size), kRowPoison);
}

class RowsTest : public KernelsTest {
 protected:
  // Rows apart or adjacent in the destination; a fill gets no source.
  void expect_rows(PieceFn kernel, std::int64_t num_rows, std::int64_t row_bytes, std::int64_t gap_bytes,
                   std::int64_t offset, bool is_fill) const {
    const std::int64_t src_stride = row_bytes + 5;
    const std::int64_t dst_stride = row_bytes + gap_bytes;
    const auto src = counting_bytes(num_rows * src_stride);
    auto actual = poisoned(offset + num_rows * dst_stride + 2 * kRowGuardBytes);
    auto expected = actual;
    const auto at = static_cast<std::size_t>(kRowGuardBytes + offset);
    kernel({is_fill ? nullptr : src.data(), actual.data() + at, {row_bytes, 1, 1}, {num_rows, src_stride, dst_stride}});
    kernels().fence();
    for (std::int64_t row = 0; row < num_rows; ++row) {
      std::byte* const to = expected.data() + at + row * dst_stride;
      const auto size = static_cast<std::size_t>(row_bytes);
      is_fill ? std::memset(to, 0, size) : std::memcpy(to, src.data() + row * src_stride, size);
    }
    ASSERT_TRUE(are_same(actual, expected))
        << num_rows << " rows of " << row_bytes << " bytes, " << gap_bytes << " apart, at offset " << offset;
  }

  void expect_all_lengths(PieceFn kernel, bool is_fill) const {
    std::vector<std::int64_t> lengths(520);
    std::iota(lengths.begin(), lengths.end(), 1);
    lengths.insert(lengths.end(), {640, 1000, 2047, 2048, 2049, 2200, 4096, 4097, 8320, 16383, 16384, 16385, 70000});
    for (const std::int64_t length : lengths) {
      for (const std::int64_t offset : {0, 1, 8, 31, 32, 33, 63}) {
        for (const std::int64_t gap : {0, 3, 64}) expect_rows(kernel, 5, length, gap, offset, is_fill);
      }
    }
    // About the numbers of rows that are moved side by side.
    for (const std::int64_t length : {64, 128, 256, 500, 512, 2048, 2112, 5000, 16384}) {
      for (const std::int64_t num_rows : {1, 2, 3, 4, 7, 8, 9, 16, 19}) {
        for (const std::int64_t offset : {0, 24}) {
          for (const std::int64_t gap : {0, 3, 64}) expect_rows(kernel, num_rows, length, gap, offset, is_fill);
        }
      }
    }
  }

  // Extents about multiples of the block sizes, against the definition: dst[r][c] = src[c][r].
  void expect_transposes(PieceFn kernel, std::int64_t element_bytes) const {
    for (const std::int64_t cols : {1, 3, 4, 7, 8, 9, 16, 21}) {
      for (const std::int64_t rows : {1, 4, 5, 8, 15, 16, 33}) {
        const std::int64_t src_stride = rows * element_bytes + 3;
        const std::int64_t dst_stride = cols * element_bytes + 1;
        const auto src = counting_bytes(cols * src_stride);
        auto actual = poisoned(rows * dst_stride + 2 * kRowGuardBytes);
        auto expected = actual;
        kernel({src.data(),
                actual.data() + kRowGuardBytes,
                {cols, src_stride, element_bytes},
                {rows, element_bytes, dst_stride}});
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < cols; ++c) {
            std::memcpy(expected.data() + kRowGuardBytes + r * dst_stride + c * element_bytes,
                        src.data() + c * src_stride + r * element_bytes, static_cast<std::size_t>(element_bytes));
          }
        }
        ASSERT_TRUE(are_same(actual, expected))
            << cols << " columns, " << rows << " rows of " << element_bytes << " bytes";
      }
    }
  }
};
RESHARD_INSTANTIATE_KERNELS(RowsTest);

TEST_P(RowsTest, CachedCopiesMoveRowsOfEveryLength) {
  expect_all_lengths(kernels().copy_cached, false);
}

TEST_P(RowsTest, StreamingCopiesMoveRowsOfEveryLength) {
  expect_all_lengths(kernels().copy_streaming, false);
}

TEST_P(RowsTest, CachedFillsZeroRowsOfEveryLength) {
  expect_all_lengths(kernels().fill_cached, true);
}

TEST_P(RowsTest, StreamingFillsZeroRowsOfEveryLength) {
  expect_all_lengths(kernels().fill_streaming, true);
}

TEST_P(RowsTest, TransposesTurnEveryElementSize) {
  for (const std::int64_t element_bytes : {1, 2, 4, 8, 16}) {
    expect_transposes(kernels().transpose[RowKernels::index_of_size(element_bytes)], element_bytes);
  }
}

TEST_P(RowsTest, StridedCopiesMoveEveryElementSize) {
  for (const std::int64_t element_bytes : {1, 2, 4, 8, 16}) {
    expect_transposes(kernels().strided[RowKernels::index_of_size(element_bytes)], element_bytes);
  }
}

}  // namespace
}  // namespace reshard::testing
