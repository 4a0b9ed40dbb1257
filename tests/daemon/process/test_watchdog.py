"""Signs of life: systemd gets one only while every worker and the socket answer."""

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sidecar.daemon.process.systemd import Probe, watchdog_seconds
from tests.daemon.process.starting import quick
from tests.daemon.process.test_running import reload
from tests.mta.processes import wait_until
from tests.wire.program import Program

ANSWER = b"\0\0\0\x0dO" + b"\0" * 12


@pytest.mark.parametrize(
    ("environ", "within"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "3 s"}, None),
    ],
)
def test_how_often_systemd_wants_a_sign_of_life(environ: dict[str, str], within: float | None) -> None:
    """The environment may be another process's: then nothing is wanted of this one."""
    assert watchdog_seconds(environ) == within


# --- the socket


@contextmanager
def listening(tmp_path: Path, *, inet: bool) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens, and its name in the settings' spelling."""
    with socket.socket(socket.AF_INET if inet else socket.AF_UNIX) as server:
        server.bind(("127.0.0.1", 0) if inet else str(tmp_path / "s"))
        server.listen()
        server.settimeout(120)
        yield server, f"inet:127.0.0.1:{server.getsockname()[1]}" if inet else f"unix:{tmp_path}/s"


def drive(selector: selectors.BaseSelector, condition: Callable[[], object]) -> None:
    """Do what the supervisor does until a condition comes true."""

    def step() -> object:
        for key, _ in selector.select(0.01):
            key.data()
        return condition()

    wait_until(step, "the probe is through")


@pytest.mark.parametrize("inet", [False, True])
@pytest.mark.parametrize("pieces", [[ANSWER], [ANSWER[:4], ANSWER[4:]], [ANSWER[:2], ANSWER[2:5]]])
def test_an_answer_to_the_offer_is_a_sign_of_life(tmp_path: Path, inet: bool, pieces: list[bytes]) -> None:
    """However it is cut; and the connection is ended as an MTA ends it."""
    with listening(tmp_path, inet=inet) as (server, name), selectors.DefaultSelector() as selector:
        probe = Probe(name, selector)
        before = time.monotonic()
        probe.begin()
        drive(selector, lambda: probe._offered)
        one, _ = server.accept()
        with one:
            assert one.recv(100) == b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff"
            for piece in pieces:
                assert probe.answered == 0.0
                one.sendall(piece)
                heard = probe._received + piece
                drive(selector, lambda heard=heard: probe._received == heard)  # type: ignore[misc]  # a default has no type
            assert probe.answered >= before
            assert one.recv(100) == b"\0\0\0\x01Q"
            assert not selector.get_map()


@pytest.mark.parametrize("said", [b"", b"\0\0\0\x01x", b"HTTP/1.0 400"])
def test_anything_else_is_none(tmp_path: Path, said: bytes) -> None:
    with listening(tmp_path, inet=False) as (server, name), selectors.DefaultSelector() as selector:
        probe = Probe(name, selector)
        probe.begin()
        drive(selector, lambda: probe._offered)
        one, _ = server.accept()
        one.sendall(said)
        one.close()
        drive(selector, lambda: not selector.get_map())
        assert probe.answered == 0.0


def test_a_question_that_was_given_up_in_this_turn_is_left(tmp_path: Path) -> None:
    """The selector may have named its connection before."""
    with listening(tmp_path, inet=False) as (_, name), selectors.DefaultSelector() as selector:
        probe = Probe(name, selector)
        probe.begin()
        probe._fail("no answer")
        probe.step()
        assert (probe.answered, probe._offered, len(selector.get_map())) == (0.0, False, 0)


def test_without_a_listener_there_is_none(tmp_path: Path) -> None:
    with selectors.DefaultSelector() as selector:
        probe = Probe(f"unix:{tmp_path}/s", selector)
        probe.begin()
        assert (probe.answered, len(selector.get_map())) == (0.0, 0)


def test_one_that_does_not_answer_is_waited_for_and_then_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection at a time, and no wait for it."""
    with listening(tmp_path, inet=False) as (server, name), selectors.DefaultSelector() as selector:
        probe = Probe(name, selector)
        for _ in range(3):
            probe.begin()
        drive(selector, lambda: probe._offered)
        first, _ = server.accept()
        monkeypatch.setattr("sidecar.daemon.process.systemd.CONNECT_WITHIN", 0.0)
        probe.begin()
        with first:
            assert first.recv(100)
            assert first.recv(100) == b""
        second, _ = server.accept()
        second.close()
        probe.close()


def test_for_a_socket_that_is_only_for_the_mta_the_answers_of_the_workers_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: socket.socket, _address: object) -> None:
        raise PermissionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with selectors.DefaultSelector() as selector:
        probe = Probe(f"unix:{tmp_path}/s", selector)
        probe.begin()
        assert probe.answered > 0.0
        assert not selector.get_map()


# --- the whole


class News:
    """What a program sends to systemd."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        self._received: list[str] = []

    def count(self, word: str) -> int:
        """Count the times that it sent a word so far."""
        with suppress(BlockingIOError):
            while True:
                self._received.append(self._socket.recv(4096).decode())
        return sum(word in one.splitlines() for one in self._received)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


@pytest.fixture
def news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[News]:
    """Have programs believe that systemd started them, and wants to hear of them every half second."""
    news = News(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "500000")
    yield news
    news.close()


def pass_by(seconds: float) -> None:
    """Let time go by, to see that something does not happen; each time it is several times as long as the thing would take."""
    until = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= until, "time goes by")


