"""What was promised, against what is there: the ledger, the journal and the mailboxes.

Owns the counting. Reads the journal with the sidecar's own reader, which is on trial too.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from sidecar.journal.read import Line, Skipped, read
from tests.faults.load import Entry, is_taken
from tests.mta.sidecar import Record

_WRITABLE = 0o222


class Books:
    """A journal, read again and again while it is written.

    `written` has the type of each record with each address it is about, `quarantined` the address with the file's name of each
    that tells of a unparsable report; `unfit` has every line that stands there and is no record.
    """

    def __init__(self, journal: Path) -> None:
        self.written: set[tuple[str, str]] = set()
        self.quarantined: dict[str, str] = {}
        self.unfit: list[Skipped] = []
        self._journal = journal
        self._sizes: dict[Path, int] = {}

    def look(self) -> None:
        """Read what has changed since the last look. What is unfit now may be so only until it is whole."""
        self.unfit = []
        for path in sorted(self._journal.glob("*.jsonl")):
            if (size := path.stat().st_size) != self._sizes.get(path) or self._is_live(path):
                self._sizes[path] = size
                self._read(path)

    def look_at_all(self) -> None:
        """Read everything once more."""
        self._sizes.clear()
        self.look()

    def unfinished(self) -> list[Path]:
        """Give the segments that are still writable."""
        return [path for path in self._journal.glob("*.jsonl") if self._is_live(path)]

    def _is_live(self, path: Path) -> bool:
        return path.stat().st_mode & _WRITABLE != 0

    def _read(self, path: Path) -> None:
        for found in read(path):
            match found:
                case Skipped():
                    self.unfit.append(found)
                case Line():
                    self._take(found)

    def _take(self, line: Line) -> None:
        try:
            record = json.loads(line.text)
        except ValueError as error:
            self.unfit.append(Skipped(file=line.file, number=line.number, why=str(error)))
            return
        entries = list(_entries(record))
        self.written.update(entries)
        if name := record["meta"].get("quarantine"):
            self.quarantined.update((address, name) for _, address in entries)


def _entries(record: Record) -> Iterable[tuple[str, str]]:
    """Give a record's type with each address of ours in it: of an OOB record that is the sender (contract section 4)."""
    about = record["sender"] if record["type"] == "OOB" else record["recipient"]
    return [(record["type"], address) for address in ([about] if isinstance(about, str) else about)]


def missing(ledger: Iterable[Entry], written: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give each record that should be there, since its message was answered 250, and is not."""
    due = {(type_, entry.recipients[0]) for entry in ledger if is_taken(entry) for type_ in entry.kind.types}
    return sorted(due - written)


def not_quarantined(ledger: Iterable[Entry], named: Mapping[str, str], quarantine: Path) -> list[str]:
    """Give the address of each unparsable report that was answered 250, and whose file is not there or is not whole."""

    def is_kept(entry: Entry) -> bool:
        file = quarantine / named.get(entry.recipients[0], "none")
        # As much as was sent, and the header fields that the MTA adds.
        return file.is_file() and file.stat().st_size >= len(entry.kind.content)

    return [entry.recipients[0] for entry in ledger if is_taken(entry) and entry.kind.unparsable and not is_kept(entry)]


def answered_wrongly(ledger: Iterable[Entry]) -> list[Entry]:
    """Give each message that was taken and must not be."""
    return [entry for entry in ledger if is_taken(entry) and not entry.kind.taken]


def delivered_wrongly(ledger: Iterable[Entry], delivered: Iterable[str]) -> list[str]:
    """Give each address that got a message that the policy does not let through to it."""
    return sorted(set(delivered) - {address for entry in ledger for address in _served(entry)})


def undelivered(ledger: Iterable[Entry], delivered: Iterable[str]) -> list[str]:
    """Give each address that should have got a message, since that was answered 250, and has not."""
    return sorted({address for entry in ledger if is_taken(entry) for address in _served(entry)} - set(delivered))


def _served(entry: Entry) -> list[str]:
    return [address for address in entry.recipients if address.partition("@")[2] in entry.kind.delivered_to]


def unexpected(log: str) -> list[str]:
    """Give the lines of a program's log that tell of a bug rather than of a fault."""
    return re.findall(r"(?m)^.*(?:unexpected fault|Traceback|the worker failed|could not pass on).*$", log)
