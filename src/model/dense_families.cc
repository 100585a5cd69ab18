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
  writer->model().server.is_known = false;
  add_decoder(writer, attention, mlp);
}

void hunyuan_v1_dense(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.has_qk_norm = true;
  attention.q_norm = "query_layernorm";
  attention.k_norm = "key_layernorm";
  attention.has_qkv_bias = attention.has_output_bias = writer->config().flag("attention_bias");
  writer->model().server.is_known = false;
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
  writer->model().server.is_known = false;
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
  const Mlp mlp = read_mlp(writer);
  writer->model().server.is_known = false;
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

void glm(ModelWriter* writer) {
  writer->model().server.is_known = false;
  add_decoder(writer, read_glm_attention(writer), read_glm_mlp(writer));
}

void glm4(ModelWriter* writer) {
  const FourNorms norms = {"post_self_attn_layernorm", kBehindAttention, "post_mlp_layernorm"};
  add_decoder_of_four_norms(writer, read_glm_attention(writer), norms, read_glm_mlp(writer));
}

/// Linear layers are stored [in, out]; q, k and v are one of them.
void gpt2(ModelWriter* writer) {
  Attention attention = read_attention(writer);
  attention.prefix = "attn";
  attention.qkv = "c_attn";
  attention.o = "c_proj";
  attention.has_qkv_bias = attention.has_output_bias = true;
  Mlp mlp;
  mlp.up = "c_fc";
  mlp.down = "c_proj";
  mlp.width = writer->config().count_or("n_inner", Config::kWidth, 4 * writer->hidden_size());
  mlp.is_gated = false;
  mlp.has_bias = true;
  writer->model().tie_embeddings = writer->config().flag("tie_word_embeddings", true);
  writer->model().server.is_known = false;
  writer->embedding("transformer.wte");
  const std::int64_t positions = writer->config().count("n_positions", Config::kVocab);
  writer->linear("position_embedding", "transformer.wpe", {Axis::kPlain, positions}, writer->hidden());
  writer->layers("transformer.h", [&](std::int64_t) {
    const std::size_t first = writer->model().params.size();
    writer->norm("attention_norm", "ln_1", /*has_bias=*/true);
    add_attention(attention, writer);
    writer->norm("mlp_norm", "ln_2", /*has_bias=*/true);
    add_mlp(mlp, writer);
    writer->transpose_from(first);
  });
  writer->norm("final_norm", "transformer.ln_f", /*has_bias=*/true);
  writer->output();
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
