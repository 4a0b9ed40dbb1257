"""The space for records: what is looked at, when the program is degraded, and where that shows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.settings.values import JournalSettings, RecordSettings
from sidecar.daemon.process import status as module
from sidecar.daemon.process.status import DiskSpace, DiskStatus, Status, in_words, is_fine, sentence
from sidecar.journal.read.checkpoints import Checkpoint, Checkpoints
from tests.daemon.http.test_running import ask as ask_admin
from tests.daemon.http.test_running import samples
from tests.daemon.process.starting import quick
from tests.daemon.process.test_status import SERVING, WELL, ask, config, shown
from tests.mta.processes import wait_until
from tests.wire.program import Program

QUICK = {"status.LOOK_SECONDS": 0.05, "status.LOG_SECONDS": 0.5}
GIB = 1 << 30
LOW = DiskStatus(directory="/j", free=GIB - 1, minimum_free=GIB, seconds_left=30)
# More than any disk of a test has.
TOO_MUCH = 1 << 44


class Machine:
    """Its clock, and the free bytes of each directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.free: dict[str, int] = {}
        self.lines: list[str] = []
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(module, "free_bytes", self._free)
        for level in ("error", "info"):
            monkeypatch.setattr(module._LOG, level, lambda line, **_: self.lines.append(line.partition(":")[0]))

    def _free(self, directory: Path) -> int:
        if str(directory) not in self.free:
            raise PermissionError(directory)
        return self.free[str(directory)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def journal(**more: Any) -> JournalSettings:
    return JournalSettings(directory=Path("/j"), **more)


@pytest.mark.parametrize(
    ("settings", "looked_at"),
    [
        (journal(), "/j"),
        (journal(OOB=RecordSettings(directory=Path("/o"))), "/o"),
        (journal(OOB=RecordSettings(directory=Path("/o"), enabled=False)), "/j"),
        (JournalSettings(directory=Path("/gone"), OOB=RecordSettings(directory=Path("/o"))), "/o"),
        (JournalSettings(directory=Path("/gone")), None),
    ],
)
def test_the_fullest_of_all_file_systems(machine: Machine, settings: JournalSettings, looked_at: str | None) -> None:
    """Of every directory that records are written to, and no other; one that cannot be reached is left out."""
    machine.free = {"/j": 5 * GIB, "/o": 3 * GIB}
    found = DiskSpace().look(settings)
    assert (None if found is None else found.directory) == looked_at


@pytest.mark.parametrize(("free", "minimum", "low"), [(GIB, GIB, False), (GIB - 1, GIB, True), (0, 0, False), (0, 1, True)])
def test_degraded(machine: Machine, free: int, minimum: int, low: bool) -> None:
    """Below minimum_free; 0 turns it off."""
    machine.free = {"/j": free}
    found = DiskSpace().look(journal(minimum_free=minimum))
    assert found is not None
    assert found.low == low
    assert is_fine(with_disk(found)) != low


def with_disk(disk: DiskStatus) -> Status:
    return replace(SERVING, disk=disk)


def test_the_time_left(machine: Machine) -> None:
    """It is worked out from the rate of the last minute, and unknown while the free space does not shrink."""
    it = DiskSpace(lambda: machine.now)
    seen = []
    for free in (10_000, 10_000, 9_500, 9_000, 9_500, 9_500):
        machine.free = {"/j": free}
        it.look(journal())
        assert it.latest is not None
        seen.append(it.latest.seconds_left)
        machine.now += 30.0
    assert seen == [None, None, 9_500 * 60 // 500, 9_000 * 60 // 1000, None, None]


def test_a_line_each_minute_and_one_when_it_has_recovered(machine: Machine) -> None:
    """Nothing while there is space, and the status changes as often."""
    it = DiskSpace(lambda: machine.now)
    for _ in range(20):
        machine.free = {"/j": 2 * GIB}
        it.look(journal())
        machine.now += 5.0
    assert machine.lines == []
    shown = set()
    for free in range(25):
        machine.free = {"/j": free}
        shown.add(it.look(journal()))
        machine.now += 5.0
    assert machine.lines == ["degraded"] * 3
    assert len(shown) == 3
    machine.free = {"/j": 2 * GIB}
    it.look(journal())
    assert machine.lines == ["degraded"] * 3 + ["recovered"]


def test_the_readers_of_the_journal_are_named(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their checkpoints may keep the segments that fill the disk."""
    facts: list[dict[str, Any]] = []
    monkeypatch.setattr(module._LOG, "error", lambda _, **more: facts.append(more))
    checkpoints = Checkpoints(tmp_path)
    machine.free = {"/j": 0}
    for _ in range(2):
        DiskSpace(lambda: machine.now, checkpoints=checkpoints).look(journal())
        checkpoints.save("shipper", Checkpoint(segments={}))
    assert "readers" not in facts[0]
    (reader,) = facts[1]["readers"]
    assert reader.startswith("reader shipper saved its checkpoint last at 2")
    assert reader.endswith(f"; if it is gone for good, remove {tmp_path}/shipper.json")


def test_between_two_looks_the_disk_is_left_alone(machine: Machine) -> None:
    """The supervisor's loop turns with every message of a worker."""
    it = DiskSpace(lambda: machine.now)
    machine.free = {"/j": 2 * GIB}
    first = it.look(journal())
    machine.free = {}
    assert it.look(journal()) is first
    assert it.look_at == machine.now + module.LOOK_SECONDS


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """The disk is that of the nearest folder above it."""
    found = DiskSpace().look(JournalSettings(directory=tmp_path / "a" / "b"))
    assert found is not None
    assert found.free > 0


def test_the_sentences() -> None:
    """They name the folder, the setting and the time left."""
    assert in_words(LOW) == (
        "/j has 1,023.9 MiB free for records, less than journal.minimum_free, 1.0 GiB; "
        "at the current rate it is full in 30 seconds. "
        "Free some space there, or set a smaller journal.minimum_free. When it is full, mail that needs a record gets 451."
    )
    assert sentence(with_disk(LOW)) == f"Degraded: {in_words(LOW)} {WELL}"


def low(program: Program, minimum: int) -> None:
    program.milter = f'workers = 1\n[admin]\nsocket = "unix:admin"\n[journal]\nminimum_free = {minimum}'
    program.write()


def test_a_disk_that_is_too_full_shows_everywhere() -> None:
    """In the status and its exit status, in /readyz, in the metrics and each minute in the log, until there is space."""
    with quick(QUICK) as program:
        low(program, TOO_MUCH)
        program.start()
        wait_until(lambda: shown(program)["degraded"], "it is degraded")
        status, text = ask(*config(program))
        assert status == 1
        assert "\nDegraded: " in text
        assert "less than journal.minimum_free, 16.0 TiB" in text
        answer = shown(program)
        assert (answer["running"], answer["fine"]) == (True, False)
        assert answer["status"]["disk"]["directory"] == str(program.directory / "state" / "journal")
        wait_until(lambda: (program.directory / "admin").exists() and _ready(program) == 503, "it is not ready")
        error = ask_admin(program, "/readyz")[2]["error"]
        assert "less than journal.minimum_free" in error
        assert error.endswith("Free some space there. When it is full, mail that needs a record gets 451.")
        found = samples(program)
        assert found["sidecar_degraded"] == 1
        assert 0 < found["sidecar_journal_free_bytes"] < found["sidecar_journal_minimum_free_bytes"] == TOO_MUCH
        assert found["sidecar_journal_time_left_seconds"] >= 0
        wait_until(lambda: program.count("degraded") >= 2, "the log has it again")
        (line, *_) = (line for line in program.lines() if line["event"].startswith("degraded"))
        assert (line["level"], line["minimum_free"]) == ("error", TOO_MUCH)
        assert {"directory", "free", "seconds_left"} <= line.keys()
        low(program, 0)
        wait_until(lambda: ask(*config(program))[0] == 0, "all is well")
        assert program.count("recovered") == 1
        wait_until(lambda: _ready(program) == 200, "it is ready")
        assert samples(program)["sidecar_degraded"] == 0
        assert program.answers()


def _ready(program: Program) -> int:
    try:
        return ask_admin(program, "/readyz")[0]
    except (OSError, json.JSONDecodeError):
        return 0
