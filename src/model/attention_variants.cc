// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/attention_variants.h"

#include <fmt/format.h>

#include <array>
#include <string>

namespace reshard {

GatedDeltaNet read_gated_delta_net(ModelWriter* writer) {
  ConfigReader& config = writer->config();
  GatedDeltaNet net;
  net.num_key_heads = config.count("linear_num_key_heads", ConfigReader::kHeads);
  net.num_value_heads = config.count("linear_num_value_heads", ConfigReader::kHeads);
  net.key_dim = config.count("linear_key_head_dim", ConfigReader::kWidth);
  net.value_dim = config.count("linear_value_head_dim", ConfigReader::kWidth);
  net.kernel = config.count("linear_conv_kernel_dim", ConfigReader::kWidth);
  if (net.num_value_heads % net.num_key_heads != 0) {
    config.fail(
        invalid_argument(fmt::format("config: linear_num_key_heads = {} does not divide linear_num_value_heads = {}",
                                     net.num_key_heads, net.num_value_heads)));
  }
  return net;
}

namespace {

/// q, k, v and z of one key head after the other, and so b and a: a rank's key heads are a run of rows.
void add_interleaved_projections(const GatedDeltaNet& net, ModelWriter* writer) {
  const std::int64_t heads = net.num_key_heads, values = net.num_value_heads / heads;
  const std::int64_t k = net.key_dim, v = values * net.value_dim, stride = 2 * (k + v);
  writer->linear("linear.qkvz", "linear_attn.in_proj_qkvz", {Axis::kHead, heads, stride}, writer->hidden());
  writer->model().params.back().pieces = {{"linear.q", {Axis::kHead, heads, k}, 0, stride},
                                          {"linear.k", {Axis::kHead, heads, k}, k, stride},
                                          {"linear.v", {Axis::kHead, heads, v}, 2 * k, stride},
                                          {"linear.z", {Axis::kHead, heads, v}, 2 * k + v, stride}};
  writer->linear("linear.ba", "linear_attn.in_proj_ba", {Axis::kHead, heads, 2 * values}, writer->hidden());
  writer->model().params.back().pieces = {{"linear.b", {Axis::kHead, heads, values}, 0, 2 * values},
                                          {"linear.a", {Axis::kHead, heads, values}, values, 2 * values}};
}

/// Rows of q, then of k, then of v, under three roles; the dim of them all.
struct QkvRows {
  std::vector<OutputPiece> pieces;
  Dim all;
};

QkvRows qkv_rows(const GatedDeltaNet& net, const std::array<std::string_view, 3>& roles) {
  const Dim keys{Axis::kHead, net.num_key_heads, net.key_dim}, values{Axis::kHead, net.num_value_heads, net.value_dim};
  return {{{roles[0], keys, 0, net.key_dim},
           {roles[1], keys, keys.extent(), net.key_dim},
           {roles[2], values, 2 * keys.extent(), net.value_dim}},
          {Axis::kHead, net.num_key_heads, 2 * net.key_dim + values.extent() / net.num_key_heads}};
}

}  // namespace

void add_gated_delta_net(const GatedDeltaNet& net, ModelWriter* writer) {
  const Dim values{Axis::kHead, net.num_value_heads, net.value_dim}, rates{Axis::kHead, net.num_value_heads};
  if (net.is_interleaved) {
    add_interleaved_projections(net, writer);
  } else {
    QkvRows rows = qkv_rows(net, {"linear.q", "linear.k", "linear.v"});
    writer->linear("linear.qkv", "linear_attn.in_proj_qkv", rows.all, writer->hidden());
    writer->model().params.back().pieces = std::move(rows.pieces);
    writer->linear("linear.z", "linear_attn.in_proj_z", values, writer->hidden());
    writer->linear("linear.b", "linear_attn.in_proj_b", rates, writer->hidden());
    writer->linear("linear.a", "linear_attn.in_proj_a", rates, writer->hidden());
  }
  QkvRows rows = qkv_rows(net, {"linear.conv_q", "linear.conv_k", "linear.conv_v"});
  writer->add("linear.conv", "linear_attn.conv1d", "weight", {rows.all, {Axis::kPlain, 1}, {Axis::kPlain, net.kernel}})
      .pieces = std::move(rows.pieces);
  writer->add("linear.dt_bias", "linear_attn.dt_bias", "", {rates});
  writer->add("linear.decay", "linear_attn.A_log", "", {rates}).served_type = ServedType::kF32;
  writer->add("linear.norm", "linear_attn.norm", "weight", {{Axis::kPlain, net.value_dim}});
  writer->linear("linear.out", "linear_attn.out_proj", writer->hidden(), values);
}

KimiDeltaAttention read_kimi_delta_attention(ModelWriter* writer) {
  ConfigReader& config = writer->config();
  KimiDeltaAttention attention;
  attention.num_heads = config.count("linear_attn_config.num_heads|linear_num_heads", ConfigReader::kHeads);
  attention.head_dim = config.count("linear_attn_config.head_dim|linear_head_dim", ConfigReader::kWidth);
  attention.kernel =
      config.count("linear_attn_config.short_conv_kernel_size|linear_conv_kernel_dim", ConfigReader::kWidth);
  return attention;
}

void add_kimi_delta_attention(const KimiDeltaAttention& attention, ModelWriter* writer) {
  const Dim heads{Axis::kHead, attention.num_heads, attention.head_dim}, hidden = writer->hidden();
  // One for all heads, as the key of multi-query attention is.
  const Dim shared{Axis::kKvHead, 1, attention.head_dim}, rank{Axis::kPlain, attention.head_dim};
  writer->linear("kda.q", "self_attn.q_proj", heads, hidden);
  writer->linear("kda.k", "self_attn.k_proj", heads, hidden);
  writer->linear("kda.v", "self_attn.v_proj", heads, hidden);
  const auto add_convolution = [&](std::string_view role, const std::string& name) {
    writer->add(role, "self_attn." + name, "weight", {heads, {Axis::kPlain, 1}, {Axis::kPlain, attention.kernel}})
        .served_type = ServedType::kF32;
  };
  add_convolution("kda.conv_q", "q_conv1d");
  add_convolution("kda.conv_k", "k_conv1d");
  add_convolution("kda.conv_v", "v_conv1d");
  Param& decay =
      writer->add("kda.decay", "self_attn.A_log", "",
                  {{Axis::kPlain, 1}, {Axis::kPlain, 1}, {Axis::kHead, attention.num_heads}, {Axis::kPlain, 1}});
  decay.output = 2;
  decay.served_type = ServedType::kF32;
  writer->linear("kda.f_down", "self_attn.f_a_proj", shared, hidden);
  writer->linear("kda.f_up", "self_attn.f_b_proj", heads, rank);
  writer->add("kda.dt_bias", "self_attn.dt_bias", "", {heads}).served_type = ServedType::kF32;
  writer->linear("kda.b", "self_attn.b_proj", {Axis::kHead, attention.num_heads}, hidden);
  writer->linear("kda.g_down", "self_attn.g_a_proj", rank, hidden);
  writer->linear("kda.g_up", "self_attn.g_b_proj", heads, rank);
  writer->add("kda.norm", "self_attn.o_norm", "weight", {rank});
  writer->linear("kda.out", "self_attn.o_proj", hidden, heads);
}

Indexer read_indexer(std::int64_t q_rank, ModelWriter* writer) {
  Indexer indexer;
  indexer.num_heads = writer->config().count("index_n_heads", ConfigReader::kHeads);
  indexer.head_dim = writer->config().count("index_head_dim", ConfigReader::kWidth);
  indexer.q_rank = q_rank;
  if (q_rank == 0) {
    writer->config().fail(
        invalid_argument("config: q_lora_rank is null, but the indexer reads the low rank of q; give the rank"));
  }
  return indexer;
}

void add_indexer(const Indexer& indexer, ModelWriter* writer) {
  const Dim dim{Axis::kPlain, indexer.head_dim}, heads{Axis::kPlain, indexer.num_heads};
  writer->linear("indexer.q", "self_attn.indexer.wq_b", {Axis::kPlain, indexer.num_heads * indexer.head_dim},
                 {Axis::kPlain, indexer.q_rank});
  writer->linear("indexer.k", "self_attn.indexer.wk", dim, writer->hidden());
  for (const char* leaf : {"weight", "bias"}) {
    writer->add("indexer.k_norm", "self_attn.indexer.k_norm", leaf, {dim}).served_type = ServedType::kF32;
  }
  writer->linear("indexer.weights", "self_attn.indexer.weights_proj", heads, writer->hidden());
}

}  // namespace reshard
