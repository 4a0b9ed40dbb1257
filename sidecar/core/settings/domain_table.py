"""All listener domains in one LMDB database in memory: a million of them need their memory once for all processes.

Owns how entries are stored, and KumoMTA's walk to the entry of a domain. Never reads a file or decides what an entry permits.

Python objects need more: each use counts a reference, and the system copies a page that is written after a fork. A dict of a
million names needs 400 MB with 8 workers. The first byte of a key in the database says what the value is:

- `CATALOGUE`: `ListenerPart` of every listener, as MessagePack.
- `ENTRY`, number: shape and line of an entry, and its domain. Entries are numbered in the order of iteration.
- `NODE`, listener, reversed domain: shape and line of the entry, then those of the entry `*.` below it; `NO_ENTRY` for none.
  Each domain and each of its parents has a node, and so has the root, so that a walk to the parents stops at the first node.
  Reversed, a domain and its parents are neighbours: the second look-up of a walk finds its page in the processor's cache.
- `PATH`, shape, reversed domain: the key path of an entry that spells its domain in another way.
- `SHAPE`, number: `Shape`, as MessagePack.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import eq
from struct import Struct as Packed
from typing import Any, Final
from weakref import WeakValueDictionary, finalize

import lmdb
import msgspec
from msgspec import Struct

from sidecar.core.networks import parse_network
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, LogMode, Network

CATALOGUE, ENTRY, NODE, PATH, SHAPE = b"c", b"e", b"n", b"p", b"s"

_NUMBER: Final = Packed(">I")  # in keys: LMDB sorts by bytes
_ENTRY_VALUE: Final = Packed("<II")
_NODE_VALUE: Final = Packed("<IIII")
_NO_SHAPE: Final = 2**32 - 1
_NO_ENTRY: Final = _ENTRY_VALUE.pack(_NO_SHAPE, 0)

# LMDB needs the largest size in advance; the memory is used only as it is filled. Pages are at least half full, and branch
# pages and what is beside each value take less than the rest.
_MAP_MINIMUM: Final = 1 << 20
_MAP_FOR_ENTRY: Final = 4096
_MAP_FOR_BYTE: Final = 8

# Entries and shapes, at some 700 bytes each, that a process keeps as objects. A dict is faster than the database.
_KEPT: Final = 1024
# A longer domain is in no file (names.DOMAIN_LIMIT), and LMDB has a limit for keys.
_LONGEST: Final = 256
_UNKNOWN: Final[Any] = object()

_node = _NODE_VALUE.unpack

_open: WeakValueDictionary[tuple[int, int], Any] = WeakValueDictionary()
"""The databases that this process has open, by device and inode: LMDB opens none twice, and a forked worker inherits some."""
_opening: Final = threading.Lock()


class Lines(Mapping[str, tuple[str, int]]):
    """The lines of an entry's keys: the line of its table, and for each key the file and the steps from that line.

    Entries of one shape share `steps`.
    """

    __slots__ = ("first", "steps")

    def __init__(self, first: int, steps: Mapping[str, tuple[str, int]]) -> None:
        self.first = first
        self.steps = steps

    def __getitem__(self, key: str) -> tuple[str, int]:
        file, step = self.steps[key]
        return file, self.first + step

    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class Shape(Struct, frozen=True, kw_only=True, array_like=True):
    """What many entries have in common: everything except domain and line.

    `prefix` is the part of a key path before the domain, such as `listener."10.1.1.1:25".`; None if the entry has a `PATH` row.
    `steps` are those of `Lines`, and `relay_from` are networks as written.
    """

    listener: str
    prefix: str | None
    steps: Mapping[str, tuple[str, int]]
    relay_to: bool
    relay_from: tuple[str, ...]
    relay_from_authz: tuple[str, ...]
    log_oob: LogMode
    log_arf: LogMode
    trues: tuple[str, ...]


class ListenerPart(Struct, frozen=True, array_like=True):
    """The part of one listener: its entries `first` to `end`, the first one of each shape, and the dots of the longest node."""

    listener: str
    first: int
    end: int
    examples: list[int]
    dots: int


class DomainTable(Sequence[DomainEntry]):
    """An immutable sequence of entries: listener by listener, each in the order of the files.

    Forked processes share a table. A process that receives `descriptor` can make the same table from the same memory. The
    table closes its descriptor; the caller closes the one that the table is made from.
    """

    def __init__(self, descriptor: int) -> None:
        self._store = store = _Store(_opened(descriptor))
        self.descriptor = os.dup(descriptor)
        finalize(self, os.close, self.descriptor)
        parts = msgspec.msgpack.decode(store.reader.get(CATALOGUE), type=tuple[ListenerPart, ...])
        self._size = parts[-1].end
        self.listeners: Mapping[str, ListenerDomains] = {
            part.listener: ListenerDomains(store, number, part) for number, part in enumerate(parts)
        }

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> DomainEntry:  # type: ignore[override]  # nothing needs a slice of a table
        return self._store.numbered(range(self._size)[index])

    def __iter__(self) -> Iterator[DomainEntry]:
        return (self._store.entry(*row) for row in self._store.rows(0, self._size))

    def __eq__(self, other: object) -> bool:
        """Return True if the other one is a sequence of the same entries."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # it would have to read a million entries


