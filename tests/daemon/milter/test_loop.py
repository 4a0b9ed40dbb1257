"""The loop with real sockets: which connection waits for which, and MTAs that disconnect at the wrong moment."""

import errno
import os
import resource
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import milter
import pytest

from sidecar.daemon.milter import loop
from sidecar.daemon.milter.context import WAITING
from sidecar.daemon.milter.conversation import Callback, Conversation, Steps
from sidecar.daemon.milter.loop import Loop
from sidecar.daemon.milter.negotiation import Step
from tests.mta.processes import wait_until
from tests.wire.client import ACCEPT, CONTINUE, Mta, Reply

SLOW = b"<slow@b>"
FAULTY = b"<faulty@b>"
LATE = b"<late@b>"
TEMPFAIL = Reply("t")


class Served:
    """A loop on a socket of its own.

    The end of a message from SLOW waits until `disk` is set. FAULTY as a recipient raises, and so do the end of a message from
    it, at once, or from LATE, later, and the end of a connection after one.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.disk = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.closed: list[object] = []
        self.recipients: list[bytes] = []
        self.ended = threading.Event()
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(64)
        callbacks: dict[Step, Callback] = dict.fromkeys(Step, self._go_on)
        callbacks[Step.MAIL] = self._mail
        callbacks[Step.RCPT] = self._rcpt
        callbacks[Step.END_OF_MESSAGE] = self._end_message
        callbacks[Step.CLOSE] = self._close
        self.loop = Loop(self.listening.fileno(), Steps(callbacks, self._negotiate), self.ended.set)
        self.loop.start()

    def mta(self) -> Mta:
        """Connect to it."""
        return Mta(self.path)

    @staticmethod
    def _negotiate(_context: Conversation, offer: list[int]) -> int:
        offer[:] = [0, 0, 0, 0]
        return int(milter.CONTINUE)

    @staticmethod
    def _go_on(_context: Conversation, _payload: bytes) -> int:
        return int(milter.CONTINUE)

    @staticmethod
    def _mail(context: Conversation, payload: bytes) -> int:
        context.setpriv(payload)
        return int(milter.CONTINUE)

    def _rcpt(self, _context: Conversation, payload: bytes) -> int:
        self.recipients.append(payload)
        if payload == FAULTY + b"\0":
            raise RuntimeError("the test says so")
        return int(milter.CONTINUE)

    def _end_message(self, context: Conversation, _payload: bytes) -> int:
        if context.getpriv() == FAULTY + b"\0":
            raise RuntimeError("the test says so")
        if context.getpriv() == LATE + b"\0":
            context.resume_later(self._fail)
            return WAITING
        if context.getpriv() == SLOW + b"\0":
            threading.Thread(target=self._wait, args=(context,)).start()
            return WAITING
        return int(milter.ACCEPT)

    @staticmethod
    def _fail() -> int:
        raise RuntimeError("the test says so")

    def _wait(self, context: Conversation) -> None:
        self.waiting.release()
        assert self.disk.wait(10)
        context.resume_later(lambda: int(milter.ACCEPT))

    def _close(self, context: Conversation, _payload: bytes) -> int:
        self.closed.append(context.getpriv())
        if context.getpriv() == FAULTY + b"\0":
            raise RuntimeError("the test says so")
        return int(milter.CONTINUE)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "s")
    yield one
    one.disk.set()
    one.loop.leave()
    one.listening.close()


def begin(mta: Mta, sender: bytes = b"<a@b>") -> None:
    """Send a message up to its end."""
    mta.negotiate()
    mta.connect()
    mta.envelope(sender, b"<c@d>")
    mta.data()
    mta.end_of_headers()


def test_who_waits_for_the_disk_holds_up_nobody(served: Served) -> None:
    """Ends of messages wait, and another connection is answered; then all are."""
    with ExitStack() as stack:
        slow = [stack.enter_context(served.mta()) for _ in range(20)]
        for mta in slow:
            begin(mta, SLOW)
            mta.send(b"E")
        for _ in range(20):
            assert served.waiting.acquire(timeout=10)
        with served.mta() as other:
            begin(other)
            assert other.rcpt(b"<e@f>") == CONTINUE
        served.disk.set()
        assert [mta.reply() for mta in slow] == [ACCEPT] * 20


@pytest.mark.parametrize("more", [b"", b"\0\0\0\x01A"])
def test_an_mta_may_go_away_while_its_message_waits_for_the_disk(served: Served, more: bytes) -> None:
    """The session ends when the wait is over, once, and the loop continues; meanwhile it does not spin."""
    with served.mta() as mta:
        begin(mta, SLOW)
        mta.send(b"E")
        assert served.waiting.acquire(timeout=10)
        mta.socket.sendall(more)
    spent = os.times().user
    with served.mta() as other:
        begin(other)
        assert other.end_of_message() == (ACCEPT, [])
    assert served.loop.open_connections() >= 1
    threading.Event().wait(0.3)
    assert os.times().user - spent < 0.15
    served.disk.set()
    wait_until(lambda: len(served.closed) == 2, "both sessions are ended")
    wait_until(lambda: served.loop.open_connections() == 0, "no connection is left")


def test_what_is_sent_on_during_the_wait_is_heard_after_it(served: Served) -> None:
    with served.mta() as mta:
        begin(mta, SLOW)
        mta.send(b"E")
        assert served.waiting.acquire(timeout=10)
        mta.send(b"M", b"<next@b>\0")
        served.disk.set()
        assert mta.reply() == ACCEPT
        assert mta.reply() == CONTINUE


def test_answers_that_nobody_reads_hold_up_nobody(served: Served) -> None:
    """Nothing more is read from such an MTA, so that its output has a bound; when it reads, nothing is missing."""
    count = 150_000
    with served.mta() as mta:
        mta.negotiate()
        mta.connect()
        sender = threading.Thread(target=mta.socket.sendall, args=(b"\0\0\0\x04Rx\0\0" * count,))
        sender.start()
        with served.mta() as other:
            begin(other)
            assert other.end_of_message() == (ACCEPT, [])
        assert sender.is_alive()
        answers = b"\0\0\0\x01c" * count
        assert mta.socket.makefile("rb").read(len(answers)) == answers
        sender.join(10)


def test_what_was_answered_is_sent_although_the_mta_has_said_its_last_word(served: Served) -> None:
    """More than the system takes at once; the connection ends when all is sent."""
    count = 2000
    with served.mta() as mta:
        mta.negotiate()
        mta.connect()
        (connection,) = served.loop._connections.values()
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        mta.socket.sendall(b"\0\0\0\x04Rx\0\0" * count + b"\0\0\0\x01Q")
        wait_until(lambda: connection.unsent, "some of it cannot be sent yet")
        assert mta.socket.makefile("rb").read() == b"\0\0\0\x01c" * count


def test_a_flood_of_small_packets_lets_the_others_have_their_turns(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one read brings is taken a few packets at a time. Between them the loop attends to whoever else has something."""
    monkeypatch.setattr(loop, "_TURN_SECONDS", 0.0)
    flood, others = b"\0\0\0\x04Rx\0\0" * 2000, b"<other@b>\0"
    with served.mta() as mta, served.mta() as other:
        for one in (mta, other):
            one.negotiate()
            one.connect()
        held, entered = threading.Event(), threading.Event()
        served.loop._do_in_loop(lambda: (entered.set(), held.wait(10)))  # type: ignore[arg-type, func-returns-value]
        assert entered.wait(10)
        mta.socket.sendall(flood)
        other.send(b"R", others)
        held.set()
        assert other.reply() == CONTINUE
        assert mta.socket.makefile("rb").read(5 * 2000) == b"\0\0\0\x01c" * 2000
    assert served.recipients.index(others) < 100
    assert len(served.recipients) == 2001


