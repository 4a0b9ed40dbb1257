"""Old workers after reloads: by which policy they judge, how many there are, and what remains of them."""

import os
import selectors
import signal
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from sidecar.core.policy import compile_policy
from sidecar.daemon.process.child import control_pair
from sidecar.daemon.process.plan import Plan
from sidecar.daemon.process.workers import KILL_AFTER, RELOAD_GRACE, RETIRING_GENERATIONS, STOP_GRACE, Worker, Workers
from tests.building import settings
from tests.daemon.process.starting import quick
from tests.daemon.process.test_running import NOT_PERMITTED, accepts, finish, reload
from tests.mta.processes import wait_until
from tests.wire.client import ACCEPT, CONTINUE, DISCARD, TROUBLE, Mta
from tests.wire.program import DOMAINS, Program
from tests.wire.test_program import OOB

ENGINES = pytest.mark.parametrize("engine", ["libmilter", "direct"])
CLOSED = DOMAINS.replace("relay_to = true", "relay_to = false")
PLAIN = b"Subject: hello\r\n\r\nhello\r\n"
TO = b"<a@relay.example>"


def descriptors(pid: int) -> list[str]:
    """Return what the open descriptors of a process are."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed by now
            found.append(os.readlink(path))  # noqa: PTH115 - no path, but a name
    return found


@ENGINES
def test_a_right_that_was_taken_away_ends_with_the_message_in_hand(engine: str) -> None:
    """Of connections that were open before the reload: their next MAIL takes the new policy. Nothing is cut off."""
    with Program(engine=engine, domains=DOMAINS) as program:
        idle, begun, elsewhere = mtas = [program.mta() for _ in range(3)]
        for mta in mtas:
            mta.begin()
        assert begun.envelope(b"<s@x.example>", TO) == [CONTINUE]
        program.write(domains=CLOSED)
        reload(program, "reloaded")
        assert idle.envelope(b"<s@x.example>", TO) == [NOT_PERMITTED]
        assert begun.rcpt(b"<b@relay.example>") == CONTINUE
        assert begun.content(PLAIN) == (ACCEPT, [])
        assert begun.envelope(b"<s@x.example>", TO) == [NOT_PERMITTED]
        assert elsewhere.envelope(b"<>", b"<b@bounce.example>") == [CONTINUE]
        assert elsewhere.content(OOB) == (DISCARD, [])
        for mta in mtas:
            mta.quit()
        assert program.stop() == 0


@ENGINES
def test_headers_that_are_recorded_no_more_change_no_step_of_an_open_connection(engine: str) -> None:
    """Where DATA goes without an answer, as agreed on, a relay host's message is accepted after its headers."""
    with Program(engine=engine, settings='headers = ["subject"]') as program, program.mta() as mta:
        mta.begin(peer="192.0.2.7")
        program.settings = ""
        program.write()
        reload(program, "reloaded")
        for _ in range(2):
            assert mta.envelope(b"<s@x.example>", b"<a@elsewhere.example>") == [CONTINUE]
            assert mta.content(PLAIN) == (ACCEPT, [])
        mta.quit()
        assert not any(line["level"] == "error" for line in program.lines())
        assert program.stop() == 0


UNABLE = """
from pathlib import Path
from sidecar.cli import main
from sidecar.daemon.process import worker
def fail(settings):
    raise MemoryError("no room")
worker.compile_policy = fail
main()
"""


@ENGINES
def test_a_worker_that_cannot_apply_the_new_settings_accepts_nothing_by_the_old(engine: str) -> None:
    """An open message ends by the rules that it began with; then the connection is answered 451, and the log has the reason."""
    with quick({}, engine=engine) as program:
        program.python = ["-c", UNABLE]
        program.start()
        with program.mta() as idle, program.mta() as begun:
            idle.begin()
            begun.begin()
            assert begun.envelope(b"<s@x.example>", TO) == [CONTINUE]
            program.write(domains=CLOSED)
            reload(program, "reloaded")
            assert program.says("this old worker could not apply the reloaded settings")
            assert "no room" in program.log.read_text()
            for _ in range(2):
                assert idle.envelope(b"<s@x.example>", TO) == [TROUBLE]
                idle.abort()
            assert begun.content(PLAIN) == (ACCEPT, [])
            assert begun.envelope(b"<s@x.example>", TO) == [TROUBLE]
            assert not accepts(program, TO)
        assert program.stop() == 0


@ENGINES
def test_reloads_in_a_row_leave_a_bounded_number_of_workers_and_descriptors(engine: str) -> None:
    """Each generation has an open connection. Those of the newest ones continue, by the newest policy."""
    with quick({"workers.STOP_GRACE": 0.1}, engine=engine, milter="workers = 1") as program, ExitStack() as stack:
        program.start()
        held: list[Mta] = []

        def reload_four_times() -> None:
            for number in range(4):
                held.append(stack.enter_context(program.mta()))
                held[-1].begin()
                program.write(domains=CLOSED if number % 2 else DOMAINS)
                reload(program, "reloaded")
                # Beside the serving generation and the old ones with time, one or two may be about to end.
                assert len(program.workers()) <= 1 + RETIRING_GENERATIONS + 2
            wait_until(lambda: len(program.workers()) == 1 + RETIRING_GENERATIONS, "the oldest generations have ended")

        reload_four_times()
        opened = len(descriptors(program.pid))
        reload_four_times()
        wait_until(lambda: len(descriptors(program.pid)) <= opened, "the supervisor has no more descriptors than before")
        # A table has two descriptors, its own and LMDB's. A worker has the tables of the plans that were in use when it began,
        # and of those that it received.
        for pid in program.workers():
            assert sum("memfd:sidecar" in name for name in descriptors(pid)) <= 2 * 2 * (1 + RETIRING_GENERATIONS + 2)
        for mta in held[:-RETIRING_GENERATIONS]:
            assert mta.socket.recv(1) == b""
        for mta in held[-RETIRING_GENERATIONS:]:
            assert mta.envelope(b"<s@x.example>", TO) == [NOT_PERMITTED]
            mta.abort()
            finish(mta)
        wait_until(lambda: len(program.workers()) == 1, "an old worker ends with its last connection")
        assert program.stop() == 0


