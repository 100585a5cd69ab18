# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Random clusters as cluster files, and random pairs of layouts that fit them.

Everything follows from a seed and a number, so that a case that was seen once can be seen again. The clusters are odd on
purpose: planners are tuned on regular ones, where nearly anything does.
"""
import json
import random

from tools import MODELS

# Most have as many ranks as a person would look at; a few have so many that the planner must be quick, too.
SIZES = [(0.50, 4, 24), (0.42, 12, 64), (0.08, 100, 320)]  # share, from, to ranks of both sides
LINKS = [  # kind, weight; see draw_type
    ("nvlink", 5), ("pairs", 1), ("slow", 2), ("shared", 2), ("none", 2)]
ATTENTION_TP_LIMIT = 8  # of models without key and value heads of their own (MLA)


class Model:
    """What a layout must divide."""

    def __init__(self, path):
        config = json.loads(path.read_text(encoding="utf-8"))
        self.name = path.stem
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.has_latent_attention = "kv_lora_rank" in config
        self.kv_heads = ATTENTION_TP_LIMIT if self.has_latent_attention else config["num_key_value_heads"]
        names = ("num_experts", "n_routed_experts", "num_local_experts")
        self.experts = next((config[name] for name in names if config.get(name)), 0)
        self.dense_layers = config.get("first_k_dense_replace", 0)


def models():
    return [Model(path) for path in sorted(MODELS.glob("*.json"))]


def powers_of_two(limit):
    """1, 2, 4, ... up to limit."""
    return [1 << i for i in range(max(1, limit).bit_length())]


def weighted(rng, rows):
    """Of (value, weight)."""
    return rng.choices([value for value, _ in rows], [weight for _, weight in rows])[0]


class Case:
    """One cluster with one pair of layouts: the arguments of reshard_plan, but for the name of the cluster's file."""

    def __init__(self, seed, number):
        self.seed = seed
        self.number = number
        rng = random.Random(f"{seed}/{number}")
        self.model = rng.choice(models())
        _, least, most = rng.choices(SIZES, [share for share, _, _ in SIZES])[0]
        num_ranks = rng.randint(least, most)
        self.is_colocated = rng.random() < 0.25
        share = 1 if self.is_colocated else rng.uniform(0.1, 0.7)
        self.layers = draw_layers(rng, self.model)
        self.src, self.num_src = draw_source(rng, self.model, self.layers, max(1, round(num_ranks * share)))
        rest = num_ranks if self.is_colocated else max(1, num_ranks - self.num_src)
        self.dst, self.num_dst = draw_destination(rng, self.model, rest)
        self.open_groups = rng.choice([1, 1, 2, 4, 8])  # for those who compare orders
        segments = [max(self.num_src, self.num_dst)] if self.is_colocated else [self.num_src, self.num_dst]
        self.cluster = draw_cluster(rng, segments)
        self.lost = draw_loss(rng, self.dst, 0 if self.is_colocated else self.num_src, self.num_dst)

    def arguments(self):
        words = ["--model", self.model.name, "--from", self.src, "--to", self.dst]
        if self.layers:
            words += ["--layers", str(self.layers)]
        return words + (["--colocated"] if self.is_colocated else [])

    def cluster_without_links(self):
        """The same with nothing between the ranks of a node but the network; None if it had no links."""
        text = json.dumps(self.cluster)
        cluster = json.loads(text)
        for node in cluster["node_types"].values():
            for gpus in node["gpus"]:
                gpus["link_group"] = -1
        for group in cluster["clusters"]:
            group.pop("nvlink_domain", None)
        return None if json.dumps(cluster) == text else cluster


def draw_layers(rng, model):
    """Only the first few layers of some models: jobs so short that to fill a deep tree takes as long as to move all."""
    if rng.random() > 0.15:
        return 0
    return model.dense_layers + rng.randint(4, 8)


