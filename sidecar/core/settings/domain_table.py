"""All listener domains in one LMDB database in memory: a million of them need their memory once for all processes.

Owns how entries are stored, and KumoMTA's walk to the entry of a domain. Never reads a file or decides what an entry permits.

Python objects need more: each use counts a reference, and the system copies a page that is written after a fork. A dict of a
million names needs 400 MB with 8 workers. The first byte of a key in the database says what the value is:

- `CATALOGUE`: `ListenerPart` of every listener, as JSON.
- `LISTED`, listener: its domains in the order of the files, each with a line end.
- `NODE`, listener, reversed domain: shape and line of the entry, then those of the entry `*.` below it; `_NO_ENTRY` for none.
  Each domain and each of its parents has a node, and so has the root, so that a walk to the parents stops at the first node.
  The root has the entry of `""`, the domain of the null sender.
  Reversed, a domain and its parents are neighbours: the second look-up of a walk finds its page in the processor's cache.
- `ORIGIN`: the files whose entries these are, or an empty list.
- `SHAPE`, number: an entry without domain and line, as JSON, that many entries share. Its `path` ends before the domain, as in
  `listener."10.1.1.1:25".`. An entry that spells its domain in another way has its own shape, with domain and path.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from itertools import chain, islice
from operator import eq
from struct import Struct as Packed
from types import MappingProxyType
from typing import Any, Final
from weakref import WeakValueDictionary, finalize

import lmdb
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.names import NO_DOMAIN, lineage
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry

CATALOGUE, LISTED, NODE, ORIGIN, SHAPE = b"c", b"l", b"n", b"o", b"s"

_NUMBER: Final = Packed(">I")  # in keys: LMDB sorts by bytes
_ENTRY: Final = Packed("<II")
_node: Final = Packed("<IIII").unpack
_NO_SHAPE: Final = 2**32 - 1
_NO_ENTRY: Final = _ENTRY.pack(_NO_SHAPE, 0)

# LMDB needs the largest size in advance; the memory is used only as it is filled. Pages are at least half full, and branch
# pages and what is beside each value take less than the rest.
_MAP_MINIMUM: Final = 1 << 20
_MAP_FOR_NODE: Final = 4096
_MAP_FOR_BYTE: Final = 8

# Entries and shapes, at some 700 bytes each, that a process keeps as objects. A dict is faster than the database.
_KEPT: Final = 1024
# A longer domain is in no file (names.DOMAIN_LIMIT), and LMDB has a limit for keys.
_LONGEST: Final = 256
_UNKNOWN: Final[Any] = object()

_open: WeakValueDictionary[tuple[int, int], Any] = WeakValueDictionary()
"""The databases that this process has open, by device and inode: LMDB opens none twice, and a forked worker inherits some."""
_opening: Final = threading.Lock()


class ListenerPart(Struct, frozen=True, array_like=True):
    """The part of one listener: the number of its entries, the dots of the longest node, and domains for `examples`.

    `bare` are nodes without an entry of their own or below: a walk can end there.
    """

    listener: str
    size: int
    dots: int
    examples: list[str]
    bare: list[str]


class DomainsFile(Struct, frozen=True, array_like=True):
    """A listener domains file: its name in findings, and the SHA-256 of its content."""

    name: str
    digest: str


class DomainTable(Sequence[DomainEntry]):
    """An immutable sequence of entries: listener by listener, each in the order of the files.

    Forked processes share a table. A process that receives `descriptor` can make the same table from the same memory. The
    table closes its descriptor; the caller closes the one that the table is made from.
    """

    def __init__(self, descriptor: int) -> None:
        reader = _Reader(_opened(descriptor))
        self.descriptor = os.dup(descriptor)
        finalize(self, os.close, self.descriptor)
        parts = msgspec.json.decode(reader.get(CATALOGUE), type=list[ListenerPart])
        self.origin = tuple(msgspec.json.decode(reader.get(ORIGIN), type=list[DomainsFile]))
        self.listeners: Mapping[str, ListenerDomains] = {
            part.listener: ListenerDomains(reader, number, part) for number, part in enumerate(parts)
        }

    def __len__(self) -> int:
        return sum(map(len, self.listeners.values()))

    def __getitem__(self, index: int) -> DomainEntry:  # type: ignore[override]  # nothing needs a slice of a table
        return next(islice(self, range(len(self))[index], None))

    def __iter__(self) -> Iterator[DomainEntry]:
        return chain.from_iterable(domains.values() for domains in self.listeners.values())

    def __eq__(self, other: object) -> bool:
        """Return True if the other one is a sequence of the same entries."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # it would have to read a million entries


