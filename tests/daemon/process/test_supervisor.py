"""The supervisor's steps, one by one: what they do when the system, a loader or a worker fails."""

import errno
import os
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, cast

import pytest
from msgspec.structs import replace

from sidecar.config import Loaded
from sidecar.core.findings import Finding
from sidecar.core.settings.values import AdminSettings, JournalSettings, LogSettings, MilterSettings
from sidecar.daemon.process.loader import Loader
from sidecar.daemon.process.reload import LEAVE_WITHIN, LONGEST_RETRY
from sidecar.daemon.process.systemd import ASK_SECONDS
from sidecar.daemon.process.workers import ANSWER_WITHIN, KILL_AFTER, READY_WITHIN, STOP_GRACE
from tests.daemon.process.stage import Stage, staged

NO_PROCESS = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
PROBLEM = Finding(level="error", code="invalid_value", text="This is wrong.", fix="Write something else.")


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(tmp_path, monkeypatch) as stage:
        yield stage


def fail(*given: object) -> NoReturn:
    raise next((one for one in given if isinstance(one, Exception)), RuntimeError("no luck today"))


# --- start and stop


def test_it_serves_when_all_workers_are_ready(stage: Stage) -> None:
    stage.begin()
    first, second = stage.children
    first.sends("ready")
    stage.turn()
    assert (stage.status()["state"], stage.says("ready")) == ("starting", 0)
    second.sends("ready")
    stage.turn()
    assert (stage.status()["state"], stage.says("ready")) == ("serving", 1)
    assert all(wait is None or wait >= 0 for wait in stage.waits)


def test_it_waits_for_its_last_worker_and_then_ends(stage: Stage) -> None:
    """The socket is closed at once, and the settings' loader is not waited for."""
    stage.serve()
    stage.signal(signal.SIGTERM)
    assert stage.is_closed
    assert stage.status()["state"] == "stopping"
    assert [child.received() for child in stage.children] == [[b"ping", b"10.0"]] * 2
    for child in stage.children:
        child.die()
    assert stage.supervisor.run() == 0
    assert (stage.status()["state"], stage.status()["workers"]) == ("stopped", [])


def test_a_second_signal_shortens_the_wait(stage: Stage) -> None:
    """A SIGHUP does not: it may come twice when a terminal is closed."""
    stage.serve()
    stage.signal(signal.SIGTERM)
    stage.signal(signal.SIGHUP)
    assert not stage.says("again")
    stage.signal(signal.SIGINT)
    assert [child.received()[-1] for child in stage.children] == [b"0.0"] * 2
    stage.turn(after=KILL_AFTER)
    assert all(child.is_dead() for child in stage.children)


def test_a_worker_that_does_not_end_is_killed(stage: Stage) -> None:
    stage.serve()
    stage.signal(signal.SIGTERM)
    stage.turn(after=STOP_GRACE + KILL_AFTER - 0.1)
    assert not any(child.is_dead() for child in stage.children)
    stage.turn(after=0.1)
    assert all(child.is_dead() for child in stage.children)


def test_workers_that_die_first_are_a_failed_start(stage: Stage) -> None:
    stage.begin()
    for child in stage.children:
        child.die()
    assert stage.supervisor.run() == 1
    assert stage.says("cannot start: a worker ended before it was ready") == 1


@pytest.mark.parametrize("error", [NO_PROCESS, MemoryError()])
def test_a_start_without_processes_fails(stage: Stage, error: Exception) -> None:
    """Whatever the reason is: nothing serves, and the exit status says so."""
    stage.start_fails = error
    assert stage.supervisor.run() == 1
    assert stage.says("cannot start: ") == 1
    assert stage.status()["state"] == "stopped"


def test_first_workers_that_are_late_are_a_failed_start(stage: Stage) -> None:
    stage.begin()
    stage.children[0].sends("ready")
    stage.turn(after=READY_WITHIN - 1)
    assert not stage.says("cannot start")
    stage.turn(after=1)
    assert stage.says("cannot start: a worker was not ready within 60 seconds") == 1


# --- workers


def test_a_dead_worker_is_replaced_after_a_while(stage: Stage) -> None:
    """The wait doubles up to 5 seconds."""
    stage.serve()
    for wait in (1.0, 2.0, 4.0, 5.0, 5.0):
        stage.children[-1].die()
        stage.turn()
        count = len(stage.children)
        stage.turn(after=wait - 0.1)
        assert len(stage.children) == count
        stage.turn(after=0.1)
        assert len(stage.children) == count + 1
        stage.ready(since=count)
    assert stage.status()["restarts"] == 5


