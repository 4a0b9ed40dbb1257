"""What the supervisor shows of itself, and what `sidecar status` makes of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from sidecar.cli import main
from sidecar.config.loading import state_directory
from sidecar.core.policy import compile_policy
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.daemon.metrics import CELL, Memory, Meter
from sidecar.daemon.process import publisher as module
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.publisher import StatusPublisher
from sidecar.daemon.process.status import (
    DiskStatus,
    ListLook,
    ReloadStatus,
    SettingsStatus,
    Status,
    SuppressionStatus,
    WorkerStatus,
    is_fine,
    is_running,
    read_status,
    sentence,
    start_ticks,
    write_status,
)
from sidecar.daemon.process.systemd import unit_name
from sidecar.journal.read.checkpoints import Checkpoint, Checkpoints, ReaderState
from tests.building import settings
from tests.daemon.process.test_running import MORE_DOMAINS, reload, unstarted
from tests.mta.processes import wait_until
from tests.wire.program import Program

AT = "2026-01-02T03:04:05Z"
WORKER = WorkerStatus(pid=2, ready=True, retiring=False, since=AT)
SERVING = Status(
    state="serving",
    since=AT,
    pid=os.getpid(),
    start_ticks=None,
    version="0",
    started=AT,
    socket="unix:/s",
    workers_wanted=2,
    workers=(WORKER, replace(WORKER, pid=3, retiring=True), replace(WORKER, pid=4, ready=False)),
    settings=SettingsStatus(revision="abc", loaded=AT, listener_domains=3),
)
WELL = f"Serving at unix:/s with 1 worker and 3 listener domains, settings abc of {AT}."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, WELL),
        (
            {"last_reload": ReloadStatus(time=AT)},
            WELL,
        ),
        (
            {"last_reload": ReloadStatus(time=AT, problems=("a\nb.", "c."))},
            f"The reload of {AT} failed: a\\u000ab. {WELL}",
        ),
        ({"state": "starting"}, "Starting."),
        ({"state": "stopping", "last_reload": ReloadStatus(time=AT, problems=("a",))}, "Stopping."),
    ],
)
def test_one_sentence_has_the_whole_status(changes: dict[str, Any], said: str) -> None:
    """On one line, whatever is in the files."""
    assert sentence(replace(SERVING, **changes)) == said


def test_a_sentence_is_never_longer_than_a_line() -> None:
    failed = ReloadStatus(time=AT, problems=("x" * 10_000,))
    assert len(sentence(replace(SERVING, last_reload=failed))) == 500


def test_the_file_is_whole_at_any_moment(tmp_path: Path) -> None:
    """The draft of a writer that crashed is in no one's way."""
    (tmp_path / "status.new").write_text("half")
    for restarts in range(3):
        status = replace(SERVING, restarts=restarts)
        write_status(tmp_path, status)
        assert read_status(tmp_path) == status
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize("name", ["status.new", "status.json"])
def test_a_link_in_the_place_of_a_file_is_replaced_and_its_target_is_left_alone(tmp_path: Path, name: str) -> None:
    """Whichever user made it."""
    (tmp_path / "other").write_text("another user's")
    (tmp_path / name).symlink_to(tmp_path / "other")
    write_status(tmp_path, SERVING)
    assert (tmp_path / "other").read_text() == "another user's"
    assert read_status(tmp_path) == SERVING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "status.json"]


def test_a_link_that_is_planted_again_and_again_is_never_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here between the removal of the old file and the creation: the status is not written then."""
    (tmp_path / "other").write_text("another user's")
    (tmp_path / "status.new").touch()
    unlink = os.unlink

    def plant(path: Any, **more: Any) -> None:
        unlink(path, **more)
        (tmp_path / "status.new").symlink_to(tmp_path / "other")

    monkeypatch.setattr("os.unlink", plant)
    with pytest.raises(FileExistsError):
        write_status(tmp_path, SERVING)
    assert (tmp_path / "other").read_text() == "another user's"
    assert not (tmp_path / "status.json").exists()


def publisher(folder: Path, **more: Any) -> StatusPublisher:
    made = replace(settings(), state_directory=folder)
    plan = Plan(settings=made, policy=compile_policy(made), node_id="", revision="", made=0.0)
    return StatusPublisher(plan, socket="unix:/s", **more)


def test_a_file_is_written_only_when_something_has_changed(tmp_path: Path) -> None:
    it = publisher(tmp_path)
    it.publish(None, ())
    inode = (tmp_path / "status.json").stat().st_ino
    it.publish(None, ())
    assert (tmp_path / "status.json").stat().st_ino == inode
    assert read_status(tmp_path).state == "starting"


def test_faults_are_counted(tmp_path: Path) -> None:
    """The status has the faults of all workers, if they count."""
    memory = Memory()
    it = publisher(tmp_path, memory=memory)
    Meter(memory.block(memory.free([]))).add(CELL["faults",], 3)
    it.publish(None, ())
    assert read_status(tmp_path).faults == 3


def test_a_file_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged once, until it can be written again."""
    lines: list[str] = []
    monkeypatch.setattr(module._LOG, "warning", lines.append)
    it = publisher(tmp_path / "gone")
    for _ in range(2):
        it.count_restart()
        it.publish(None, ())
    assert [line.partition(":")[0] for line in lines] == [f"cannot write {tmp_path}/gone/status.json"]
    (tmp_path / "gone").mkdir()
    it.count_restart()
    it.publish(None, ())
    assert read_status(tmp_path / "gone").restarts == 3


