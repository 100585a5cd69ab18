// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
// vLLM's local parameters, element by element, from the formulas of its weight loaders.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "memory.h"

namespace reshard {
namespace {

struct ServerSettings {
  std::int64_t tp, pp, dp, replicas;
  bool has_ep;
};

class VllmElementsTest : public testing::TestWithParam<ServerSettings> {};

/// 8 q heads, 4 k heads, head_dim 2, 5 experts of width 8, 2 layers; layer l on stage l when pp = 2.
void expect_layer(const Memory& memory, const ServerSettings& s, std::int64_t rank, std::int64_t layer) {
  const std::int64_t t = rank % s.tp, d = rank / (s.tp * s.pp) % s.dp;
  const std::int64_t q_rows = 16 / s.tp, kv_rows = s.tp >= 4 ? 2 : 8 / s.tp;
  const std::int64_t kv_first = s.tp >= 4 ? t / (s.tp / 4) * 2 : t * kv_rows;
  expect_buffer(memory, in_layer(layer, "self_attn.qkv_proj.weight"), {q_rows + 2 * kv_rows, kTinyHidden},
                [&](const Index& i) {
                  const std::int64_t kv = i[0] - q_rows;
                  if (kv < 0) return Element{in_layer(layer, "self_attn.q_proj.weight"), {t * q_rows + i[0], i[1]}};
                  return Element{in_layer(layer, kv < kv_rows ? "self_attn.k_proj.weight" : "self_attn.v_proj.weight"),
                                 {kv_first + kv % kv_rows, i[1]}};
                });
  const std::int64_t p = s.tp * s.dp, k = d * s.tp + t;
  const std::int64_t first = s.has_ep ? k * (5 / p) + std::min(k, 5 % p) : 0;
  const std::int64_t num_experts = s.has_ep ? 5 / p + (k < 5 % p ? 1 : 0) : 5;
  const std::int64_t width = s.has_ep ? 8 : 8 / p, begin = s.has_ep ? 0 : k * width;
  expect_buffer(memory, in_layer(layer, "mlp.experts.routed_experts.w13_weight"), {num_experts, 2 * width, kTinyHidden},
                [&](const Index& i) {
                  const char* proj = i[1] < width ? "mlp.experts.gate_proj.weight" : "mlp.experts.up_proj.weight";
                  return Element{in_layer(layer, proj), {first + i[0], begin + i[1] % width, i[2]}};
                });
  expect_buffer(memory, in_layer(layer, "mlp.experts.routed_experts.w2_weight"), {num_experts, kTinyHidden, width},
                [&](const Index& i) {
                  return Element{in_layer(layer, "mlp.experts.down_proj.weight"), {first + i[0], i[1], begin + i[2]}};
                });
}

TEST_P(VllmElementsTest, EveryRankHoldsWhatTheFormulasSay) {
  const ServerSettings& s = GetParam();
  nlohmann::json config = tiny_qwen3_moe();
  config.update({{"num_experts", 5}, {"head_dim", 2}});
  const std::string ep = s.has_ep ? fmt::format(",ep={}", s.tp * s.dp) : "";
  const ModelLayout layout =
      layout_of(config, fmt::format("vllm:tp={},pp={},dp={},replicas={}{}", s.tp, s.pp, s.dp, s.replicas, ep));
  ASSERT_EQ(layout.num_ranks(), s.tp * s.pp * s.dp * s.replicas);
  for (std::int64_t rank = 0; rank < layout.num_ranks(); ++rank) {
    const Memory memory = memory_of(layout, static_cast<std::int32_t>(rank));
    EXPECT_EQ(memory.defect, "") << "rank " << rank;
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      if (s.pp == 1 || rank / s.tp % 2 == layer) {
        expect_layer(memory, s, rank, layer);
      } else {
        EXPECT_EQ(memory.buffers.count(in_layer(layer, "mlp.gate.weight")), 0U);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(ServerSettings, VllmElementsTest,
                         testing::Values(ServerSettings{1, 1, 1, 1, false}, ServerSettings{2, 1, 2, 2, false},
                                         ServerSettings{2, 2, 2, 1, true}, ServerSettings{8, 1, 1, 1, false},
                                         ServerSettings{4, 2, 1, 3, true}, ServerSettings{1, 1, 8, 1, true},
                                         ServerSettings{8, 1, 1, 1, true}),
                         [](const auto& test) {
                           const ServerSettings& s = test.param;
                           return fmt::format("tp{}pp{}dp{}replicas{}{}", s.tp, s.pp, s.dp, s.replicas,
                                              s.has_ep ? "ep" : "");
                         });

}  // namespace
}  // namespace reshard
