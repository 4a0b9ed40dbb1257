"""`sidecar run` as processes: start, readiness, death, restart, reload and stop, each seen from outside."""

import grp
import os
import pwd
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mta.processes import session_members, wait_until
from tests.wire.client import ACCEPT, CONTINUE, DISCARD, Mta, Reply
from tests.wire.program import DOMAINS, Program
from tests.wire.test_program import OOB

NOT_PERMITTED = Reply("y", "550 5.7.1 relaying not permitted for 203.0.113.9:4444")
MORE_DOMAINS = f'{DOMAINS}["more.example"]\nrelay_to = true\n'
EVERYWHERE = pytest.mark.parametrize(
    ("engine", "inet"), [("libmilter", False), ("libmilter", True), ("direct", False), ("direct", True)]
)


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    with Program(**getattr(request, "param", {})) as program:
        yield program


def accepts(program: Program, recipient: bytes) -> bool:
    """Return True if an external host may send to a recipient, on a new connection."""
    with program.mta() as mta:
        mta.begin()
        return mta.envelope(b"<s@x.example>", recipient) == [CONTINUE]


def finish(mta: Mta) -> None:
    """Send two bounces on an open session, and end it."""
    for _ in range(2):
        assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
        assert mta.content(OOB) == (DISCARD, [])
    mta.quit()


# --- start


def test_it_logs_where_it_listens_with_how_many_workers_and_domains(program: Program) -> None:
    (line,) = [line for line in program.lines() if line["event"] == "ready"]
    assert (line["socket"], line["workers"], line["listener_domains"]) == (f"unix:{program.path}", 2, 3)
    assert len(program.workers()) == 2


def test_systemd_is_notified_when_it_is_ready_and_when_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
        news.settimeout(120)
        news.bind(str(tmp_path / "notify"))

        def received() -> bytes:
            """Return the next datagram that is no sentence for people."""
            while (datagram := news.recv(1000)).startswith(b"STATUS="):
                pass
            return datagram

        with Program() as program:
            assert received() == b"READY=1"
            program.signal(signal.SIGHUP)
            assert received().startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert received() == b"READY=1"
            assert program.stop() == 0
            assert received() == b"STOPPING=1"


@pytest.mark.parametrize(
    "program",
    [{"milter": 'workers = 1\nsocket_mode = "0606"\nsocket_owner = "daemon"\nsocket_group = "bin"'}],
    indirect=True,
)
def test_the_socket_has_the_mode_owner_and_group_of_the_settings(program: Program) -> None:
    found = program.path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o606
    assert pwd.getpwuid(found.st_uid).pw_name == "daemon"
    assert grp.getgrgid(found.st_gid).gr_name == "bin"
    assert sorted(entry.name for entry in program.directory.glob("s*")) == ["s", "sidecar.toml", "state"]


@contextmanager
def unstarted(**how: Any) -> Iterator[Program]:
    """A program that has its files, and is not started."""
    program = Program(**how)
    try:
        yield program
    finally:
        program.__exit__(None, None, None)


def refused_start(program: Program) -> str:
    """Start a program that must not start. Return its log."""
    assert program.launch().wait(timeout=120) == 1
    text = program.log.read_text()
    assert "Traceback" not in text
    return text


def test_it_refuses_to_start_where_another_one_listens(program: Program) -> None:
    """And the one that listens is not disturbed."""
    with unstarted() as second:
        second.address = program.address
        second.write()
        assert f"another sidecar is listening on {program.path}" in refused_start(second)
    assert program.answers()
    assert program.stop() == 0


def test_it_refuses_a_port_that_is_taken() -> None:
    with Program(inet=True) as first, unstarted(inet=True) as other:
        other.address = first.address
        other.write()
        assert "Address already in use; stop what is listening there, or choose another port" in refused_start(other)
        assert first.answers()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('socket = "unix:{0}/missing/s"', "the folder of the socket is missing: create {0}/missing"),
        ('socket = "unix:{0}/sidecar.toml"', "{0}/sidecar.toml exists and is no socket"),
        ('socket = "unix:{0}/' + "x" * 90 + '"', "is too long"),
        ('socket = "unix:{0}/t"\nsocket_owner = "no-such-account"', "cannot set up unix:{0}/t"),
        ('allow_remote = true\nsocket = "inet:203.0.113.1:8893"', "cannot listen on inet:203.0.113.1:8893"),
    ],
)
def test_a_socket_that_cannot_be_is_a_sentence_and_status_1(line: str, said: str) -> None:
    with unstarted() as program:
        config = program.directory / "sidecar.toml"
        spelled = f'socket = "unix:{program.path}"'
        config.write_text(config.read_text().replace(spelled, line.format(program.directory)))
        assert said.format(program.directory) in refused_start(program)
        assert not [path for path in program.directory.iterdir() if path.is_socket()]