def hears(news: News, word: str = "WATCHDOG=1", *, more: int = 1) -> None:
    """Wait until a word comes again, so many times."""
    before = news.count(word)
    wait_until(lambda: news.count(word) >= before + more, f"systemd gets {word}")


@pytest.mark.parametrize("inet", [False, True])
def test_systemd_gets_signs_of_life_in_time(news: News, inet: bool) -> None:
    """The questions are not logged."""
    with Program(inet=inet) as program:
        began = time.monotonic()
        hears(news, more=5)
        # At half the time, as sd_watchdog_enabled(3) has it, and no more often.
        assert time.monotonic() - began > 0.9
        assert {line["level"] for line in program.lines() if "root" not in line["event"]} == {"info"}
        assert program.stop() == 0


def test_a_worker_that_hangs_keeps_the_watchdog_unfed_until_another_is_in_its_place(news: News) -> None:
    """It is killed after the time that is in the log. Then systemd gets signs of life again."""
    with quick({"workers.ANSWER_WITHIN": 2.0}) as program:
        program.start()
        hears(news)
        hanging = min(program.workers())
        os.kill(hanging, signal.SIGSTOP)
        # One may be on its way to us, and what the worker answered before may still be passed on, once.
        at_most = news.count("WATCHDOG=1") + 2
        wait_until(lambda: program.says("no sign of life for 2 seconds"), "it is found out")
        assert news.count("WATCHDOG=1") <= at_most
        wait_until(lambda: hanging not in program.workers() and len(program.workers()) == 2, "it is replaced")
        assert program.says("was killed by SIGKILL")
        hears(news, more=2)
        assert all(program.answers() for _ in range(10))
        assert program.stop() == 0


def test_without_the_socket_systemd_gets_no_sign_of_life(news: News) -> None:
    """Workers that no MTA can reach are of no use. When the socket is back, systemd gets signs of life again."""
    with Program() as program:
        hears(news)
        away = program.directory / "away"
        program.path.rename(away)
        wait_until(lambda: program.says("the milter socket does not answer"), "it is found out")
        # What it answered before may still be passed on, once.
        at_most = news.count("WATCHDOG=1") + 1
        pass_by(1.0)
        assert news.count("WATCHDOG=1") <= at_most
        away.rename(program.path)
        hears(news)
        assert program.stop() == 0


def test_without_systemd_a_worker_that_hangs_is_replaced_too() -> None:
    with quick({"workers.ANSWER_WITHIN": 0.5, "systemd.ASK_SECONDS": 0.2}) as program:
        program.start()
        hanging = min(program.workers())
        os.kill(hanging, signal.SIGSTOP)
        wait_until(lambda: hanging not in program.workers() and len(program.workers()) == 2, "it is replaced")
        assert program.stop() == 0


BUSY = """\
import threading
from sidecar.cli import main
from sidecar.daemon.process import systemd, worker, workers
workers.ANSWER_WITHIN = 1.0
systemd.ASK_SECONDS = 0.2
begin = worker._begin
def begin_and_be_busy(*given):
    def work():
        while True:
            pass
    threading.Thread(target=work, daemon=True).start()
    return begin(*given)
worker._begin = begin_and_be_busy
main()
"""


def test_a_worker_that_is_busy_is_not_killed() -> None:
    """It answers beside its work."""
    with quick({}, milter="workers = 1") as program:
        program.python = ["-c", BUSY]
        program.start()
        before = program.workers()
        pass_by(2.0)
        assert program.workers() == before
        assert not program.says("no sign of life")


HANGING = """\
import threading
from sidecar.cli import main
from sidecar.daemon.milter import translation
from sidecar.daemon.process import systemd, workers
workers.ANSWER_WITHIN = 0.5
systemd.ASK_SECONDS = 0.2
helo = translation.helo
def hang_or_continue(arguments, name):
    if name == "hang":
        threading.Event().wait()
    return helo(arguments, name)
translation.helo = hang_or_continue
main()
"""


def test_a_direct_engine_that_hangs_is_killed_and_another_one_takes_its_place() -> None:
    """Its other threads run, and serve no one. The connection is closed for the MTA; the next one is answered."""
    with quick({}, milter="workers = 1", engine="direct") as program:
        program.python = ["-c", HANGING]
        program.start()
        before = program.workers()
        with program.mta() as mta:
            mta.begin()
            mta.helo(b"hang")
            wait_until(lambda: program.says("no sign of life for 0 seconds"), "it is found out")
            assert mta.socket.recv(1) == b""
        wait_until(lambda: len(program.workers()) == 1 and program.workers() != before, "it is replaced")
        assert program.answers()
        assert program.stop() == 0


SLOW = """\
import time
from sidecar.cli import main
from sidecar.daemon.process import systemd, workers
from sidecar.daemon.process.reload import Reload
workers.ANSWER_WITHIN = 0.5
begin = Reload.begin
def begin_slowly(self):
    if self.wanted:
        for one in self._workers.children:
            one.ask()
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            pass
    begin(self)
Reload.begin = begin_slowly
main()
"""


def test_a_reload_that_takes_long_is_no_fault_of_the_workers() -> None:
    """Their answers of that time are received before they are killed."""
    with quick({}) as program:
        program.python = ["-c", SLOW]
        program.start()
        reload(program, "reloaded")
        assert program.answers()
        assert not program.says("no sign of life")
        assert program.stop() == 0
