"""What a connection costs a worker: CPU time and peak memory, from an MTA's packets to records on disk, on the direct engine.

Owns the stop-watch. Never judges what it reads off.
"""

import gc
import itertools
import tempfile
import time
import tracemalloc
from pathlib import Path

from msgspec import Struct

from sidecar import log
from sidecar.core.policy import compile_policy
from sidecar.core.session import Quota, Rules, Session, World
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings
from sidecar.daemon.milter import Adapter
from sidecar.daemon.milter.conversation import Conversation, Steps
from sidecar.daemon.milter.packets import TRANSLATIONS
from sidecar.journal.write import Quarantine, Recorder, Routes
from tests.core.session.driving import NODE

# What the loop reads at once, and within a packet that is larger.
_READ = 16 * 1024
_LARGE_READ = 128 * 1024
# Seconds of CPU time that `_calibrate` took on the machine where the limits were measured.
_REFERENCE = 0.0057
_REPEATS = 3
# The time of the disk is not what is measured.
_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory below it


class Cost(Struct, frozen=True, kw_only=True):
    """`cpu` in seconds of the reference machine, `memory` in bytes at the peak, and how many `records` were written."""

    cpu: float
    memory: int
    records: int


def measure(packets: bytes, settings: Settings, repeats: int = _REPEATS, *, trace: bool = True) -> Cost:
    """Run one connection several times: the least CPU time, and, in a run of its own, the peak of memory."""
    log.configure(level="critical")
    speed = min(_calibrate() for _ in range(3)) / _REFERENCE
    runs = [_timed(packets, settings) for _ in range(repeats)]
    memory, records = _traced(packets, settings) if trace else (0, 0)
    return Cost(cpu=min(runs) / speed, memory=memory, records=records)


def _timed(packets: bytes, settings: Settings) -> float:
    with tempfile.TemporaryDirectory(dir=_DISK) as directory:
        connection = _Connection(settings, Path(directory))
        gc.collect()
        start = time.process_time()
        connection.run(packets)
        took = time.process_time() - start
        connection.close()
        return took


def _traced(packets: bytes, settings: Settings) -> tuple[int, int]:
    with tempfile.TemporaryDirectory(dir=_DISK) as directory:
        connection = _Connection(settings, Path(directory))
        gc.collect()
        tracemalloc.start()
        try:
            connection.run(packets)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        connection.close()
        return peak, sum(path.read_bytes().count(b"\n") for path in Path(directory).rglob("*.jsonl"))


class _Connection:
    """A worker with one connection, without its socket."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        journal = JournalSettings(directory=directory / "journal", format=settings.journal.format)
        self._recorder = Recorder(
            journal=Routes(journal),
            quarantine=Quarantine(directory / "quarantine", size=settings.limits.quarantine_size, age=3600),
            limits=settings.limits,
        )
        policy, quota, ids = compile_policy(settings), Quota(settings.limits), itertools.count()
        world = World(clock=time.time, new_id=lambda: f"00000000-0000-4000-8000-{next(ids):012x}", node_id=NODE)
        rules = Rules(policy=policy, settings=settings)
        adapter = Adapter(
            translations=TRANSLATIONS,
            new_session=lambda: Session(rules=lambda: rules, world=world, quota=quota),
            recorder=self._recorder,
            answers_connect=policy.rejects_at_connect,
            answers_data=settings.decides_at_data,
        )
        # Without `waits`, each callback returns its answer.
        self._conversation = Conversation(Steps(adapter.callbacks, adapter.negotiate), lambda _: None)

    def run(self, packets: bytes) -> None:
        conversation, at = self._conversation, 0
        while at < len(packets):
            size = _LARGE_READ if conversation.wanted > _READ else _READ
            conversation.receive(packets[at : at + size])
            while conversation.more:
                conversation.receive(b"")
            conversation.output.clear()
            at += size

    def close(self) -> None:
        self._conversation.close()
        self._recorder.close()


def _calibrate() -> float:
    """Take the time of a loop of Python's own."""
    start = time.process_time()
    total = 0
    for number in range(200_000):
        total += number & 7
    return time.process_time() - start
