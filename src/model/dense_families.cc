// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The reshard authors
//
// A family is a function that writes down its parameters in the order of a forward pass, and a row in the table at the
// end. To add one: read what its config.json has with writer->config(), put its layer together from the modules of
// modules.h and the decoders of decoders.h, add the row. What no module covers is a few writer->linear() and
// writer->add() here, or a module of its own there; nothing else knows a family. Defaults are those of the class that
// transformers has for it.
#include "src/model/decoders.h"

namespace reshard {
namespace {

using Config = ConfigReader;

constexpr const char* kBehindAttention = "post_attention_layernorm";

void llama(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  Mlp mlp = read_mlp(writer);
  mlp.has_bias = writer->config().flag("mlp_bias");
  add_decoder(writer, attention, mlp);
}

void mistral(ModelWriter* writer) {
  add_decoder(writer, read_attention(writer), read_mlp(writer));
}

void qwen2(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = true;
  add_decoder(writer, attention, read_mlp(writer));
}

void qwen3(ModelWriter* writer) {
  add_decoder(writer, read_qwen3_attention(writer), read_mlp(writer));
}

/// q, k and v are one parameter, gate and up another, as servers hold them.
void phi3(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.qkv = "qkv_proj";
  Mlp mlp = read_mlp(writer);
  mlp.gate_up = "gate_up_proj";
  add_decoder(writer, attention, mlp);
}

void seed_oss(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = writer->config().flag("attention_bias", true);
  attention.has_output_bias = writer->config().flag("attention_out_bias");
  Mlp mlp = read_mlp(writer);
  mlp.has_bias = writer->config().flag("mlp_bias");
  add_decoder(writer, attention, mlp);
}

void hunyuan_v1_dense(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qk_norm = true;
  attention.q_norm = "query_layernorm";
  attention.k_norm = "key_layernorm";
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  add_decoder(writer, attention, read_mlp(writer));
}

/// Every linear layer and every norm has a bias; the MLP is not gated.
void starcoder2(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("use_bias", true);
  Mlp mlp = read_mlp(writer);
  mlp.is_gated = false;
  mlp.up = "c_fc";
  mlp.down = "c_proj";
  mlp.has_bias = attention.has_qkv_bias;
  writer->model().tie_embeddings = writer->config().flag("tie_word_embeddings", true);
  writer->embedding();
  writer->layers("model.layers", [&](std::int64_t) {
    writer->norm("attention_norm", "input_layernorm", /*has_bias=*/true);
    add_attention(attention, writer);
    writer->norm("mlp_norm", kBehindAttention, /*has_bias=*/true);
    add_mlp(mlp, writer);
  });
  writer->norm("final_norm", "model.norm", /*has_bias=*/true);
  writer->output();
}

/// Norms stand behind attention and MLP only; those of q and k are over all heads.
void olmo2(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_whole_qk_norm = true;
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  writer->model().megatron_lacks = "a norm over all heads of q";
  const Mlp mlp = read_mlp(writer);
  writer->embedding();
  writer->layers("model.layers", [&](std::int64_t) {
    add_attention(attention, writer);
    writer->norm("attention_post_norm", kBehindAttention);
    add_mlp(mlp, writer);
    writer->norm("mlp_post_norm", "post_feedforward_layernorm");
  });
  writer->norm("final_norm", "model.norm");
  writer->output();
}

/// What all of Gemma have: head_dim, whose default is no quotient, and embeddings that are tied unless told otherwise.
Attention read_gemma(ModelWriter* writer) {
  writer->config().count("head_dim", Config::kWidth);
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  writer->model().tie_embeddings = writer->config().flag("tie_word_embeddings", true);
  writer->model().server.repeats_outer = true;
  return attention;
}

void gemma(ModelWriter* writer) {
  add_decoder(writer, read_gemma(writer), read_mlp(writer));
}

const FourNorms kGemmaNorms = {kBehindAttention, "pre_feedforward_layernorm", "post_feedforward_layernorm"};

void gemma2(ModelWriter* writer) {
  add_decoder_of_four_norms(writer, read_gemma(writer), kGemmaNorms, read_mlp(writer));
}

void gemma3_text(ModelWriter* writer) {
  Attention attention = read_gemma(writer);
  attention.has_qk_norm = true;
  add_decoder_of_four_norms(writer, attention, kGemmaNorms, read_mlp(writer));
}

/// head_dim's default is no quotient here either.
Attention read_glm_attention(ModelWriter* writer) {
  writer->config().count("head_dim", Config::kWidth);
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = writer->config().flag("attention_bias", true);
  return attention;
}

Mlp read_glm_mlp(ModelWriter* writer) {
  Mlp mlp = read_mlp(writer);
  mlp.gate_up = "gate_up_proj";
  return mlp;
}

/// vLLM cuts gate_up_proj as if its rows were of one kind (it gathers what the ranks computed and splits that).
void glm(ModelWriter* writer) {
  add_decoder(writer, read_glm_attention(writer), read_glm_mlp(writer));
  for (Param& param : writer->model().params) {
    if (param.role == "mlp.gate_up") param.served_pieces.emplace();
  }
}

void glm4(ModelWriter* writer) {
  const FourNorms norms = {"post_self_attn_layernorm", kBehindAttention, "post_mlp_layernorm"};
  add_decoder_of_four_norms(writer, read_glm_attention(writer), norms, read_glm_mlp(writer));
}

/// GPT-2 and what took over its names: q, k and v are one parameter, every linear layer and every norm has a bias.
Attention read_gpt_attention(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.prefix = "attn";
  attention.qkv = "c_attn";
  attention.o = "c_proj";
  attention.has_qkv_bias = attention.has_output_bias = true;
  return attention;
}

void add_gpt(ModelWriter* writer, const Attention& attention, bool is_transposed) {
  Mlp mlp;
  mlp.up = "c_fc";
  mlp.down = "c_proj";
  mlp.width = writer->config().count_or("n_inner", Config::kWidth, 4 * writer->hidden_size());
  mlp.is_gated = false;
  mlp.has_bias = true;
  writer->model().tie_embeddings = writer->config().flag("tie_word_embeddings", true);
  writer->embedding("transformer.wte");
  const std::int64_t positions = writer->config().count("n_positions", Config::kVocab);
  writer->linear("position_embedding", "transformer.wpe", {Axis::kPlain, positions}, writer->hidden());
  writer->layers("transformer.h", [&](std::int64_t) {
    const std::size_t first = writer->model().params.size();
    writer->norm("attention_norm", "ln_1", /*has_bias=*/true);
    add_attention(attention, writer);
    writer->norm("mlp_norm", "ln_2", /*has_bias=*/true);
    add_mlp(mlp, writer);
    if (is_transposed) writer->transpose_from(first);
  });
  writer->norm("final_norm", "transformer.ln_f", /*has_bias=*/true);
  writer->output();
}

/// Linear layers are stored [in, out].
void gpt2(ModelWriter* writer) {
  writer->model().server.repeats_outer = true;
  add_gpt(writer, read_gpt_attention(writer), /*is_transposed=*/true);
}

/// One head of k and v; without multi_query as many as of q, whose rows each head has together. vLLM cuts the attention
/// of the former only, and no MLP.
void gpt_bigcode(ModelWriter* writer) {
  Attention attention = read_gpt_attention(writer);
  attention.has_grouped_qkv = !writer->config().flag("multi_query", true);
  if (!attention.has_grouped_qkv) attention.num_kv_heads = writer->model().num_kv_heads = 1;
  writer->model().server.prefixes = {{"transformer.", "model."}};
  add_gpt(writer, attention, /*is_transposed=*/false);
  for (Param& param : writer->model().params) {
    param.is_cut_on_servers = param.role == "embedding" || param.role == "output" ||
                              (param.role.starts_with("attention.") && !attention.has_grouped_qkv);
    param.is_on_every_server_stage = param.role == "position_embedding";
  }
}

// InternLM and Aquila are not in the package transformers. Names, shapes and biases are those of the modelling files
// that stand beside the published weights (internlm-7b, internlm2-7b, AquilaChat-7B: modeling_internlm.py,
// modeling_internlm2.py, modeling_aquila.py) and of vLLM's and MindIE's readers of them.

/// Llama with biases on q, k, v and o.
void internlm(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("bias", true);
  add_decoder(writer, attention, read_mlp(writer));
}

/// q, k and v are one parameter, group by group, which vLLM cuts as if all q heads came first (it gathers what the
/// ranks computed and splits that), without biases.
void internlm2(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.prefix = "attention";
  attention.qkv = "wqkv";
  attention.o = "wo";
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("bias", true);
  attention.has_grouped_qkv = true;
  writer->model().server.repeats_outer = true;
  Mlp mlp = read_mlp(writer);
  mlp.prefix = "feed_forward";
  mlp.gate = "w1";
  mlp.up = "w3";
  mlp.down = "w2";
  writer->embedding("model.tok_embeddings");
  writer->layers("model.layers", [&](std::int64_t) {
    writer->norm("attention_norm", "attention_norm");
    add_attention(attention, writer);
    writer->norm("mlp_norm", "ffn_norm");
    add_mlp(mlp, writer);
  });
  writer->norm("final_norm", "model.norm");
  writer->output("output");
  serve_biases_of({}, writer);
}

/// vLLM leaves out its biases, which no published one has.
void ernie4_5(ModelWriter* writer) {
  writer->config().count("head_dim", Config::kWidth);  // the default is no quotient
  Attention attention = read_attention(writer);
  Mlp mlp = read_mlp(writer);
  attention.has_qkv_bias = attention.has_output_bias = mlp.has_bias = writer->config().flag("use_bias");
  writer->model().tie_embeddings = writer->config().flag("tie_word_embeddings", true);
  add_decoder(writer, attention, mlp);
  serve_biases_of({}, writer);
}

constexpr Family kFamilies[] = {
    {"llama", llama},
    {"mistral", mistral},
    {"qwen2", qwen2},
    {"qwen3", qwen3},
    {"phi3", phi3},
    {"gemma", gemma},
    {"gemma2", gemma2},
    {"gemma3_text", gemma3_text},
    {"glm", glm},
    {"glm4", glm4},
    {"gpt2", gpt2},
    {"gpt_bigcode", gpt_bigcode},
    {"internlm", internlm},
    {"internlm2", internlm2},
    {"aquila", mistral},
    {"ernie4_5", ernie4_5},
    {"starcoder2", starcoder2},
    {"olmo2", olmo2},
    {"seed_oss", seed_oss},
    {"hunyuan_v1_dense", hunyuan_v1_dense},
};

}  // namespace

std::span<const Family> dense_families() {
  return kFamilies;
}

}  // namespace reshard
