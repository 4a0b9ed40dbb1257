"""All listener domains, flat in one buffer that processes share: a million of them cost their memory once for all workers.

Owns how an entry is found and made. Never reads a file, and never decides which entry serves a domain.

Why no objects: whoever reads one counts a reference in it, and a page that is written after a fork is copied, so that in the
end each worker has all entries for itself, some 370 bytes each. Here a look-up touches only the buffer, some 65 bytes each, and
an entry is made when somebody wants to see it.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import eq
from typing import Final, TypeVar, overload

import msgspec
from msgspec import Struct

from sidecar.core.networks import parse_network
from sidecar.core.settings.domain_layout import COLUMNS, LINE, SHAPE, STAR, TAG_SHIFT, Layout, Listed, layout_of
from sidecar.core.settings.values import DomainEntry, LogMode, Network

T = TypeVar("T")

# Entries and shapes, at some 700 bytes each, that a process keeps to itself.
_KEPT: Final = 1024


class Shape(Struct, frozen=True, kw_only=True, array_like=True):
    """Everything that an entry says, but for its name and its lines: entries share a handful of shapes.

    `prefix` is what stands before the name in a key path, such as `listener."10.1.1.1:25".`; `steps` are the lines of the keys,
    all in `file`, counted from the entry's own. An `odd` entry spells its name otherwise than it is compared, or has keys in
    several files: an `Odd` is kept for it. `relay_from` are networks as they were written.
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
    """The path and the lines of an entry, as `DomainEntry` has them."""

    path: str
    lines: dict[str, tuple[str, int]]


