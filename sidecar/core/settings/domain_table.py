"""All listener domains in one LMDB database in memory: a million of them need their memory once for all workers.

Owns how an entry is found and made. Never reads a file, and never decides which entry serves a domain.

Objects are no alternative: each use of one counts a reference in it, and a page that is written after a fork is copied. A dict
of a million names needs 400 MB with 8 workers, and each process that gets the settings from the loader would build its own.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import eq
from typing import Any, Final, overload
from weakref import WeakValueDictionary, finalize

import lmdb
import msgspec

from sidecar.core.networks import parse_network
from sidecar.core.settings.domain_layout import (
    CATALOGUE,
    ENTRY,
    ENTRY_VALUE,
    NO_SHAPE,
    NODE_VALUE,
    NUMBER,
    ODD,
    SHAPE,
    Lines,
    Listed,
    Odd,
    Shape,
    domain_key,
    node_prefix,
    write_table,
)
from sidecar.core.settings.values import DomainEntry, Network

# Nodes, entries and shapes, at some 700 bytes each, that a process keeps as objects. A dict is faster than the database.
_KEPT: Final = 1024
# A longer domain is in no file (names.DOMAIN_LIMIT), and LMDB has a limit for keys.
_LONGEST: Final = 256

_node_values = NODE_VALUE.unpack
_entry_values = ENTRY_VALUE.unpack_from

_open: WeakValueDictionary[tuple[int, int], Any] = WeakValueDictionary()
"""The databases that this process has open, by device and inode: LMDB opens none twice, and a forked worker inherits some."""
_opening: Final = threading.Lock()


class DomainTable(Sequence[DomainEntry]):
    """An immutable sequence of entries: listener by listener, each in the order of the files.

    Forked processes share a table. A process that receives `descriptor` can make the same table from the same memory. The
    table closes its descriptor; the caller closes the one that the table is made from.
    """

    def __init__(self, descriptor: int) -> None:
        database = _opened(descriptor)
        self.descriptor = os.dup(descriptor)
        finalize(self, os.close, self.descriptor)
        self._store = store = _Store(database)
        catalogue = msgspec.msgpack.decode(store.reader.get(CATALOGUE), type=tuple[Listed, ...])
        self._size = catalogue[-1].end
        self.listeners: Mapping[str, ListenerDomains] = {
            listed.listener: ListenerDomains(store, number, listed) for number, listed in enumerate(catalogue)
        }

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> DomainEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[DomainEntry]: ...
    def __getitem__(self, index: int | slice) -> DomainEntry | Sequence[DomainEntry]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        return self._made(self._store.reader.get(ENTRY + NUMBER.pack(range(len(self))[index])))

    def __iter__(self) -> Iterator[DomainEntry]:
        return map(self._made, self._store.entries(0, self._size))

    def __eq__(self, other: object) -> bool:
        """Return True if the other one is a sequence of the same entries."""
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # nobody needs one, and a million entries would have to be read for it

    def examples(self) -> Iterator[DomainEntry]:
        """Yield the first entry of each shape, in the order of the entries."""
        return (example for listed in self.listeners.values() for example in listed.examples())

    def _made(self, row: bytes) -> DomainEntry:
        shape, line = _entry_values(row)
        domain = row[ENTRY_VALUE.size :].decode("ascii")
        return self.listeners[self._store.shape(shape)[0].listener].made(shape, line, domain)


class ListenerDomains(Mapping[str, DomainEntry]):
    """The entries of one listener by domain, and its nodes: those domains and all of their parents.

    A node is bytes, empty for none. `star` is the node of `"*"`.
    """

    def __init__(self, store: "_Store", number: int, listed: Listed) -> None:
        self._store, self._listed = store, listed
        self._reader = store.reader
        self._prefix = node_prefix(number)
        self._odd_prefix = ODD + NUMBER.pack(number)
        self._dots = listed.dots
        self._few: dict[str, bytes] | None = None
        self._made: dict[str, DomainEntry] = {}
        if listed.nodes <= _KEPT:
            self._few = {key[::-1].decode("ascii"): node for key, node in store.below(self._prefix, listed.nodes)}
        self.star = self.node("*")

    def __getitem__(self, domain: str) -> DomainEntry:
        entry = self.entry(self.node(domain), domain)
        if entry is None:
            raise KeyError(domain)
        return entry

    def __contains__(self, domain: object) -> bool:
        return isinstance(domain, str) and bool(node := self.node(domain)) and _node_values(node)[0] != NO_SHAPE

    def __iter__(self) -> Iterator[str]:
        return (row[ENTRY_VALUE.size :].decode("ascii") for row in self._rows())

    def __len__(self) -> int:
        return self._listed.end - self._listed.first

    def node(self, domain: str) -> bytes:
        """Return the node of a domain."""
        if self._few is not None:
            return self._few.get(domain, b"")
        found: bytes = self._reader.get(domain_key(self._prefix, domain[:_LONGEST]), b"")
        return found

    def nearest(self, domain: str) -> tuple[bytes, str]:
        """Return the node of a domain, or of the longest of its parents that has one, and the name of that node."""
        if (few := self._few) is not None:
            while not (node := few.get(domain, b"")) and (dot := domain.find(".")) >= 0:
                domain = domain[dot + 1 :]
            return node, domain
        # No node has more labels, except for a `*` before them.
        if (beyond := domain.count(".") - self._dots) > 0 and "*" not in domain:
            domain = domain.split(".", beyond)[-1]
        get, start = self._reader.get, len(self._prefix)
        key = domain_key(self._prefix, domain[-_LONGEST:])
        while (found := get(key)) is None:
            if (dot := key.rfind(b".", start)) < 0:
                return b"", domain
            key = key[:dot]
        return found, domain[start - len(key) :]

    def entry(self, node: bytes, domain: str) -> DomainEntry | None:
        """Return the entry at a node, whose name is `domain`; None for a node without one."""
        if not node:
            return None
        if (kept := self._made.get(domain)) is not None:
            return kept
        shape, line, _, _ = _node_values(node)
        return None if shape == NO_SHAPE else self.made(shape, line, domain)

    def star_below(self, node: bytes, domain: str) -> DomainEntry | None:
        """Return the entry `*` below a node, whose name is `domain`."""
        _, _, shape, line = _node_values(node)
        return None if shape == NO_SHAPE else self.made(shape, line, f"*.{domain}")

    def examples(self) -> Iterator[DomainEntry]:
        """Yield the first entry of each shape, in the order of the entries."""
        shapes = range(self._listed.first_shape, self._listed.end_shape)
        return (self[self._store.first_of(shape)] for shape in shapes)

    def alike(self, examples: Iterable[DomainEntry]) -> Iterator[str]:
        """Yield the domains of all entries that have the shape of one of these."""
        shapes = {_node_values(self.node(example.domain))[0] for example in examples}
        return (row[ENTRY_VALUE.size :].decode("ascii") for row in self._rows() if _entry_values(row)[0] in shapes)

    def made(self, shape_number: int, line: int, domain: str) -> DomainEntry:
        """Return the entry of a domain, made of its shape and its line."""
        if (kept := self._made.get(domain)) is not None:
            return kept
        shape, relay_from = self._store.shape(shape_number)
        odd = self._odd(domain) if shape.odd else None
        entry = DomainEntry(
            listener=shape.listener,
            domain=domain,
            path=f'{shape.prefix}"{domain}"' if odd is None else odd.path,
            lines=Lines(shape.file, line, shape.steps) if odd is None else odd.lines,
            relay_to=shape.relay_to,
            relay_from=relay_from,
            relay_from_authz=shape.relay_from_authz,
            log_oob=shape.log_oob,
            log_arf=shape.log_arf,
            trues=shape.trues,
        )
        if self._few is not None:
            self._made[domain] = entry
        return entry

    def _odd(self, domain: str) -> Odd:
        return msgspec.msgpack.decode(self._reader.get(domain_key(self._odd_prefix, domain)), type=Odd)

    def _rows(self) -> Iterator[bytes]:
        return self._store.entries(self._listed.first, self._listed.end)


class _Reader(threading.local):
    """One thread's access to the database: LMDB does not allow two threads in one transaction."""

    def __init__(self, database: lmdb.Environment) -> None:
        self.get: Callable[..., Any] = database.begin().get