class ListenerDomains(Mapping[str, DomainEntry]):
    """The entries of one listener by domain, in the order of the files."""

    def __init__(self, reader: "_Reader", number: int, part: ListenerPart) -> None:
        self._reader, self._part, self._number = reader, part, _NUMBER.pack(number)
        self._prefix = NODE + self._number
        self._root: bytes = reader.get(self._prefix)
        self._found: dict[str, DomainEntry | None] = {}
        self._shapes: dict[int, DomainEntry] = {}

    def __getitem__(self, domain: str) -> DomainEntry:
        shape, line = self._stored(domain)
        if shape == _NO_SHAPE:
            raise KeyError(domain)
        return self._entry(shape, line, domain)

    def _stored(self, domain: str) -> tuple[int, int]:
        """Return the shape and the line of an entry; `_NO_SHAPE` for none."""
        # A character that no domain in the table can have becomes a question mark.
        value = self._reader.get(self._prefix + domain[: -_LONGEST - 1 : -1].encode("ascii", "replace")) or _NO_ENTRY
        shape, line = _ENTRY.unpack_from(value)
        return shape, line

    def __iter__(self) -> Iterator[str]:
        return (name[1].decode() for name in re.finditer(rb"([^\n]*)\n", self._reader.get(LISTED + self._number)))

    def __contains__(self, domain: object) -> bool:
        return isinstance(domain, str) and self._stored(domain)[0] != _NO_SHAPE

    def __len__(self) -> int:
        return self._part.size

    def containing(self, part: str, after: str = "") -> Iterator[str]:
        """Yield the domains that contain `part`, in the order of the files, from the one after the domain `after` on.

        It searches the bytes of all names: a million take some milliseconds.
        """
        names: bytes = b"\n" + self._reader.get(LISTED + self._number)
        wanted, position = part.encode(), 0
        if after:
            position = names.find(f"\n{after}\n".encode()) + 1 + len(after)
        while b"\n" not in wanted and 0 <= (found := names.find(wanted, position + 1)) < len(names):
            start = names.rfind(b"\n", 0, found) + 1
            position = names.find(b"\n", found)
            yield names[start:position].decode()

    def names(self) -> Iterator[str]:
        """Yield every name that decides where a walk ends: the listed domains, and the parents of names that match nothing."""
        return chain(self, self._part.bare)

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
        if size == len(domain) and shape != _NO_SHAPE:
            return self._entry(shape, line, domain)
        if 0 < size == len(domain):
            return None
        if star == _NO_SHAPE:
            return None
        return self._entry(star, star_line, f"*.{domain[-size:]}" if size else "*")

    def is_node(self, name: str) -> bool:
        """Return True if the walk to a domain can end at `name`: it is listed, or a parent of a listed name."""
        return self._reader.get(self._prefix + name[: -_LONGEST - 1 : -1].encode("ascii", "replace")) is not None

    def examples(self) -> Iterator[DomainEntry]:
        """Yield the first entry for each combination of permissions (networks and users count as one), in order."""
        return map(self.__getitem__, self._part.examples)

    def _entry(self, number: int, line: int, domain: str) -> DomainEntry:
        if (shape := self._shapes.get(number)) is None:
            if len(self._shapes) >= _KEPT:
                self._shapes.clear()
            shape = msgspec.json.decode(self._reader.get(SHAPE + _NUMBER.pack(number)), type=DomainEntry)
            self._shapes[number] = shape
        path = shape.path if shape.domain else f'{shape.path}"{domain}"'
        return replace(shape, domain=domain, path=path, line=line)


