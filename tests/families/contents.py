# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What many ranks hold, in few lines: a table of lines, and for each rank the numbers of its own, layer by layer.

A line is a parameter without the number of its layer, its type, its shape and its boxes (boxes.py):

    model.layers.*.self_attn.qkv_proj.weight BF16 [80, 60]: 48x60 = ~q_proj.weight; 16x60 at 48,0 = ~k_proj.weight; ...

~ is the module that the parameter's module lies in (model.layers.*.self_attn.). Ranks and layers that hold the same
share the line.
"""
import json

import names


def module_above(parameter):
    """model.layers.*.self_attn. of model.layers.*.self_attn.qkv_proj.weight"""
    return "".join(part + "." for part in parameter.split(".")[:-2])


def starred(text, numbers):
    """The name with stars for its numbers, if those are the first of these."""
    found = names.NUMBER.findall(text)
    return names.NUMBER.sub("*", text) if found == numbers[:len(found)] else text


def unstarred(text, numbers):
    for number in numbers:
        text = text.replace("*", number, 1)
    return text


def shortened(box, parameter, numbers):
    head, what = box.split(" = ")
    name, *rest = what.split(" ")
    name, above = starred(name, numbers), module_above(parameter)
    if above and name.startswith(above):
        name = "~" + name.removeprefix(above)
    return f"{head} = {' '.join([name, *rest])}"


def lengthened(box, parameter, numbers):
    return unstarred(box.replace("= ~", "= " + module_above(parameter), 1), numbers)


class Table:
    def __init__(self):
        self.lines = {}  # line -> its number

    def add_rank(self, held):
        """{layers: numbers of lines} of a rank, from {parameter: (type, shape, boxes)}."""
        by_layer = {}
        for name, (dtype, shape, boxes) in held.items():
            numbers = names.NUMBER.findall(name)
            parameter = starred(name, numbers)
            line = f"{parameter} {dtype} {shape}: " + "; ".join(shortened(box, parameter, numbers) for box in boxes)
            by_layer.setdefault(".".join(numbers), []).append(self.lines.setdefault(line, len(self.lines)))
        same = {}
        for layer, lines in by_layer.items():
            same.setdefault(names.ranges(lines), []).append(layer)
        return {" ".join(layers): lines for lines, layers in same.items()}


def dump(record):
    """JSON with a line of the file for each line of a table and each rank."""
    def is_leaf(value):
        if not isinstance(value, (dict, list)):
            return True
        is_rank = isinstance(value, dict) and "family" not in value
        return is_rank and all(isinstance(inner, str) for inner in value.values())

    def write(value, indent):
        if is_leaf(value):
            return json.dumps(value)
        space = "\n" + " " * (indent + 1)
        if isinstance(value, dict):
            items = [f"{json.dumps(key)}: {write(inner, indent + 1)}" for key, inner in value.items()]
            return "{" + space + ("," + space).join(items) + "}"
        return "[" + space + ("," + space).join(write(inner, indent + 1) for inner in value) + "]"

    return write(record, 0) + "\n"


def write_or_check(path, record, is_check):
    """Writes the record, or says whether the file has it."""
    text = dump(record)
    if is_check:
        is_same = path.exists() and path.read_text(encoding="utf-8") == text
        print("" if is_same else f"{path}: not what {record['package']} gives\n", end="")
        return is_same
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"{path}: {len(text)} bytes", flush=True)
    return True


def of_rank(model, rank):
    """{parameter: (type, shape, boxes)} of an entry of model["ranks"]."""
    held = {}
    for layers, lines in rank.items():
        for layer in layers.split(" "):
            numbers = layer.split(".") if layer else []
            for line in names.numbers_of(lines):
                head, _, boxes = model["lines"][line].partition(": ")
                parameter, dtype, shape = head.split(" ", 2)
                held[unstarred(parameter, numbers)] = (
                    dtype, json.loads(shape), [lengthened(box, parameter, numbers) for box in boxes.split("; ")])
    return held