@pytest.mark.parametrize("error", [NO_PROCESS, MemoryError()])
def test_a_worker_that_cannot_be_started_is_tried_again(stage: Stage, error: Exception) -> None:
    """The other one serves meanwhile, and the system is not asked in every turn."""
    stage.serve()
    stage.start_fails = error
    stage.children[0].die()
    stage.turn()
    stage.turn(after=1.0)
    stage.turn(9)
    complaints = stage.says("cannot start a worker") + stage.says("an unexpected fault")
    assert complaints == 1
    assert stage.status()["state"] == "serving"
    stage.start_fails = None
    stage.turn(after=5.0)
    assert len(stage.children) == 3


def test_a_silent_worker_is_killed(stage: Stage) -> None:
    stage.serve()
    stage.turn(after=ASK_SECONDS)
    stage.children[0].sends("ready")
    stage.turn(after=ANSWER_WITHIN)
    assert [child.is_dead() for child in stage.children] == [False, True]
    stage.turn(after=5.0)
    assert len(stage.children) == 3


def test_a_worker_that_does_not_become_ready_is_killed_and_replaced(stage: Stage) -> None:
    """Also one that replaces a dead one: it is not pinged yet, so that it would hang unseen."""
    stage.serve()
    stage.children[0].die()
    stage.turn()
    stage.turn(after=1.0)
    late = stage.children[2]
    for _ in range(int(READY_WITHIN)):
        stage.alive()
        stage.turn(after=1.0)
    stage.turn()
    assert [child.is_dead() for child in stage.children[1:3]] == [False, True]
    assert stage.says("a worker was not ready within 60 seconds: it is killed") == 1
    stage.turn(after=5.0)
    assert len(stage.children) == 4
    assert late.pid not in [worker["pid"] for worker in stage.status()["workers"]]


