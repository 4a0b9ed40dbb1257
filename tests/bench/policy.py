"""A revision of the policy of a fleet on many nodes: how long until it decides about mail, and how much CPU time it takes.

    python -m tests.bench.policy [--nodes N] [--domains N] [--rounds N]

All nodes are whole programs on this machine, with one NATS server. Each has its own machine elsewhere: there the time of one
node counts, and the CPU time of one node says what it takes.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.fleet.policy.fleets import POLICY, Operator
from tests.fleet.servers import server
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
        operator = Operator(folder, stack.enter_context(server()).url)
        names = [f"mx{number}" for number in range(wanted.nodes)]
        nodes = [stack.enter_context(Program(settings=operator.section(name), milter="workers = 1")) for name in names]
        domains = [f"bounce{number}.customer{number % 977}.example" for number in range(wanted.domains)]
        content = "".join(f'["{name}"]\nlog_oob = "LogThenDrop"\nlog_arf = "LogThenRelay"\n' for name in domains)
        for number in range(1, wanted.rounds + 1):
            what = f"round {number}: {len(domains):,} domains, {len(nodes)} nodes"
            domains_file = f"{content}# {number}\n"
            measure(f"{what}, another domains file", nodes, partial(operator.publish, domains_file))
            more = f"{POLICY}report_size_limit = {10_000_000 + number}\n"
            measure(f"{what}, the same one", nodes, partial(operator.publish, domains_file, policy=more))


def measure(what: str, nodes: Sequence[Program], publish: Callable[[], None]) -> None:
    """Publish another revision, and print what it took."""
    before = [cpu_seconds(node) for node in nodes]
    reloads = [node.count("reloaded") for node in nodes]
    publish()
    started, ends = time.monotonic(), dict[int, float]()

    def all_serve() -> bool:
        for index, node in enumerate(nodes):
            if index not in ends and node.count("reloaded") > reloads[index]:
                ends[index] = time.monotonic() - started
        return len(ends) == len(nodes)

    wait_until(all_serve, "all nodes serve the revision", seconds=1800)
    used = [cpu_seconds(node) - earlier for node, earlier in zip(nodes, before, strict=True)]
    times = f"first {min(ends.values()):.1f} s, last {max(ends.values()):.1f} s, CPU {median(used):.2f} s a node"
    print(f"{what}: {times}")  # noqa: T201 - this is a program
    # The warnings of the settings are looked for when they serve already.
    wait_until(lambda: all(is_idle(node) for node in nodes), "no node works on it any more", seconds=600)


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
