"""Write the listener domains into an LMDB database in memory, which processes share.

Owns the keys and values of that database. Never looks a domain up.

The first byte of a key says what the value is:

- `CATALOGUE`: `Listed` of every listener, as MessagePack.
- `ENTRY`, number: shape and line of an entry, and its domain. Entries are numbered in the order of iteration.
- `NODE`, listener, reversed domain: shape and line of the entry, then those of the entry `*.` below it; `NO_ENTRY` for none.
  Each domain and each of its parents has a node, so that a walk to the parents can stop at the first node. Reversed, a domain
  and its parents are neighbours: the second look-up of a walk finds its page in the processor's cache.
- `ODD`, listener, reversed domain: `Odd` as MessagePack.
- `SHAPE`, number: the domain of the first entry with this shape, and the shape, as MessagePack.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from struct import Struct as Packed
from typing import Final

import lmdb
import msgspec
from msgspec import Struct

from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode

CATALOGUE, ENTRY, NODE, ODD, SHAPE = b"c", b"e", b"n", b"o", b"s"

NUMBER: Final = Packed(">I")  # in keys: LMDB sorts by bytes
NODE_VALUE: Final = Packed("<IIII")
ENTRY_VALUE: Final = Packed("<II")

NO_SHAPE: Final = 2**32 - 1
NO_ENTRY: Final = ENTRY_VALUE.pack(NO_SHAPE, 0)

# LMDB needs the largest size in advance; the memory is used only as it is filled. Pages are at least half full, and branch
# pages and what is beside each value take less than the rest.
_MAP_MINIMUM: Final = 1 << 20
_MAP_FOR_ENTRY: Final = 4096
_MAP_FOR_BYTE: Final = 8


class Lines(Mapping[str, tuple[str, int]]):
    """The lines of an entry's keys: the line of its table, and steps that entries of one shape share."""

    __slots__ = ("file", "first", "steps")

    def __init__(self, file: str, first: int, steps: dict[str, int]) -> None:
        self.file = file
        self.first = first
        self.steps = steps

    def __getitem__(self, key: str) -> tuple[str, int]:
        return self.file, self.first + self.steps[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class Shape(Struct, frozen=True, kw_only=True, array_like=True):
    """What many entries have in common: everything except domain and line.

    `prefix` is the part of a key path before the domain, such as `listener."10.1.1.1:25".`. `steps` are the lines of the keys,
    all in `file`, counted from the line of the entry. `relay_from` are networks as written. An `odd` entry has a key path with
    another spelling of its domain, or keys in several files: it has an `Odd`.
    """

    listener: str
    prefix: str = ""
    file: str = ""
    steps: dict[str, int] = {}
    odd: bool = False
    relay_to: bool = False
    relay_from: tuple[str, ...] = ()
    relay_from_authz: tuple[str, ...] = ()
    log_oob: LogMode = LogMode.IGNORE
    log_arf: LogMode = LogMode.IGNORE
    trues: tuple[str, ...] = ()


class Odd(Struct, frozen=True, kw_only=True, array_like=True):
    """The path and the lines of an odd entry, as `DomainEntry` has them."""

    path: str
    lines: dict[str, tuple[str, int]]


class Listed(Struct, frozen=True, array_like=True):
    """One listener: its entries and shapes as ranges of numbers, the number of its nodes, and the dots of the longest node.

    `dots` does not count a `*` at the beginning of a domain.
    """

    listener: str
    first: int
    end: int
    first_shape: int
    end_shape: int
    nodes: int
    dots: int


def node_prefix(number: int) -> bytes:
    """Return the start of the keys of all nodes of a listener."""
    return NODE + NUMBER.pack(number)


def domain_key(prefix: bytes, domain: str) -> bytes:
    """Return the key of a domain. A character that no domain in the table can have becomes a question mark."""
    return prefix + domain[::-1].encode("ascii", "replace")


def write_table(entries: Iterable[DomainEntry]) -> int:
    """Write entries into a database in memory, and return its descriptor. A domain appears once for each listener at most."""
    by_listener: dict[str, list[DomainEntry]] = {}
    for entry in entries:
        by_listener.setdefault(entry.listener, []).append(entry)
    by_listener.setdefault(ANY_LISTENER, [])
    writer = _Writer()
    for listener, listed in by_listener.items():
        writer.add(listener, listed)
    return writer.written()


class _Writer:
    """The rows of a database, in the order of their keys within each list."""

    def __init__(self) -> None:
        self.catalogue: list[Listed] = []
        self.entries: list[bytes] = []
        self.nodes: list[tuple[bytes, bytes]] = []
        self.odds: list[tuple[bytes, bytes]] = []
        self.shapes: list[bytes] = []

    def add(self, listener: str, listed: Iterable[DomainEntry]) -> None:
        """Add all entries of one listener."""
        number, first, first_shape = NUMBER.pack(len(self.catalogue)), len(self.entries), len(self.shapes)
        shapes: dict[bytes, int] = {}
        own: dict[bytes, bytes] = {}
        odds: list[tuple[bytes, bytes]] = []
        for entry in listed:
            shape, line, odd = _taken_apart(entry)
            if (shape_number := shapes.get(shape)) is None:
                shape_number = shapes[shape] = len(self.shapes)
                self.shapes.append(msgspec.msgpack.encode((entry.domain, msgspec.Raw(shape))))
            domain = entry.domain.encode("ascii")
            key = domain[::-1]
            own[key] = value = ENTRY_VALUE.pack(shape_number, line)
            self.entries.append(value + domain)
            if odd is not None:
                odds.append((ODD + number + key, msgspec.msgpack.encode(odd)))
        nodes = _nodes(own)
        self.nodes += [(NODE + number + key, value) for key, value in nodes]
        self.odds += sorted(odds)
        dots = max((key.count(b".") - key.endswith(b".*") for key, _ in nodes), default=0)
        ranges = first, len(self.entries), first_shape, len(self.shapes)
        self.catalogue.append(Listed(listener, *ranges, len(nodes), dots))

    def written(self) -> int:
        """Write the rows, and return the descriptor of the database."""
        descriptor = os.memfd_create("sidecar-domains")
        records = sum(map(len, self.shapes)) + sum(len(value) for _, value in self.odds)
        size = _MAP_MINIMUM + _MAP_FOR_ENTRY * len(self.nodes) + _MAP_FOR_BYTE * records
        path = f"/proc/self/fd/{descriptor}"
        with (
            lmdb.open(path, subdir=False, lock=False, sync=False, map_size=size) as database,
            database.begin(write=True) as rows,
        ):
            rows.cursor().putmulti(self._rows(), append=True)
        return descriptor

    def _rows(self) -> Iterator[tuple[bytes, bytes]]:
        catalogue = (CATALOGUE, msgspec.msgpack.encode(self.catalogue))
        return chain([catalogue], _numbered(ENTRY, self.entries), self.nodes, self.odds, _numbered(SHAPE, self.shapes))


def _numbered(kind: bytes, values: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return ((kind + NUMBER.pack(number), value) for number, value in enumerate(values))


def _nodes(own: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the nodes of these entries in the order of their keys: the entries, and all of their parents."""
    stars = {key[:-2]: value for key, value in own.items() if key.endswith(b".*")}
    parents: set[bytes] = set()
    for key in own:
        # An address literal has no parents: its dots separate no labels.
        dot = -1 if key.endswith(b"[") else key.rfind(b".")
        while dot > 0 and (parent := key[:dot]) not in parents:
            parents.add(parent)
            dot = key.rfind(b".", 0, dot)
    return [(key, own.get(key, NO_ENTRY) + stars.get(key, NO_ENTRY)) for key in sorted(parents.union(own))]


def _taken_apart(entry: DomainEntry) -> tuple[bytes, int, Odd | None]:
    """Return the shape of an entry as MessagePack, the line of the entry, and what an odd entry has besides."""
    lines = _steps(entry.lines)
    prefix = entry.path.removesuffix(f'"{entry.domain}"')
    odd = lines is None or prefix == entry.path
    shape = Shape(
        listener=entry.listener,
        prefix="" if odd else prefix,
        file="" if lines is None or odd else lines.file,
        steps={} if lines is None or odd else lines.steps,
        odd=odd,
        relay_to=entry.relay_to,
        relay_from=tuple([network.text for network in entry.relay_from]),
        relay_from_authz=entry.relay_from_authz,
        log_oob=entry.log_oob,
        log_arf=entry.log_arf,
        trues=entry.trues,
    )
    line = entry.lines[""][1] if lines is None else lines.first
    return msgspec.msgpack.encode(shape), line, Odd(path=entry.path, lines=dict(entry.lines)) if odd else None


def _steps(lines: Mapping[str, tuple[str, int]]) -> Lines | None:
    """Return the lines of an entry as steps from its own; None if they are in several files."""
    if isinstance(lines, Lines):
        return lines
    file, first = lines[""]
    if any(other != file for other, _ in lines.values()):
        return None
    return Lines(file, first, {key: line - first for key, (_, line) in lines.items()})