class Lines(Mapping[str, tuple[str, int]]):
    """The lines of an entry's keys: the line of its table, and steps that entries of one shape share."""

    __slots__ = ("_file", "_first", "_steps")

    def __init__(self, file: str, first: int, steps: Mapping[str, int]) -> None:
        self._file = file
        self._first = first
        self._steps = steps

    def __getitem__(self, key: str) -> tuple[str, int]:
        return self._file, self._first + self._steps[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __len__(self) -> int:
        return len(self._steps)


def entry_of(shape: Shape, relay_from: tuple[Network, ...], domain: str, line: int, odd: Odd | None) -> DomainEntry:
    """Make an entry of its parts. `relay_from` are the networks of its shape, read."""
    return DomainEntry(
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


class DomainTable(Sequence[DomainEntry]):
    """An immutable sequence of entries: listener by listener, each in the order of the files.

    Forked processes share `buffer`. Another process can map it too, if it was forked from the same one: names are found by
    `hash()`, which Python salts, so that no stranger can ask for names that collide. Raises ValueError otherwise.
    """

    def __init__(self, buffer: mmap.mmap) -> None:
        layout = layout_of(buffer)
        self.buffer = buffer
        self._store = _Store(buffer, layout)
        self.listeners: Mapping[str, ListenerDomains] = {
            one.listener: ListenerDomains(self._store, layout, one) for one in layout.listed
        }

    def __len__(self) -> int:
        return self._store.entries

    @overload
    def __getitem__(self, index: int) -> DomainEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[DomainEntry]: ...
    def __getitem__(self, index: int | slice) -> DomainEntry | Sequence[DomainEntry]:
        if isinstance(index, slice):
            return list(map(self._store.made, range(len(self))[index]))
        return self._store.made(range(len(self))[index])

    def __iter__(self) -> Iterator[DomainEntry]:
        return map(self._store.made, range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Tell whether the other one is a sequence of the same entries."""
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]  # nobody needs one, and a million entries would have to be read for it

    def examples(self) -> Iterator[DomainEntry]:
        """Give, for each thing that entries say on a listener, the first entry that says it; in the order of the entries."""
        return (example for listed in self.listeners.values() for example in listed.examples())


class ListenerDomains(Mapping[str, DomainEntry]):
    """The entries of one listener by domain, and its nodes: those domains and all of their parents, as numbers from 1.

    `star` is the node of `"*"`; 0 is none. No node has more dots than `dots`.
    """

    __slots__ = ("_few", "_names", "_numbers", "_slots", "_store", "dots", "star")

    def __init__(self, store: "_Store", layout: Layout, listed: Listed) -> None:
        self.star, self.dots = listed.star, listed.dots
        self._store = store
        self._numbers = range(listed.entry, listed.entry + listed.entries)
        slots = store.numbers("slots")[listed.slot : listed.slot + listed.slots]
        self._slots = slots, len(slots) - 1, layout.node_bits, layout.tag_mask
        self._names = store.buffer, store.names_at, store.rows, (1 << layout.node_bits) - 1
        # A dict is faster, and of a few names no burden.
        self._few: dict[str, int] | None = None
        if listed.slots <= _KEPT:
            nodes = (found & (1 << layout.node_bits) - 1 for found in slots if found)
            self._few = {store.name(node - 1): node for node in nodes}

    def __getitem__(self, domain: str) -> DomainEntry:
        entry = self.entry(self.node(domain), domain)
        if entry is None:
            raise KeyError(domain)
        return entry

    def __contains__(self, domain: object) -> bool:
        return isinstance(domain, str) and 0 < self.node(domain) <= self._store.entries

    def __iter__(self) -> Iterator[str]:
        return map(self._store.name, self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def node(self, name: str) -> int:
        """Find the node of a name, 0 where it has none."""
        return self._few.get(name, 0) if self._few is not None else self._search(name, up=False)[0]

    def nearest(self, name: str) -> tuple[int, str]:
        """Find the node of a name, or of the longest of its parents that has one; 0 where none has. Give it and its name."""
        few = self._few
        if few is None:
            beyond = name.count(".") - self.dots
            return self._search(name.split(".", beyond)[-1] if beyond > 0 else name, up=True)
        while not (node := few.get(name, 0)) and (dot := name.find(".")) >= 0:
            name = name[dot + 1 :]
        return node, name

    def _search(self, name: str, *, up: bool) -> tuple[int, str]:
        slots, mask, node_bits, tag_mask = self._slots
        while True:
            code = hash(name)
            at, tag = code & mask, code >> TAG_SHIFT & tag_mask
            while found := slots[at]:
                # Names in the table are ASCII; one that is asked for may be anything.
                if found >> node_bits == tag and name.isascii():
                    buffer, names_at, rows, node_mask = self._names
                    row = COLUMNS * (found & node_mask)
                    if buffer[names_at + rows[row - COLUMNS] : names_at + rows[row]] == name.encode():
                        return found & node_mask, name
                at = at + 1 & mask
            if not up or (dot := name.find(".")) < 0:
                return 0, name
            name = name[dot + 1 :]

    def entry(self, node: int, name: str) -> DomainEntry | None:
        """Give the entry at a node, of which the name is known; a parent has none."""
        store = self._store
        if not 0 < node <= store.entries:
            return None
        return store.kept.get(node - 1) or store.entry(node - 1, name)

    def star_below(self, node: int, name: str) -> DomainEntry | None:
        """Give the entry `*` below a node, of which the name is known."""
        star = self._store.rows[COLUMNS * (node - 1) + STAR]
        return self.entry(star, f"*.{name}") if star else None

    def examples(self) -> Iterator[DomainEntry]:
        """Give, for each thing that entries say, the first entry that says it, in the order of the entries."""
        return (self._store.made(number) for number in self._store.numbers("firsts") if number in self._numbers)

    def alike(self, examples: Iterable[DomainEntry]) -> Iterator[str]:
        """Give the domains of all entries that say the same as one of these."""
        shapes = {self._store.shape(self.node(example.domain) - 1) for example in examples}
        return (self._store.name(number) for number in self._numbers if self._store.shape(number) in shapes)


class _Store:
    """The entries and the names in a buffer."""

    def __init__(self, buffer: mmap.mmap, layout: Layout) -> None:
        self.buffer = buffer
        self.entries = layout.entries
        self._view = memoryview(buffer).toreadonly()
        self._sections = layout.sections
        self.names_at = layout.sections["names"][0]
        self.rows = self.numbers("rows")
        self._shapes: dict[int, tuple[Shape, tuple[Network, ...]]] = {}
        # Where domains are few, their entries need not be made anew for each recipient.
        self.kept: dict[int, DomainEntry] = {}

    def numbers(self, section: str) -> "memoryview[int]":
        return self._part(section).cast("I")

    def name(self, number: int) -> str:
        start, end = self.rows[COLUMNS * number], self.rows[COLUMNS * (number + 1)]
        return self.buffer[self.names_at + start : self.names_at + end].decode("ascii")

    def shape(self, number: int) -> int:
        return self.rows[COLUMNS * number + SHAPE]

    def entry(self, number: int, name: str) -> DomainEntry:
        """Give an entry, of which the name is known."""
        row = COLUMNS * number
        shape_number, line = self.rows[row + SHAPE], self.rows[row + LINE]
        shape, relay_from = self._shapes.get(shape_number) or self._read_shape(shape_number)
        odd = self._record("odd", bisect_left(self.numbers("odds"), number), Odd) if shape.odd else None
        entry = entry_of(shape, relay_from, name, line, odd)
        if self.entries <= _KEPT:
            self.kept[number] = entry
        return entry

    def made(self, number: int) -> DomainEntry:
        """Give an entry by its position."""
        return self.entry(number, self.name(number))

    def _read_shape(self, number: int) -> tuple[Shape, tuple[Network, ...]]:
        shape = self._record("shape", number, Shape)
        if len(self._shapes) >= _KEPT:
            self._shapes.clear()
        read = self._shapes[number] = shape, tuple(map(parse_network, shape.relay_from))
        return read

    def _record(self, what: str, number: int, kind: type[T]) -> T:
        start, end = self.numbers(f"{what}_starts")[number : number + 2]
        return msgspec.msgpack.decode(self._part(f"{what}_records")[start:end], type=kind)

    def _part(self, section: str) -> "memoryview[int]":
        start, end = self._sections[section]
        return self._view[start:end]