@contextmanager
def a_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def test_a_process_that_got_the_number_later_is_not_the_sidecar() -> None:
    """Nor is a dead one, whether it is reaped or not."""
    with a_process() as process:
        status = replace(SERVING, pid=process.pid, start_ticks=start_ticks(process.pid))
        assert is_running(status)
        assert is_running(replace(status, start_ticks=None))
        assert not is_running(replace(status, start_ticks=1))
        assert not is_running(replace(status, state="stopped"))
        process.kill()
        wait_until(lambda: not is_running(status), "it is seen to be dead")
        assert process.returncode is None
    assert not is_running(status)


@pytest.mark.parametrize(
    ("error", "running"), [(PermissionError(), True), (ProcessLookupError(), False)], ids=["of another user", "dead"]
)
def test_a_process_of_another_user_runs_too(monkeypatch: pytest.MonkeyPatch, error: OSError, running: bool) -> None:
    """Its start cannot always be seen: then its number must do."""

    def refuse(_pid: int, _signal: int) -> None:
        raise error

    monkeypatch.setattr("os.kill", refuse)
    assert is_running(replace(SERVING, pid=1 << 30, start_ticks=5)) == running


def ask(*arguments: str) -> tuple[int, str]:
    """Run `sidecar status`. Return its exit status and its output."""
    result = CliRunner().invoke(main, ["status", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def config(program: Program) -> list[str]:
    return ["--config", str(program.directory / "sidecar.toml")]


def test_it_shows_that_it_runs_since_when_and_with_what() -> None:
    with Program() as program:
        wait_until(lambda: ask(*config(program))[0] == 0, "all is well")
        status, said = ask(*config(program))
        assert (status, said.splitlines()[0].partition(", version")[0]) == (0, f"The sidecar is running: process {program.pid}")
        assert f"2 of 2 workers serve unix:{program.path}; workers that ended unexpectedly since the start: 0." in said
        assert "listener domains: 3." in said
        assert program.stop() == 0
        status, said = ask(*config(program))
        assert status == 1
        assert said.startswith("The sidecar is not running: it was stopped at 20")


@pytest.mark.parametrize(("state", "begin"), [("stopped", "it was stopped at 20"), ("serving", "process ")])
def test_the_log_of_a_service_that_does_not_run(state: Any, begin: str) -> None:
    """The unit is that of the stopped program, also an instance; without systemd none is named."""
    with unstarted() as program:
        (program.directory / "state").mkdir()
        for unit, log in (("sidecar@mx1", "`journalctl -u sidecar@mx1` shows its log."), (None, "")):
            gone = replace(SERVING, state=state, unit=unit, pid=2**30)
            write_status(program.directory / "state", gone)
            status, said = ask(*config(program))
            assert (status, said.startswith(f"The sidecar is not running: {begin}")) == (1, True)
            assert ("journalctl" in said, log in said) == (bool(log), True)


@pytest.mark.parametrize("has_systemd", [True, False])
def test_a_service_that_never_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_systemd: bool) -> None:
    """Without a status the usual unit is named, where there is a systemd."""
    monkeypatch.setattr("sidecar.commands.status._SYSTEMD", tmp_path if has_systemd else tmp_path / "none")
    with unstarted() as program:
        status, said = ask(*config(program))
    assert (status, "If it does not start: `journalctl -u sidecar` shows its log." in said) == (1, has_systemd)


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/sidecar.service\n", "sidecar"),
        ("0::/system.slice/system-sidecar.slice/sidecar@mx1.service\n", "sidecar@mx1"),
        ("12:cpu:/x\n1:name=systemd:/system.slice/sidecar.service\n0::/\n", "sidecar"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", None),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/sidecar.service\n", None),
        ("0::/\n", None),
        ("", None),
    ],
)
def test_the_unit_of_a_process(tmp_path: Path, cgroup: str, unit: str | None) -> None:
    """It is the service of the machine that systemd started as this process, and not one that started this process."""
    (tmp_path / "cgroup").write_text(cgroup)
    assert unit_name({"SYSTEMD_EXEC_PID": str(os.getpid())}, tmp_path / "cgroup") == unit
    assert unit_name({"SYSTEMD_EXEC_PID": "1"}, tmp_path / "cgroup") is None
    assert unit_name({}, tmp_path / "cgroup") is None
    assert unit_name({"SYSTEMD_EXEC_PID": str(os.getpid())}, tmp_path / "missing") is None


