"""Looking for the records of what was just sent."""

import json
from pathlib import Path

import pytest

from sidecar.commands.simulate.simulation import NewRecords
from sidecar.journal import JournalError

SEGMENTS = ("20260702-185538.000000.jsonl", "20260702-185538.000001.jsonl")
HELO, PEER = "token-postfix.simulate.example", "127.0.0.2"


def line(session: str, *, type_: str = "Reception", helo: str = HELO, command: str | None = None) -> bytes:
    record = {
        "type": type_,
        "id": session,
        "peer_address": {"name": helo, "addr": PEER},
        "response": {"code": 250, "command": command},
        "session_id": session,
    }
    return json.dumps(record).encode() + b"\n"


def append(folder: Path, lines: bytes, segment: int = 0) -> None:
    with (folder / SEGMENTS[segment]).open("ab") as file:
        file.write(lines)


def looked(journal: NewRecords) -> list[tuple[str, str]]:
    return [(record.type, record.id) for record in journal.look(helo=HELO, peer=PEER)]


def test_only_what_is_new(tmp_path: Path) -> None:
    """Records from before are not looked at, and each is given once, whichever worker wrote it."""
    append(tmp_path, line("before"))
    journal = NewRecords(tmp_path)
    assert looked(journal) == []
    append(tmp_path, line("mine"))
    assert looked(journal) == [("Reception", "mine")]
    assert looked(journal) == []
    append(tmp_path, line("next"), segment=1)
    assert looked(journal) == [("Reception", "next")]


def test_the_whole_session(tmp_path: Path) -> None:
    """An OOB record has the reporting MTA's name: it is found by its session."""
    journal = NewRecords(tmp_path)
    others = line("theirs", helo="mx.other.example") + line("theirs", type_="OOB", helo="mx.remote.example")
    append(tmp_path, others + line("mine") + line("mine", type_="OOB", helo="mx.remote.example") + others)
    assert looked(journal) == [("Reception", "mine"), ("OOB", "mine")]


def test_rejected_at_connect(tmp_path: Path) -> None:
    """A peer that is rejected at connect has not said its name: it is found by its address."""
    journal = NewRecords(tmp_path)
    append(tmp_path, line("mine", type_="Rejection", helo="", command="CONNECT"))
    assert looked(journal) == [("Rejection", "mine")]
    append(tmp_path, line("mine", type_="Rejection", helo="", command="CONNECT").replace(b"127.0.0.2", b"127.0.0.3"))
    assert looked(journal) == []


def test_damaged_lines(tmp_path: Path) -> None:
    """A line that is no record, or has no peer, is skipped; a line that is not complete is waited for."""
    journal = NewRecords(tmp_path)
    whole = line("mine")
    append(tmp_path, f"{HELO} is no JSON\n".encode() + f'{{"type": "{HELO}"}}\n'.encode() + whole[:40])
    assert looked(journal) == []
    append(tmp_path, whole[40:])
    assert looked(journal) == [("Reception", "mine")]


def test_removed_segment(tmp_path: Path) -> None:
    """An operator's clean-up takes nothing away but what it removes."""
    append(tmp_path, line("before"))
    journal = NewRecords(tmp_path)
    (tmp_path / SEGMENTS[0]).unlink()
    append(tmp_path, line("mine"), segment=1)
    assert looked(journal) == [("Reception", "mine")]


def test_no_journal(tmp_path: Path) -> None:
    """Without a journal there is one sentence that says so, and what to do."""
    with pytest.raises(JournalError, match="run this where the sidecar runs"):
        NewRecords(tmp_path / "nowhere")