@pytest.mark.parametrize(("where", "said"), [("state/journal", "cannot write records into"), ("state", "cannot write")])
def test_a_folder_that_cannot_be_written_is_a_sentence_and_status_1(where: str, said: str) -> None:
    with unstarted() as program:
        path = program.directory / where
        path.parent.mkdir(exist_ok=True)
        path.write_text("in the way")
        assert said in refused_start(program)


def test_settings_with_errors_are_status_1() -> None:
    with unstarted(settings="unheard_of = 1") as program:
        assert "unheard_of" in refused_start(program)


UNLUCKY = """
from pathlib import Path
from sidecar.cli import main
from sidecar.daemon.process import worker
begin = worker._begin
def begin_or_fail(*given):
    if Path({marker!r}).exists():
        raise RuntimeError("no luck today")
    return begin(*given)
worker._begin = begin_or_fail
main()
"""


def test_workers_that_do_not_become_ready_end_the_start() -> None:
    with unstarted() as program:
        marker = program.directory / "unlucky"
        program.python = ["-c", UNLUCKY.format(marker=str(marker))]
        marker.touch()
        assert program.launch().wait(timeout=120) == 1
        assert program.says("cannot start: a worker ended before it was ready")
        assert "no luck today" in program.log.read_text()
        assert not program.path.exists()


def test_the_node_id_is_made_once_and_kept(program: Program) -> None:
    path = program.directory / "state" / "node_id"
    first = path.read_text()
    assert program.stop() == 0
    program.start()
    assert path.read_text() == first
    accepts(program, b"<x@elsewhere.example>")
    assert {record["nodeid"] for record in program.records()} == {first.strip()}


# --- death


def test_a_worker_that_is_killed_is_replaced_and_service_continues(program: Program) -> None:
    killed, other = sorted(program.workers())
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(program.workers()) == 2 and killed not in program.workers(), "the worker is replaced")
    assert other in program.workers()
    assert program.says("was killed by SIGKILL")
    assert all(program.answers() for _ in range(20))


IGNORING = """
import signal
from sidecar.cli import main
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
main()
"""


def test_children_are_reaped_though_the_parent_has_their_signal_ignored() -> None:
    """Some starters leave SIGCHLD ignored, which a program inherits. Then the kernel keeps no exit status of a child."""
    with unstarted() as program:
        program.python = [
            "-c",
            "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); from sidecar.cli import main; main()",
        ]
        program.start()
        killed = min(program.workers())
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in program.workers() and len(program.workers()) == 2, "the worker is replaced")
        reload(program, "reloaded")
        assert program.stop() == 0
        assert program.says("a worker was killed by SIGKILL")
        assert not program.says("an unexpected fault")


def allowed_cpus(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text().partition("Cpus_allowed_list:")[2].split()[0]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one CPU there is nothing to choose")
@pytest.mark.parametrize("affinity", [True, False])
def test_each_worker_has_its_own_cpu_unless_the_settings_turn_that_off(affinity: bool) -> None:
    """Also one that replaces a dead one. The supervisor runs on all of them."""
    with Program(milter=f"workers = 2\ncpu_affinity = {str(affinity).lower()}") as program:
        everywhere = allowed_cpus(program.pid)
        assert everywhere == allowed_cpus(os.getpid())

        def are_as_wanted() -> bool:
            cpus = [allowed_cpus(pid) for pid in program.workers()]
            return cpus == [everywhere] * 2 if not affinity else len(set(cpus)) == len(cpus) == 2 and everywhere not in cpus

        assert are_as_wanted()
        killed = min(program.workers())
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in program.workers() and are_as_wanted(), "the next worker has the CPU that is free")
        assert program.stop() == 0


def test_workers_ignore_signals(program: Program) -> None:
    """Ctrl-C and systemd signal every process of the group: only the supervisor acts on it."""
    before = program.workers()
    for pid in before:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
    assert all(program.answers() for _ in range(20))
    assert program.workers() == before


