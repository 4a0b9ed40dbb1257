"""Every kind of fault: how it is brought about, how long it lasts, and how it ends.

Owns the faults. Never judges what came of one; the campaign does.
"""

import os
import random
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.faults.scene import Scene
from tests.mta.processes import wait_until

# An fsync of a disk that is busy with something else; each message waits for one.
SLOW_MILLISECONDS = 300
CLOCK_BACK_SECONDS = -3600

_CHANCE = random.Random(5321)  # noqa: S311 - the same order each time, as far as a scheduler allows


def kill_a_worker(scene: Scene) -> None:
    """SIGKILL one worker; the other serves on."""
    wait_until(lambda: len(scene.program.workers()) >= 2, "both workers are there")
    os.kill(_CHANCE.choice(sorted(scene.program.workers())), signal.SIGKILL)


def kill_the_supervisor(scene: Scene) -> None:
    """SIGKILL the supervisor alone, and start another."""
    scene.program.kill_supervisor()
    scene.start_again()


def kill_everything(scene: Scene) -> None:
    """SIGKILL all processes at once, leave half a line as a power cut does, and start again."""
    workers = scene.program.workers()
    scene.program.kill_supervisor()
    for pid in workers:
        # A worker may end by itself meanwhile: it hears that its supervisor is gone.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not scene.processes(), "all processes are gone")
    torn = scene.books.unfinished()
    for path in torn:
        with path.open("ab") as segment:
            segment.write(b'{"type":"Reception","id":"')
    scene.books.look()
    assert len(scene.books.unfit) == len(torn), "the reader counts each torn line, and only those"
    scene.start_again()
    assert not any(_is_torn(path) for path in torn), "a start mends what a crash left"


def _is_torn(path: Path) -> bool:
    return path.exists() and not path.read_bytes().endswith(b"\n")


def stop_and_start(scene: Scene) -> None:
    """SIGTERM, and start again."""
    assert scene.program.stop() == 0
    scene.start_again()


def fill_the_disk(scene: Scene) -> None:
    """Fill the disk of the journal and the quarantine, and free it."""
    with scene.disk.full():
        scene.hold_until_felt()


def forbid_writing(scene: Scene) -> None:
    """Make the folder of the journal and the quarantine read-only for a while."""
    with scene.disk.read_only():
        scene.hold_until_felt()


def fail_fsync(scene: Scene) -> None:
    """Let every fsync fail for a while."""
    with scene.shim.failing_fsync():
        scene.hold_until_felt()


def slow_fsync(scene: Scene) -> None:
    """Let every fsync take its time for a while."""
    with scene.shim.slow_fsync(SLOW_MILLISECONDS):
        scene.hold()


def take_descriptors(scene: Scene) -> None:
    """Let the workers open no file and accept no connection for a while; what is open stays open."""
    # Lower than their own files, which are always open, the limit would break poll(2), as no shortage does.
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in scene.program.workers()}
    try:
        for pid, (_, hard) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (scene.own_files, hard))
        scene.hold()
    finally:
        for pid, limit in limits.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)


def set_the_clock_back(scene: Scene) -> None:
    """Set the clock back by an hour, and later right again."""
    with scene.shim.clock_moved(CLOCK_BACK_SECONDS):
        scene.hold()


def halt_a_worker(scene: Scene) -> None:
    """SIGSTOP one worker, and let it go on later."""
    pid = _CHANCE.choice(sorted(scene.program.workers()))
    os.kill(pid, signal.SIGSTOP)
    try:
        scene.hold()
    finally:
        os.kill(pid, signal.SIGCONT)


def reload(scene: Scene) -> None:
    """SIGHUP: other workers, the same settings."""
    before = scene.program.count("reloaded")
    scene.program.signal(signal.SIGHUP)
    wait_until(lambda: scene.program.count("reloaded") > before, "the settings are loaded again")


Strike = Callable[[Scene], None]

STRIKES: dict[str, Strike] = {
    "SIGKILL of a worker": kill_a_worker,
    "SIGKILL of the supervisor, another one started": kill_the_supervisor,
    "SIGKILL of everything, half a line left, started again": kill_everything,
    "SIGTERM, started again": stop_and_start,
    "disk full": fill_the_disk,
    "folder read-only": forbid_writing,
    "fsync fails": fail_fsync,
    f"fsync takes {SLOW_MILLISECONDS} ms": slow_fsync,
    "no file descriptors left": take_descriptors,
    "clock set back by an hour": set_the_clock_back,
    "SIGSTOP of a worker, SIGCONT later": halt_a_worker,
    "SIGHUP": reload,
}
"""All kinds of faults, by their names in the table."""


def in_some_order(number: int) -> list[tuple[str, Strike]]:
    """Give so many faults: each kind equally often, and in a new order each time round."""
    found: list[tuple[str, Strike]] = []
    while len(found) < number:
        found += _CHANCE.sample(list(STRIKES.items()), len(STRIKES))
    return found[:number]