class ListenerDomains(Mapping[str, DomainEntry]):
    """The entries of one listener by domain, in the order of the files."""

    def __init__(self, store: "_Store", number: int, part: ListenerPart) -> None:
        self._store, self._part, self._reader = store, part, store.reader
        self._prefix = NODE + _NUMBER.pack(number)
        self._root: bytes = self._reader.get(self._prefix)
        self._found: dict[str, DomainEntry | None] = {}

    def __getitem__(self, domain: str) -> DomainEntry:
        shape, line = self._node(domain)[:2]
        if shape == _NO_SHAPE:
            raise KeyError(domain)
        return self._store.entry(shape, line, domain)

    def __contains__(self, domain: object) -> bool:
        return isinstance(domain, str) and self._node(domain)[0] != _NO_SHAPE

    def __iter__(self) -> Iterator[str]:
        return (domain for _, _, domain in self._rows())

    def __len__(self) -> int:
        return self._part.end - self._part.first

    def find(self, domain: str) -> DomainEntry | None:
        """Return the entry of a domain in normal form as KumoMTA finds it (policy reference, Lookup), or None.

        KumoMTA walks a tree of labels from the right: a label without a node gets the `*` beside it, and a walk that ends on a
        node without an entry finds nothing. The node where that walk stops is the longest parent that is a node.
        """
        found: DomainEntry | None = self._found.get(domain, _UNKNOWN)
        if found is not _UNKNOWN:
            return found
        if len(self._found) >= _KEPT:
            self._found.clear()
        found = self._found[domain] = self._walk(domain)
        return found

    def _walk(self, domain: str) -> DomainEntry | None:
        get, prefix, name = self._reader.get, self._prefix, domain
        # No node has more labels, except for a `*` before them.
        if (beyond := domain.count(".") - self._part.dots) > 0 and "*" not in domain:
            name = domain.split(".", beyond)[-1]
        key, start = prefix + name[: -_LONGEST - 1 : -1].encode("ascii", "replace"), len(prefix)
        while (node := get(key)) is None:
            if (dot := key.rfind(b".", start)) < 0:
                key, node = prefix, self._root
                break
            key = key[:dot]
        shape, line, star, star_line = _node(node)
        size = len(key) - start
        if 0 < size == len(domain):
            return None if shape == _NO_SHAPE else self._store.entry(shape, line, domain)
        if star == _NO_SHAPE:
            return None
        return self._store.entry(star, star_line, f"*.{domain[-size:]}" if size else "*")

    def examples(self) -> Iterator[DomainEntry]:
        """Yield the first entry of each shape, in the order of the entries."""
        return map(self._store.numbered, self._part.examples)

    def alike(self, examples: Iterable[DomainEntry]) -> Iterator[str]:
        """Yield the domains of all entries that have the shape of one of these."""
        shapes = {self._node(example.domain)[0] for example in examples}
        return (domain for shape, _, domain in self._rows() if shape in shapes)

    def _node(self, domain: str) -> tuple[int, ...]:
        # A character that no domain in the table can have becomes a question mark.
        return _node(self._reader.get(self._prefix + domain[: -_LONGEST - 1 : -1].encode("ascii", "replace")) or _NO_ENTRY * 2)

    def _rows(self) -> Iterator[tuple[int, int, str]]:
        return self._store.rows(self._part.first, self._part.end)