class ChangedDomains(ListenerDomains):
    """The entries of one listener, some of them added or replaced."""

    def __init__(self, before: ListenerDomains, changed: Mapping[str, DomainEntry]) -> None:
        self._before, self._changed = before, changed
        self._added = [domain for domain in changed if domain not in before]
        self._new_nodes = {node for domain in self._added for node in lineage(domain)}

    def __getitem__(self, domain: str) -> DomainEntry:
        return self._changed[domain] if domain in self._changed else self._before[domain]

    def __iter__(self) -> Iterator[str]:
        return chain(self._before, self._added)

    def __contains__(self, domain: object) -> bool:
        return domain in self._changed or domain in self._before

    def __len__(self) -> int:
        return len(self._before) + len(self._added)

    def names(self) -> Iterator[str]:
        """Yield every name that decides where a walk ends."""
        return chain(self._before.names(), self._added)

    def find(self, domain: str) -> DomainEntry | None:
        """Return the entry of a domain as the table of the same entries does."""
        if domain == NO_DOMAIN and (entry := self.get(NO_DOMAIN)) is not None:
            return entry
        for node in lineage(domain):
            if self.is_node(node):
                return self.get(domain if node == domain else f"*.{node}")
        return self.get("*")

    def is_node(self, name: str) -> bool:
        """Return True if the walk to a domain can end at `name`."""
        return name in self._new_nodes or self._before.is_node(name)

    def examples(self) -> Iterator[DomainEntry]:
        """Yield an entry for each combination of permissions, perhaps several. This reads all entries if one is replaced."""
        yield from self._changed.values()
        kept = self._before.examples() if len(self._added) == len(self._changed) else self._before.values()
        yield from (entry for entry in kept if entry.domain not in self._changed)


class ChangedTable(DomainTable):
    """A table with some entries added or replaced. It is made at once, however long the table is, and has no descriptor."""

    def __init__(self, table: DomainTable, changed: Sequence[DomainEntry]) -> None:
        by_listener: dict[str, dict[str, DomainEntry]] = {}
        for entry in changed:
            by_listener.setdefault(entry.listener, {})[entry.domain] = entry
        own = {listener: ChangedDomains(table.listeners[listener], domains) for listener, domains in by_listener.items()}
        self.listeners = {**table.listeners, **own}
        self.origin = ()


class _Reader(threading.local):
    """One thread's access to the database: LMDB does not allow two threads in one transaction."""

    def __init__(self, database: lmdb.Environment) -> None:
        self.get: Callable[[bytes], Any] = database.begin().get


def _opened(descriptor: int) -> Any:  # noqa: ANN401 - the binding's own types do not cover weak references
    status = os.fstat(descriptor)
    with _opening:
        database = _open.get((status.st_dev, status.st_ino))
        if database is None:
            database = lmdb.open(f"/proc/self/fd/{descriptor}", subdir=False, lock=False, readonly=True, readahead=False)
            _open[status.st_dev, status.st_ino] = database
    return database


def table_of(
    entries: Sequence[DomainEntry],
    nodes: Mapping[str, Iterable[str]] = MappingProxyType({}),
    *,
    origin: Sequence[DomainsFile] = (),
) -> DomainTable:
    """Return the entries as a table, which they may be already. A domain appears once for each listener at most.

    `nodes` are further names of each listener at which a walk can end. `origin` has the files that say all of this.
    """
    if isinstance(entries, DomainTable):
        return entries
    by_listener: dict[str, list[DomainEntry]] = {}
    for entry in entries:
        by_listener.setdefault(entry.listener, []).append(entry)
    for listener in (ANY_LISTENER, *nodes):
        by_listener.setdefault(listener, [])
    parts, rows, shapes = list[ListenerPart](), list[tuple[bytes, bytes]](), dict[bytes, int]()
    for number, (listener, listed) in enumerate(by_listener.items()):
        own, examples = _packed(listed, shapes)
        bare = sorted(nodes.get(listener, ()))
        ends = own.keys() | {name[::-1].encode() for name in bare}
        dots = max((key.count(b".") - key.endswith(b".*") for key in ends), default=0)
        parts.append(ListenerPart(listener, len(own), dots, examples, bare))
        rows.append((LISTED + _NUMBER.pack(number), "".join([f"{entry.domain}\n" for entry in listed]).encode()))
        rows += _nodes(NODE + _NUMBER.pack(number), own, ends)
    size = _MAP_MINIMUM + _MAP_FOR_NODE * len(rows) + _MAP_FOR_BYTE * sum(map(len, shapes))
    rows += [(CATALOGUE, msgspec.json.encode(parts)), (ORIGIN, msgspec.json.encode(list(origin)))]
    rows += [(SHAPE + _NUMBER.pack(number), shape) for shape, number in shapes.items()]
    descriptor = os.memfd_create("sidecar-domains")
    try:
        with _written(descriptor, size) as writing:
            writing.cursor().putmulti(sorted(rows), append=True)
        return DomainTable(descriptor)
    finally:
        os.close(descriptor)


