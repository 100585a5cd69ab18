# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What each rank of a framework holds: closed formulas for the memory of FSDP2, Megatron-Core, vLLM and SGLang.

Every function takes the config, the checkpoint's tensors and the settings of a layout text, and returns for each rank a
dict from the buffer's name to its contents. Nothing here looks at how reshard comes to its layouts. PAD marks memory
behind the vocabulary: a destination must hold zeros there, a source may hold anything. FREE is what nobody looks at.
"""
import re

import numpy as np

import model

PAD = np.uint32(0xFFFFFFFF)
FREE = np.uint32(0xFFFFFFFE)


def chunk(array, dim, size, index):
    """torch.chunk: pieces of ceil(n / size), the last ones short or empty."""
    each = -(-array.shape[dim] // size)
    return np.take(array, range(min(array.shape[dim], index * each), min(array.shape[dim], (index + 1) * each)), axis=dim)


def even(array, dim, size, index):
    assert array.shape[dim] % size == 0, (array.shape, dim, size)
    return chunk(array, dim, size, index)


def padded_rows(array, num_rows):
    padding = np.full((num_rows - array.shape[0], *array.shape[1:]), PAD, np.uint32)
    return np.concatenate([array, padding])


def gate_up(tensors, prefix, size, index, names=("gate_proj", "up_proj"), dim=0):
    """[gate of this rank; up of this rank]."""
    return np.concatenate([even(tensors[f"{prefix}{name}.weight"], dim, size, index) for name in names], axis=dim)


def expert_names(config):
    """(prefix of the routed experts, names of gate, up and down)."""
    if config["model_type"] == "mixtral":
        return "block_sparse_moe.experts.", ("w1", "w3", "w2")
    return "mlp.experts.", ("gate_proj", "up_proj", "down_proj")


# ------------------------------------------------------------------------------------------------------------- FSDP2

def fsdp(config, tensors, settings):
    """A mesh (replicate, shard); dim 0 of every parameter cut by torch.chunk. transformers 5 holds the experts of a layer
    in two parameters, 4 ("experts": "each") each in three of its own."""
    held = {}
    for name, tensor in tensors.items():
        prefix, experts, leaf = name.partition(".experts.")
        if experts and settings.get("experts") == "each":
            held.update({f"{prefix}.experts.{expert}.{leaf}": each for expert, each in enumerate(tensor)})
        elif experts:
            module = prefix.replace("block_sparse_moe", "mlp") + ".experts."
            gate, up, down = (f"{prefix}.experts.{part}.weight" for part in expert_names(config)[1])
            held[module + "gate_up_proj"] = np.concatenate([tensors[gate], tensors[up]], axis=1)
            held[module + "down_proj"] = tensors[down]
        else:
            held[name if settings.get("experts") == "each" else name.replace("block_sparse_moe", "mlp")] = tensor
    if settings.get("units", "parameter") != "parameter":
        return flat_fsdp(config, held, settings)
    ranks = []
    for _ in range(settings.get("replicate", 1)):
        for index in range(settings["shard"]):
            ranks.append({name: tensor if name.endswith("e_score_correction_bias")
                          else chunk(tensor, 0, settings["shard"], index) for name, tensor in held.items()})
    return ranks


def registered(config, held, prefix):
    """The names of a layer's parameters in the order in which its modules have them: attention, MLP, norms."""
    def place(name):
        part = name.removeprefix(prefix)
        norm = {"input_layernorm.weight": 3, "post_attention_layernorm.weight": 4}.get(part, 0)
        head = 1 if part.endswith(("q_norm.weight", "k_norm.weight")) else 0  # behind o_proj
        is_router = part in ("mlp.gate.weight", "block_sparse_moe.gate.weight")
        before = config["model_type"] == "mixtral" or (config["model_type"] == "qwen3_moe" and f"{prefix}mlp.experts.0.up_proj.weight" in held)
        router = 0 if not is_router else 1 if before else 3
        experts = 2 if ".experts." in part else router
        expert = re.search(r"experts\.(\d+)\.(\w+)", part)
        second = (int(expert.group(1)), expert.group(2)) if expert and expert.group(2).startswith("w") else (
            int(expert.group(1)), "") if expert else (0, "")
        shared = 4 if "shared_experts" in part else experts
        return norm, not part.startswith("self_attn"), head, shared, second

    return sorted((name for name in held if name.startswith(prefix)), key=place)