@EVERYWHERE
def test_when_the_supervisor_is_killed_no_worker_stays_and_a_new_one_takes_over(engine: str, inet: bool) -> None:
    """An open session is finished, no new one is accepted, and the same address serves again at once."""
    with Program(engine=engine, inet=inet) as program, program.mta() as mta:
        mta.begin()
        first = program.kill_supervisor()
        wait_until(lambda: not program.answers(), "no process accepts new connections")
        program.start()
        assert all(program.answers() for _ in range(10))
        finish(mta)
        wait_until(lambda: not session_members(first), "no worker of the first one is left")
        assert program.answers()
        assert program.stop() == 0


# --- stop


@EVERYWHERE
def test_sigterm_finishes_what_is_open(engine: str, inet: bool) -> None:
    with Program(engine=engine, inet=inet) as program, program.mta() as first, program.mta() as second:
        first.begin()
        second.begin()
        program.signal(signal.SIGTERM)
        wait_until(lambda: program.count("SIGTERM: stopping") == 1, "it is stopping")
        wait_until(lambda: not program.path.exists(), "the socket's path is removed")
        finish(first)
        finish(second)
        assert program.wait() == 0
        assert program.count("stopped") == 1
        assert len(program.records()) == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_open_sessions_it_stops_at_once(program: Program, number: signal.Signals) -> None:
    started = time.monotonic()
    program.signal(number)
    assert program.wait() == 0
    assert time.monotonic() - started < 9  # STOP_GRACE is 10


EARLY = """
import os, signal
from sidecar.cli import main
from sidecar.daemon.process import start
freeze = start.freeze_memory
def stop_and_freeze():
    os.kill(os.getpid(), signal.SIGTERM)
    freeze()
start.freeze_memory = stop_and_freeze
main()
"""


def test_a_signal_between_the_socket_and_the_workers_is_a_normal_stop() -> None:
    with unstarted() as program:
        program.python = ["-c", EARLY]
        assert program.launch().wait(timeout=120) == 0
        assert program.says("stopped")
        assert not program.path.exists()


def test_a_second_signal_does_not_wait(program: Program) -> None:
    with program.mta() as mta:
        mta.begin()
        program.signal(signal.SIGTERM)
        wait_until(lambda: program.count("SIGTERM: stopping") == 1, "it is stopping")
        started = time.monotonic()
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
        assert time.monotonic() - started < 9  # STOP_GRACE is 10


def test_a_worker_that_hangs_is_killed(program: Program) -> None:
    """Here one is stopped by a signal, so that it reads nothing."""
    hanging = min(program.workers())
    os.kill(hanging, signal.SIGSTOP)
    program.signal(signal.SIGTERM)
    wait_until(lambda: program.count("SIGTERM: stopping") == 1, "it is stopping")
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert program.says("was killed by SIGKILL")


def test_the_path_of_another_ones_socket_is_left_alone(program: Program) -> None:
    """The other program keeps it."""
    program.path.unlink()
    program.path.write_text("another program's")
    assert program.stop() == 0
    assert program.path.read_text() == "another program's"


# --- reload


def reload(program: Program, event: str) -> None:
    """Send SIGHUP and wait for what the log must say then."""
    before = program.count(event)
    program.signal(signal.SIGHUP)
    wait_until(lambda: program.count(event) > before, f"the log says {event!r}")


@EVERYWHERE
def test_a_reload_serves_new_messages_with_new_settings_and_those_in_hand_with_the_old(engine: str, inet: bool) -> None:
    """On connections that are open already too. No message sees a mixture, and none is cut off."""
    with Program(engine=engine, inet=inet) as program, program.mta() as mta:
        mta.begin()
        before = program.workers()
        assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
        program.write(domains=MORE_DOMAINS)
        reload(program, "reloaded")
        assert all(accepts(program, b"<a@more.example>") for _ in range(10))
        assert mta.rcpt(b"<a@more.example>") == NOT_PERMITTED
        assert mta.content(OOB) == (DISCARD, [])
        assert mta.envelope(b"<x@x.example>", b"<a@more.example>") == [CONTINUE]
        mta.abort()
        finish(mta)
        wait_until(lambda: len(program.workers()) == 2 and not before & program.workers(), "the old workers are gone")
        assert program.answers()
        assert program.stop() == 0


LATE = """
import time
from sidecar.cli import main
from sidecar.daemon.milter.loop import Loop
from sidecar.daemon.process import reload
leave = Loop.leave
def leave_late(self):
    time.sleep(0.5)
    leave(self)
Loop.leave = leave_late
reload.LEAVE_WITHIN = {within}
main()
"""


