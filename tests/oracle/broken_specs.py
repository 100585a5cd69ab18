# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Specs that must be refused. Each case: kind, the words that the error must contain, and the bytes of the file."""

import copy
import json

BASE = {
    "version": 1, "ranks": 4,
    "tensors": [{
        "name": "weight_a", "group": 0, "shape": [12, 7],
        "src": {"dtype": "F32", "mesh": {"axes": [["dp", 2], ["tp", 2]], "ranks": [0, 1, 2, 3]},
                "placements": ["replicate", {"shard": 0}]},
        "dst": {"dtype": "F32", "mesh": {"axes": [["tp", 4]], "ranks": [0, 1, 2, 3]}, "placements": [{"shard": 0}]},
    }],
}

REMOVE = object()
T = "tensors", 0
SRC, DST = T + ("src",), T + ("dst",)


def changed(*edits):
    """BASE with values set, added or (REMOVE) deleted at paths of keys and indices."""
    raw = copy.deepcopy(BASE)
    for path, value in edits:
        place = raw
        for key in path[:-1]:
            place = place[key]
        if value is REMOVE:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    return raw


def placed(placement, *more):
    return changed((DST + ("placements",), [placement]), *more)


def keys():
    yield "unknown_key_at_top", ["colour"], changed((("colour",), 1))
    yield "unknown_key_in_tensor", ["colour"], changed((T + ("colour",), 1))
    yield "unknown_key_in_side", ["colour"], changed((DST + ("colour",), 1))
    yield "unknown_key_in_mesh", ["colour"], changed((SRC + ("mesh", "colour"), 1))
    yield "unknown_key_in_placement", ["colour"], placed({"shard": 0, "colour": 1})
    for path in (("version",), ("ranks",), ("tensors",), T + ("name",), T + ("shape",), SRC + ("dtype",),
                 SRC + ("mesh",), DST + ("placements",), DST + ("mesh", "axes"), DST + ("mesh", "ranks")):
        yield "missing_" + "_".join(map(str, path)), [path[-1]], changed((path, REMOVE))
    # A tensor may be on one side, but then it must not be asked for on the other.
    yield "missing_src", ["weight_a", "not at the source"], changed((SRC, REMOVE))
    yield "missing_dst", ["weight_a", "not at the destination"], changed((DST, REMOVE))
    yield "missing_src_and_dst", ["src", "dst"], changed((SRC, REMOVE), (DST, REMOVE))
    yield "shard_missing", ["shard"], placed({"rule": "chunk"})


def types():
    yield "version_2", ["version", "2"], changed((("version",), 2))
    yield "version_text", ["version"], changed((("version",), "1"))
    yield "ranks_zero", ["ranks"], changed((("ranks",), 0))
    yield "ranks_negative", ["ranks"], changed((("ranks",), -4))
    yield "ranks_text", ["ranks"], changed((("ranks",), "4"))
    yield "ranks_huge", ["ranks"], changed((("ranks",), 2**40))
    yield "ranks_beyond_64_bits", ["ranks"], changed((("ranks",), 2**70))
    yield "tensors_object", ["tensors"], changed((("tensors",), {}))
    yield "tensor_number", [], changed((T, 5))
    yield "name_number", ["name"], changed((T + ("name",), 5))
    yield "shape_number", ["shape"], changed((T + ("shape",), 84))
    yield "shape_of_text", ["shape"], changed((T + ("shape",), ["12", 7]))
    yield "shape_fraction", ["shape"], changed((T + ("shape",), [12.5, 7]))
    yield "group_text", ["group"], changed((T + ("group",), "first"))
    yield "side_list", ["src"], changed((SRC, []))
    yield "placements_object", ["placements"], changed((DST + ("placements",), {"shard": 0}))
    yield "placement_unknown_word", ["scatter"], placed("scatter")
    yield "placement_null", ["placement"], placed(None)


