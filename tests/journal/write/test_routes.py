"""Which type of record goes into which segments, and what of it."""

import json
import os
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import Mock

import pytest
from msgspec.structs import replace

from sidecar.core.settings.values import JournalSettings, RecordSettings
from sidecar.journal import JournalError
from sidecar.journal.read import Line, read
from sidecar.journal.write import Routes
from tests.core.records.making import reception
from tests.journal.write.test_flood import facts, refusal

TAKEN = reception(facts(), "x@y.example", why="it is so")
RECORDS = (TAKEN, replace(TAKEN, type="OOB"), replace(TAKEN, type="Feedback"), refusal())
OFF = RecordSettings(enabled=False)


def in_each(folder: Path) -> dict[str, list[str]]:
    """Return the types in each segment, by its directory and the end of its name."""
    found: dict[str, list[str]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        lines = [json.loads(line.text) for line in read(path) if isinstance(line, Line)]
        name = f"{path.parent.relative_to(folder)}/{path.name[len('YYYYMMDD-HHMMSS.ffffff') :]}"
        found[name] = [line["type"] for line in lines]
    return found


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"./.jsonl": ["Reception", "OOB", "Feedback", "Rejection"]}),
        ({"format": "zstd"}, {"./": ["Reception", "OOB", "Feedback", "Rejection"]}),
        ({"Rejection": OFF}, {"./.jsonl": ["Reception", "OOB", "Feedback"]}),
        (
            {"Reception": RecordSettings(suffix="_recv"), "Rejection": OFF},
            {"./_recv": ["Reception"], "./.jsonl": ["OOB", "Feedback"]},
        ),
        (
            {"format": "zstd", **dict.fromkeys(("OOB", "Feedback"), RecordSettings(suffix=".zst"))},
            {"./": ["Reception", "Rejection"], "./.zst": ["OOB", "Feedback"]},
        ),
    ],
)
def test_places(tmp_path: Path, own: dict[str, Any], expected: dict[str, list[str]]) -> None:
    """Types of one place share its segments in their order; a type that is turned off is nowhere."""
    routes = Routes(JournalSettings(directory=tmp_path, **own))
    routes.write(routes.encode(RECORDS), durable=True)
    assert in_each(tmp_path) == expected
    routes.close()
    assert in_each(tmp_path) == expected
    assert all(not path.stat().st_mode & 0o222 for path in tmp_path.rglob("*") if path.is_file())


def test_another_directory(tmp_path: Path) -> None:
    """A type's own directory is made when the first record of it comes."""
    routes = Routes(JournalSettings(directory=tmp_path / "j", OOB=RecordSettings(directory=tmp_path / "o" / "p")))
    routes.write(routes.encode(RECORDS[:1]), durable=True)
    assert not (tmp_path / "o").exists()
    routes.write(routes.encode(RECORDS), durable=True)
    routes.close()
    assert in_each(tmp_path) == {"j/.jsonl": ["Reception", "Reception", "Feedback", "Rejection"], "o/p/.jsonl": ["OOB"]}


def test_all_segments_are_on_disk_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A durable write of records for several segments returns after an fsync of each."""
    routes = Routes(JournalSettings(directory=tmp_path, OOB=RecordSettings(suffix="_oob")))
    routes.write(routes.encode(RECORDS[:2]), durable=False)
    synced: list[str] = []
    whole_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name[-6:])
        whole_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    routes.write(routes.encode(RECORDS[:2]), durable=True)
    assert synced == [".jsonl", synced[1]]
    assert synced[1].endswith("_oob")
    monkeypatch.undo()
    routes.close()


def test_one_that_fails_fails_all(tmp_path: Path) -> None:
    """A report is not answered 250 when only some of its records could be kept."""
    routes = Routes(JournalSettings(directory=tmp_path / "j", OOB=RecordSettings(directory=tmp_path / "file" / "o")))
    (tmp_path / "file").write_text("in the way of a directory")
    with pytest.raises(JournalError, match="ENOTDIR"):
        routes.write(routes.encode(RECORDS[:2]), durable=True)
    (tmp_path / "file").unlink()
    routes.write(routes.encode(RECORDS[:2]), durable=True)
    routes.close()


def test_large_lines_have_segments_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop appends other lines while the disk thread is busy with those."""
    routes = Routes(JournalSettings(directory=tmp_path))
    small, large = routes.encode((TAKEN,)), routes.encode((replace(TAKEN, site="x" * 300_000),))
    routes.write(small, durable=True)
    routes.write(large, durable=True)
    entered, held = threading.Event(), threading.Event()
    whole_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        if len(data) > 200_000:
            entered.set()
            assert held.wait(120)
        return whole_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    results: SimpleQueue[JournalError | None] = SimpleQueue()
    assert not routes.submit(large, durable=True, done=results.put)
    assert entered.wait(120)
    assert routes.submit(small, durable=False, done=results.put)
    held.set()
    assert results.get(timeout=120) is None
    routes.close()
    sizes = sorted(path.stat().st_size for path in tmp_path.iterdir())
    assert sizes == [2 * small.size, 2 * large.size]


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (None, {"why", "disposition", "message_id", "queue_id", "listener", "authz_id"}),
        ((), set()),
        (("why",), {"why"}),
        (("queue_*", "authz_id", "unknown"), {"queue_id", "authz_id"}),
        (("*",), {"why", "disposition", "message_id", "queue_id", "listener", "authz_id"}),
    ],
)
def test_what_is_kept_of_meta(tmp_path: Path, kept: tuple[str, ...] | None, expected: set[str]) -> None:
    """The entries that the settings name, by name or by how they begin, and no others."""
    its = facts()
    record = reception(replace(its, queue_id="4A", listener="10.0.0.1:25", authz_id="me"), "x@y", why="so")
    routes = Routes(JournalSettings(directory=tmp_path, meta=kept))
    routes.write(routes.encode((record,)), durable=False)
    (line,) = (line for line in read(tmp_path) if isinstance(line, Line))
    assert json.loads(line.text)["meta"].keys() == expected
    routes.close()


@pytest.mark.parametrize(("kept", "expected"), [(("why",), {"why", "compat"}), (("authz_id",), set()), ((), set())])
def test_the_mark_of_kumomtas_way_goes_with_the_reason(tmp_path: Path, kept: tuple[str, ...], expected: set[str]) -> None:
    """With a reason and without the mark, a record would be read as one that is written in our own way."""
    routes = Routes(JournalSettings(directory=tmp_path, meta=kept))
    its = replace(facts(), compat="kumomta")
    routes.write(routes.encode((reception(its, "x@y", why="so"),)), durable=False)
    (line,) = (line for line in read(tmp_path) if isinstance(line, Line))
    assert json.loads(line.text)["meta"].keys() == expected
    routes.close()


def test_a_message_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of a hundred recipients are one piece for the journal, and one system call."""
    writes = Mock(side_effect=os.write)
    monkeypatch.setattr(os, "write", writes)
    routes = Routes(JournalSettings(directory=tmp_path))
    routes.write(routes.encode((TAKEN,)), durable=False)  # opens the segment
    writes.reset_mock()
    batch = routes.encode((TAKEN, *[replace(TAKEN, type="OOB")] * 99))
    assert len(batch.lines) == 1
    routes.write(batch, durable=False)
    assert writes.call_count == 1
    routes.close()
    assert len([line for line in read(tmp_path) if isinstance(line, Line)]) == 101
