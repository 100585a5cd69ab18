# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""What the compilers made of quantising, dequantising and looking for largest magnitudes: part of kernel_code.py.

A turn of a loop is the shortest way through it that makes all its loads and stores: no NaN, no scale that a reciprocal
needs a slow way for.
"""
import kernel_code

MOST_INSTRUCTIONS = 12       # for an element, where the machine has no instructions for F8_E4M3 (sm_80)
# What has a goal; the others are printed.
GOALS = {"under_way": ("quantise_bf16", "dequantise_bf16"), "headroom": ("amax", "quantise_bf16", "quantise_f32")}
WIDE_BYTES = {"quantise_bf16": 2, "quantise_f32": 4, "dequantise_bf16": 2, "dequantise_f32": 4}


def is_data_load(instruction):
    """Of elements, or of scales beside them, which ptxas does not tell apart where both are words."""
    return instruction.opcode.startswith(("LDG", "LD.E")) and instruction.function in kernel_code.SCALED_LOADS


class ScaledLoop:
    """One that quantises or dequantises whole groups, or that looks for magnitudes."""
    def __init__(self, instructions, bounds):
        self.bounds = bounds
        self.own = instructions[bounds[0]:bounds[1] + 1]
        self.stored = kernel_code.VECTOR * sum(one.is_store() for one in self.own)
        # Elements are loaded in the widest words; only in words of four bytes are there as many scales.
        widths = [self.width(one) for one in self.own if one.opcode.startswith(("LDG", "LD.E"))]
        self.load_width = max(widths)
        self.loaded = self.stored // 4 if self.load_width == 4 else self.load_width * widths.count(self.load_width)

    @staticmethod
    def width(load):
        return next((size for suffix, size in kernel_code.LDS_BYTES.items() if suffix in load.opcode), 4)

    def is_element_load(self, one):
        return one.opcode.startswith(("LDG", "LD.E")) and self.width(one) == self.load_width

    def name(self):
        """The kind, from what a turn reads and writes."""
        if self.stored == 0:
            return "amax"
        return {2: "quantise_bf16", 4: "quantise_f32", 0.5: "dequantise_bf16", 0.25: "dequantise_f32"}.get(
            self.loaded / self.stored, "unknown")

    def elements(self):
        """Of a turn. Of magnitudes those of bf16 are counted, of which there are more."""
        name = self.name()
        if name == "amax":
            return self.loaded // 2
        return (self.loaded if name.startswith("quantise") else self.stored) // WIDE_BYTES[name]

    def loads_before_store(self):
        """Of elements."""
        count = 0
        for one in self.own:
            if one.is_store() or one.opcode.startswith("STS"):
                break
            count += self.is_element_load(one)
        return min(count, self.loaded // self.load_width)

    def stops(self):
        found = [index for index, one in enumerate(self.own, self.bounds[0]) if self.is_element_load(one) or one.is_store()]
        return sorted({self.bounds[0], *found, self.bounds[1]})

    def length(self, paths):
        return paths.through(self.stops())

    def conversions(self, paths):
        """Those of a turn's instructions that convert."""
        stops = self.stops()
        way = [index for begin, end in zip(stops, stops[1:]) for index in paths.way(begin, end)]
        return sum(self.own[index - self.bounds[0]].function in kernel_code.CONVERSIONS for index in way)


def scaled_loops(instructions, labels):
    """Innermost loops around loads of elements in vectors or groups."""
    all_loops = kernel_code.loops(instructions, labels)
    bounds = set()
    for index, one in enumerate(instructions):
        if is_data_load(one):
            around = next((loop for loop in all_loops if loop[0] <= index <= loop[1]), None)
            if around is not None:
                bounds.add(around)
    # A loop around another one is that of boxes or of tiles.
    innermost = [each for each in bounds if not any(each != one and each[0] <= one[0] and one[1] <= each[1] for one in bounds)]
    return [ScaledLoop(instructions, each) for each in sorted(innermost)]


def figures_of(architecture, report, instructions, labels):
    """[(key, text, value, unit, compare, goal)], one after another."""
    key, text = f"kernel_code.sm_{architecture}.scaled", f"sm_{architecture}"
    local = sum(one.opcode.startswith(("LDL", "STL")) for one in instructions)
    yield f"{key}.registers", f"{text}, registers with scales", report["registers"], "", None, None
    yield f"{key}.local_accesses", f"{text}, LDL and STL with scales", local, "", "==", 0
    blocks = kernel_code.blocks_per_multiprocessor(report, architecture)
    yield f"{key}.blocks", f"{text}, thread blocks with scales that fit on a multiprocessor", blocks, "", "==", 3
    found = scaled_loops(instructions, labels)
    names = sorted({loop.name() for loop in found})
    yield (f"{key}.loops", f"{text}, kinds of loops with scales found", len(names), "", "==", len(WIDE_BYTES) + 1)
    paths = kernel_code.Paths(instructions, labels)
    for name in names:
        same = [loop for loop in found if loop.name() == name]
        loads = min(loop.loads_before_store() for loop in same)
        yield (f"{key}.{name}.loads", f"{text}, {name}: loads before the first store", loads, "", ">=",
               kernel_code.LEAST_LOADS)
        # Loads are a part of the traffic, and need be under way for that part only.
        part = min(loop.loaded / (loop.loaded + loop.stored) for loop in same)
        kibibytes = min(loop.loaded for loop in same) * blocks * kernel_code.BLOCK_THREADS / 1024
        need = part * kernel_code.ARCHITECTURES[architecture][5]
        has_goal = name in GOALS["under_way"]
        yield (f"{key}.{name}.under_way", f"{text}, {name}: under way in a multiprocessor, of {need:.0f} KiB for its loads",
               kibibytes, " KiB", ">=" if has_goal else None, need if has_goal else None)
        instructions_each = max(loop.length(paths) / loop.elements() for loop in same)
        yield (f"{key}.{name}.instructions", f"{text}, {name}: instructions for an element, all of the loop, worst",
               instructions_each, "", None, None)
        if name != "amax":
            converting = max(loop.conversions(paths) / loop.elements() for loop in same)
            has_goal = architecture < 89
            yield (f"{key}.{name}.conversions", f"{text}, {name}: instructions for an element that convert it, worst",
                   converting, "", "<=" if has_goal else None, MOST_INSTRUCTIONS if has_goal else None)
        rate = min(kernel_code.headroom(architecture, loop.length(paths), loop.loaded + loop.stored) for loop in same)
        has_goal = name in GOALS["headroom"]
        yield (f"{key}.{name}.headroom", f"{text}, {name}: issue rate / needed at full bandwidth, worst", rate, " x",
               ">=" if has_goal else None, kernel_code.LEAST_HEADROOM if has_goal else None)
