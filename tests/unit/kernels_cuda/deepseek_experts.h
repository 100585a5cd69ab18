// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// One layer of DeepSeek-V3's experts, from expert parallel 16 to tensor parallel 32, as one server rank pulls it: of
// each of 256 experts 64 of 2048 rows of gate and up, and 64 of 2048 columns of down. bf16.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/copy_list.h"
#include "kernels/copy_list_builder.h"

namespace reshard::testing {

struct Experts {
  static constexpr std::int64_t kExperts = 256;
  static constexpr std::int64_t kTrainers = 16;
  static constexpr std::int64_t kHidden = 7168;
  static constexpr std::int64_t kInner = 2048;         // of an expert
  static constexpr std::int64_t kShare = kInner / 32;  // of it, at one server rank
  static constexpr std::int64_t kElementBytes = 2;
  static constexpr std::int64_t kWindowBytes = std::int64_t{16} << 20;
  /// Of an expert: gate and up, then down.
  static constexpr std::int64_t kSrcBytes = 3 * kInner * kHidden * kElementBytes;
  static constexpr std::int64_t kDstBytes = 3 * kShare * kHidden * kElementBytes;

  /// The copies of some experts of one trainer, from `src` to `dst`, its first expert's.
  static void add(std::int64_t num_experts, const std::byte* src, std::byte* dst, bool is_transposed,
                  const std::function<void(const CopyOp&)>& add) {
    constexpr std::int64_t kMatrix = kInner * kHidden * kElementBytes;
    constexpr std::int64_t kShareBytes = kShare * kHidden * kElementBytes;
    for (std::int64_t expert = 0; expert < num_experts; ++expert) {
      const std::byte* from = src + expert * kSrcBytes;
      std::byte* to = dst + expert * kDstBytes;
      for (int projection = 0; projection < 3; ++projection) {
        const bool is_down = projection == 2;
        CopyOp op;
        op.src = from + projection * kMatrix;
        op.dst = to + projection * kShareBytes;
        op.src_dtype = op.dst_dtype = DType::kBF16;
        op.num_dims = 2;
        op.shape[0] = is_down ? kHidden : kShare;
        op.shape[1] = is_down ? kShare : kHidden;
        op.src_strides_bytes[0] = (is_down ? kInner : kHidden) * kElementBytes;
        op.src_strides_bytes[1] = kElementBytes;
        op.dst_strides_bytes[0] = is_transposed ? kElementBytes : op.shape[1] * kElementBytes;
        op.dst_strides_bytes[1] = is_transposed ? op.shape[0] * kElementBytes : kElementBytes;
        add(op);
      }
    }
  }

  /// The layer as lists of a window each, from addresses that nobody reads. The experts of a trainer are split evenly.
  static std::vector<CopyList> windows(bool is_transposed) {
    constexpr std::int64_t kPerWindow = kWindowBytes / kDstBytes;
    auto* const base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);
    CopyListBuilder builder(std::make_shared<CopyTable>());
    std::vector<CopyList> lists;
    for (std::int64_t trainer = 0; trainer < kTrainers; ++trainer) {
      const std::byte* src = base + (trainer + 1) * (std::int64_t{1} << 36);
      for (std::int64_t first = 0; first < kExperts / kTrainers; first += kPerWindow) {
        const std::int64_t count = std::min(kPerWindow, kExperts / kTrainers - first);
        std::byte* dst = base + (trainer * kExperts / kTrainers + first) * kDstBytes;
        add(count, src + first * kSrcBytes, dst, is_transposed, [&](const CopyOp& op) { builder.add(op); });
        lists.push_back(builder.take());
      }
    }
    return lists;
  }
};

}  // namespace reshard::testing