def tensors():
    raw = changed()
    raw["tensors"].append(raw["tensors"][0])
    yield "name_twice", ["weight_a"], raw
    yield "dtype_unknown", ["F99"], changed((SRC + ("dtype",), "F99"))
    yield "dtype_number", ["dtype"], changed((SRC + ("dtype",), 5))
    for src, dst in (("I32", "F32"), ("F64", "F32"), ("BF16", "I16"), ("U8", "I8"), ("F8_E4M3", "F16")):
        yield "no_conversion_%s_%s" % (src, dst), ["weight_a", src, dst], changed(
            (SRC + ("dtype",), src), (DST + ("dtype",), dst))
    yield "shape_negative", ["-1"], changed((T + ("shape",), [12, -1]))
    yield "nine_dims", ["9"], changed((T + ("shape",), [12, 1, 1, 1, 1, 1, 1, 1, 1]))
    yield "shape_overflow", ["weight_a"], changed((T + ("shape",), [2**62, 2**62]))
    yield "shape_beyond_64_bits", ["shape"], changed((T + ("shape",), [12, 2**64]))


def meshes():
    ranks, axes = DST + ("mesh", "ranks"), DST + ("mesh", "axes")
    yield "rank_repeated", ["3"], changed((ranks, [0, 3, 2, 3]))
    yield "rank_missing", ["3", "4"], changed((ranks, [0, 1, 2]))
    yield "rank_too_many", ["4", "5"], changed((("ranks",), 5), (ranks, [0, 1, 2, 3, 4]))
    yield "rank_out_of_range", ["4"], changed((ranks, [0, 1, 2, 4]))
    yield "rank_negative", ["-1"], changed((ranks, [0, 1, 2, -1]))
    yield "rank_beyond_32_bits", ["4294967296"], changed((ranks, [2**32, 1, 2, 3]))
    yield "rank_count_too_small", ["3"], changed((("ranks",), 3))
    yield "axis_zero", ["0"], changed((axes, [["tp", 0]]), (ranks, []))
    yield "axis_negative", ["-4"], changed((axes, [["tp", -4]]))
    yield "axis_overflow", ["4294967296"], changed((axes, [["a", 2**32], ["b", 2**32], ["c", 4]]),
                                             (DST + ("placements",), ["replicate"] * 3))
    yield "axis_without_size", ["axes"], changed((axes, [["tp"]]))
    yield "axis_name_number", ["axes"], changed((axes, [[4, "tp"]]))
    yield "placements_too_few", ["2", "1"], changed((SRC + ("placements",), [{"shard": 0}]))
    yield "placements_too_many", ["1", "2"], changed((DST + ("placements",), [{"shard": 0}, "replicate"]))


def rules():
    yield "shard_out_of_range", ["2"], placed({"shard": 2})
    yield "shard_negative", ["-1"], placed({"shard": -1})
    yield "shard_of_scalar", ["weight_a"], placed({"shard": 0}, (T + ("shape",), []))
    yield "rule_unknown", ["striped"], placed({"shard": 0, "rule": "striped"})
    yield "rule_and_cuts", ["cuts"], placed({"shard": 0, "rule": "chunk", "cuts": [0, 3, 6, 9, 12]})
    yield "block_and_table", ["block", "table"], placed({"shard": 0, "block": 1, "table": [[0], [1], [2], [3]]})
    yield "even_does_not_divide", ["7", "4"], placed({"shard": 1, "rule": "even"})
    yield "cuts_start", ["cuts"], placed({"shard": 0, "cuts": [1, 3, 6, 9, 12]})
    yield "cuts_end_short", ["cuts", "12"], placed({"shard": 0, "cuts": [0, 3, 6, 9, 11]})
    yield "cuts_end_long", ["cuts", "12"], placed({"shard": 0, "cuts": [0, 3, 6, 9, 13]})
    yield "cuts_descend", ["cuts"], placed({"shard": 0, "cuts": [0, 6, 3, 9, 12]})
    yield "cuts_too_few", ["cuts"], placed({"shard": 0, "cuts": [0, 6, 12]})
    yield "cuts_empty", ["cuts"], placed({"shard": 0, "cuts": []})
    yield "block_zero", ["block"], placed({"shard": 0, "block": 0})
    yield "block_negative", ["block"], placed({"shard": 0, "block": -2})
    yield "table_index_out_of_range", ["12"], placed({"shard": 0, "table": [[0], [1], [2], [12]]})
    yield "table_index_negative", ["-1"], placed({"shard": 0, "table": [[0], [1], [2], [-1]]})
    yield "table_range_out_of_range", ["13"], placed({"shard": 0, "table": [[0], [1], [2], [[3, 13]]]})
    yield "table_range_reversed", ["5"], placed({"shard": 0, "table": [[0], [1], [2], [[5, 3]]]})
    yield "table_range_of_three", ["table"], placed({"shard": 0, "table": [[0], [1], [2], [[3, 4, 5]]]})
    yield "table_too_short", ["table"], placed({"shard": 0, "table": [[0], [1], [2]]})
    yield "table_of_numbers", ["table"], placed({"shard": 0, "table": [0, 1, 2, 3]})
    yield "table_index_beyond_64_bits", ["table"], placed({"shard": 0, "table": [[0], [1], [2], [2**64]]})


