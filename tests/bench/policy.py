"""A revision of the policy of a fleet on many nodes: how long until it decides about mail, and how much CPU time it takes.

    python -m tests.bench.policy [--nodes N] [--domains N] [--rounds N]

All nodes are whole programs on this machine, with one NATS server. Each has its own machine elsewhere: there the time of one
node counts, and the CPU time of one node says what it takes.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from sidecar.core.settings.fleet import FleetSettings
from sidecar.fleet.connection import FleetConnection
from tests.fleet.policy.fleets import Publisher, files, key_pair
from tests.fleet.servers import Server, server
from tests.mta.processes import session_members, wait_until
from tests.wire.program import Program

_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print one line for each round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--domains", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="sidecar-policy-")))
        one = stack.enter_context(server())
        stand = Stand(folder, one)
        nodes = [stack.enter_context(stand.node(f"mx{number}")) for number in range(wanted.nodes)]
        for number in range(1, wanted.rounds + 1):
            stand.round(nodes, number, [f"bounce{each}.customer{each % 977}.example" for each in range(wanted.domains)])


class Stand:
    """A server, an operator's key, and nodes."""

    def __init__(self, folder: Path, one: Server) -> None:
        self._folder, self._url, self._key = folder, one.url, key_pair(folder)

    def node(self, name: str) -> Program:
        """Return a program that takes the policy of the fleet."""
        public = self._folder / "policy.key.pub"
        fleet = f'[fleet]\nservers = "{self._url}"\nnode = "{name}"\npolicy_keys = ["{public}"]\n'
        return Program(settings=fleet, milter="workers = 1")

    def round(self, nodes: Sequence[Program], number: int, names: Sequence[str]) -> None:
        """Publish another revision, and print what it took."""
        domains = "".join(f'["{name}"]\nlog_oob = "LogThenDrop"\nlog_arf = true\n' for name in names)
        content = files(domains=f"{domains}# {number}\n")
        before = [cpu_seconds(node) for node in nodes]
        reloads = [node.count("reloaded") for node in nodes]
        asyncio.run(self._publish(content))
        started, ends = time.monotonic(), dict[int, float]()

        def all_serve() -> bool:
            for index, node in enumerate(nodes):
                if index not in ends and node.count("reloaded") > reloads[index]:
                    ends[index] = time.monotonic() - started
            return len(ends) == len(nodes)

        wait_until(all_serve, "all nodes serve the revision")
        used = [cpu_seconds(node) - earlier for node, earlier in zip(nodes, before, strict=True)]
        times = f"first {min(ends.values()):.1f} s, last {max(ends.values()):.1f} s, CPU {median(used):.2f} s a node"
        print(f"revision {number}: {len(names):,} domains on {len(nodes)} nodes: {times}")  # noqa: T201 - this is a program
        # The warnings of the settings are looked for when they serve already.
        wait_until(lambda: all(is_idle(node) for node in nodes), "no node works on it any more")

    async def _publish(self, content: dict[str, bytes]) -> None:
        fleet = FleetSettings(servers=(self._url,), node="operator")
        async with FleetConnection(fleet, role="operator") as connection:
            publisher = Publisher(connection, fleet, self._key)
            await publisher.buckets.create()
            await publisher.publish(content)


def cpu_seconds(node: Program) -> float:
    """Return the CPU seconds of a program and of its children so far."""
    return sum(_cpu_seconds(pid) for pid in {node.pid, *session_members(node.pid), *_children(node.pid)})


def is_idle(node: Program) -> bool:
    """Return True if no loader runs: it leads a session of its own."""
    return not set(_children(node.pid)) - set(session_members(node.pid))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of those of its children that it has reaped (proc_pid_stat(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


if __name__ == "__main__":
    main()