def test_changed_settings_that_wait_for_a_restart_are_shown() -> None:
    with unstarted() as program:
        (program.directory / "state").mkdir()
        for names, line in (((), ""), (("milter.socket", "admin"), "need a restart: milter.socket, admin.")):
            write_status(program.directory / "state", replace(SERVING, needs_restart=names))
            said = ask(*config(program))[1]
            assert ("These settings changed in the files" in said) == bool(names)
            assert line in said


def test_the_suppression_list_is_looked_at() -> None:
    """Every few seconds, and not before a new list can have been made."""
    problems = iter(["no database", None, "no database"])
    times = iter([0.0, 4.0, 5.0, 9.0, 10.0, 15.0])
    look = ListLook(lambda _: next(problems), clock=lambda: next(times))
    listed = SuppressionSettings(database=Path("x"), check="log")
    assert look.look(None) is None
    assert look.look(replace(listed, check="off")) is None
    states = [look.look(listed) for _ in range(6)]
    shown = [state and (state.readable, state.problem) for state in states]
    bad = (False, "no database")
    assert shown == [None, None, bad, bad, (True, None), bad]


def test_a_suppression_list_that_cannot_be_read_is_shown() -> None:
    with unstarted() as program:
        (program.directory / "state").mkdir()
        for problem, on_unreadable, line in (
            (None, "accept", "The workers can read the suppression list."),
            ("no database", "accept", "so recipients of relay hosts are accepted without a look-up: no database."),
            ("no database", "tempfail", "so recipients of relay hosts are answered 451: no database."),
        ):
            state = SuppressionStatus(readable=problem is None, problem=problem, on_unreadable=on_unreadable)
            write_status(program.directory / "state", replace(SERVING, suppression=state))
            assert line in ask(*config(program))[1]
            assert is_fine(replace(SERVING, suppression=state)) == (problem is None)


def test_a_suppression_list_that_does_not_follow_is_shown(tmp_path: Path) -> None:
    """While its process fails, the exit status is 1; other readers can wait for other machines."""
    (tmp_path / "sidecar.toml").write_text('state_directory = "."\n')
    write_status(tmp_path, replace(SERVING, pid=os.getpid(), start_ticks=start_ticks(os.getpid())))
    arguments = "--config", str(tmp_path / "sidecar.toml")
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for reader, fault, status in (
        ("suppression", "", 0),
        ("suppression", "list.db is damaged", 1),
        ("suppression", "", 0),
        ("fleet", "no server", 0),
    ):
        checkpoints.save(reader, Checkpoint(segments={}))
        checkpoints.save_live(reader, Checkpoint(segments={}), ReaderState(fault=fault))
        ended, said = ask(*arguments)
        assert (ended, f"{reader} does not read the journal: {fault}" in said) == (status, bool(fault))


def shown(program: Program) -> dict[str, Any]:
    """Return the answer for machines."""
    answer: dict[str, Any] = json.loads(ask("--json", *config(program))[1])
    return answer


def test_the_answer_for_machines_has_everything() -> None:
    with Program() as program:
        wait_until(lambda: shown(program)["fine"], "all is well")
        answer = shown(program)
        status = answer["status"]
        assert (answer["running"], answer["fine"], status["state"]) == (True, True, "serving")
        assert {worker["pid"] for worker in status["workers"]} == program.workers()
        assert (status["pid"], status["last_reload"], status["restarts"]) == (program.pid, None, 0)
        os.kill(min(program.workers()), signal.SIGKILL)
        wait_until(lambda: shown(program)["status"]["restarts"] == 1, "the death is shown")
        wait_until(
            lambda: {one["pid"] for one in shown(program)["status"]["workers"]} == program.workers(), "so is the new one"
        )