def test_a_fault_that_nobody_foresaw_is_a_temporary_failure_of_one_connection(served: Served) -> None:
    """At the end of messages, also of one that has waited, at another step, and at the end of a connection."""
    for sender in (FAULTY, LATE):
        with served.mta() as mta:
            begin(mta, sender)
            mta.send(b"E")
            assert mta.reply() == TEMPFAIL
            assert mta.socket.recv(1) == b""
    with served.mta() as mta:
        mta.negotiate()
        mta.connect()
        mta.mail()
        assert mta.rcpt(FAULTY) == TEMPFAIL
        assert mta.socket.recv(1) == b""
    with served.mta() as mta:
        begin(mta)
        assert mta.end_of_message() == (ACCEPT, [])
    wait_until(lambda: served.loop.open_connections() == 0, "all connections are ended")
    assert not served.ended.is_set()


class Narrow:
    """An epoll object that has no room for one more."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll

    def __getattr__(self, name: str) -> object:
        return getattr(self._epoll, name)

    @staticmethod
    def register(*_: object) -> None:
        """Fail as epoll_ctl(2) does."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_connection_that_cannot_be_watched_is_ended_and_no_other(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a new one nor one that has to be watched again after a wait."""
    with served.mta() as mta, served.mta() as other:
        begin(other)
        begin(mta, SLOW)
        mta.send(b"E")
        assert served.waiting.acquire(timeout=10)
        mta.socket.shutdown(socket.SHUT_WR)
        wait_until(lambda: not all(one.watched for one in served.loop._connections.values()), "it is not watched any more")
        with monkeypatch.context() as patch:
            patch.setattr(served.loop, "_epoll", Narrow(served.loop._epoll))
            served.disk.set()
            assert mta.socket.recv(1) == b""
            with served.mta() as late:
                assert late.socket.recv(1) == b""
        assert other.end_of_message() == (ACCEPT, [])
    assert not served.ended.is_set()