class _Store:
    """A database in memory, and the shapes that it has been asked for."""

    def __init__(self, database: lmdb.Environment) -> None:
        self.reader = _Reader(database)
        self._database = database
        self._shapes: dict[int, tuple[Shape, tuple[Network, ...]]] = {}

    def shape(self, number: int) -> tuple[Shape, tuple[Network, ...]]:
        """Return a shape, and its networks."""
        if (kept := self._shapes.get(number)) is not None:
            return kept
        _, shape = self._shape_row(number)
        if len(self._shapes) >= _KEPT:
            self._shapes.clear()
        read = self._shapes[number] = shape, tuple(map(parse_network, shape.relay_from))
        return read

    def first_of(self, shape: int) -> str:
        """Return the domain of the first entry of a shape."""
        return self._shape_row(shape)[0]

    def entries(self, first: int, end: int) -> Iterator[bytes]:
        """Yield the values of these entries."""
        return (value for _, value in self._from(ENTRY + NUMBER.pack(first), end - first))

    def below(self, prefix: bytes, count: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the first `count` rows whose keys begin with a prefix: the rest of the key, and the value."""
        return ((key[len(prefix) :], value) for key, value in self._from(prefix, count))

    def _from(self, key: bytes, count: int) -> Iterator[tuple[bytes, bytes]]:
        with self._database.begin() as rows, rows.cursor() as cursor:
            cursor.set_range(key)
            yield from (row for _, row in zip(range(count), cursor, strict=False))

    def _shape_row(self, number: int) -> tuple[str, Shape]:
        return msgspec.msgpack.decode(self.reader.get(SHAPE + NUMBER.pack(number)), type=tuple[str, Shape])


def table_of(entries: Sequence[DomainEntry]) -> DomainTable:
    """Return the entries as a table, which they may be already."""
    if isinstance(entries, DomainTable):
        return entries
    descriptor = write_table(entries)
    try:
        return DomainTable(descriptor)
    finally:
        os.close(descriptor)


def _opened(descriptor: int) -> Any:  # noqa: ANN401 - the binding's own types do not cover weak references
    status = os.fstat(descriptor)
    with _opening:
        database = _open.get((status.st_dev, status.st_ino))
        if database is None:
            database = lmdb.open(f"/proc/self/fd/{descriptor}", subdir=False, lock=False, readonly=True, readahead=False)
            _open[status.st_dev, status.st_ino] = database
    return database