def test_a_reload_that_failed_is_shown_with_its_problems_until_one_succeeds() -> None:
    """Even while the settings file, which says where to look, is broken."""
    with Program() as program:
        wait_until(lambda: shown(program)["fine"], "all is well")
        first = shown(program)["status"]["settings"]["revision"]
        path = program.directory / "sidecar.toml"
        whole = path.read_text()
        path.write_text(f"{whole}\n[milter\n")
        reload(program, "the reload failed")
        wait_until(lambda: ask(*config(program))[0] == 1, "the failure is shown")
        said = ask(*config(program))[1]
        assert "failed; the previous settings remain in use:\n" in said
        assert f"  {path}:{whole.count(chr(10)) + 2}: The name of this table has no end." in said
        path.write_text(whole)
        program.write(domains=MORE_DOMAINS)
        reload(program, "reloaded")
        wait_until(lambda: ask(*config(program))[0] == 0, "it has recovered")
        assert "succeeded." in ask(*config(program))[1]
        now = shown(program)["status"]["settings"]
        assert (now["revision"] != first, now["listener_domains"]) == (True, 4)


def test_a_sidecar_that_was_killed_does_not_run() -> None:
    with Program() as program:
        wait_until(lambda: shown(program)["fine"], "all is well")
        program.kill_supervisor()
        status, said = ask(*config(program))
        assert (status, "ended unexpectedly" in said) == (1, True)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", msgspec.json.encode({"pid": "x"})])
def test_without_a_status_the_answer_is_a_sentence(content: bytes | None) -> None:
    with unstarted() as program:
        if content is not None:
            (program.directory / "state").mkdir()
            (program.directory / "state" / "status.json").write_bytes(content)
        status, said = ask(*config(program))
        assert (status, said.count("\n")) == (1, 1)
        assert str(program.directory / "state") in said
        assert shown(program)["status"] is None


def _huge_pid(path: Path) -> None:
    path.write_bytes(msgspec.json.encode(SERVING).replace(b'"pid":%d' % os.getpid(), b'"pid":4611686018427387904'))


@pytest.mark.parametrize(
    "plant",
    [
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(b" " * (17 << 20)),
        lambda path: path.write_bytes(b'{"x":' + b"[" * 100_000),
        lambda path: path.write_bytes(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        _huge_pid,
    ],
)
def test_a_status_that_no_supervisor_wrote_stops_no_command(tmp_path: Path, plant: Callable[[Path], object]) -> None:
    """Root reads in the folder of the service's user, who can put anything there: `status` and `check` still end."""
    (tmp_path / "state").mkdir()
    plant(tmp_path / "state" / "status.json")
    settings_file = tmp_path / "sidecar.toml"
    settings_file.write_text('state_directory = "state"\n[milter]\nsocket = "unix:s"\n')
    limited = ["prlimit", f"--as={4 << 30}", sys.executable, "-m", "sidecar"]
    for command in ("status", "check") if plant is os.mkfifo else ("status",):
        ended = subprocess.run([*limited, command, "--config", settings_file], capture_output=True, timeout=120, check=False)
        assert (ended.returncode, b"Traceback" in ended.stderr) == (command == "status", False), ended.stderr


def test_a_pipe_in_place_of_the_settings_stops_no_command(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sidecar.toml")
    assert state_directory(tmp_path / "sidecar.toml", {"STATE_DIRECTORY": "/s"}) == Path("/s")


def test_a_reader_that_may_be_gone_is_named(tmp_path: Path) -> None:
    """After a day, or while the disk is too full: which file to remove."""
    state = tmp_path / "state"
    (tmp_path / "sidecar.toml").write_text('state_directory = "state"\n')
    for name in ("gone", "runs"):
        Checkpoints(state / "checkpoints").save(name, Checkpoint(segments={}))
    os.utime(state / "checkpoints/gone.json", (1_790_000_000, 1_790_000_000))
    write_status(state, SERVING)
    arguments = "--config", str(tmp_path / "sidecar.toml")
    said = ask(*arguments)[1]
    file = state / "checkpoints/gone.json"
    known = f"reader gone saved its checkpoint last at 2026-09-21T14:13:20Z; if it is gone for good, remove {file}"
    assert f"Segments that a reader has not read are kept: {known}.\n" in said
    assert "reader runs" not in said
    assert [one["name"] for one in json.loads(ask("--json", *arguments)[1])["readers"]] == ["gone", "runs"]
    write_status(state, replace(SERVING, disk=DiskStatus(directory="/j", free=0, minimum_free=1, seconds_left=None)))
    assert "reader runs" in ask(*arguments)[1]


def test_systemd_gets_the_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`systemctl status` shows it: how many workers serve, and what was wrong with the last reload."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
        news.settimeout(120)
        news.bind(str(tmp_path / "notify"))
        with Program() as program:
            until(news, "STATUS=Serving at unix:")
            program.write(domains='["a.example"]\nrelay_too = true\n')
            program.signal(signal.SIGHUP)
            until(news, '"relay_too" is not a known key. Serving at')


def until(news: socket.socket, text: str) -> None:
    """Listen until a datagram has this text."""
    deadline = time.monotonic() + 120
    while text not in news.recv(4096).decode():
        assert time.monotonic() < deadline
