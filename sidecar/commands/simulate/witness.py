"""What a journal says of the messages that were just sent.

Owns finding their records among all that is new. Never reads what was there before, and never changes a file.
"""

from collections.abc import Iterator
from pathlib import Path

from sidecar.core.records import Logged, decode
from sidecar.journal import JournalError
from sidecar.journal.read import Line
from sidecar.journal.read.follow import Follower


class Witness:
    """A look at what is new in a journal: since this was made, then since the last look. Raises JournalError."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise JournalError(f"there is no journal in {directory}, so no records are shown; run this where the sidecar runs")
        self._follower = Follower(directory)
        for file in self._follower.look():
            file.skip()

    def look(self, *, helo: str, peer: str) -> tuple[Logged, ...]:
        """Give the new records of the sessions in which a peer called itself `helo`, and of a connection of `peer` rejected.

        A record reaches the kernel before its verdict reaches the peer: once the answer is there, so are the records.
        """
        found, sessions = [], set[str]()
        # Of a session's records the first tells the name, if any does: an OOB record has the reporting MTA's instead, and a
        # rejected connection's has none.
        for record in self._new_records(helo, sessions):
            rejected = record.response.command == "CONNECT" and record.peer_address and record.peer_address.addr == peer
            named = record.peer_address is not None and record.peer_address.name == helo
            if record.session_id and (rejected or named):
                sessions.add(record.session_id)
            if record.session_id in sessions:
                found.append(record)
        return tuple(found)

    def _new_records(self, helo: str, sessions: set[str]) -> Iterator[Logged]:
        """Give the new records that may be the wanted ones; others, of a busy MTA, are not even decoded."""
        for file in self._follower.look():
            for line in file.lines():
                marks = (helo, '"CONNECT"', *sessions)
                if isinstance(line, Line) and any(mark.encode() in line.text for mark in marks):
                    try:
                        yield decode(line.text)
                    except ValueError:
                        continue  # damaged, and none of ours: those were answered
