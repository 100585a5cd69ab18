# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The same decoder as a server has it: heads and vocabulary cut over the ranks, experts whole, in slots of a table.

A rank has one slot more than its share of the experts: the most used ones lie on two ranks, and their tokens are dealt
between these. The table says, layer by layer and rank by rank, which expert each slot holds, and changes with the load.
"""
import reshard
import reshard.torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from reshard import Replicate, Shard

from model import attention, expert, route


def shapes(config):
    """{tensor of the checkpoint: (shape, how the ranks divide it)}; None: experts, by the layer's table."""
    hidden, ffn, experts = config.hidden, config.ffn, config.experts
    found = {"embed_tokens.weight": ((config.vocabulary, hidden), Replicate()), "norm.weight": ((hidden,), Replicate()),
             "lm_head.weight": ((config.vocabulary, hidden), Shard(0))}
    for layer in range(config.layers):
        prefix = f"layers.{layer}."
        found[prefix + "input_layernorm.weight"] = found[prefix + "post_attention_layernorm.weight"] = ((hidden,), Replicate())
        for name, dim in (("q", 0), ("k", 0), ("v", 0), ("o", 1)):
            found[prefix + f"self_attn.{name}_proj.weight"] = ((hidden, hidden), Shard(dim))
        found[prefix + "mlp.gate.weight"] = ((experts, hidden), Replicate())
        found[prefix + "mlp.experts.gate_up_proj"] = ((experts, 2 * ffn, hidden), None)
        found[prefix + "mlp.experts.down_proj"] = ((experts, hidden, ffn), None)
    return found


def balanced_table(load, num_ranks):
    """[rank][slot] -> expert: the experts dealt by load, to and fro, and each of the most used ones on one rank more."""
    order = sorted(range(len(load)), key=lambda index: -load[index])
    table = [[] for _ in range(num_ranks)]
    for place, index in enumerate(order):
        turn, rank = divmod(place, num_ranks)
        table[num_ranks - 1 - rank if turn % 2 else rank].append(index)
    for rank in range(num_ranks):
        table[(rank + 1) % num_ranks].append(order[rank])
    return [sorted(row) for row in table]


class Server:
    """One rank's part. `memory`: its tensors by name, which stay where they are."""

    def __init__(self, config):
        self.config, self.rank, self.size = config, dist.get_rank(), dist.get_world_size()
        self.tables, self.memory = [], {}
        num_slots = config.experts // self.size + 1
        for name, (shape, rule) in shapes(config).items():
            local = list(shape)
            if rule is None:
                local[0] = num_slots
            elif isinstance(rule, Shard):
                local[rule.dim] //= self.size
            self.memory[name] = torch.full(local, torch.nan)

    def layout(self, tables):
        """What all ranks shall hold with these tables, one per layer."""
        self.tables = tables
        builder = reshard.LayoutBuilder(self.size)
        for name, (shape, rule) in shapes(self.config).items():
            if rule is None:
                table = tables[int(name.split(".")[1])]
                rule = Shard(0, table=[[(index, index + 1) for index in row] for row in table])
            builder.tensor(name, shape, torch.get_default_dtype(), reshard.torch.layer_of(name))
            builder.place(name, range(self.size), [rule])
        return builder.build()

    def logits(self, tokens):
        """As Decoder's; every rank gives the same tokens, and gets all of the vocabulary."""
        x = F.embedding(tokens, self.memory["embed_tokens.weight"])
        for layer in range(self.config.layers):
            of = {name.split(".", 2)[2]: tensor for name, tensor in self.memory.items() if name.startswith(f"layers.{layer}.")}
            normed = F.rms_norm(x, x.shape[-1:], of["input_layernorm.weight"])
            heads = attention(normed, *(of[f"self_attn.{name}_proj.weight"] for name in "qkv"), self.config.heads // self.size)
            x = x + self._sum(F.linear(heads, of["self_attn.o_proj.weight"]))
            x = x + self._mlp(F.rms_norm(x, x.shape[-1:], of["post_attention_layernorm.weight"]), of, self.tables[layer])
        mine = F.linear(F.rms_norm(x, x.shape[-1:], self.memory["norm.weight"]), self.memory["lm_head.weight"])
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine)
        return torch.cat(parts, dim=-1)

    def _mlp(self, x, of, table):
        tokens = x.reshape(-1, x.shape[-1])
        weights, chosen = route(tokens, of["mlp.gate.weight"], self.config.chosen)
        out = torch.zeros_like(tokens)
        for slot, index in enumerate(table[self.rank]):
            holders = [rank for rank, row in enumerate(table) if index in row]
            where, which = (chosen == index).nonzero(as_tuple=True)
            mine = where % len(holders) == holders.index(self.rank)  # tokens are dealt among the expert's holders
            where, which = where[mine], which[mine]
            given = expert(tokens[where], of["mlp.experts.gate_up_proj"][slot], of["mlp.experts.down_proj"][slot])
            out.index_add_(0, where, given * weights[where, which, None])
        return self._sum(out).view_as(x)

    @staticmethod
    def _sum(x):
        dist.all_reduce(x)
        return x
