# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The model that is trained: a small Qwen3."""
import torch
import transformers

CONFIG = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              head_dim=32, vocab_size=500, max_position_embeddings=128, bos_token_id=0, eos_token_id=0,
              initializer_range=0.1, tie_word_embeddings=True)


def make_model():
    torch.manual_seed(0)
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**CONFIG))


def save_first(folder):
    """What the server starts with."""
    make_model().to(torch.bfloat16).save_pretrained(folder)