@ENGINES
def test_an_old_worker_without_connections_ends_at_once(engine: str) -> None:
    with Program(engine=engine) as program:
        before = program.workers()
        reload(program, "reloaded")
        wait_until(lambda: not before & program.workers(), "the old workers are gone", seconds=5)
        assert program.stop() == 0


def test_an_old_worker_that_does_not_apply_the_new_settings_is_ended() -> None:
    """As one that is stopped. Its connections are closed soon, not in ten minutes."""
    changes = {"reload.LEAVE_WITHIN": 0.2, "reload.STOP_GRACE": 0.1, "workers.KILL_AFTER": 0.1}
    with quick(changes, milter="workers = 1") as program:
        program.start()
        with program.mta() as mta:
            mta.begin()
            (old,) = program.workers()
            os.kill(old, signal.SIGSTOP)
            program.write(domains=CLOSED)
            reload(program, "reloaded")
            (warning,) = [line for line in program.lines() if line["event"].startswith("old workers have not left")]
            assert warning["pids"] == [old]
            wait_until(lambda: old not in program.workers(), "it is ended")
        assert program.stop() == 0


@ENGINES
def test_sessions_of_workers_whose_plan_was_given_up_return_to_the_serving_plan(engine: str) -> None:
    """A worker that was ready takes connections before the others are, and one of these may fail."""
    with quick({}, engine=engine, milter="workers = 2") as program:
        marker = program.directory / "late"
        program.python = ["-c", GIVEN_UP.format(marker=str(marker))]
        program.start()
        old = program.workers()
        marker.touch()
        program.write(domains=CLOSED)
        program.signal(signal.SIGHUP)
        wait_until(marker.with_suffix(".second").exists, "one new worker serves, and the other one is about to")
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not old & program.workers(), "the old workers are dead")
        with ExitStack() as stack:
            opened: list[Mta] = []

            def is_rejected() -> bool:
                opened.append(stack.enter_context(program.mta()))
                opened[-1].begin()
                return opened[-1].envelope(b"<s@x.example>", TO) == [NOT_PERMITTED]

            wait_until(is_rejected, "a new worker has a connection")
            marker.unlink()
            wait_until(lambda: program.says("the reload failed"), "the reload fails")
            opened[-1].abort()
            wait_until(lambda: _accepted(opened[-1]), "the connection's next message is judged by the plan that serves")
        assert program.stop() == 0


GIVEN_UP = """
import time
from pathlib import Path
from sidecar.cli import main
from sidecar.daemon.process import worker
marker, begin = Path({marker!r}), worker._begin
def begin_or_fail(*given):
    if marker.exists():
        try:
            marker.with_suffix(".first").touch(exist_ok=False)
        except FileExistsError:
            while not marker.with_suffix(".ready").exists():
                time.sleep(0.01)
            marker.with_suffix(".second").touch()
            while marker.exists():
                time.sleep(0.01)
            raise RuntimeError("no luck today")
        begun = begin(*given)
        marker.with_suffix(".ready").touch()
        return begun
    return begin(*given)
worker._begin = begin_or_fail
main()
"""


def _accepted(mta: Mta) -> bool:
    answers = mta.envelope(b"<s@x.example>", TO)
    mta.abort()
    return answers == [CONTINUE]


# --- the times


def test_the_oldest_generations_get_less_time() -> None:
    """Two keep what a reload gives, the next gets what a stop gives, and those before it nothing; however often it is done."""
    made = settings()
    plans = [Plan(settings=made, policy=compile_policy(made), node_id="", revision="", made=0.0) for _ in range(6)]
    ours, theirs = control_pair()
    with ours, theirs, selectors.DefaultSelector() as selector:
        workers = Workers(
            serve=lambda *_: 0,
            start=lambda *_: 0,
            close_inherited=lambda: None,
            lost=lambda *_: None,
            memory=None,
            selector=selector,
            clock=lambda: 1000.0,
        )
        for old, new in pairwise(plans):
            workers.children += [Worker(pid=0, control=ours, plan=old, clock=lambda: 1000.0) for _ in range(2)]
            for _ in range(3):
                workers.follow(new, None)
        graces = [one.kill_at - KILL_AFTER - 1000.0 for one in workers.children if one.kill_at is not None]
    assert graces == [0] * 4 + [STOP_GRACE] * 2 + [RELOAD_GRACE] * 4
    assert workers.behind(plans[-1]) == workers.children
    for one in workers.children:
        one.left = True
    assert workers.behind(plans[-1]) == []
