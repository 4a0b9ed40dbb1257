"""The buffer of a domain table: how it is laid out, and the writing of one.

Owns every byte of it. Never looks a name up, and never knows what an entry says.

The numbers are native ones of 32 bits, since no buffer outlives the processes that share it:

- `names`: all names one after the other, those of entries first, then the parents that have none. A name's place in this order,
  counted from 1, is its node.
- `rows`: for each name a row, which one cache line holds: where the name begins, that of the entry `*` below it or 0, and of an
  entry the number of its shape and its line. A last row says where the last name ends.
- `slots`: for each listener an open hash table, at most half full: a node, and above it some bits of the name's hash, so that
  hardly ever a name is compared in vain.
- `shape_records` and `odd_records`: what is kept of shapes, and of the entries that `odds` lists; `..._starts` bound them.
  `firsts` gives for each shape the first entry that has it.
"""

import mmap
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain, count
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

# The columns of a row.
START, STAR, SHAPE, LINE, COLUMNS = range(5)
# Slots are found by the low bits of a hash; the tag is taken from above all that a table could have slots for.
TAG_SHIFT: Final = 40

_LENGTH_SIZE: Final = 8
_NUMBER_BITS: Final = 32
_ROOT: Final = "*"


class Rows(NamedTuple):
    """One listener's entries: names, numbers of shapes, lines; and the records of those that are odd, by their position."""

    names: Sequence[str]
    shapes: Sequence[int]
    lines: Sequence[int]
    odds: Mapping[int, bytes]


class Listed(Struct, frozen=True, array_like=True):
    """One listener: its first entry and their number, its first slot and their number (a power of 2).

    `star` is the node of `"*"` or 0, `dots` the most that one of its names has.
    """

    listener: str
    entry: int
    entries: int
    slot: int
    slots: int
    star: int
    dots: int


class Layout(Struct, frozen=True, array_like=True):
    """What stands at the end of a buffer: where the sections are, and what it takes to find names in it.

    `probe` tells whether this process hashes as the one did that wrote it; `node_bits` are the low bits of a slot that hold a
    node.
    """

    probe: int
    node_bits: int
    entries: int
    listed: tuple[Listed, ...]
    sections: dict[str, tuple[int, int]]

    @property
    def tag_mask(self) -> int:
        """The bits of a shifted hash that a slot has room for."""
        return _tag_mask(self.node_bits)


def layout_of(buffer: mmap.mmap) -> Layout:
    """Read the layout. Raises ValueError where this process could not find the names."""
    end = len(buffer) - _LENGTH_SIZE
    start = end - int.from_bytes(buffer[end:], "little")
    layout = msgspec.msgpack.decode(buffer[start:end], type=Layout)
    if layout.probe != _probe():
        raise ValueError("this table is of a process that hashes names otherwise")
    return layout


def lay_out(listeners: Mapping[str, Rows], shapes: Sequence[bytes]) -> mmap.mmap:
    """Write a buffer that processes forked from now on share. `shapes` are records; those that no entry has are left out."""
    every = list(listeners.values())
    names, nodes = _numbered(every)
    entries = sum(len(rows.names) for rows in every)
    shapes_of, firsts, used = _shapes(every, shapes)

    rows = array("I", [0]) * (COLUMNS * (len(names) + 1))
    rows[START::COLUMNS] = _starts(names)
    rows[SHAPE : COLUMNS * entries : COLUMNS] = shapes_of
    rows[LINE : COLUMNS * entries : COLUMNS] = array("I", chain.from_iterable(each.lines for each in every))

    node_bits = len(names).bit_length()
    slots = array("I")
    listed: list[Listed] = []
    first = 0
    for listener, known in zip(listeners, nodes, strict=True):
        for name in _stars(listeners[listener].names):
            rows[COLUMNS * (known[name[2:]] - 1) + STAR] = known[name]
        filled = _filled(known, node_bits)
        size = len(listeners[listener].names)
        dots = max((name.count(".") for name in known), default=0)
        listed.append(Listed(listener, first, size, len(slots), len(filled), known.get(_ROOT, 0), dots))
        slots.extend(filled)
        first += size

    odds = _odds(every)
    sections: dict[str, array[int] | bytes] = {
        "rows": rows,
        "slots": slots,
        "names": "".join(names).encode("ascii"),
        "firsts": firsts,
        "shape_records": b"".join(used),
        "shape_starts": _starts(used),
        "odds": array("I", odds),
        "odd_records": b"".join(odds.values()),
        "odd_starts": _starts(list(odds.values())),
    }
    return _written(sections, Layout(_probe(), node_bits, entries, tuple(listed), {}))