class _Reader(threading.local):
    """One thread's access to the database: LMDB does not allow two threads in one transaction."""

    def __init__(self, database: lmdb.Environment) -> None:
        self.get: Callable[[bytes], Any] = database.begin().get


class _Store:
    """A database, and the shapes that were read from it."""

    def __init__(self, database: lmdb.Environment) -> None:
        self._database = database
        self.reader = _Reader(database)
        self._shapes: dict[int, tuple[Shape, tuple[Network, ...]]] = {}

    def entry(self, shape_number: int, line: int, domain: str) -> DomainEntry:
        shape, relay_from = self._shapes.get(shape_number) or self._shape(shape_number)
        if shape.prefix is not None:
            path = f'{shape.prefix}"{domain}"'
        else:
            path = self.reader.get(PATH + _NUMBER.pack(shape_number) + domain[::-1].encode()).decode()
        return DomainEntry(
            listener=shape.listener,
            domain=domain,
            path=path,
            lines=Lines(line, shape.steps),
            relay_to=shape.relay_to,
            relay_from=relay_from,
            relay_from_authz=shape.relay_from_authz,
            log_oob=shape.log_oob,
            log_arf=shape.log_arf,
            trues=shape.trues,
        )

    def numbered(self, number: int) -> DomainEntry:
        return self.entry(*_row(self.reader.get(ENTRY + _NUMBER.pack(number))))

    def rows(self, first: int, end: int) -> Iterator[tuple[int, int, str]]:
        with self._database.begin() as rows, rows.cursor() as cursor:
            cursor.set_range(ENTRY + _NUMBER.pack(first))
            yield from (_row(value) for _, value in zip(range(first, end), cursor.iternext(keys=False), strict=False))

    def _shape(self, number: int) -> tuple[Shape, tuple[Network, ...]]:
        if len(self._shapes) >= _KEPT:
            self._shapes.clear()
        shape = msgspec.msgpack.decode(self.reader.get(SHAPE + _NUMBER.pack(number)), type=Shape)
        read = self._shapes[number] = shape, tuple(map(parse_network, shape.relay_from))
        return read


def _row(value: bytes) -> tuple[int, int, str]:
    shape, line = _ENTRY_VALUE.unpack_from(value)
    return shape, line, value[_ENTRY_VALUE.size :].decode("ascii")


def _opened(descriptor: int) -> Any:  # noqa: ANN401 - the binding's own types do not cover weak references
    status = os.fstat(descriptor)
    with _opening:
        database = _open.get((status.st_dev, status.st_ino))
        if database is None:
            database = lmdb.open(f"/proc/self/fd/{descriptor}", subdir=False, lock=False, readonly=True, readahead=False)
            _open[status.st_dev, status.st_ino] = database
    return database


def table_of(entries: Sequence[DomainEntry]) -> DomainTable:
    """Return the entries as a table, which they may be already. A domain appears once for each listener at most."""
    if isinstance(entries, DomainTable):
        return entries
    by_listener: dict[str, list[DomainEntry]] = {}
    for entry in entries:
        by_listener.setdefault(entry.listener, []).append(entry)
    by_listener.setdefault(ANY_LISTENER, [])
    writer = _Writer()
    for listener, listed in by_listener.items():
        writer.add(listener, listed)
    descriptor = writer.written()
    try:
        return DomainTable(descriptor)
    finally:
        os.close(descriptor)


