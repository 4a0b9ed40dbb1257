"""Listener domains in the making: entries as files are read and merged, until they become a table.

Owns the place and the shape of each entry. Never reads a file, and never decides which of two entries holds.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from sidecar.core.networks import parse_network
from sidecar.core.settings.domain_layout import Rows, lay_out
from sidecar.core.settings.domain_table import DomainTable, Odd, Shape, entry_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry


class Draft:
    """Entries in the order in which they came: a million of them take some 150 MB.

    `places` are counted through, by listener and domain; by place there are the number of the entry's shape, its line, and what
    is kept of it if it is odd. `shapes` are the records of shapes by number.
    """

    def __init__(self, entries: Iterable[DomainEntry] = ()) -> None:
        self.places: dict[str, dict[str, int]] = {}
        self.shapes: list[bytes] = []
        self.shape_of, self.line_of = array("I"), array("I")
        self.odds: dict[int, bytes] = {}
        self._numbers: dict[bytes, int] = {}
        for entry in entries:
            self.put(entry)

    def put(self, entry: DomainEntry) -> None:
        """Put an entry in its place; one that is there already is replaced."""
        shape, line, odd = _taken_apart(entry)
        record = None if odd is None else msgspec.msgpack.encode(odd)
        places = self.places.setdefault(entry.listener, {})
        if entry.domain not in places:
            places[entry.domain] = self._append(self.number(shape), line, record)
            return
        place = places[entry.domain]
        self.shape_of[place], self.line_of[place] = self.number(shape), line
        self.odds.pop(place, None)
        if record is not None:
            self.odds[place] = record

    def number(self, shape: Shape) -> int:
        """Give the number of a shape."""
        return self._numbered(msgspec.msgpack.encode(shape))

    def fill(
        self, listener: str, domains: Sequence[str], shapes: Iterable[int], lines: Iterable[int], odds: Mapping[int, Odd]
    ) -> None:
        """Put all entries of a listener at once, no domain twice; `odds` are by position among them."""
        first = len(self.shape_of)
        self.places[listener] = dict(zip(domains, range(first, first + len(domains)), strict=True))
        self.shape_of.extend(shapes)
        self.line_of.extend(lines)
        self.odds |= {first + position: msgspec.msgpack.encode(odd) for position, odd in odds.items()}

    def absorb(self, later: "Draft") -> Iterator[tuple[DomainEntry, DomainEntry]]:
        """Take over the entries for which there is none here; of the others give what is here, and what is there."""
        numbers = [self._numbered(record) for record in later.shapes]
        for listener, places in later.places.items():
            mine = self.places.setdefault(listener, {})
            for domain, place in places.items():
                if domain in mine:
                    yield self._entry(domain, mine[domain]), later._entry(domain, place)  # noqa: SLF001 - of the same class
                else:
                    mine[domain] = self._append(numbers[later.shape_of[place]], later.line_of[place], later.odds.get(place))

    def table(self) -> DomainTable:
        """Make the table. The map that serves every listener is in it always."""
        rows = {listener: self._rows(places) for listener, places in self.places.items() if places}
        rows.setdefault(ANY_LISTENER, self._rows({}))
        return DomainTable(lay_out(rows, self.shapes))

    def _rows(self, places: Mapping[str, int]) -> Rows:
        taken = list(places.values())
        return Rows(
            names=list(places),
            shapes=list(map(self.shape_of.__getitem__, taken)),
            lines=list(map(self.line_of.__getitem__, taken)),
            odds={index: self.odds[place] for index, place in enumerate(taken) if place in self.odds},
        )

    def _append(self, shape: int, line: int, odd: bytes | None) -> int:
        place = len(self.shape_of)
        self.shape_of.append(shape)
        self.line_of.append(line)
        if odd is not None:
            self.odds[place] = odd
        return place

    def _numbered(self, record: bytes) -> int:
        number = self._numbers.setdefault(record, len(self.shapes))
        if number == len(self.shapes):
            self.shapes.append(record)
        return number

    def _entry(self, domain: str, place: int) -> DomainEntry:
        shape = msgspec.msgpack.decode(self.shapes[self.shape_of[place]], type=Shape)
        odd = msgspec.msgpack.decode(self.odds[place], type=Odd) if shape.odd else None
        return entry_of(shape, tuple(map(parse_network, shape.relay_from)), domain, self.line_of[place], odd)


def table_of(entries: Sequence[DomainEntry]) -> DomainTable:
    """Give the entries as a table, which they may be already."""
    return entries if isinstance(entries, DomainTable) else Draft(entries).table()


def _taken_apart(entry: DomainEntry) -> tuple[Shape, int, Odd | None]:
    """Give the shape of an entry and its line; and what else must be kept, if it is odd."""
    file, line = entry.lines[""]
    shape = Shape(
        listener=entry.listener,
        relay_to=entry.relay_to,
        relay_from=tuple(network.text for network in entry.relay_from),
        relay_from_authz=entry.relay_from_authz,
        log_oob=entry.log_oob,
        log_arf=entry.log_arf,
        trues=entry.trues,
    )
    prefix = entry.path.removesuffix(f'"{entry.domain}"')
    if prefix == entry.path or any(other != file for other, _ in entry.lines.values()):
        return msgspec.structs.replace(shape, odd=True), line, Odd(path=entry.path, lines=dict(entry.lines))
    steps = {key: there - line for key, (_, there) in entry.lines.items()}
    return msgspec.structs.replace(shape, prefix=prefix, file=file, steps=steps), line, None