def draw_source(rng, model, layers, num_ranks):
    """A text, and how many ranks it has: at most num_ranks."""
    kind = weighted(rng, [("checkpoint", 2), ("fsdp", 4), ("megatron", 6)])
    if kind == "checkpoint" or num_ranks == 1:
        num = rng.choice([1, 1, min(num_ranks, rng.randint(1, 8))])
        return (f"checkpoint:ranks={num}" if num > 1 else "checkpoint"), num
    if kind == "fsdp":
        replicate = rng.choice([1, 1, 2, 4])
        shard = max(1, num_ranks // replicate)
        return f"fsdp:shard={shard}" + (f",replicate={replicate}" if replicate > 1 else ""), shard * replicate
    tp = rng.choice(powers_of_two(min(model.kv_heads, num_ranks, 8)))
    pp = rng.randint(1, min(8, num_ranks // tp, layers or model.layers))
    dp = max(1, num_ranks // (tp * pp))
    if model.experts:
        dp = 1 << (dp.bit_length() - 1)  # so that experts divide
    text = f"megatron:tp={tp},pp={pp},dp={dp}"
    if model.experts:
        text += f",ep={rng.choice([size for size in powers_of_two(tp * dp) if model.experts % size == 0])}"
    return text, tp * pp * dp


def draw_destination(rng, model, num_ranks):
    if rng.random() < 0.12:
        return f"fsdp:shard={num_ranks}", num_ranks
    tp = rng.choice(powers_of_two(min(num_ranks, 8)))
    tp = min(tp, model.heads)
    if not model.experts or rng.random() < 0.4:
        return f"vllm:tp={tp},replicas={num_ranks // tp}", num_ranks // tp * tp
    sizes = [tp * size for size in powers_of_two(num_ranks // tp) if model.experts % (tp * size) == 0]
    ep = rng.choice(sizes or [tp])
    if not sizes:
        return f"vllm:tp={tp},replicas={num_ranks // tp}", num_ranks // tp * tp
    return f"vllm:tp={tp},ep={ep},replicas={num_ranks // ep}", num_ranks // ep * ep


def draw_loss(rng, dst, first, num_dst):
    """Destination ranks that may be lost: a replica, or one rank where there is one replica only; None: all would be."""
    if num_dst == 1:
        return None
    replicas = int(dst.rpartition("replicas=")[2]) if "replicas=" in dst else 1
    size = num_dst // replicas if replicas > 1 else 1
    begin = first + rng.randrange(num_dst // size) * size
    return begin, begin + size - 1


def draw_type(rng, is_isolated):
    """A kind of node. Where rails are isolated each has links and a NIC on rail 0, or some ranks could reach no other."""
    kind = rng.choice(["nvlink", "slow"]) if is_isolated else weighted(rng, LINKS)
    count = rng.choice([4, 8, 16, 32, 64]) if kind == "shared" else rng.choice([1, 2, 2, 4, 4, 8, 8, 8])
    gpus = {"count": count, "link": {"shared": "10GB", "slow": rng.choice(["12GB", "25GB", "50GB"])}.get(
        kind, rng.choice(["300GB", "450GB", "900GB"]))}
    if kind == "none":
        gpus["link_group"] = -1
    if kind == "shared":
        gpus["link_efficiency"] = 1
    else:
        gpus["memory"] = rng.choice(["0.86TB", "2TB", "3.35TB"])
        if rng.random() < 0.8:
            gpus["pcie"] = rng.choice(["15.75GB", "31.5GB", "63GB", "63GB"])
    return {"gpus": split_links(gpus) if kind == "pairs" and count > 1 else [gpus], "nics": draw_nics(rng, kind, count)}


def split_links(gpus):
    """Two halves, each with links of its own, as the GPUs of two sockets."""
    half = gpus["count"] // 2
    return [{**gpus, "count": half}, {**gpus, "count": gpus["count"] - half, "link_group": 1}]


def draw_nics(rng, kind, count):
    """Often fewer than GPUs, or one slower than the others."""
    shared_by = rng.choice([size for size in (1, 1, 1, 2, 4, count) if count % size == 0])
    num_nics = 1 if kind == "shared" else count // shared_by
    speeds = [10, 25, 100] if kind == "shared" else [50, 100, 200, 400, 400]
    speed = rng.choice(speeds)
    slow = rng.randrange(num_nics) if num_nics > 1 and rng.random() < 0.2 else -1
    each = count // num_nics
    return [{"name": f"ib{i}", "speed": f"{speed // 4 if i == slow else speed}gbit", "rail": i,
             "gpus": list(range(i * each, (i + 1) * each))} for i in range(num_nics)]


def draw_cluster(rng, segments):
    is_isolated = rng.random() < 0.12
    num_types = rng.choice([1, 1, 1, 2, 2, 3])
    types = {f"type{i}": draw_type(rng, is_isolated) for i in range(num_types)}
    groups = [{"type": name, "nodes": rng.randint(1, 6)} for name in types]
    for group in groups:
        if rng.random() < 0.1 and "link_group" not in types[group["type"]]["gpus"][0]:
            group["nvlink_domain"] = rng.choice([2, 4])
            group["nodes"] *= group["nvlink_domain"]
    names = names_of_nodes(groups, types, segments)
    del groups[-1]["nodes"]  # as many as the ranks need
    return {"node_types": types, "clusters": groups, "fabric": draw_fabric(rng, is_isolated, groups, types, names)}


def names_of_nodes(groups, types, segments):
    """The types of the nodes that have ranks, in order: ranks fill one node after the other, a side begins a new one."""
    order = [group["type"] for group in groups for _ in range(group["nodes"])]
    used = []
    for num_ranks in segments:
        while num_ranks > 0:
            name = order[len(used)] if len(used) < len(order) else order[-1]
            used.append(name)
            num_ranks -= sum(gpus["count"] for gpus in types[name]["gpus"])
    return used


def draw_fabric(rng, is_isolated, groups, types, names):
    fabric = {}
    if is_isolated:
        fabric["rail_isolated"] = True
    elif rng.random() < 0.4:
        fabric["rails"] = rng.choice([1, 1, 2])
    if rng.random() < 0.6 and all("nvlink_domain" not in group for group in groups):
        fabric["leaf_nodes"] = rng.choice([1, 2, 2, 4, 8])
        fabric["oversubscription"] = [rng.choice([1, 1, 2, 3, 4, 8]), 1]
        if rng.random() < 0.5:
            fabric["leaves_per_pod"] = rng.choice([1, 2, 4])
            fabric["oversubscription"][1] = rng.choice([1, 2, 4, 8])
        if rng.random() < 0.3:
            fabric["uplink_efficiency"] = rng.choice([0.6, 0.8, 0.9])
    if rng.random() < 0.25:
        node = rng.randrange(len(names))
        nic = rng.choice(types[names[node]]["nics"])["name"]
        fabric["degraded"] = [{"node": f"n{node + 1:04}", "nic": nic, "fraction": rng.choice([0.1, 0.25, 0.5])}]
    return fabric