def test_a_process_that_fails_to_start_is_not_on_the_list(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever that fails: the supervisor neither signals nor reaps what does not exist."""
    stage.serve()
    monkeypatch.setattr(stage.supervisor._selector, "register", fail)
    stage.children[0].die()
    stage.turn()
    stage.turn(after=1.0)
    assert [one.pid for one in stage.supervisor._workers.children] == [stage.children[1].pid]
    stage.signal(signal.SIGTERM)
    assert stage.children[1].received()[-1] == b"10.0"


# --- reloads


def begun(stage: Stage) -> None:
    """Serve, and begin a reload."""
    stage.serve()
    stage.signal(signal.SIGHUP)
    assert len(stage.loaders) == 2


def serves_as_before(stage: Stage, *, failed: int = 1) -> None:
    """Check that the first two workers serve, without others, and that the status shows the failure."""
    stage.alive()
    status = stage.status()
    assert status["state"] == "serving"
    assert [worker["pid"] for worker in status["workers"] if not worker["retiring"]] == [
        child.pid for child in stage.children[:2]
    ]
    assert (status["reloads"], status["failed_reloads"]) == (0, failed)
    assert status["last_reload"]["problems"]
    assert not any(child.is_dead() for child in stage.children[:2])


def test_a_reload_replaces_the_workers(stage: Stage) -> None:
    begun(stage)
    stage.loader.passes(stage.loaded())
    stage.turn()
    old, new = stage.children[:2], stage.children[2:]
    assert len(new) == 2
    assert stage.status()["reloads"] == 0
    stage.ready(since=2)
    assert stage.status()["reloads"] == 1
    assert not stage.says("reloaded")
    stage.retired(old)
    assert stage.says("reloaded") == 1
    stage.loader.passes((PROBLEM,))
    stage.loader.ends()
    stage.turn()
    for child in old:
        child.die()
    stage.turn()
    assert [worker["pid"] for worker in stage.status()["workers"]] == [child.pid for child in new]


def test_old_workers_that_do_not_leave_get_less_time(stage: Stage) -> None:
    begun(stage)
    stage.loader.passes(stage.loaded())
    stage.turn()
    stage.ready(since=2)
    stage.turn(after=LEAVE_WITHIN)
    assert (stage.says("old workers have not left the socket in time"), stage.says("reloaded")) == (1, 1)
    stage.turn(after=STOP_GRACE + KILL_AFTER)
    assert [child.is_dead() for child in stage.children] == [True, True, False, False]


@pytest.mark.parametrize("error", [NO_PROCESS, MemoryError()])
def test_a_loader_that_cannot_be_started_is_a_failed_reload(stage: Stage, error: Exception) -> None:
    """It is tried again by itself, less and less often."""
    stage.serve()
    stage.load_fails = error
    stage.signal(signal.SIGHUP)
    serves_as_before(stage)
    stage.load_fails = None
    stage.turn(after=2.0)
    assert len(stage.loaders) == 1
    stage.turn(after=2.0)
    stage.loader.passes(stage.loaded())
    stage.turn()
    stage.ready(since=2)
    assert stage.status()["reloads"] == 1


def test_memory_that_ends_while_settings_are_received_is_a_failed_reload(stage: Stage) -> None:
    """And the loader is dropped: it would fail in every turn."""
    begun(stage)
    stage.loader.passes(MemoryError())
    stage.turn()
    assert stage.loader.is_killed
    assert stage.says("an unexpected fault") == 1
    serves_as_before(stage)


def test_a_fault_in_making_a_plan_is_a_failed_reload(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(stage)
    monkeypatch.setattr("sidecar.daemon.process.reload.replan", None)
    stage.loader.passes(stage.loaded())
    stage.turn()
    serves_as_before(stage)
    assert "an unexpected fault" in stage.status()["last_reload"]["problems"][0]


def test_a_loader_that_cannot_be_waited_for_is_a_failed_reload(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the kernel has no memory for the selector. The loader is killed."""
    stage.serve()
    with monkeypatch.context() as context:
        context.setattr(stage.supervisor._selector, "register", lambda *_: fail(OSError(errno.ENOMEM, "no memory")))
        stage.signal(signal.SIGHUP)
    assert stage.loader.is_killed
    serves_as_before(stage)
    stage.turn(after=4.0)
    assert len(stage.loaders) == 3


def test_a_fault_at_the_change_of_plans_is_a_failed_reload(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing: either both plan and workers change, or neither."""
    begun(stage)
    stage.loader.passes(stage.loaded(log=LogSettings(level="debug")))
    stage.turn()
    with monkeypatch.context() as context:
        context.setattr("sidecar.log.configure", fail)
        for child in stage.children[2:]:
            child.sends("ready")
        stage.turn(1)
    stage.turn()
    assert stage.status()["last_reload"]["problems"]
    assert [child.received()[-1] for child in stage.children[2:]] == [b"600.0"] * 2
    assert not any(b"600.0" in child.received() for child in stage.children[:2])


def test_old_workers_retire_though_the_step_fails_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the turn in which the plan changes. The reload is not done before they have left the socket."""
    begun(stage)
    stage.loader.passes(stage.loaded())
    stage.turn()
    with monkeypatch.context() as context:
        failing(stage, context, "_reload.follow")
        for child in stage.children[2:]:
            child.sends("ready")
        stage.turn(1)
        assert not stage.says("reloaded")
    stage.turn(1)
    assert [child.received()[-1] for child in stage.children[:2]] == [b"600.0"] * 2
    stage.retired(stage.children[:2])
    assert stage.says("reloaded") == 1


def test_the_log_changes_with_the_plan_and_not_before(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[str] = []
    monkeypatch.setattr("sidecar.log.configure", lambda *, level, **_: levels.append(level))
    begun(stage)
    levels.clear()
    changed = stage.loaded(log=LogSettings(level="debug"))
    stage.loader.passes(changed)
    stage.turn()
    stage.children[2].die()
    stage.turn()
    serves_as_before(stage)
    assert levels == []
    stage.turn(after=4.0)
    stage.loader.passes(changed)
    stage.turn()
    stage.ready(since=4)
    assert levels == ["debug"]


@pytest.mark.parametrize("error", [NO_PROCESS, MemoryError()])
def test_new_workers_that_cannot_be_started_are_a_failed_reload(stage: Stage, error: Exception) -> None:
    begun(stage)
    stage.start_fails = error
    stage.loader.passes(stage.loaded())
    stage.turn()
    serves_as_before(stage)


def test_a_new_worker_that_dies_is_a_failed_reload(stage: Stage) -> None:
    begun(stage)
    stage.loader.passes(stage.loaded())
    stage.turn()
    stage.children[2].die()
    stage.turn()
    serves_as_before(stage)
    assert stage.children[3].received()[-1].startswith(b"600")


def test_settings_with_errors_are_a_failed_reload(stage: Stage) -> None:
    """The same files are not loaded again, since they would be as wrong."""
    begun(stage)
    stage.loader.passes(Loaded(settings=None, problems=(PROBLEM,), sources=stage.sources()))
    stage.turn()
    serves_as_before(stage)
    for _ in range(300):
        stage.turn(1, after=2.0)
    assert len(stage.loaders) == 2
    stage.change_file()
    assert len(stage.loaders) == 3


def test_a_loader_that_dies_is_not_started_again_every_two_seconds(stage: Stage) -> None:
    """What was tried is not tried again before its time, which doubles up to five minutes; other files are, at once."""
    stage.serve()
    stage.change_file()
    starts = [stage.now]
    while len(starts) < 10:
        stage.loader.ends("the process that loads the settings was killed by SIGKILL")
        stage.turn(1)
        count = len(stage.loaders)
        while len(stage.loaders) == count:
            stage.turn(2, after=2.0)
            stage.alive()
        starts.append(stage.now)
    waits = [later - sooner for sooner, later in pairwise(starts)]
    assert waits == [4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, LONGEST_RETRY, LONGEST_RETRY]
    stage.loader.ends("the process that loads the settings was killed by SIGKILL")
    stage.turn()
    stage.change_file()
    assert len(stage.loaders) == 12
    serves_as_before(stage, failed=10)


def test_files_that_change_are_loaded_only_where_the_settings_want_it(stage: Stage) -> None:
    begun(stage)
    stage.loader.passes(stage.loaded(reload_on_change=False))
    stage.turn()
    stage.ready(since=2)
    stage.retired(stage.children[:2])
    stage.change_file()
    assert len(stage.loaders) == 2


def test_a_folder_that_can_be_used_again_is_seen(stage: Stage) -> None:
    """Its repair is no change of a settings file. Here a file stands in its place."""
    begun(stage)
    folder = stage.folder / "records"
    folder.write_text("", encoding="ascii")
    broken = stage.loaded(journal=replace(stage.settings.journal, directory=folder))
    stage.loader.passes(broken)
    stage.turn()
    serves_as_before(stage)
    stage.turn(after=4.0)
    stage.loader.passes(broken)
    stage.turn()
    serves_as_before(stage, failed=2)
    # By itself it is tried again in 8 seconds.
    folder.unlink()
    folder.mkdir()
    stage.turn(after=2.0)
    assert len(stage.loaders) == 3
    stage.turn(after=2.0)
    assert len(stage.loaders) == 4
    stage.loader.passes(broken)
    stage.turn()
    stage.ready(since=2)
    assert stage.status()["reloads"] == 1


def test_a_loader_that_is_late_is_a_failed_reload(stage: Stage) -> None:
    """Its end is not waited for: it may hang where no signal reaches it, and the next reload must not."""
    begun(stage)
    stage.loader.kill_at = stage.now + 300.0
    stage.turn(after=299.0)
    assert [loader.is_killed for loader in stage.loaders] == [True, False]
    stage.turn(after=1.0)
    assert [loader.is_killed for loader in stage.loaders] == [True, True]
    stage.alive()
    assert "took longer than 300 seconds" in stage.status()["last_reload"]["problems"][0]
    stage.turn(after=4.0)
    assert len(stage.loaders) == 3


def test_a_stop_does_not_wait_for_a_loader_that_hangs(stage: Stage) -> None:
    """The workers get their order first. The fake loader raises if it is waited for."""
    begun(stage)
    stage.signal(signal.SIGTERM)
    assert stage.loader.is_killed
    assert [child.received()[-1] for child in stage.children] == [b"10.0"] * 2
    assert not stage.says("fault")


def test_settings_that_arrive_after_a_stop_are_ignored(stage: Stage) -> None:
    """Both may happen in one turn."""
    begun(stage)
    stage.loader.passes(stage.loaded())
    stage.children[0].sends("left", "applied")
    stage.signal(signal.SIGTERM)
    assert not stage.says("fault")
    assert stage.status()["reloads"] == 0


def test_a_message_of_a_loader_that_was_dropped_is_ignored(stage: Stage) -> None:
    """The selector may have reported it before, in the same turn."""
    begun(stage)
    stage.signal(signal.SIGTERM)
    stage.supervisor._reload.receive(cast("Loader", stage.loader))
    assert len(stage.children) == 2
    assert not stage.says("fault")


def test_a_loader_that_fails_at_its_warnings_is_a_line_in_the_log(stage: Stage) -> None:
    begun(stage)
    stage.loader.passes(stage.loaded())
    stage.turn()
    stage.ready(since=2)
    stage.loader.ends("the process that looks for warnings failed")
    stage.turn()
    assert stage.says("the process that looks for warnings failed") == 1
    assert (stage.status()["reloads"], stage.status()["failed_reloads"]) == (1, 0)


def test_memory_that_ends_while_warnings_are_received_ends_no_reload(stage: Stage) -> None:
    """The loader is dropped, so that it does not fail in every turn."""
    begun(stage)
    stage.loader.passes(stage.loaded())
    stage.turn()
    stage.ready(since=2)
    stage.loader.passes(MemoryError())
    stage.turn()
    assert stage.loader.is_killed
    assert (stage.status()["reloads"], stage.status()["failed_reloads"]) == (1, 0)


# --- any fault

STEPS = [
    "_wait",
    "_workers.kill_late",
    "_reload.kill_late",
    "_handle_signals",
    "_look_at_files",
    "_reload.switch",
    "_reload.follow",
    "_reload.announce",
    "_reload.begin",
    "_ask_for_life",
    "_show_status",
    "_update_admin",
]


def failing(stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    *owner, name = step.split(".")
    monkeypatch.setattr(getattr(stage.supervisor, owner[0]) if owner else stage.supervisor, name, fail)


@pytest.mark.parametrize("step", STEPS)
def test_a_fault_in_a_step_keeps_no_other_from_being_taken(stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The others are taken, even if the step fails in every turn."""
    stage.serve()
    failing(stage, monkeypatch, step)
    stage.turn(5)
    assert stage.says("an unexpected fault: the supervisor continues") == 5
    assert not any(child.is_dead() for child in stage.children)
    assert stage.status()["state"] == "serving"
    stage.signal(signal.SIGTERM)
    if step != "_handle_signals":
        assert [child.received()[-1] for child in stage.children] == [b"10.0"] * 2


@pytest.mark.parametrize("step", STEPS)
def test_a_fault_in_a_reload_keeps_the_settings(stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    begun(stage)
    with monkeypatch.context() as context:
        failing(stage, context, step)
        stage.turn(1)
    serves_as_before(stage)
    assert stage.loader.is_killed
    assert list(map(str, stage.tracebacks)) == ["no luck today"]


def test_a_fault_in_a_stop_stops_the_workers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.serve()
    monkeypatch.setattr(stage, "close", None)
    stage.signal(signal.SIGTERM)
    assert [child.received()[-1] for child in stage.children] == [b"10.0"] * 2
    for child in stage.children:
        child.die()
    assert stage.supervisor.run() == 0


def test_a_fault_between_the_steps_does_not_end_the_supervisor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here in the pause after a fault."""
    stage.serve()
    for child in stage.children:
        child.die()
    stage.supervisor._faulty = True
    monkeypatch.setattr(stage.supervisor._signals, "wait", fail)
    os.kill(os.getpid(), signal.SIGTERM)
    turns = iter(range(9))
    turn = stage.supervisor._turn

    def faulty() -> None:
        stage.supervisor._faulty = next(turns) < 2
        turn()

    faulty.__name__ = "turn"
    monkeypatch.setattr(stage.supervisor, "_turn", faulty)
    assert stage.supervisor.run() == 0
    assert stage.says("an unexpected fault: the supervisor continues") == 2


def test_a_fault_after_a_fault_is_a_line_in_the_log(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(stage)
    failing(stage, monkeypatch, "_reload.follow")
    failing(stage, monkeypatch, "_reload.fail")
    stage.turn(1)
    assert stage.says("an unexpected fault after a fault") == 1
    assert not any(child.is_dead() for child in stage.children)


# --- the terminal, and what needs a restart


def test_sighup_of_a_closed_terminal_is_a_stop(stage: Stage) -> None:
    stage.serve()
    stage.terminal_is_gone = True
    stage.signal(signal.SIGHUP)
    assert stage.status()["state"] == "stopping"
    assert len(stage.loaders) == 1
    assert stage.says("the terminal is closed: stopping") == 1


def test_what_needs_a_restart_is_in_the_status(stage: Stage) -> None:
    """Until the files say again what serves."""
    begun(stage)
    stage.loader.passes(
        stage.loaded(milter=MilterSettings(workers=2, socket="unix:/other", socket_mode=0o600), admin=AdminSettings())
    )
    stage.turn()
    stage.ready(since=2)
    stage.retired(stage.children[:2])
    assert stage.status()["needs_restart"] == ["admin", "milter.socket", "milter.socket_mode"]
    stage.signal(signal.SIGHUP)
    stage.loader.passes(stage.loaded(log=LogSettings(level="warning"), journal=JournalSettings(directory=stage.folder / "j")))
    stage.turn()
    stage.ready(since=4)
    assert stage.status()["needs_restart"] == []