def _numbered(every: Sequence[Rows]) -> tuple[list[str], list[dict[str, int]]]:
    """Give all names, and for each listener the nodes of its own."""
    names: list[str] = []
    nodes: list[dict[str, int]] = []
    for rows in every:
        nodes.append(dict(zip(rows.names, count(len(names) + 1), strict=False)))
        names += rows.names
    for known in nodes:
        above = _parents(known)
        known.update(zip(above, count(len(names) + 1), strict=False))
        names += above
    return names, nodes


def _parents(names: Mapping[str, int]) -> list[str]:
    """Give the parents of all names that are not among them. An address literal has none: its dots part no labels."""
    found: dict[str, None] = {}
    level: Iterable[str] = (name for name in names if name[0] != "[")
    while above := dict.fromkeys(name.partition(".")[2] for name in level):
        level = [name for name in above if name and name not in names and name not in found]
        found |= dict.fromkeys(level)
    return list(found)


def _stars(names: Iterable[str]) -> list[str]:
    return [name for name in names if name[:2] == "*."]


def _filled(nodes: Mapping[str, int], node_bits: int) -> "array[int]":
    """Give the slots of these nodes."""
    size = 1 << (2 * len(nodes)).bit_length()
    mask, tag_mask = size - 1, _tag_mask(node_bits)
    slots = [0] * size
    for name, node in nodes.items():
        code = hash(name)
        at = code & mask
        while slots[at]:
            at = at + 1 & mask
        slots[at] = (code >> TAG_SHIFT & tag_mask) << node_bits | node
    return array("I", slots)


def _shapes(every: Iterable[Rows], records: Sequence[bytes]) -> "tuple[array[int], array[int], list[bytes]]":
    """Number the shapes anew, by the first entry that has each; give each entry's, each one's first entry, and the records."""
    numbers = array("I", chain.from_iterable(rows.shapes for rows in every))
    firsts = dict(zip(reversed(numbers), range(len(numbers) - 1, -1, -1), strict=True))
    order = sorted(firsts, key=firsts.__getitem__)
    renumbered = dict(zip(order, count(), strict=False))
    return (
        array("I", map(renumbered.__getitem__, numbers)),
        array("I", (firsts[number] for number in order)),
        [records[number] for number in order],
    )


def _odds(every: Iterable[Rows]) -> dict[int, bytes]:
    """Give the records of odd entries by their position among all, in order."""
    odds: dict[int, bytes] = {}
    first = 0
    for rows in every:
        odds |= {first + position: rows.odds[position] for position in sorted(rows.odds)}
        first += len(rows.names)
    return odds


def _starts(parts: Sequence[str] | Sequence[bytes]) -> "array[int]":
    """Give where each part begins when they stand one after the other, and where the last one ends."""
    return array("I", accumulate(map(len, parts), initial=0))


def _written(sections: "Mapping[str, array[int] | bytes]", layout: Layout) -> mmap.mmap:
    end = 0
    for name, content in sections.items():
        size = memoryview(content).nbytes
        layout.sections[name] = end, end + size
        end += size + -size % _LENGTH_SIZE
    tail = msgspec.msgpack.encode(layout)
    buffer = mmap.mmap(-1, end + len(tail) + _LENGTH_SIZE)
    for name, content in sections.items():
        start, stop = layout.sections[name]
        buffer[start:stop] = memoryview(content).cast("B")
    buffer[end:] = tail + len(tail).to_bytes(_LENGTH_SIZE, "little")
    return buffer


def _tag_mask(node_bits: int) -> int:
    return (1 << _NUMBER_BITS - node_bits) - 1


def _probe() -> int:
    """Give a number that another process only has if it hashes text alike: Python salts hashes, and forked children agree."""
    return hash("sidecar")