def _packed(entries: Iterable[DomainEntry], shapes: dict[bytes, int]) -> tuple[dict[bytes, bytes], list[str]]:
    """Return the entries of a listener by key, and a domain of each kind of entry. A new shape gets the next number."""
    packed, examples = dict[bytes, bytes](), dict[object, str]()
    for entry in entries:
        known = len(shapes)
        shape = shapes.setdefault(_shape(entry), known)
        packed[entry.domain[::-1].encode()] = _ENTRY.pack(shape, entry.line)
        if shape == known:
            senders = bool(entry.relay_from), bool(entry.relay_from_authz)
            examples.setdefault((entry.relay_to, *senders, entry.log_oob, entry.log_arf), entry.domain)
    return packed, [*examples.values()]


def renamed(table: DomainTable, origin: Sequence[DomainsFile]) -> DomainTable:
    """Return a table whose files have other names, in the same order. It takes some ms for a million entries."""
    names = {old.name: new.name for old, new in zip(table.origin, origin, strict=True)}
    if all(old == new for old, new in names.items()):
        return table
    descriptor = os.memfd_create("sidecar-domains")
    try:
        size, copied = os.fstat(table.descriptor).st_size, 0
        while copied < size:
            copied += os.sendfile(descriptor, table.descriptor, copied, size - copied)
        with _written(descriptor, 2 * size + _MAP_MINIMUM) as writing, writing.cursor() as cursor:
            # The keys of shapes are the last ones.
            for key, value in [*cursor] if cursor.set_range(SHAPE) else []:
                shape = msgspec.json.decode(value, type=DomainEntry)
                steps = {name: (names[file], step) for name, (file, step) in shape.steps.items()}
                cursor.put(key, msgspec.json.encode(replace(shape, steps=steps)))
            cursor.put(ORIGIN, msgspec.json.encode(list(origin)))
        return DomainTable(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _written(descriptor: int, size: int) -> Iterator[lmdb.Transaction]:
    """Open a database in memory for one transaction. It has `size` bytes at most."""
    path = f"/proc/self/fd/{descriptor}"
    with (
        lmdb.open(path, subdir=False, lock=False, sync=False, map_size=size) as database,
        database.begin(write=True) as writing,
    ):
        yield writing


def _shape(entry: DomainEntry) -> bytes:
    prefix = entry.path.removesuffix(f'"{entry.domain}"')
    domain = entry.domain if prefix == entry.path else ""
    return msgspec.json.encode(replace(entry, domain=domain, path=prefix, line=0))


def _nodes(prefix: bytes, own: Mapping[bytes, bytes], ends: AbstractSet[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the nodes of these entries: `ends`, among them the entries, all of their parents, and the root."""
    parents = {b""}
    for key in ends:
        # An address literal has no parents: its dots separate no labels.
        dot = -1 if key.endswith(b"[") else key.rfind(b".")
        while dot > 0 and (parent := key[:dot]) not in parents:
            parents.add(parent)
            dot = key.rfind(b".", 0, dot)
    for key in sorted(parents.union(ends)):
        star = own.get(key + b".*" if key else b"*", _NO_ENTRY)
        yield prefix + key, own.get(key, _NO_ENTRY) + star