def nested():
    def twice(second, *more):
        return changed((DST + ("mesh", "axes"), [["dp", 2], ["tp", 2]]),
                       (DST + ("placements",), [{"shard": 1}, second]), *more)
    # The first axis leaves lists of 4 and 3 columns.
    yield "nested_cuts_do_not_fit", ["cuts"], twice({"shard": 1, "cuts": [0, 2, 4]})
    yield "nested_table_does_not_fit", ["3"], twice({"shard": 1, "table": [[0, 1], [2, 3]]})
    yield "nested_even_does_not_divide", ["3"], twice({"shard": 1, "rule": "even"})
    yield "nest_unknown", ["sideways"], changed((DST + ("nest",), "sideways"))
    yield "order_repeats", ["order"], changed((DST + ("order",), [0, 0]))
    yield "order_too_short", ["order"], changed((DST + ("order",), [0]))
    yield "order_out_of_range", ["order"], changed((DST + ("order",), [0, 2]))
    yield "pad_to_too_small", ["pad_to", "2", "3"], changed((DST + ("pad_to",), [2, 7]))
    yield "pad_to_too_short", ["pad_to"], changed((DST + ("pad_to",), [3]))
    yield "pad_to_null", ["pad_to", "null"], changed((DST + ("pad_to",), None))
    yield "pad_to_negative", ["pad_to"], changed((DST + ("pad_to",), [-3, 7]))
    # 2^60 elements of F32 overflow a 64-bit count of bytes only after multiplication.
    yield "pad_to_overflow", ["weight_a"], changed((DST + ("pad_to",), [2**62, 2**62]))


def coverage():
    yield "row_held_by_no_source", ["weight_a", "11"], changed(
        (SRC + ("placements",), ["replicate", {"shard": 0, "table": [[[0, 6]], [[6, 11]]]}]))
    yield "first_row_held_by_no_source", ["weight_a", "0"], changed(
        (SRC + ("placements",), ["replicate", {"shard": 0, "table": [[[1, 6]], [[6, 12]]]}]))
    yield "source_holds_nothing", ["weight_a"], changed(
        (SRC + ("placements",), ["replicate", {"shard": 0, "table": [[], []]}]))


def texts():
    """Files that are not JSON of the right kind at all."""
    text = json.dumps(BASE)
    yield "empty_file", [], ""
    yield "truncated", [], text[:len(text) // 2]
    yield "trailing_text", [], text + "}"
    yield "a_list", [], "[1, 2]"
    yield "a_number", [], "1"
    yield "null", [], "null"
    yield "not_utf8", [], text.replace("weight_a", "weight_\udcff")
    yield "zero_byte", [], "\0" + text
    yield "deep_lists", [], "[" * 100000
    yield "deep_objects", [], '{"version":' * 100000


def cases():
    for group in (keys, types, tensors, meshes, rules, nested, coverage):
        for kind, words, raw in group():
            yield kind, words, json.dumps(raw).encode("utf-8")
    for kind, words, text in texts():
        yield kind, words, text.encode("utf-8", "surrogateescape")
