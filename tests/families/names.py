# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The reshard authors
"""Many names in few lines: "model.layers.{0-2}.mlp.experts.{0,3-5}.up_proj.weight" stands for twelve.

Numbers between dots are what repeats. A line stands for every combination of the numbers in its braces.
"""
import itertools
import re

NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
BRACES = re.compile(r"\{([\d,-]+)\}")


def ranges(numbers):
    """[0, 1, 2, 5] as "0-2,5"."""
    parts, numbers = [], sorted(numbers)
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def numbers_of(text):
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def products(tuples):
    """The tuples of numbers as few products of sets, each a tuple of sets."""
    if not tuples or not next(iter(tuples)):
        return [()]
    by_first = {}
    for first, *rest in tuples:
        by_first.setdefault(first, set()).add(tuple(rest))
    by_rest = {}
    for first, rests in by_first.items():
        by_rest.setdefault(frozenset(rests), []).append(first)
    return [(firsts, *rest) for rests, firsts in by_rest.items() for rest in products(rests)]


def compress(values):
    """{name: value} with one line for all names that differ in numbers only and have the same value."""
    tuples = {}
    for name, value in values.items():
        numbers = tuple(int(number) for number in NUMBER.findall(name))
        tuples.setdefault((NUMBER.sub("{}", name), value), set()).add(numbers)
    lines = {}
    for (template, value), group in tuples.items():
        for sets in products(group):
            name = template.format(*("{" + ranges(numbers) + "}" for numbers in sets))
            assert name not in lines, name
            lines[name] = value
    return lines


def names_of(line):
    """The names that a line stands for."""
    parts = BRACES.split(line)
    choices = [[part] if index % 2 == 0 else numbers_of(part) for index, part in enumerate(parts)]
    return ["".join(map(str, choice)) for choice in itertools.product(*choices)]


def expand(lines):
    values = {}
    for line, value in lines.items():
        for name in names_of(line):
            assert name not in values, name
            values[name] = value
    return values
