"""Faults of NATS servers and of nodes that share one suppression list, while all change it: the lists are equal in the end.

Owns the faults, the changes and the measured times. Three servers replicate the stream, and three nodes share the list.
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
from pathlib import Path
from threading import Event, Thread

from msgspec import Struct

from sidecar.core.settings.settings import Settings
from tests.fleet.servers import Server, cluster
from tests.fleet.sharing import add, known, listed, make_list_stream, node_of, remove, report, share
from tests.mta.processes import wait_until
from tests.soak.fleet.faults import hang, restart
from tests.suppression.records import feedback, oob

# So few that changes of nodes meet.
_ADDRESSES = 40
_CHANGE_SECONDS = 0.2
_PAUSE_SECONDS = (0.2, 3.0)
_PROBES = 20
_FORK = get_context("fork")


class ListFaults(Struct, kw_only=True):
    """What happened: faults by name, changes, what differs in the end, and the seconds that changes took without faults."""

    faults: Counter[str]
    changes: int
    wrong: list[str]
    seconds: list[float]


class _Node:
    """The process of a list, which its supervisor replaces."""

    def __init__(self, made: Settings) -> None:
        self.made = made
        self.start()

    def start(self) -> None:
        self._process = _FORK.Process(target=share, args=(self.made, Event().wait))
        self._process.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def replace(self, number: signal.Signals, seconds: float = 0) -> None:
        if number == signal.SIGKILL:
            self.kill()
            self.start()
            return
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self._process.pid, signal.SIGCONT)


class _Writer(Thread):
    """Changes the list at all nodes until `end`."""

    def __init__(self, nodes: Sequence[Settings], chance: random.Random) -> None:
        super().__init__()
        self._nodes, self._chance, self.end, self.count = nodes, chance, Event(), 0

    def run(self) -> None:
        while not self.end.wait(_CHANGE_SECONDS):
            node, address = self._chance.choice(self._nodes), f"{self._chance.randrange(_ADDRESSES)}@example.net"
            self.count += 1
            match self._chance.choice(("add", "remove", "complaint", "full")):
                case "add":
                    add(node, address, expires=self._chance.choice((0, int(time.time()) + 86400)))
                case "remove":
                    remove(node, address)
                case "complaint":
                    report(node, feedback(address, message=f"c{self.count}"), ago=self._chance.choice((0, 60, 3600)))
                case _:
                    days = self._chance.randrange(5)
                    report(node, oob(address, "QuotaIssues", message=f"q{self.count}"), ago=86400 * days)


def attack(number: int, *, seed: int, seconds: float) -> ListFaults:
    """Make so many faults, or as many as fit into the time. Return what differs in the end."""
    chance = random.Random(seed)  # noqa: S311 - the same faults again
    until = time.monotonic() + seconds
    faults = Counter[str]()
    with cluster() as servers, tempfile.TemporaryDirectory(prefix="sidecar-lists-") as folder:
        made = [node_of(Path(folder), name, *servers) for name in ("mx1", "mx2", "mx3")]
        wait_until(lambda: _made(made[0]), "the stream is made")
        nodes = [_Node(one) for one in made]
        writer = _Writer(made, random.Random(seed))  # noqa: S311 - likewise
        try:
            times = [_seconds(chance, made, probe) for probe in range(_PROBES)]
            writer.start()
            while faults.total() < number and time.monotonic() < until:
                name = chance.choice(list(_FAULTS))
                faults[name] += 1
                _FAULTS[name](chance, servers, nodes)
                time.sleep(chance.uniform(*_PAUSE_SECONDS))
            writer.end.set()
            writer.join()
            # After this change nothing else is new: what was before it has arrived with it.
            for one in made:
                add(one, f"{one.state_directory.name}@example.net")
            with suppress(TimeoutError):
                wait_until(lambda: not _different(made), "all lists are equal")
            wrong = _different(made)
        finally:
            writer.end.set()
            for node in nodes:
                node.kill()
    return ListFaults(faults=faults, changes=writer.count, wrong=wrong, seconds=sorted(times))


def _made(made: Settings) -> bool:
    with suppress(Exception):  # the cluster has no leader yet
        make_list_stream(made, replicas=3)
        return True
    return False


def _seconds(chance: random.Random, nodes: Sequence[Settings], probe: int) -> float:
    """Return how long a change needs to all nodes."""
    address = f"probe{probe}@example.net"
    add(chance.choice(nodes), address)
    begin = time.monotonic()
    wait_until(lambda: all(address in listed(one) for one in nodes), "the change is everywhere")
    return time.monotonic() - begin


def _different(nodes: Sequence[Settings]) -> list[str]:
    """Return what lists have differently."""
    lists, events = [listed(one) for one in nodes], [known(one) for one in nodes]
    last = {f"{one.state_directory.name}@example.net" for one in nodes}
    addresses = sorted({address for one in lists for address in one} | last)
    return [
        address
        for address in addresses
        if any(one.get(address) != lists[0].get(address) for one in lists)
        or any(one.get(address) != events[0].get(address) for one in events)
        or (address in last and not all(address in one for one in lists))
    ]


Fault = Callable[[random.Random, Sequence[Server], Sequence[_Node]], None]
_FAULTS: dict[str, Fault] = {
    "kill -9 of a server": lambda chance, servers, _: restart([chance.choice(servers)], chance),
    "kill -9 of two servers": lambda chance, servers, _: restart(chance.sample(servers, 2), chance),
    "kill -9 of all servers": lambda chance, servers, _: restart(servers, chance),
    "a server that hangs": lambda chance, servers, _: hang(chance, servers),
    "kill -9 of a list's process": lambda chance, _, nodes: chance.choice(nodes).replace(signal.SIGKILL),
    "a list's process that hangs": lambda chance, _, nodes: chance.choice(nodes).replace(
        signal.SIGSTOP, chance.uniform(*_PAUSE_SECONDS)
    ),
}
