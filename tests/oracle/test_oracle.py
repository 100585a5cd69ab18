# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""The oracle against numbers known from elsewhere, and the checker against dumps that are wrong on purpose."""

import json
import os
import random
import struct
import sys
import tempfile
import unittest

import broken_specs
import check_dump
import elements
import random_spec
import safetensors
import simulate
import spec as spec_module


def side(placements, axes, shape, ranks=None, **more):
    sizes = [size for _, size in axes]
    count = 1
    for size in sizes:
        count *= size
    raw = {"dtype": "F32", "mesh": {"axes": axes, "ranks": ranks or list(range(count))}, "placements": placements}
    raw.update(more)
    return spec_module.Side(raw, shape, 64, "side")


def rows(placement, parts, extent):
    """Per rank the indices of a 1-D tensor under one placement."""
    one = side([placement], [["a", parts]], [extent])
    return [one.indices(rank)[0] for rank in range(parts)]


class Rules(unittest.TestCase):
    def test_chunk_is_torch_chunk(self):
        for extent, parts, lengths in ((10, 4, [3, 3, 3, 1]), (5, 4, [2, 2, 1, 0]), (9, 8, [2, 2, 2, 2, 1, 0, 0, 0]),
                                       (2, 8, [1, 1] + [0] * 6), (151936, 24, [6331] * 23 + [6323])):
            lists = rows({"shard": 0}, parts, extent)
            self.assertEqual([len(items) for items in lists], lengths)
            self.assertEqual([i for items in lists for i in items], list(range(extent)))

    def test_balanced_puts_the_larger_first(self):
        self.assertEqual(rows({"shard": 0, "rule": "balanced"}, 4, 10), [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]])
        self.assertEqual(rows({"shard": 0, "rule": "balanced"}, 3, 2), [[0], [1], []])

    def test_block_deals_out_in_turn(self):
        self.assertEqual(rows({"shard": 0, "block": 1}, 4, 10), [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]])
        self.assertEqual(rows({"shard": 0, "block": 2}, 2, 7), [[0, 1, 4, 5], [2, 3, 6]])

    def test_table_keeps_order_and_repeats(self):
        table = [[2, [0, 2], 0], [], [[1, 3]]]
        self.assertEqual(rows({"shard": 0, "table": table}, 3, 3), [[2, 0, 1, 0], [], [1, 2]])

    def test_strided_shard_is_inner_first(self):
        placements, axes = [{"shard": 0}, {"shard": 0}], [["dp", 2], ["tp", 2]]
        inner = side(placements, axes, [8], nest="inner_first")
        outer = side(placements, axes, [8])
        for dp in range(2):
            for tp in range(2):
                self.assertEqual(inner.indices(2 * dp + tp)[0][0] // 2, tp * 2 + dp)
                self.assertEqual(outer.indices(2 * dp + tp)[0][0] // 2, dp * 2 + tp)

    def test_hsdp_chunk_follows_the_last_axis(self):
        hsdp = side(["replicate", {"shard": 0}], [["ddp", 2], ["fsdp", 4]], [10])
        for rank in range(8):
            self.assertEqual(hsdp.indices(rank)[0], rows({"shard": 0}, 4, 10)[rank % 4])

    def test_ranks_are_row_major_in_any_order(self):
        one = side([{"shard": 0}, {"shard": 1}], [["a", 2], ["b", 2]], [2, 4], ranks=[7, 5, 3, 1])
        self.assertEqual(one.indices(5), [[0], [2, 3]])
        self.assertEqual(one.index_map(3), [4, 5])

    def test_padding_is_a_tail(self):
        one = side([{"shard": 1, "rule": "chunk"}], [["a", 2]], [2, 3], pad_to=[3, 2])
        self.assertEqual(one.index_map(0), [0, 1, 3, 4, None, None])
        self.assertEqual(one.index_map(1), [2, None, 5, None, None, None])

    def test_scalar_and_empty(self):
        self.assertEqual(side(["replicate"], [["a", 2]], []).index_map(1), [0])
        empty = side([{"shard": 1}], [["a", 2]], [3, 1])
        self.assertEqual((empty.local_shape(1), empty.index_map(1)), ([3, 0], []))


class Numbers(unittest.TestCase):
    def test_known_hashes(self):
        self.assertEqual(elements.fnv1a64(b""), 0xCBF29CE484222325)
        self.assertEqual(elements.fnv1a64(b"a"), 0xAF63DC4C8601EC8C)
        self.assertEqual(elements.fnv1a64(b"foobar"), 0x85944171F73967E8)
        self.assertEqual(elements.splitmix64(0), 0xE220A8397B1DCDAF)  # the first output of seed 0
        self.assertEqual(elements.splitmix64(0x9E3779B97F4A7C15), 0x6E789E6AA1B965F4)  # and the second

    def test_f32_to_f16_agrees_with_struct(self):
        rng = random.Random(1)
        for _ in range(20000):
            bits = rng.getrandbits(32) if rng.random() < 0.5 else (rng.randrange(96, 146) << 23) | rng.getrandbits(23)
            value = struct.unpack("<f", struct.pack("<I", bits))[0]
            try:
                want = struct.unpack("<H", struct.pack("<e", value))[0]
            except OverflowError:
                want = 0x7C00 | (bits >> 31 << 15)
            if value == value:
                self.assertEqual(elements.convert(bits, "F32", "F16"), want, hex(bits))

    def test_f16_to_f32_agrees_with_struct(self):
        for bits in range(1 << 16):
            value = struct.unpack("<e", struct.pack("<H", bits))[0]
            if value == value:
                want = struct.unpack("<I", struct.pack("<f", value))[0]
                self.assertEqual(elements.convert(bits, "F16", "F32"), want, hex(bits))

    def test_f32_to_bf16_rounds_ties_to_even(self):
        for bits, want in ((0x3F808000, 0x3F80), (0x3F818000, 0x3F82), (0x3F808001, 0x3F81), (0x3F807FFF, 0x3F80),
                           (0x7F7FFFFF, 0x7F80), (0xFF7F7FFF, 0xFF7F), (0x00008000, 0x0000), (0x00018000, 0x0002),
                           (0x80000000, 0x8000), (0x7F800000, 0x7F80), (0x00000001, 0x0000), (0x007FFFFF, 0x0080)):
            self.assertEqual(elements.convert(bits, "F32", "BF16"), want, hex(bits))
        self.assertTrue(elements.is_nan(elements.convert(0x7F800001, "F32", "BF16"), "BF16"))

    def test_bf16_and_f16_round_trips(self):
        for bits in range(1 << 16):
            if not elements.is_nan(bits, "BF16"):
                self.assertEqual(elements.convert(elements.convert(bits, "BF16", "F32"), "F32", "BF16"), bits)
        self.assertEqual(elements.convert(0x4780, "BF16", "F16"), 0x7C00)  # 65536 is beyond F16
        self.assertEqual(elements.convert(0x3555, "F16", "BF16"), 0x3EAB)  # 0.33325 to 8 bits

    def test_converting_elements_are_small_whole_numbers(self):
        seen = set()
        for i in range(4000):
            bits = elements.element_bits(elements.fnv1a64(b"w"), i, "F32", "BF16", "dst")
            seen.add(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
        self.assertEqual(seen, set(map(float, range(-127, 128))))

    def test_equal_dtypes_take_the_low_bits(self):
        z = elements.splitmix64(elements.fnv1a64(b"w") + 5)
        self.assertEqual(elements.element_bits(elements.fnv1a64(b"w"), 5, "BF16", "BF16", "src"), z & 0xFFFF)
        self.assertEqual(elements.element_bits(elements.fnv1a64(b"w"), 5, "BOOL", "BOOL", "src"), z & 1)
        self.assertEqual(elements.element_bits(elements.fnv1a64(b"w"), 5, "U64", "U64", "dst"), z)


class Checker(unittest.TestCase):
    """The checker accepts what simulate.py writes and refuses every mutation of it."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def dumped(self, seed):
        folder = tempfile.mkdtemp(dir=self.folder.name)
        raw = random_spec.generate(seed, max_elements=500)
        spec = spec_module.Spec(raw)
        simulate.dump(spec, folder)
        return spec, folder

    def refused(self, spec, folder):
        with self.assertRaises((check_dump.DumpError, safetensors.FormatError)) as caught:
            check_dump.check(spec, folder)
        return str(caught.exception)

    def test_right_dumps_pass(self):
        for seed in range(150):
            check_dump.check(*self.dumped(seed))

    def test_one_wrong_bit_anywhere_is_seen(self):
        rng = random.Random(7)
        for seed in range(150):
            spec, folder = self.dumped(seed)
            path = os.path.join(folder, rng.choice(sorted(os.listdir(folder))))
            tensors = safetensors.read(path)
            holding = [name for name, (_, _, data) in tensors.items() if data]
            if holding:
                name = rng.choice(holding)
                dtype, shape, data = tensors[name]
                wrong = bytearray(data)
                wrong[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                tensors[name] = (dtype, shape, bytes(wrong))
                safetensors.write(path, tensors)
                num_elements = len(data) // elements.SIZE_BYTES[dtype]
                self.assertIn("1 of %d elements" % num_elements, self.refused(spec, folder))

    def mutate(self, change):
        spec = spec_module.Spec(broken_specs.BASE)
        folder = tempfile.mkdtemp(dir=self.folder.name)
        simulate.dump(spec, folder)
        check_dump.check(spec, folder)
        path = os.path.join(folder, "rank00001.safetensors")
        change(path)
        return self.refused(spec, folder)

    def rewrite(self, change):
        def apply(path):
            safetensors.write(path, change(safetensors.read(path)))
        return self.mutate(apply)

    def test_missing_and_extra_files(self):
        self.assertIn("missing", self.mutate(os.remove))
        self.assertIn("does not belong", self.mutate(lambda p: safetensors.write(p.replace("1.", "4."), {})))
        self.assertIn("does not belong", self.mutate(lambda p: safetensors.write(p.replace("00001", "x"), {})))

    def test_missing_and_extra_tensors(self):
        self.assertIn("missing tensors ['weight_a']", self.rewrite(lambda t: {}))
        self.assertIn("too many ['b']", self.rewrite(lambda t: dict(t, b=t["weight_a"])))

    def test_wrong_dtype_and_shape(self):
        self.assertIn("dtype I32", self.rewrite(lambda t: {n: ("I32", s, d) for n, (_, s, d) in t.items()}))
        self.assertIn("shape [7, 3]", self.rewrite(lambda t: {n: (k, s[::-1], d) for n, (k, s, d) in t.items()}))

    def test_nonzero_padding(self):
        raw = broken_specs.changed((("tensors", 0, "dst", "pad_to"), [4, 7]))
        spec, folder = spec_module.Spec(raw), self.folder.name
        simulate.dump(spec, folder)
        check_dump.check(spec, folder)
        path = os.path.join(folder, "rank00002.safetensors")
        dtype, shape, data = safetensors.read(path)["weight_a"]
        safetensors.write(path, {"weight_a": (dtype, shape, data[:-1] + b"\x80")})
        self.assertIn("padding", self.refused(spec, folder))

    def test_broken_file(self):
        def truncate(path):
            with open(path, "r+b") as file:
                file.truncate(os.path.getsize(path) - 1)
        self.assertIn("tensors end at byte", self.mutate(truncate))

    def test_loaded_values_are_converted(self):
        raw = broken_specs.changed((("tensors", 0, "dst", "dtype"), "BF16"))
        spec, folder = spec_module.Spec(raw), self.folder.name
        rng = random.Random(3)
        data = struct.pack("<84I", *(rng.getrandbits(32) for _ in range(84)))
        load = os.path.join(self.folder.name, "load")
        safetensors.write(load, {"weight_a": ("F32", [12, 7], data)})
        dump = os.path.join(folder, "dump")
        os.mkdir(dump)
        simulate.dump(spec, dump, load)
        check_dump.check(spec, dump, load)
        self.refused(spec, dump)  # without the file other values are expected


class Specs(unittest.TestCase):
    def test_broken_specs_are_refused(self):
        for kind, _, text in broken_specs.cases():
            if any(word in kind for word in ("overflow", "huge", "beyond")):
                continue  # the oracle itself has no limit of 64 bits
            with self.subTest(kind), self.assertRaises(spec_module.SpecError):
                spec_module.parse(text)

    def test_random_specs_survive_json(self):
        for seed in range(50):
            raw = random_spec.generate(seed)
            self.assertEqual(json.loads(json.dumps(raw)), raw)
            self.assertEqual(random_spec.generate(seed), raw)


if __name__ == "__main__":
    sys.exit(unittest.main())
