"""One sidecar for each state directory."""

import fcntl
import os
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.daemon.process import start
from sidecar.daemon.process.privileges import SetupError
from sidecar.daemon.process.start import lock_state
from sidecar.daemon.process.status import read_status, write_status
from tests.daemon.process.test_running import finish, refused_start, unstarted
from tests.daemon.process.test_status import SERVING
from tests.mta.processes import wait_until
from tests.wire.program import Program


def test_a_second_one_is_rejected_with_the_process_that_has_it(tmp_path: Path) -> None:
    """And when the first one has closed it, the next one has it."""
    write_status(tmp_path, replace(SERVING, pid=4711))
    with lock_state(tmp_path):
        with pytest.raises(SetupError, match=rf"another sidecar, process 4711, keeps its state in {tmp_path}: stop it first"):
            lock_state(tmp_path)
        (tmp_path / "status.json").unlink()
        with pytest.raises(SetupError, match="another sidecar keeps its state in"):
            lock_state(tmp_path)
    with lock_state(tmp_path):
        pass


def test_one_that_does_not_stop_in_time_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "WAIT_WITHIN", 0.1)
    write_status(tmp_path, replace(SERVING, state="stopping"))
    with lock_state(tmp_path), pytest.raises(SetupError, match="another sidecar, process"):
        lock_state(tmp_path)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """Whichever user made it: no file is created elsewhere."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match="cannot open"):
        lock_state(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason not to serve."""

    def fail(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    lines: list[str] = []
    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(start._LOG, "warning", lines.append)
    with lock_state(tmp_path):
        assert f"{tmp_path} cannot be locked: Operation not supported" in lines[0]


# --- in the program


def beside(first: Program, second: Program) -> None:
    """Have the second program keep its state where the first one does."""
    second.settings = f"{first.settings}"
    config = second.directory / "sidecar.toml"
    config.write_text(config.read_text().replace('"state"', f'"{first.directory}/state"'))


def test_a_second_program_does_not_start_and_disturbs_nothing() -> None:
    with Program() as first, unstarted() as second:
        beside(first, second)
        wait_until(lambda: read_status(first.directory / "state").state == "serving", "its status is that of a serving one")
        before = (first.directory / "state" / "status.json").read_bytes()
        assert f"another sidecar, process {first.pid}, keeps its state in" in refused_start(second)
        assert not second.path.exists()
        assert (first.directory / "state" / "status.json").read_bytes() == before
        assert first.answers()
        assert first.stop() == 0


def test_the_next_one_waits_for_one_that_stops() -> None:
    """As a restart by hand has it: the old one has a session to finish, and its status is its own to the end."""
    with Program() as first, unstarted() as second:
        beside(first, second)
        with first.mta() as mta:
            mta.begin()
            first.signal(signal.SIGTERM)
            wait_until(lambda: first.says("SIGTERM: stopping"), "it is stopping")
            second.launch()
            wait_until(lambda: second.says("is stopping: waiting for its end"), "the next one waits")
            assert not second.path.exists()
            finish(mta)
        assert first.wait() == 0
        wait_until(lambda: second.count("ready") == 1, "the next one serves")
        assert second.answers()
        assert second.stop() == 0


def test_one_that_was_killed_does_not_keep_the_lock() -> None:
    """Though its workers are alive, and serve a session."""
    with Program() as program, program.mta() as mta:
        mta.begin()
        program.kill_supervisor()
        program.start()
        assert program.answers()
        assert os.path.lexists(program.directory / "state" / "lock")
        finish(mta)
        assert program.stop() == 0
