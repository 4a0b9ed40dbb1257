"""Where faults strike: a sidecar on a small disk behind a real Postfix, under load, and the books on it.

Owns the parts and their order of start and end. Never breaks anything itself.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.audit import Books, unexpected
from tests.faults.disk import Disk, small_disk
from tests.faults.load import DOMAINS, KINDS, SETTINGS, Load, is_deferred, is_taken
from tests.faults.shim import Shim
from tests.mta.places import private_directory
from tests.mta.postfix import Postfix
from tests.mta.processes import session_members, wait_until
from tests.wire.program import Program

# Segments that roll every some 25 messages: a fault meets them at every age.
MILTER = """\
workers = 2
socket_mode = "0666"
[journal]
segment_size = 65536
minimum_free = 0
"""
# What a fault that shows in no answer is given, and what one that must show gets at most.
HOLD_ANSWERS = 40
FELT_WITHIN = 60.0
# A worker that dies again and again is started again after 30 seconds at the latest, when all workers died so.
HEALED_WITHIN = 300.0


class Scene:
    """All that a fault may touch. `sessions` are the process ids of all supervisors there were.

    `own_files` counts the descriptors that a worker without connections has open, up to the first that is free.
    """

    def __init__(self, program: Program, mta: Postfix, disk: Disk, shim: Shim) -> None:
        self.program = program
        self.mta = mta
        self.disk = disk
        self.shim = shim
        self.load = Load(mta.port)
        self.books = Books(disk.path / "journal")
        self.sessions: list[int] = [program.pid]
        self.own_files = min(map(lowest_free_descriptor, program.workers()))

    def hold(self) -> None:
        """Wait until some more messages were answered; shorter, where none is answered any more."""
        since = len(self.load.entries)
        with suppress(TimeoutError):
            wait_until(lambda: len(self.load.entries) >= since + HOLD_ANSWERS, "some more answers", seconds=1.5)

    def hold_until_felt(self) -> None:
        """Wait until the fault shows, which is when a peer is told to try again, and some messages longer."""
        since = len(self.load.entries)
        wait_until(lambda: self.load.count(is_deferred, since=since), "the fault shows in an answer", seconds=FELT_WITHIN)
        self.hold()

    def healed(self) -> float:
        """Wait until each kind of message that may be taken is taken again; give the seconds it took."""
        since, began = len(self.load.entries), time.monotonic()

        def all_kinds() -> bool:
            return self._taken(since) == {kind.name for kind in KINDS if kind.taken}

        wait_until(all_kinds, "every kind of message is taken again", seconds=HEALED_WITHIN, give_up=self._died)
        return time.monotonic() - began

    def start_again(self) -> None:
        """Start a new sidecar, and try again while the old one is in the way, as systemd would."""
        # Waiting for a line in a log reads all of it: each sidecar begins a new one.
        self.program.log.rename(self.program.directory / f"log.{len(self.sessions)}")

        def started() -> bool:
            with suppress(RuntimeError):
                self.program.start()
                return True
            return False

        wait_until(started, "a new sidecar has started")
        self.sessions.append(self.program.pid)

    def processes(self) -> list[int]:
        """Give all processes of all sidecars there were."""
        return [pid for leader in self.sessions for pid in session_members(leader)]

    def left_over(self) -> list[str]:
        """Give what is there still of a sidecar that was stopped: processes, sockets, segments that nobody finished."""
        processes = [f"process {pid}" for pid in self.processes()]
        sockets = [str(path) for path in self.program.directory.rglob("*") if path.is_socket()]
        drafts = [str(path) for path in self.program.directory.glob("state/*.new")]
        return [*processes, *sockets, *drafts, *map(str, self.books.unfinished())]

    def bugs(self) -> list[str]:
        """Give the lines of all logs that tell of a bug."""
        return [line for path in self.program.directory.glob("log*") for line in unexpected(path.read_text())]

    def _taken(self, since: int) -> set[str]:
        return {entry.kind.name for entry in self.load.entries[since:] if is_taken(entry)}

    def _died(self) -> str | None:
        return None if session_members(self.program.pid) else self.program.log.read_text()[-2000:]


def lowest_free_descriptor(pid: int) -> int:
    """Give the number that the next file a process opens will have: as its limit, it keeps it from opening any."""
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in itertools.count() if number not in used)


@contextmanager
def scene(*, megabytes: int, engine: str) -> Iterator[Scene]:
    """Start it all, with a disk of that size; the load is still at rest. In the end everything is gone, whatever happened."""
    with private_directory() as directory:
        (directory / "state").mkdir()
        shim = Shim(directory)
        with small_disk(directory / "state", megabytes=megabytes) as disk:
            program = Program(settings=SETTINGS, milter=MILTER, engine=engine, domains=DOMAINS)
            program.directory.chmod(0o755)
            (program.directory / "state").symlink_to(disk.path)
            program.environ |= shim.environ
            with program, Postfix(directory / "postfix", milter=f"unix:{program.path}") as mta:
                yield Scene(program, mta, disk, shim)