def flat_fsdp(config, held, settings):
    """FSDP1: the parameters of a unit, a layer or what is outside, one behind another, padded and cut into chunks."""
    buffers = {name: held[name] for name in held if name.endswith("e_score_correction_bias")}
    held = {name: tensor for name, tensor in held.items() if name not in buffers}
    units = {"_flat_param": [name for name in held if ".layers." not in name]}
    for layer in range(config["num_hidden_layers"]):
        units[f"model.layers.{layer}._flat_param"] = registered(config, held, f"model.layers.{layer}.")
    ranks = [dict(buffers) for _ in range(settings["shard"])]
    for unit, names in units.items():
        flat = np.zeros(0, np.uint32)
        for name in names:
            gap = -len(flat) % 4 if settings["units"] == "aligned" else 0  # 16 bytes of 32-bit elements
            flat = np.concatenate([flat, np.full(gap, FREE, np.uint32), held[name].ravel()])
        each = -(-len(flat) // settings["shard"])
        flat = np.concatenate([flat, np.full(each * settings["shard"] - len(flat), FREE, np.uint32)])
        for index, rank in enumerate(ranks):
            rank[unit] = flat[index * each:(index + 1) * each]
    return ranks * settings.get("replicate", 1)


# --------------------------------------------------------------------------------------------------------- Megatron

def balanced_stages(num_layers, pp):
    return [num_layers // pp + (stage < num_layers % pp) for stage in range(pp)]


def linear_qkv(config, tensors, prefix, tp, index):
    """Rows of all query groups, each its q heads, its k head, its v head; cut evenly, wherever that falls."""
    groups, each = config["num_key_value_heads"], model.head_dim(config)
    hidden = config["hidden_size"]
    q = tensors[prefix + "q_proj.weight"].reshape(groups, -1, hidden)
    k = tensors[prefix + "k_proj.weight"].reshape(groups, each, hidden)
    v = tensors[prefix + "v_proj.weight"].reshape(groups, each, hidden)
    return even(np.concatenate([q, k, v], axis=1).reshape(-1, hidden), 0, tp, index)


def megatron_attention(config, tensors, prefix, tp, index):
    out = {"linear_proj.weight": even(tensors[prefix + "o_proj.weight"], 1, tp, index)}
    if model.is_latent(config):
        for ours, theirs in (("q_a_proj", "linear_q_down_proj"), ("kv_a_proj_with_mqa", "linear_kv_down_proj"),
                             ("q_a_layernorm", "q_layernorm"), ("kv_a_layernorm", "kv_layernorm")):
            out[theirs + ".weight"] = tensors[f"{prefix}{ours}.weight"]
        for ours, theirs in (("q_b_proj", "linear_q_up_proj"), ("kv_b_proj", "linear_kv_up_proj")):
            out[theirs + ".weight"] = even(tensors[f"{prefix}{ours}.weight"], 0, tp, index)
        return out
    out["linear_qkv.weight"] = linear_qkv(config, tensors, prefix, tp, index)
    for ours, theirs in (("q_norm", "q_layernorm"), ("k_norm", "k_layernorm")):
        if f"{prefix}{ours}.weight" in tensors:
            out[theirs + ".weight"] = tensors[f"{prefix}{ours}.weight"]
    return out


def megatron_experts(config, tensors, prefix, settings, place):
    """Routed experts of the rank at `place` of its stage: expert-tensor parallel fastest, then expert parallel."""
    ep, etp = settings.get("ep", 1), settings.get("etp", 1)
    expert_index, tensor_index = place // etp % ep, place % etp
    root, (gate, up, down) = expert_names(config)
    mine = {name: even(tensors[f"{prefix}{root}{name}.weight"], 0, ep, expert_index) for name in (gate, up, down)}
    fc1 = np.concatenate([even(mine[gate], 1, etp, tensor_index), even(mine[up], 1, etp, tensor_index)], axis=1)
    fc2 = even(mine[down], 2, etp, tensor_index)
    if settings.get("experts") == "gmm":  # the grouped MLP's own memory: [n, hidden, 2 ffn] and [n, ffn, hidden]
        return {"mlp.experts.weight1": fc1.transpose(0, 2, 1), "mlp.experts.weight2": fc2.transpose(0, 2, 1)}
    form = "mlp.experts.local_experts.{1}.{0}.weight" if settings.get("experts") == "local" else "mlp.experts.{}.weight{}"
    return {form.format(name, expert): each for name, all_experts in (("linear_fc1", fc1), ("linear_fc2", fc2))
            for expert, each in enumerate(all_experts)}


def megatron_ffn(config, tensors, layer, settings, place):
    tp = settings.get("tp", 1)
    prefix, index = f"model.layers.{layer}.", place % tp
    if not model.layer_has_experts(config, layer):
        return {"mlp.linear_fc1.weight": gate_up(tensors, prefix + "mlp.", tp, index),
                "mlp.linear_fc2.weight": even(tensors[prefix + "mlp.down_proj.weight"], 1, tp, index)}
    out = megatron_experts(config, tensors, prefix, settings, place)
    router = "block_sparse_moe.gate.weight" if config["model_type"] == "mixtral" else "mlp.gate.weight"
    out["mlp.router.weight"] = tensors[prefix + router]
    shared = prefix + "mlp.shared_experts."
    if shared + "up_proj.weight" in tensors:
        out["mlp.router.expert_bias"] = tensors[prefix + "mlp.gate.e_score_correction_bias"]
        out["mlp.shared_experts.linear_fc1.weight"] = gate_up(tensors, shared, tp, index)
        out["mlp.shared_experts.linear_fc2.weight"] = even(tensors[shared + "down_proj.weight"], 1, tp, index)
    return out


def megatron_layer(config, tensors, layer, settings, place):
    tp = settings.get("tp", 1)
    prefix = f"model.layers.{layer}."
    out = {"input_layernorm.weight": tensors[prefix + "input_layernorm.weight"],
           "pre_mlp_layernorm.weight": tensors[prefix + "post_attention_layernorm.weight"]}
    for name, value in megatron_attention(config, tensors, prefix + "self_attn.", tp, place % tp).items():
        out["self_attention." + name] = value
    out.update(megatron_ffn(config, tensors, layer, settings, place))
    return {f"decoder.layers.{layer}.{name}": value for name, value in out.items()}


def megatron_vocabulary(tensor, tp, index):
    multiple = 128 * tp
    return even(padded_rows(tensor, -(-tensor.shape[0] // multiple) * multiple), 0, tp, index)


def megatron(config, tensors, settings):
    """Order tp, dp, pp, tensor parallel fastest."""
    tp, pp, dp = (settings.get(key, 1) for key in ("tp", "pp", "dp"))
    stages = settings.get("layers") or balanced_stages(config["num_hidden_layers"], pp)
    ranks = []
    for stage in range(pp):
        for place in range(dp * tp):
            rank = {}
            if stage == 0:
                rank["embedding.word_embeddings.weight"] = megatron_vocabulary(
                    tensors["model.embed_tokens.weight"], tp, place % tp)
            for layer in range(sum(stages[:stage]), sum(stages[:stage + 1])):
                rank.update(megatron_layer(config, tensors, layer, settings, place))
            if stage == pp - 1:
                rank["decoder.final_layernorm.weight"] = tensors["model.norm.weight"]
                if "lm_head.weight" in tensors or pp > 1:  # a tied one has a copy on the last stage
                    output = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
                    rank["output_layer.weight"] = megatron_vocabulary(output, tp, place % tp)
            ranks.append(rank)
    return ranks


# ------------------------------------------------------------------------------------------------------------- vLLM

def vllm_stages(num_layers, pp):
    """What does not divide goes to the stages before the last, from the back."""
    layers = [num_layers // pp] * pp
    for i in range(num_layers % pp):
        layers[pp - 2 - i] += 1
    return layers


def vllm_attention(config, tensors, prefix, tp, index):
    out = {"o_proj.weight": even(tensors[prefix + "o_proj.weight"], 1, tp, index)}
    if model.is_latent(config):
        out["fused_qkv_a_proj.weight"] = np.concatenate(
            [tensors[prefix + "q_a_proj.weight"], tensors[prefix + "kv_a_proj_with_mqa.weight"]])
        for name in ("q_a_layernorm.weight", "kv_a_layernorm.weight"):
            out[name] = tensors[prefix + name]
        for name in ("q_b_proj.weight", "kv_b_proj.weight"):
            out[name] = even(tensors[prefix + name], 0, tp, index)
        return out
    kv_heads = config["num_key_value_heads"]
    kv_size, kv_index = (tp, index) if tp <= kv_heads else (kv_heads, index // (tp // kv_heads))
    out["qkv_proj.weight"] = np.concatenate(
        [even(tensors[prefix + "q_proj.weight"], 0, tp, index)]
        + [even(tensors[f"{prefix}{name}.weight"], 0, kv_size, kv_index) for name in ("k_proj", "v_proj")])
    for name in ("q_norm.weight", "k_norm.weight"):
        if prefix + name in tensors:
            out[name] = tensors[prefix + name]
    return out


def experts_of_rank(count, settings, size, index):
    """Logical experts in the slots of a rank with expert parallelism."""
    if "table" in settings:  # slots of all ranks, in order
        return np.split(np.array(settings["table"]), size)[index]
    if "redundant" in settings:
        return np.split(np.arange(count + settings["redundant"]) % count, size)[index]
    if settings.get("placement") == "round_robin":
        return np.arange(index, count, size)
    base, rest = divmod(count, size)
    first = index * base + min(index, rest)
    return np.arange(first, first + base + (index < rest))


def vllm_experts(config, tensors, prefix, settings, index):
    size = settings.get("tp", 1) * settings.get("dp", 1)
    root, (gate, up, down) = expert_names(config)
    w1, w3, w2 = (tensors[f"{prefix}{root}{name}.weight"] for name in (gate, up, down))
    if "ep" in settings:
        mine = experts_of_rank(model.num_experts(config), settings, size, index)
        w1, w3, w2 = w1[mine], w3[mine], w2[mine]
    else:
        w1, w3, w2 = even(w1, 1, size, index), even(w3, 1, size, index), even(w2, 2, size, index)
    return {f"{root}routed_experts.w13_weight": np.concatenate([w1, w3], axis=1), f"{root}routed_experts.w2_weight": w2}


def vllm_ffn(config, tensors, layer, settings, dp_index, tp_index):
    tp, dp = settings.get("tp", 1), settings.get("dp", 1)
    prefix = f"model.layers.{layer}."
    if not model.layer_has_experts(config, layer):
        return {"mlp.gate_up_proj.weight": gate_up(tensors, prefix + "mlp.", tp, tp_index),
                "mlp.down_proj.weight": even(tensors[prefix + "mlp.down_proj.weight"], 1, tp, tp_index)}
    out = vllm_experts(config, tensors, prefix, settings, dp_index * tp + tp_index)
    router = "block_sparse_moe.gate.weight" if config["model_type"] == "mixtral" else "mlp.gate.weight"
    out[router] = tensors[prefix + router]
    shared = prefix + "mlp.shared_experts."
    if shared + "up_proj.weight" in tensors:
        out["mlp.gate.e_score_correction_bias"] = tensors[prefix + "mlp.gate.e_score_correction_bias"]
        # With experts spread over several ranks of both kinds, tokens are dealt to tp ranks, too: each has all of it.
        size, index = (1, 0) if "ep" in settings and tp > 1 and dp > 1 else (tp, tp_index)
        out["mlp.shared_experts.gate_up_proj.weight"] = gate_up(tensors, shared, size, index)
        out["mlp.shared_experts.down_proj.weight"] = even(tensors[shared + "down_proj.weight"], 1, size, index)
    return out


def vllm_layer(config, tensors, layer, settings, dp_index, tp_index):
    prefix = f"model.layers.{layer}."
    out = {name: tensors[prefix + name] for name in ("input_layernorm.weight", "post_attention_layernorm.weight")}
    attention = vllm_attention(config, tensors, prefix + "self_attn.", settings.get("tp", 1), tp_index)
    out.update({"self_attn." + name: value for name, value in attention.items()})
    out.update(vllm_ffn(config, tensors, layer, settings, dp_index, tp_index))
    return {prefix + name: value for name, value in out.items()}


def vllm(config, tensors, settings):
    """rank = ((replica * dp + dp index) * pp + pp index) * tp + tp index."""
    tp, pp, dp = (settings.get(key, 1) for key in ("tp", "pp", "dp"))
    stages = settings.get("layers") or vllm_stages(config["num_hidden_layers"], pp)
    is_everywhere = config["model_type"] in ("mixtral", "qwen3_moe")  # what lies outside the layers
    is_tied = "lm_head.weight" not in tensors

    def vocabulary(name, index):
        rows = -(-config["vocab_size"] // 64) * 64
        return even(padded_rows(tensors[name], rows), 0, tp, index)

    ranks = []
    for _ in range(settings.get("replicas", 1)):
        for dp_index, stage, tp_index in np.ndindex(dp, pp, tp):
            is_first, is_last = stage == 0 or is_everywhere, stage == pp - 1 or is_everywhere
            rank = {}
            if is_first or (is_last and is_tied):
                rank["model.embed_tokens.weight"] = vocabulary("model.embed_tokens.weight", tp_index)
            for layer in range(sum(stages[:stage]), sum(stages[:stage + 1])):
                rank.update(vllm_layer(config, tensors, layer, settings, dp_index, tp_index))
            if is_last:
                rank["model.norm.weight"] = tensors["model.norm.weight"]
                if not is_tied:
                    rank["lm_head.weight"] = vocabulary("lm_head.weight", tp_index)
            ranks.append(rank)
    return ranks


# ----------------------------------------------------------------------------------------------------------- SGLang

def sglang_layer(config, tensors, layer, settings, index):
    tp, dp, ep = (settings.get(key, 1) for key in ("tp", "attention_dp", "ep"))
    group = tp // dp  # ranks over which attention is cut
    prefix = f"model.layers.{layer}."
    norms = ("input_layernorm.weight", "post_attention_layernorm.weight")
    out = {prefix + name: tensors[prefix + name] for name in norms}
    for name, value in vllm_attention(config, tensors, prefix + "self_attn.", group, index % group).items():
        out[f"{prefix}self_attn.{name.replace('fused_qkv_a_proj', 'fused_qkv_a_proj_with_mqa')}"] = value
    if not model.layer_has_experts(config, layer):
        size, place = (1, 0) if settings.get("dense") == "whole" else (tp, index)
        out[prefix + "mlp.gate_up_proj.weight"] = gate_up(tensors, prefix + "mlp.", size, place)
        out[prefix + "mlp.down_proj.weight"] = even(tensors[prefix + "mlp.down_proj.weight"], 1, size, place)
        return out
    root, names = expert_names(config)
    mine = experts_of_rank(model.num_experts(config), settings, ep, index // (tp // ep))
    w1, w3, w2 = (tensors[f"{prefix}{root}{name}.weight"][mine] for name in names)
    each = tp // ep  # ranks that share an expert
    w1, w3 = (even(half, 1, each, index % each) for half in (w1, w3))
    out[f"{prefix}{root}w13_weight"] = np.concatenate([w1, w3], axis=1)
    out[f"{prefix}{root}w2_weight"] = even(w2, 2, each, index % each)
    router = "block_sparse_moe.gate.weight" if config["model_type"] == "mixtral" else "mlp.gate.weight"
    out[prefix + router] = tensors[prefix + router]
    shared = prefix + "mlp.shared_experts."
    if shared + "up_proj.weight" in tensors:
        bias = prefix + "mlp.gate.e_score_correction_bias"
        out[bias] = tensors[bias]
        size, place = (tp, index) if settings.get("all2all", "none") == "none" else (1, 0)
        out[shared + "gate_up_proj.weight"] = gate_up(tensors, shared, size, place)
        out[shared + "down_proj.weight"] = even(tensors[shared + "down_proj.weight"], 1, size, place)
    return out


def sglang(config, tensors, settings):
    """rank = (replica * pp + pp index) * tp + tp index; what does not divide goes to the last stages."""
    tp, pp, dp = (settings.get(key, 1) for key in ("tp", "pp", "attention_dp"))
    layers = config["num_hidden_layers"]
    stages = settings.get("layers") or [layers // pp + (stage >= pp - layers % pp) for stage in range(pp)]
    padded = lambda tensor: padded_rows(tensor, -(-tensor.shape[0] // 64) * 64)  # noqa: E731
    ranks = []
    for _ in range(settings.get("replicas", 1)):
        for stage in range(pp):
            for index in range(tp):
                rank = {}
                if stage == 0:
                    embedding = padded(tensors["model.embed_tokens.weight"])
                    rank["model.embed_tokens.weight"] = embedding if dp > 1 else even(embedding, 0, tp, index)
                for layer in range(sum(stages[:stage]), sum(stages[:stage + 1])):
                    rank.update(sglang_layer(config, tensors, layer, settings, index))
                if stage == pp - 1:
                    rank["model.norm.weight"] = tensors["model.norm.weight"]
                    if "lm_head.weight" in tensors or pp > 1:
                        output = padded(tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"]))
                        size = tp // dp if settings.get("output") == "attention" else tp
                        rank["lm_head.weight"] = even(output, 0, size, index % size)
                ranks.append(rank)
    return ranks


# ------------------------------------------------------------------------------------------------------- checkpoint

def checkpoint(config, tensors, settings):
    """Whole tensors on every rank."""
    return [dict(tensors) for _ in range(settings.get("ranks", 1))]