@pytest.mark.parametrize(("within", "in_time"), [(20.0, True), (0.1, False)])
def test_a_reload_is_logged_when_the_old_workers_have_left_or_their_time_is_over(within: float, in_time: bool) -> None:
    """If they still accept sessions then, the log says so."""
    with unstarted() as program:
        program.python = ["-c", LATE.format(within=within)]
        program.start()
        program.write(domains=MORE_DOMAINS)
        reload(program, "reloaded")
        assert program.says("old workers have not left the socket in time") != in_time
        assert all(accepts(program, b"<a@more.example>") for _ in range(10)) or not in_time
        assert program.stop() == 0


def test_a_reload_with_errors_changes_nothing_and_logs_every_one(program: Program) -> None:
    before = program.workers()
    program.write(domains='["a.example"]\nrelay_too = true\n["b.example"]\nlog_oob = "Perhaps"\n')
    reload(program, "the reload failed")
    errors = [line for line in program.lines() if line["level"] == "error"]
    assert {str(line.get("where", "")).rpartition(":")[2] for line in errors} >= {"2", "4"}
    assert program.workers() == before
    assert accepts(program, b"<a@relay.example>")


def test_a_reload_whose_workers_fail_changes_nothing() -> None:
    """The old ones serve until the new ones are ready. A later reload may succeed."""
    with unstarted() as program:
        marker = program.directory / "unlucky"
        program.python = ["-c", UNLUCKY.format(marker=str(marker))]
        program.start()
        before = program.workers()
        marker.touch()
        program.write(domains=MORE_DOMAINS)
        reload(program, "the reload failed")
        wait_until(lambda: program.workers() == before, "only the old workers are left")
        assert not accepts(program, b"<a@more.example>")
        marker.unlink()
        reload(program, "reloaded")
        assert accepts(program, b"<a@more.example>")
        assert program.stop() == 0


def test_a_reload_that_could_not_write_records_changes_nothing(program: Program) -> None:
    program.settings = f'[journal]\ndirectory = "{program.path}/impossible"\n'
    program.write(domains=MORE_DOMAINS)
    reload(program, "the reload failed")
    assert program.says("cannot write records into")
    assert not accepts(program, b"<a@more.example>")


def test_a_stop_in_the_middle_of_a_reload_is_a_stop(program: Program) -> None:
    program.signal(signal.SIGHUP)
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    assert not program.path.exists()


def test_a_reload_changes_the_number_of_workers_and_logs_what_it_cannot_change(program: Program) -> None:
    program.milter = 'workers = 3\nsocket_mode = "0600"'
    program.write()
    reload(program, "reloaded")
    wait_until(lambda: len(program.workers()) == 3, "three workers serve")
    assert program.says("milter.socket_mode has changed: that takes effect at the next start")


def engine_of(program: Program) -> str:
    """Return the engine of its workers: only our own has an event descriptor (see loop.py)."""
    (pid,) = program.workers()
    opened = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]  # noqa: PTH115 - no path, but a name
    return "direct" if "anon_inode:[eventfd]" in opened else "libmilter"


@pytest.mark.parametrize(("before", "after"), [("libmilter", "direct"), ("direct", "libmilter")])
def test_a_reload_changes_the_engine(before: str, after: str) -> None:
    """On the same socket, and open sessions are finished by the one that they began with."""
    with Program(engine=before, milter="workers = 1") as program, program.mta() as mta:
        assert engine_of(program) == before
        mta.begin()
        program.engine = after
        program.write()
        reload(program, "reloaded")
        wait_until(lambda: accepts(program, b"<a@relay.example>"), "new sessions are served")
        finish(mta)
        wait_until(lambda: len(program.workers()) == 1 and engine_of(program) == after, "the old worker is gone")
        assert accepts(program, b"<a@relay.example>")
        assert program.stop() == 0


def test_a_reload_under_load_loses_no_session(program: Program) -> None:
    """Four reloads while connections are made one after the other: each gets its answers."""
    for round_ in range(4):
        before = program.count("reloaded")
        program.signal(signal.SIGHUP)
        done = 0
        while program.count("reloaded") == before or done < 25:
            with program.mta() as mta:
                mta.begin(peer="192.0.2.7")
                assert mta.envelope(b"<s@x.example>", b"<a@gmail.example>") == [CONTINUE], round_
                assert mta.content(b"Subject: hello\r\n\r\nhello\r\n") == (ACCEPT, [])
                mta.quit()
            done += 1
