// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
#include "src/model/modules.h"

#include <fmt/format.h>

#include <utility>

namespace reshard {

Attention read_attention(ModelWriter* writer) {
  ConfigReader& config = writer->config();
  Attention attention;
  attention.num_heads = config.count("num_attention_heads|n_head", ConfigReader::kHeads);
  attention.num_kv_heads = config.count_or("num_key_value_heads", ConfigReader::kHeads, attention.num_heads);
  if (attention.num_heads % attention.num_kv_heads != 0) {
    config.fail(
        invalid_argument(fmt::format("config: num_key_value_heads = {} does not divide num_attention_heads = {}",
                                     attention.num_kv_heads, attention.num_heads)));
  }
  if (!config.has("head_dim") && writer->hidden_size() % attention.num_heads != 0) {
    config.fail(
        invalid_argument(fmt::format("config: num_attention_heads = {} does not divide hidden_size = {}; give head_dim",
                                     attention.num_heads, writer->hidden_size())));
  }
  attention.head_dim = config.count_or("head_dim", ConfigReader::kWidth, writer->hidden_size() / attention.num_heads);
  writer->model().num_heads = attention.num_heads;
  writer->model().num_kv_heads = attention.num_kv_heads;
  return attention;
}

namespace {

/// q_proj with a gate behind every query head. vLLM holds it as it is, Megatron all heads of a group, then their gates.
void add_gated_queries(const Attention& attention, const std::string& prefix, ModelWriter* writer) {
  const std::int64_t heads = attention.num_heads, dim = attention.head_dim;
  const std::size_t first = writer->model().params.size();
  writer->linear("attention.gated_q", prefix + attention.q, {Axis::kHead, heads, 2 * dim}, writer->hidden(),
                 attention.has_qkv_bias);
  for (std::size_t i = first; i < writer->model().params.size(); ++i) {
    writer->model().params[i].pieces = {{"attention.q", {Axis::kHead, heads, dim}, 0, 2 * dim},
                                        {"attention.q_gate", {Axis::kHead, heads, dim}, dim, 2 * dim}};
  }
}

/// Makes the rows of the last `num_params` parameters, a weight and perhaps its bias, pieces that lie one behind
/// another.
void split_rows(const std::vector<std::pair<std::string_view, Dim>>& pieces, std::size_t num_params,
                ModelWriter* writer) {
  std::vector<Param>& params = writer->model().params;
  for (std::size_t i = params.size() - num_params; i < params.size(); ++i) {
    std::int64_t begin = 0;
    for (const auto& [role, dim] : pieces) {
      params[i].pieces.push_back({role, dim, begin, dim.each});
      begin += dim.extent();
    }
  }
}

/// The q, k and v of the last `num_params` parameters, whose rows are those of the first query group, then of the
/// second. vLLM cuts them as if q, k and v lay one behind another, and sorts what the ranks computed.
void group_heads(const Attention& attention, std::size_t num_params, ModelWriter* writer) {
  std::vector<Param>& params = writer->model().params;
  const std::int64_t q_heads = attention.num_heads / attention.num_kv_heads;
  for (std::size_t i = params.size() - num_params; i < params.size(); ++i) {
    params[i].served_pieces = params[i].pieces;
    std::int64_t first_head = 0;
    for (OutputPiece& piece : params[i].pieces) {
      piece.begin = first_head * attention.head_dim;
      piece.stride = (q_heads + 2) * attention.head_dim;
      piece.run = piece.dim.axis == Axis::kHead ? q_heads : 1;
      first_head += piece.run;
    }
  }
}

/// q, k and v, in one of three forms.
void add_queries_keys_values(const Attention& attention, const std::string& prefix, ModelWriter* writer) {
  const bool has_bias = attention.has_qkv_bias;
  const Dim heads{Axis::kHead, attention.num_heads, attention.head_dim};
  const Dim kv_heads{Axis::kKvHead, attention.num_kv_heads, attention.head_dim};
  if (!attention.qkv.empty()) {
    const Dim all{Axis::kHead, attention.num_heads + 2 * attention.num_kv_heads, attention.head_dim};
    writer->linear("attention.qkv", prefix + attention.qkv, all, writer->hidden(), has_bias);
    split_rows({{"attention.q", heads}, {"attention.k", kv_heads}, {"attention.v", kv_heads}}, has_bias ? 2 : 1,
               writer);
    if (attention.has_grouped_qkv) group_heads(attention, has_bias ? 2 : 1, writer);
    return;
  }
  if (attention.has_output_gate) {
    add_gated_queries(attention, prefix, writer);
  } else {
    writer->linear("attention.q", prefix + attention.q, heads, writer->hidden(), has_bias);
  }
  writer->linear("attention.k", prefix + attention.k, kv_heads, writer->hidden(), has_bias);
  writer->linear("attention.v", prefix + attention.v, kv_heads, writer->hidden(), has_bias);
}

/// What servers do otherwise with the attention's parameters, which begin at params[first].
void set_server_form(const Attention& attention, std::size_t first, ModelWriter* writer) {
  for (std::size_t i = first; i < writer->model().params.size(); ++i) {
    Param& param = writer->model().params[i];
    if (!attention.server_prefix.empty()) {
      param.server_stem = attention.server_prefix + param.stem.substr(attention.prefix.size());
    }
    const bool is_dealt = (param.role == "attention.q" || param.role == "attention.k") && param.leaf == "weight";
    if (is_dealt) param.server_step = attention.server_step;
    if (param.leaf != "bias") continue;
    param.is_on_servers = param.role == "attention.o" ? attention.is_output_bias_served : attention.is_qkv_bias_served;
  }
}

/// The two parts of every head of the last weight, which MindSpeed holds apart.
void split_heads(std::string_view first_role, std::int64_t first, std::string_view second_role, std::int64_t second,
                 ModelWriter* writer) {
  Param& param = writer->model().params.back();
  const std::int64_t heads = param.dims[0].count, stride = first + second;
  param.pieces = {{first_role, {Axis::kHead, heads, first}, 0, stride},
                  {second_role, {Axis::kHead, heads, second}, first, stride}};
}

}  // namespace

void add_attention(const Attention& attention, ModelWriter* writer) {
  const std::string prefix = attention.prefix + ".";
  const Dim heads{Axis::kHead, attention.num_heads, attention.head_dim};
  const std::size_t first = writer->model().params.size();
  add_queries_keys_values(attention, prefix, writer);
  if (attention.has_qk_norm || attention.has_whole_qk_norm) {
    const std::int64_t q_heads = attention.has_qk_norm ? 1 : attention.num_heads;
    const std::int64_t kv_heads = attention.has_qk_norm ? 1 : attention.num_kv_heads;
    Dim q{Axis::kPlain, q_heads * attention.head_dim}, k{Axis::kPlain, kv_heads * attention.head_dim};
    if (attention.is_whole_norm_cut) {
      q = heads;
      k = {Axis::kKvHead, kv_heads, attention.head_dim};
    }
    writer->add("attention.q_norm", prefix + attention.q_norm, "weight", {q});
    writer->add("attention.k_norm", prefix + attention.k_norm, "weight", {k});
  }
  if (attention.has_sinks) {
    writer->add("attention.sinks", prefix + "sinks", "", {{Axis::kHead, attention.num_heads}});
  }
  writer->linear("attention.o", prefix + attention.o, writer->hidden(), heads, attention.has_output_bias);
  set_server_form(attention, first, writer);
}

Attention read_qwen3_attention(ModelWriter* writer) {
  // Its default is not hidden size / heads but a number that differs between releases: insist on it.
  writer->config().count("head_dim", ConfigReader::kWidth);
  Attention attention = read_attention(writer);
  attention.has_qk_norm = true;
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  attention.is_output_bias_served = false;
  return attention;
}

LatentAttention read_latent_attention(ModelWriter* writer) {
  ConfigReader& config = writer->config();
  LatentAttention latent;
  latent.num_heads = config.count("num_attention_heads", ConfigReader::kHeads);
  // A key that is there and null says that there is no low rank; an absent one stands for a default that we do not
  // know.
  latent.q_rank = config.count_or_none("q_lora_rank", ConfigReader::kWidth);
  latent.kv_rank = config.count("kv_lora_rank", ConfigReader::kWidth);
  latent.nope_dim = config.count("qk_nope_head_dim", ConfigReader::kWidth);
  latent.rope_dim = config.count("qk_rope_head_dim", ConfigReader::kWidth);
  latent.v_dim = config.count("v_head_dim", ConfigReader::kWidth);
  writer->model().num_heads = latent.num_heads;
  return latent;
}

void add_latent_attention(const LatentAttention& latent, ModelWriter* writer) {
  const std::size_t first = writer->model().params.size();
  const Dim hidden = writer->hidden();
  const Dim q_heads{Axis::kHead, latent.num_heads, latent.nope_dim + latent.rope_dim};
  // Inputs of the up-projections and norms see a latent whole; only the outputs of the down-projections can be cut.
  const Dim q_input{Axis::kPlain, latent.q_rank}, kv_input{Axis::kPlain, latent.kv_rank};
  if (latent.q_rank == 0) {
    writer->linear("latent.q", "self_attn.q_proj", q_heads, hidden);
  } else {
    writer->linear("latent.q_down", "self_attn.q_a_proj", {Axis::kLatent, latent.q_rank}, hidden, latent.has_bias);
    writer->add("latent.q_norm", "self_attn.q_a_layernorm", "weight", {q_input});
    writer->linear("latent.q_up", "self_attn.q_b_proj", q_heads, q_input);
    split_heads("latent.q_nope", latent.nope_dim, "latent.q_rope", latent.rope_dim, writer);
  }
  // Its last rope_dim rows are the one key that all heads share: they are not cut with the heads.
  writer->linear("latent.kv_down", "self_attn.kv_a_proj_with_mqa", {Axis::kLatent, latent.kv_rank + latent.rope_dim},
                 hidden, latent.has_bias);
  writer->add("latent.kv_norm", "self_attn.kv_a_layernorm", "weight", {kv_input});
  writer->linear("latent.kv_up", "self_attn.kv_b_proj", {Axis::kHead, latent.num_heads, latent.nope_dim + latent.v_dim},
                 kv_input);
  split_heads("latent.k_nope", latent.nope_dim, "latent.v", latent.v_dim, writer);
  writer->linear("attention.o", "self_attn.o_proj", hidden, {Axis::kHead, latent.num_heads, latent.v_dim},
                 latent.has_bias);
  for (std::size_t i = first; i < writer->model().params.size(); ++i) {
    if (writer->model().params[i].leaf == "bias") writer->model().params[i].is_on_servers = false;
  }
}

void add_mlp(const Mlp& mlp, ModelWriter* writer) {
  const std::string prefix = mlp.prefix + ".";
  const Dim width{Axis::kFfn, mlp.width};
  const bool is_shared = mlp.part == Part::kSharedExperts;
  const std::size_t first = writer->model().params.size();
  if (!mlp.gate_up.empty()) {
    writer->linear("mlp.gate_up", prefix + mlp.gate_up, {Axis::kFfn, 2 * mlp.width}, writer->hidden(), mlp.has_bias);
    split_rows({{"mlp.gate", width}, {"mlp.up", width}}, mlp.has_bias ? 2 : 1, writer);
  } else {
    if (mlp.is_gated) {
      writer->linear(is_shared ? "shared.gate" : "mlp.gate", prefix + mlp.gate, width, writer->hidden(), mlp.has_bias);
    }
    writer->linear(is_shared ? "shared.up" : "mlp.up", prefix + mlp.up, width, writer->hidden(), mlp.has_bias);
  }
  writer->linear(is_shared ? "shared.down" : "mlp.down", prefix + mlp.down, writer->hidden(), width, mlp.has_bias);
  for (std::size_t i = first; i < writer->model().params.size(); ++i) writer->model().params[i].part = mlp.part;
}

namespace {

void add_router(const Experts& experts, ModelWriter* writer) {
  const std::string prefix = experts.prefix + ".";
  // It sees all experts, wherever they lie.
  const Dim count{Axis::kPlain, experts.count};
  const std::size_t first = writer->model().params.size();
  writer->linear("router", prefix + experts.router, count, writer->hidden(), experts.has_router_bias);
  for (std::size_t i = first; i < writer->model().params.size(); ++i) {
    if (experts.has_fp32_router) writer->model().params[i].dtype = DType::kF32;
    writer->model().params[i].served_type = experts.served_router;
  }
  if (!experts.has_correction_bias) return;
  Param& bias = writer->add("router.correction", prefix + experts.correction, "", {count});
  if (experts.is_correction_row) bias.dims.insert(bias.dims.begin(), Dim{Axis::kPlain, 1});
  if (experts.has_fp32_correction) bias.dtype = DType::kF32;
  if (!experts.server_correction.empty()) bias.server_stem = prefix + experts.server_correction;
  bias.served_type = ServedType::kF32;
  bias.is_buffer = !experts.is_correction_row;
  bias.is_on_servers = experts.is_correction_served;
}

/// Experts that the checkpoint itself has in one parameter, and so everybody's modules.
void add_stacked_experts(const Experts& experts, ModelWriter* writer) {
  const bool is_interleaved = experts.form == Experts::Form::kInterleaved;
  const bool is_out_in = experts.form == Experts::Form::kStackedOutIn;  // which has no biases
  const std::string root = experts.prefix + ".experts.";
  const Dim count{Axis::kExpert, experts.count}, width{Axis::kFfn, experts.width}, hidden = writer->hidden();
  const std::int64_t up = is_interleaved ? 1 : experts.width, stride = is_interleaved ? 2 : 1;
  const Dim both = is_interleaved ? Dim{Axis::kFfn, experts.width, 2} : Dim{Axis::kFfn, 2 * experts.width};
  const auto add = [&](std::string_view role, const char* name, const char* leaf, std::vector<Dim> dims) {
    if (is_out_in) std::swap(dims[1], dims[2]);
    Param& param = writer->add(role, root + name, leaf, std::move(dims));
    param.output = is_out_in ? 1 : param.dims.size() - 1;
    param.part = Part::kRoutedExperts;
    param.is_transposed = param.dims.size() == 3 && !is_out_in;
    param.is_bare = true;
    if (role != "stacked.down") param.pieces = {{"experts.gate", width, 0, stride}, {"experts.up", width, up, stride}};
  };
  const std::string_view role = is_interleaved ? "stacked.interleaved" : "stacked.gate_up";
  add(role, "gate_up_proj", "weight", {count, hidden, both});
  if (is_interleaved) add(role, "gate_up_proj", "bias", {count, both});
  add("stacked.down", "down_proj", "weight", {count, width, hidden});
  if (is_interleaved) add("stacked.down", "down_proj", "bias", {count, {Axis::kAddend, writer->hidden_size()}});
}

}  // namespace

void add_experts(const Experts& experts, ModelWriter* writer) {
  add_router(experts, writer);
  if (experts.form != Experts::Form::kEach) return add_stacked_experts(experts, writer);
  const Dim count{Axis::kExpert, experts.count}, width{Axis::kFfn, experts.width};
  const auto add = [&](std::string_view role, const std::string& name, Dim out, Dim in) {
    Param& param = writer->add(role, experts.prefix + ".experts." + name, "weight", {count, out, in});
    param.part = Part::kRoutedExperts;
    param.is_stack = true;
  };
  add("experts.gate", experts.gate, width, writer->hidden());
  add("experts.up", experts.up, width, writer->hidden());
  add("experts.down", experts.down, writer->hidden(), width);
}

}  // namespace reshard