class _Writer:
    """The rows of a database, in the order of their keys within each list."""

    def __init__(self) -> None:
        self.parts: list[ListenerPart] = []
        self.entries: list[bytes] = []
        self.nodes: list[tuple[bytes, bytes]] = []
        self.paths: list[tuple[bytes, bytes]] = []
        self.shapes: list[bytes] = []

    def add(self, listener: str, listed: Iterable[DomainEntry]) -> None:
        first, examples = len(self.entries), list[int]()
        numbers: dict[bytes, int] = {}
        own: dict[bytes, bytes] = {}
        for entry in listed:
            shape, line = _shape_and_line(entry)
            encoded = msgspec.msgpack.encode(shape)
            if (number := numbers.get(encoded)) is None:
                number = numbers[encoded] = len(self.shapes)
                self.shapes.append(encoded)
                examples.append(len(self.entries))
            domain = entry.domain.encode("ascii")
            own[domain[::-1]] = value = _ENTRY_VALUE.pack(number, line)
            self.entries.append(value + domain)
            if shape.prefix is None:
                self.paths.append((PATH + _NUMBER.pack(number) + domain[::-1], entry.path.encode()))
        root = NODE + _NUMBER.pack(len(self.parts))
        self.nodes += [(root + key, value) for key, value in _nodes(own)]
        dots = max((key.count(b".") - key.endswith(b".*") for key in own), default=0)
        self.parts.append(ListenerPart(listener, first, len(self.entries), examples, dots))

    def written(self) -> int:
        descriptor = os.memfd_create("sidecar-domains")
        records = sum(map(len, self.shapes)) + sum(len(value) for _, value in self.paths)
        size = _MAP_MINIMUM + _MAP_FOR_ENTRY * len(self.nodes) + _MAP_FOR_BYTE * records
        catalogue = (CATALOGUE, msgspec.msgpack.encode(self.parts))
        rows = chain([catalogue], _numbered(ENTRY, self.entries), self.nodes, sorted(self.paths), _numbered(SHAPE, self.shapes))
        path = f"/proc/self/fd/{descriptor}"
        with (
            lmdb.open(path, subdir=False, lock=False, sync=False, map_size=size) as database,
            database.begin(write=True) as writing,
        ):
            writing.cursor().putmulti(rows, append=True)
        return descriptor


def _numbered(kind: bytes, values: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return ((kind + _NUMBER.pack(number), value) for number, value in enumerate(values))


def _nodes(own: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the nodes of these entries in the order of their keys: the entries, all of their parents, and the root."""
    stars = {key[:-2]: value for key, value in own.items() if key.endswith(b".*")}
    stars[b""] = own.get(b"*", _NO_ENTRY)
    parents = {b""}
    for key in own:
        # An address literal has no parents: its dots separate no labels.
        dot = -1 if key.endswith(b"[") else key.rfind(b".")
        while dot > 0 and (parent := key[:dot]) not in parents:
            parents.add(parent)
            dot = key.rfind(b".", 0, dot)
    return [(key, own.get(key, _NO_ENTRY) + stars.get(key, _NO_ENTRY)) for key in sorted(parents.union(own))]


def _shape_and_line(entry: DomainEntry) -> tuple[Shape, int]:
    """Return the shape of an entry, and the line of the entry."""
    lines, prefix = entry.lines, entry.path.removesuffix(f'"{entry.domain}"')
    if not isinstance(lines, Lines):
        first = lines[""][1]
        lines = Lines(first, {key: (file, line - first) for key, (file, line) in lines.items()})
    shape = Shape(
        listener=entry.listener,
        prefix=None if prefix == entry.path else prefix,
        steps=lines.steps,
        relay_to=entry.relay_to,
        relay_from=tuple([network.text for network in entry.relay_from]),
        relay_from_authz=entry.relay_from_authz,
        log_oob=entry.log_oob,
        log_arf=entry.log_arf,
        trues=entry.trues,
    )
    return shape, lines.first
