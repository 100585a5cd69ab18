# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""A small mixture-of-experts decoder, as a trainer has it: modules with the names of a checkpoint, experts stacked."""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    vocabulary: int = 96
    hidden: int = 32
    heads: int = 4
    layers: int = 2
    experts: int = 8
    ffn: int = 24
    chosen: int = 2  # experts per token


def attention(x, q, k, v, heads):
    """Causal attention of the heads whose rows q, k and v have. x: [batch, length, hidden]."""
    batch, length, _ = x.shape
    q, k, v = (F.linear(x, weight).view(batch, length, heads, -1).transpose(1, 2) for weight in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, length, -1)


def expert(x, gate_up, down):
    """x: [tokens, hidden], gate_up: [2 ffn, hidden], down: [hidden, ffn]."""
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)


def route(x, router, chosen):
    """(weights, experts), each [tokens, chosen]."""
    weights, experts = F.linear(x, router).softmax(-1).topk(chosen, dim=-1)
    return weights / weights.sum(-1, keepdim=True), experts


class Weight(nn.Module):
    """One parameter under the name `weight`."""

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5 if len(shape) > 1 else torch.ones(shape))


class Experts(nn.Module):
    def __init__(self, config):
        super().__init__()
        count, hidden, ffn = config.experts, config.hidden, config.ffn
        self.gate_up_proj = nn.Parameter(torch.randn(count, 2 * ffn, hidden) * hidden ** -0.5)
        self.down_proj = nn.Parameter(torch.randn(count, hidden, ffn) * ffn ** -0.5)


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.chosen, self.gate, self.experts = config.chosen, Weight(config.experts, config.hidden), Experts(config)
        self.load = torch.zeros(config.experts, dtype=torch.long)  # tokens that each expert has had

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        weights, chosen = route(tokens, self.gate.weight, self.chosen)
        self.load += torch.bincount(chosen.reshape(-1), minlength=len(self.load))
        out = torch.zeros_like(tokens)
        for index in range(len(self.load)):
            where, which = (chosen == index).nonzero(as_tuple=True)
            given = expert(tokens[where], self.experts.gate_up_proj[index], self.experts.down_proj[index])
            out = out.index_add(0, where, given * weights[where, which, None])
        return out.view_as(x)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, hidden = config.heads, config.hidden
        self.input_layernorm, self.post_attention_layernorm = Weight(hidden), Weight(hidden)
        self.self_attn = nn.ModuleDict({f"{name}_proj": Weight(hidden, hidden) for name in "qkvo"})
        self.mlp = Mlp(config)

    def forward(self, x):
        parts = self.self_attn
        normed = F.rms_norm(x, x.shape[-1:], self.input_layernorm.weight)
        attended = attention(normed, *(parts[f"{name}_proj"].weight for name in "qkv"), self.heads)
        x = x + F.linear(attended, parts["o_proj"].weight)
        return x + self.mlp(F.rms_norm(x, x.shape[-1:], self.post_attention_layernorm.weight))


class Decoder(nn.Module):
    """tokens [batch, length] -> logits [batch, length, vocabulary]."""

    def __init__(self, config):
        super().__init__()
        self.embed_tokens, self.norm = Weight(config.vocabulary, config.hidden), Weight(config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.lm_head = Weight(config.vocabulary, config.hidden)

    def forward(self, tokens):
        x = F.embedding(tokens, self.embed_tokens.weight)
        for layer in self.layers:
            x = layer(x)
        return F.linear(F.rms_norm(x, x.shape[-1:], self.norm.weight), self.lm_head.weight)
