"""Three servers that replicate the stream, and a node with three programs: one ships its records, the others have no fleet.

Owns their start and end. Never makes a fault.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings
from sidecar.fleet import READER
from sidecar.journal.read import Checkpoints
from tests.faults.disk import Disk, small_disk
from tests.fleet.network import SERVERS, NodeNetwork, node_network
from tests.fleet.servers import Server, cluster_in, urls
from tests.fleet.shipping import make_stream, with_fleet
from tests.mta.places import private_directory
from tests.mta.processes import wait_until
from tests.soak.fleet.operator import Operator
from tests.wire.program import Program

# The programs would not be equal if the worker of one of them were beside the clients.
NODE_CPU, OTHER_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
# One external host sends all reports.
_LIMITS: Final = "[limits]\nrecord_bytes_per_byte = 0\nreports_per_second = 100000\nrejection_records_per_second = 100000\n"
# More than what a run of 200 faults stores.
_DISK_MEGABYTES: Final = 512


class Stand(Struct, kw_only=True):
    """`shipping` and `alone` are the programs. `made` are settings that reach the stream, and the journal of `shipping`."""

    servers: list[Server]
    disks: dict[str, Disk]
    network: NodeNetwork
    operator: Operator
    shipping: Program
    alone: list[Program]
    made: Settings

    def reader(self, name: str) -> int | None:
        """Return the process that has the lock of a reader of the journal."""
        lock = self.made.checkpoints_directory / f"{name}.lock"
        return next((pid for pid in self.shipping.workers() if str(lock) in _open_by(pid)), None)

    def agent(self) -> int | None:
        """Return the process that follows the policy, if it is connected: the shipper is the only other one that can be."""
        table = Path(f"/proc/{self.shipping.pid}/net/tcp").read_text().splitlines()[1:]
        ports = {f"{one.port:04X}" for one in self.servers}
        sockets = {f"socket:[{row[9]}]" for row in map(str.split, table) if row[2].rpartition(":")[2] in ports}
        shipper = self.reader(READER)
        return next((pid for pid in self.shipping.workers() if pid != shipper and sockets & set(_open_by(pid))), None)

    def records(self) -> list[bytes]:
        """Return the records in the journal of `shipping`, in any order."""
        return [line for path in sorted(self.made.journal.directory.iterdir()) for line in path.read_bytes().splitlines()]

    def is_delivered(self) -> bool:
        """Return True if the checkpoint is at the end of the journal."""
        marks = Checkpoints(self.made.checkpoints_directory).load(READER).segments
        return all(
            (mark := marks.get(str(path))) is not None and mark.lines == path.read_bytes().count(b"\n")
            for path in self.made.journal.directory.iterdir()
        )


def _open_by(pid: int) -> list[str]:
    """Return the files that a process has open; none of a process that ends."""
    found = list[str]()
    with suppress(OSError):
        for one in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.append(str(one.readlink()))
    return found


@contextmanager
def stand() -> Iterator[Stand]:
    """Start everything."""
    with ExitStack() as stack:
        network = stack.enter_context(node_network())
        folder = stack.enter_context(private_directory())
        servers = cluster_in(folder, address=SERVERS)
        disks = {}
        for one in servers:
            (folder / one.name).mkdir()
            disks[one.name] = stack.enter_context(small_disk(folder / one.name, megabytes=_DISK_MEGABYTES))
            # They would be on other machines: they run only when the clients, on the same CPU, do not.
            one.wrapper = ["sh", "-c", f'echo 19 > /proc/self/autogroup; exec taskset -c {OTHER_CPU} chrt --idle 0 "$@"', "-"]
            stack.callback(one.kill)
            one.start()
        made = with_fleet(folder, *servers)
        make_stream(made, replicas=3)
        operator = Operator(folder, urls(servers))
        programs = [Program(settings=_LIMITS + more) for more in (operator.settings, "", "")]
        for program in programs:
            program.wrapper = [*network.enter, "taskset", "-c", str(NODE_CPU)]
            stack.enter_context(program)
        state = programs[0].directory / "state"
        found = Stand(
            servers=servers,
            disks=disks,
            network=network,
            operator=operator,
            shipping=programs[0],
            alone=programs[1:],
            made=replace(made, state_directory=state, journal=JournalSettings(directory=state / "journal")),
        )
        wait_until(lambda: found.reader(READER), "the shipper runs")
        yield found
