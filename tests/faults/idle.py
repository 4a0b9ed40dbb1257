"""Connections on which nothing happens: what each costs, and whether others are served meanwhile.

Owns the connections. Two halves: those that have said nothing at all, and those that stopped talking after HELO.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from msgspec import Struct

from tests.faults.flood import DOMAINS, Footprint, cpu_time, footprint
from tests.wire.client import CONTINUE
from tests.wire.program import Program


class Report(Struct, frozen=True, kw_only=True):
    """A worker before and beside so many idle connections.

    `busy_before` and `busy_beside` are the seconds of CPU time that the same sessions took without them and beside them.
    `slowest` is the longest of those sessions, in seconds.
    """

    connections: int
    before: Footprint
    beside: Footprint
    busy_before: float
    busy_beside: float
    slowest: float

    @property
    def each(self) -> float:
        """Give the bytes that one idle connection takes."""
        return (self.beside.memory - self.before.memory) / self.connections


def idle(number: int, *, engine: str, sessions: int = 200) -> Report:
    """Open so many connections to one worker, let them be idle, and have sessions beside them."""
    program = Program(domains=DOMAINS, engine=engine, milter="workers = 1")
    with _descriptors(number), program, ExitStack() as stack:
        (pid,) = program.workers()
        busy_before, _ = _sessions(program, pid, sessions)
        before = footprint(pid)
        for index in range(number):
            mta = stack.enter_context(program.mta())
            if index % 2:
                mta.begin(peer=f"203.0.113.{index % 250}")
        busy_beside, slowest = _sessions(program, pid, sessions)
        return Report(
            connections=number,
            before=before,
            beside=footprint(pid),
            busy_before=busy_before,
            busy_beside=busy_beside,
            slowest=slowest,
        )


@contextmanager
def _descriptors(number: int) -> Iterator[None]:
    """Let this process open so many connections; a shell's limit is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, number + 1000)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _sessions(program: Program, pid: int, number: int) -> tuple[float, float]:
    """Have so many sessions; return the CPU time that the worker took for them, and the longest one, in seconds.

    The worker may still be busy with what came before, and a busy machine makes it slower: the least of three times counts.
    """
    busy, slowest = [], 0.0
    for _ in range(3):
        began = cpu_time(pid)
        slowest = max(slowest, *(_session(program) for _ in range(number)))
        busy.append(cpu_time(pid) - began)
    return min(busy), slowest


def _session(program: Program) -> float:
    """Have one session to its end; give the seconds it took."""
    began = time.monotonic()
    with program.mta() as mta:
        mta.begin()
        assert mta.envelope(b"<>", b"<a@relay.example>") == [CONTINUE]
        mta.abort()
        mta.quit()
    return time.monotonic() - began
