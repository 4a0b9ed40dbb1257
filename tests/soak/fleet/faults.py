"""The faults: of servers, of their disks and clocks, of the network, and of the node's processes.

Owns what each fault does, and its end: afterwards everything is as before.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from sidecar.fleet import READER
from tests.fleet import clock
from tests.fleet.servers import Server
from tests.fleet.shipping import leader_of
from tests.mta.processes import session_members, wait_until
from tests.soak.fleet.stand import Stand

# Up to longer than a server needs to be missed by the others.
_SECONDS: Final = (1.0, 5.0)
# Up to longer than a connection that hangs can be in use.
_CUT_SECONDS: Final = (1.0, 18.0)
_TAKING_SECONDS: Final = (0.0, 1.5)
_DOWN_SECONDS: Final = (0.2, 3.0)
# In seconds; also far beyond the stream's duplicate window of 10 minutes.
_STEPS: Final = (-6 * 3600, -300, 300, 6 * 3600)
_NO_SPACE: Final = "no space left on device"


class Faults:
    """Faults of a stand. `names` are those that there are, and `make` makes one by its name."""

    def __init__(self, stand: Stand, chance: random.Random) -> None:
        self._stand, self._chance = stand, chance
        self._each: dict[str, Callable[[], None]] = {
            "kill -9 of the stream's leader": self._kill_leader,
            "kill -9 of two servers": lambda: restart(chance.sample(stand.servers, 2), chance),
            "a server that hangs": lambda: hang(chance, stand.servers),
            "a full disk of a server": self._fill,
            "steps of the clocks of servers": self._step_servers,
            "steps of the node's clock": self._step_node,
            "no link": lambda: self._wait_in(stand.network.without_link(), _CUT_SECONDS),
            "dropped packets": lambda: self._wait_in(stand.network.without_packets(), _CUT_SECONDS),
            "kill -9 of the shipper": self._kill_shipper,
            "kill -9 of the shipper, and a step of the servers' clocks": self._kill_shipper_and_step,
            "kill -9 of the policy agent": self._kill_agent,
            "reload of the node": self._reload,
        }
        self.names = list(self._each)

    def make(self, name: str) -> None:
        """Make one fault, until it has ended."""
        self._each[name]()

    def _sleep(self, seconds: tuple[float, float]) -> None:
        time.sleep(self._chance.uniform(*seconds))

    def _wait_in(self, fault: object, seconds: tuple[float, float]) -> None:
        with fault:  # type: ignore[attr-defined]
            self._sleep(seconds)

    def _kill_leader(self) -> None:
        name = ""
        with suppress(Exception):  # no leader now
            name = leader_of(self._stand.made)
        servers = self._stand.servers
        restart([one for one in servers if one.name == name] or [self._chance.choice(servers)], self._chance)

    def _fill(self) -> None:
        """Leave a server without space. It ends its JetStream then, until it is started again (deploy/docs/fleet.md)."""
        one = self._chance.choice(self._stand.servers)
        known = one.log.read_text().count(_NO_SPACE)
        with self._stand.disks[one.name].full():
            wait_until(lambda: one.log.read_text().count(_NO_SPACE) > known, "the server has noticed it")
            self._sleep(_SECONDS)
        restart([one], self._chance)

    def _step_servers(self) -> None:
        servers = self._chance.choice([self._stand.servers, [self._chance.choice(self._stand.servers)]])
        with _stepped([one.pid for one in servers], self._chance.choice(_STEPS)):
            self._sleep(_SECONDS)

    def _step_node(self) -> None:
        with _stepped(session_members(self._stand.shipping.pid), self._chance.choice(_STEPS)):
            self._sleep(_SECONDS)

    def _kill_shipper(self) -> None:
        pid = self._stand.reader(READER)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self._wait_for_another(pid)

    def _wait_for_another(self, pid: int | None) -> None:
        wait_until(lambda: self._stand.reader(READER) not in {None, pid}, "another shipper runs")

    def _kill_shipper_and_step(self) -> None:
        """Let the stream forget the ids of the records that the next shipper repeats."""
        with _stepped([one.pid for one in self._stand.servers], 6 * 3600):
            self._sleep(_SECONDS)
            self._kill_shipper()
            self._sleep(_SECONDS)

    def _kill_agent(self) -> None:
        """Kill it while it takes a revision. The other programs are reloaded, as the revision does it with this one."""
        stand = self._stand
        wait_until(stand.operator.publish, "a revision is published")
        self._sleep(_TAKING_SECONDS)
        pid = stand.agent()
        if pid is not None:
            with suppress(ProcessLookupError):  # the reload has replaced it
                os.kill(pid, signal.SIGKILL)
        for program in stand.alone:
            program.signal(signal.SIGHUP)
        wait_until(lambda: stand.operator.is_served(stand.shipping), "the node has the revision")

    def _reload(self) -> None:
        """Replace all processes of the programs but their supervisors."""
        pid = self._stand.reader(READER)
        for program in (self._stand.shipping, *self._stand.alone):
            program.signal(signal.SIGHUP)
        self._wait_for_another(pid)


def restart(servers: Sequence[Server], chance: random.Random) -> None:
    """Kill servers, and start them again."""
    for one in servers:
        one.kill()
    time.sleep(chance.uniform(*_DOWN_SECONDS))
    for one in servers:
        one.start()


def hang(chance: random.Random, servers: Sequence[Server]) -> None:
    """Let a server hang for some seconds."""
    one = chance.choice(servers)
    os.kill(one.pid, signal.SIGSTOP)
    time.sleep(chance.uniform(*_SECONDS))
    os.kill(one.pid, signal.SIGCONT)


@contextmanager
def _stepped(pids: Sequence[int], seconds: int) -> Iterator[None]:
    """Step the clocks of processes, and then back."""
    _step(pids, seconds)
    try:
        yield
    finally:
        _step(pids, 0)


def _step(pids: Sequence[int], seconds: int) -> None:
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            clock.step(pid, seconds)
