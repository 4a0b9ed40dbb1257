"""Faults of NATS servers and of the shipper, while records are written: none may be lost, and none stored twice.

Owns the faults and the count. Three servers replicate the stream, and one node ships to them.
"""

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event, Thread

from msgspec import Struct

from sidecar.core.settings.settings import Settings
from sidecar.fleet import READER
from sidecar.fleet.shipper import ship
from sidecar.journal.read import Checkpoints
from tests.fleet.servers import Server, cluster
from tests.fleet.shipping import leader_of, make_stream, record, stored, with_fleet, write
from tests.mta.processes import wait_until

# Records a second, in two segments at a time, each of so many records.
_RATE = 1000
_SEGMENT = 5000
# Longer than a server needs to be missed by the others.
_HANG_SECONDS = (1.0, 6.0)
_PAUSE_SECONDS = (0.2, 3.0)
# The fork of a process with threads: the child runs only the shipper.
_FORK = get_context("fork")


class FleetFaults(Struct, kw_only=True):
    """What happened: faults by name, records written, and the ids that are missing or were stored twice."""

    faults: Counter[str]
    written: int
    lost: list[str]
    repeated: list[str]


class _Writer(Thread):
    """Writes records into two segments at a time until `end`."""

    def __init__(self, made: Settings) -> None:
        super().__init__()
        self._made, self.end = made, Event()
        self.ids = list[str]()

    def run(self) -> None:
        number = 0
        while not self.end.wait(0.05):
            for worker in (0, 1):
                batch = [record(number + index) for index in range(_RATE // 40)]
                name = f"20261130-12{number // _SEGMENT // 60 % 60:02}{number // _SEGMENT % 60:02}.00000{worker}"
                self.finish_others(worker, name)
                write(self._made, name, batch)
                self.ids += [one["id"] for one in batch]
                number += len(batch)

    def finish_others(self, worker: int, name: str) -> None:
        for path in self._made.journal.directory.glob(f"*.00000{worker}.jsonl"):
            if path.stem != name and path.stat().st_mode & 0o200:
                path.chmod(0o440)


class _Shipper:
    """The shipper's process, which its supervisor replaces."""

    def __init__(self, made: Settings) -> None:
        self._made = made
        self._process: BaseProcess | None = None
        self.start()

    def start(self) -> None:
        self._stop = stop = _FORK.Event()
        self._process = _FORK.Process(target=ship, args=(self._made, lambda _: stop.is_set()))
        self._process.start()

    def end(self, *, kill: bool) -> None:
        assert self._process is not None
        if kill:
            self._process.kill()
        else:
            self._stop.set()
        self._process.join()

    def replace(self, *, kill: bool) -> None:
        self.end(kill=kill)
        self.start()


def attack(number: int, *, seed: int, seconds: float) -> FleetFaults:
    """Make so many faults, or as many as fit into the time. Return what was lost."""
    chance = random.Random(seed)  # noqa: S311 - the same faults again
    until = time.monotonic() + seconds
    faults = Counter[str]()
    with cluster() as servers, tempfile.TemporaryDirectory(prefix="sidecar-fleet-") as folder:
        made = with_fleet(Path(folder), *servers)
        make_stream(made, replicas=3)
        writer = _Writer(made)
        writer.start()
        shipper = _Shipper(made)
        try:
            while faults.total() < number and time.monotonic() < until:
                name = chance.choice(list(_FAULTS))
                faults[name] += 1
                _FAULTS[name](chance, servers, shipper, made)
                time.sleep(chance.uniform(*_PAUSE_SECONDS))
        finally:
            writer.end.set()
            writer.join()
            try:
                with suppress(TimeoutError):
                    wait_until(lambda: _is_delivered(made), "all is delivered")
            finally:
                shipper.end(kill=False)
        messages = stored(made)
        names = Counter(name for _, name, _ in messages)
        found = {one["id"] for _, _, one in messages}
    return FleetFaults(
        faults=faults,
        written=len(writer.ids),
        lost=[one for one in writer.ids if one not in found],
        repeated=[name for name, count in names.items() if count > 1],
    )


def _is_delivered(made: Settings) -> bool:
    marks = Checkpoints(made.checkpoints_directory).load(READER).segments
    return all(
        (mark := marks.get(str(path))) is not None and mark.lines == path.read_bytes().count(b"\n")
        for path in made.journal.directory.iterdir()
    )


Fault = Callable[[random.Random, Sequence[Server], _Shipper, Settings], None]


def _kill_leader(chance: random.Random, servers: Sequence[Server], _shipper: _Shipper, made: Settings) -> None:
    name = ""
    with suppress(Exception):  # no leader now
        name = leader_of(made)
    _restart([one for one in servers if one.name == name] or [chance.choice(servers)], chance)


def _kill_two(chance: random.Random, servers: Sequence[Server], _shipper: _Shipper, _made: Settings) -> None:
    _restart(chance.sample(servers, 2), chance)


def _restart(servers: Sequence[Server], chance: random.Random) -> None:
    for one in servers:
        one.kill()
    time.sleep(chance.uniform(*_PAUSE_SECONDS))
    for one in servers:
        one.start()


def _hang(chance: random.Random, servers: Sequence[Server], _shipper: _Shipper, _made: Settings) -> None:
    one = chance.choice(servers)
    os.kill(one.pid, signal.SIGSTOP)
    time.sleep(chance.uniform(*_HANG_SECONDS))
    os.kill(one.pid, signal.SIGCONT)


_FAULTS: dict[str, Fault] = {
    "kill -9 of the stream's leader": _kill_leader,
    "kill -9 of two servers": _kill_two,
    "a server that hangs": _hang,
    "kill -9 of the shipper": lambda _chance, _servers, shipper, _made: shipper.replace(kill=True),
    "stop of the shipper": lambda _chance, _servers, shipper, _made: shipper.replace(kill=False),
}
