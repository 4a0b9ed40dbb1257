"""The suppression list as commands and HTTP show it: entries, pages and changes, in JSON and CSV.

Owns their fields, which are permanent, and what HTTP asks of a list. Never opens one.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, Protocol

from msgspec import Struct

from sidecar.core.text import printable

COLUMNS: Final = ("address", "reason", "source", "since", "expires")
"""The columns of CSV. Those of changes begin with `revision`."""

REASON_LIMIT: Final = 200
"""Characters of the reason of a change: it is shown in one line, also in an SMTP reply."""

# A spreadsheet computes a cell that begins like this, and anyone can have such an address. The apostrophe doubles itself.
_FORMULA: Final = re.compile(r"[=+\-@\t\r']")
_GUARDED: Final = re.compile(r"'(?=[=+\-@\t\r'])")


class ShownEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry. Times are RFC 3339; `expires` is None if only a person removes the entry.

    `reports` has the ids of the messages behind it. `source` is "reports", or "manual" for a change by a person or a program.
    `nodes` are those of a fleet that know a report or the change behind it; absent without a fleet.
    """

    address: str
    reason: str
    source: Literal["reports", "manual"]
    since: str
    expires: str | None
    reports: tuple[str, ...]
    nodes: tuple[str, ...] = ()


class ShownEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A report about an address, or a change. `id` is that of the message, or of the record of the change.

    `node` is the one of a fleet that got it; absent without a fleet.
    """

    time: str
    kind: Literal["report", "add", "remove"]
    reason: str
    id: str
    node: str = ""


class AddressHistory(Struct, frozen=True, kw_only=True):
    """What the list knows about an address: its entry, null if it is not suppressed, and the events, the oldest first."""

    address: str
    entry: ShownEntry | None
    events: tuple[ShownEvent, ...]


class ListPage(Struct, frozen=True, kw_only=True):
    """Entries by address, and where the next page begins, null after the last page. A page can have no entry.

    `revision` is that of the list when the page was read.
    """

    entries: tuple[ShownEntry, ...]
    after: str | None
    revision: int


class ListChange(Struct, frozen=True, kw_only=True):
    """An address that has changed, and its entry now; null if it is not on the list any more."""

    revision: int
    address: str
    entry: ShownEntry | None


class ListChanges(Struct, frozen=True, kw_only=True):
    """Changes in their order, each address once. `revision` is the one to ask for next; with `more` there are later ones."""

    changes: tuple[ListChange, ...]
    revision: int
    more: bool


class ListQuery(Struct, frozen=True, kw_only=True):
    """Which entries are wanted: after the address `after`, with a prefix, in a domain, for a reason; "" is any."""

    after: str = ""
    prefix: str = ""
    domain: str = ""
    reason: str = ""


class ListUnavailableError(Exception):
    """The list or the journal cannot be used; the text is one plain sentence, without a full stop."""


class RevisionGoneError(Exception):
    """The changes since a revision are not all known any more."""


class EditableList(Protocol):
    """A list that another package has opened. Addresses are as a client wrote them.

    All methods can wait for a disk. Raise ListUnavailableError. `history` and the changes raise ValueError for what is no
    address. One thread reads, and one writes: a change is on disk on return, and in force when `is_applied`.
    """

    def history(self, address: str) -> AddressHistory:
        """Return what is known about an address."""

    def check(self, addresses: Sequence[str]) -> list[ShownEntry]:
        """Return the entries of those that are suppressed, with the addresses as they were asked."""

    def page(self, query: ListQuery, limit: int) -> ListPage:
        """Return a page of the list."""

    def changes(self, since: int, limit: int) -> ListChanges:
        """Return the first changes after a revision. Raise RevisionGoneError."""

    def add(self, address: str, reason: str, *, expires: int, by: str) -> str | None:
        """Add an address until `expires` (seconds since 1970, 0 for good). Return the id; None if that changes nothing."""

    def add_event(self, address: str, reason: str, *, time: int, id: str, by: str) -> str | None:  # noqa: A002 - its name
        """Add an address for an event with an id of its own, in microseconds since 1970. Return as `add`."""

    def remove(self, address: str, reason: str, *, by: str) -> str | None:
        """Remove an address. Return as `add`."""

    def is_applied(self, address: str, id: str) -> bool:  # noqa: A002 - its name
        """Return True if a change is in force."""

    def roll(self) -> None:
        """Finish the segment of the changes if it is old enough."""

    def close(self) -> None:
        """Finish the segment of the changes."""


def reason_of(text: str) -> str | None:
    """Return the reason of a change without blanks around it; None if it is not one line of 1 to `REASON_LIMIT` characters."""
    reason = text.strip()
    return reason if printable(reason) == reason and 0 < len(reason) <= REASON_LIMIT else None


def csv_lines(entries: Iterable[ShownEntry]) -> Iterator[str]:
    """Yield the lines of a CSV file, the first with the names. No spreadsheet computes a cell."""
    yield from _csv(COLUMNS, (_cells(one) for one in entries))


def csv_lines_of_changes(changes: Iterable[ListChange]) -> Iterator[str]:
    """Yield the lines of a CSV file of changes. Addresses that are not on the list any more have no reason."""
    gone = [""] * (len(COLUMNS) - 1)
    rows = ([str(one.revision), *([one.address, *gone] if one.entry is None else _cells(one.entry))] for one in changes)
    yield from _csv(("revision", *COLUMNS), rows)


def unguarded(cell: str) -> str:
    """Return the value of a cell that `csv_lines` wrote."""
    return _GUARDED.sub("", cell, count=1) if cell.startswith("'") else cell


def _cells(entry: ShownEntry) -> list[str]:
    return [entry.address, entry.reason, entry.source, entry.since, entry.expires or ""]


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    writer.writerow(head)
    yield line.getvalue()
    for row in rows:
        line.seek(0)
        line.truncate()
        writer.writerow([f"'{cell}" if _FORMULA.match(cell) else cell for cell in row])
        yield line.getvalue()