def test_without_descriptors_it_waits_for_some_and_says_so_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it accepts the MTA that waited. A connection that is accepted between two shortages does not change that."""
    said: list[str] = []
    monkeypatch.setattr(loop, "_RETRY_SECONDS", 0.005)
    monkeypatch.setattr(loop._LOG, "error", said.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as late:
            os.close(free := os.dup(late.fileno()))
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                late.connect(served.path)
                for _ in range(5):
                    before = served.loop._accept_again
                    wait_until(lambda before=before: served.loop._accept_again not in {before, None}, "it has tried again")  # type: ignore[misc]  # a default has no type
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            wait_until(lambda: served.loop.open_connections() == 1, "it is accepted")
        wait_until(lambda: served.loop.open_connections() == 0, "it is ended")
    assert said == ["cannot accept a connection: Too many open files; trying again until that is over"]


def test_an_mta_that_sends_as_fast_as_it_can_has_to_take_turns(served: Served) -> None:
    """Another one is served before all packets of the first are handled."""
    count, all_sent = 12_000, threading.Event()
    with served.mta() as first, served.mta() as other:
        for mta in (first, other):
            mta.negotiate()
            mta.connect()
        served.loop.prove_alive(lambda: None if all_sent.wait(10) else pytest.fail("the test did not end the wait"))
        first.socket.sendall(b"\0\0\0\x04Rx\0\0" * count)
        other.send(b"R", b"other\0")
        all_sent.set()
        assert other.reply() == CONTINUE
        assert served.recipients.index(b"other\0") < count / 2


def test_after_leaving_none_is_accepted_and_the_open_ones_go_on(served: Served) -> None:
    with served.mta() as mta:
        begin(mta)
        served.loop.leave()
        with served.mta() as late:
            late.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.negotiate()
        assert mta.end_of_message() == (ACCEPT, [])
        assert served.loop.open_connections() == 1


def test_an_mta_that_says_nothing_for_two_hours_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """As libmilter does; one that waits for us is not."""
    with served.mta() as silent, served.mta() as waiting:
        silent.negotiate()
        silent.connect()
        begin(waiting, SLOW)
        waiting.send(b"E")
        assert served.waiting.acquire(timeout=10)
        monkeypatch.setattr(loop, "_IDLE_SECONDS", -1.0)
        monkeypatch.setattr(served.loop, "_sweep_at", 0.0)
        served.loop.prove_alive(lambda: None)
        assert silent.socket.recv(1) == b""
        served.disk.set()
        assert waiting.reply() == ACCEPT


def test_where_the_loop_hangs_it_gives_no_sign_of_life(served: Served) -> None:
    """The supervisor's question is answered by the loop itself, in its turn."""
    hangs, answered = threading.Event(), threading.Event()
    served.loop.prove_alive(lambda: None if hangs.wait(10) else pytest.fail("the test did not end the wait"))
    served.loop.prove_alive(answered.set)
    assert not answered.wait(0.1)
    hangs.set()
    assert answered.wait(10)


def test_a_loop_that_fails_says_so(served: Served) -> None:
    """Its process ends then, and another takes its place."""

    def fail() -> None:
        raise RuntimeError("the test says so")

    served.loop.prove_alive(fail)
    assert served.ended.wait(10)
    served.loop._left.set()  # no thread would do it any more
    served.loop._listening.close()
