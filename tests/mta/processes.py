"""Processes that a test starts: they end with it, however it ends.

Owns starting, waiting and stopping. Never knows what a process is for.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests import preloaded

PATIENCE = 120.0
"""Seconds until a condition that does not become true fails the test. Longer than any takes on a machine with a load of 10."""

# A condition that takes long is looked at less often: a look can cost more than what the test waits for.
_LONGEST_PAUSE = 0.02


def wait_until(
    condition: Callable[[], object],
    what: str,
    *,
    give_up: Callable[[], str | None] = lambda: None,
    seconds: float = PATIENCE,
) -> None:
    """Poll `condition` until it is true. TimeoutError after `seconds`; RuntimeError as soon as `give_up` gives a reason."""
    deadline = time.monotonic() + seconds
    pause = 0.002
    while not condition():
        if reason := give_up():
            raise RuntimeError(f"never came true: {what}: {reason}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true after {seconds:.0f} s: {what}")
        time.sleep(pause)
        pause = min(1.2 * pause, _LONGEST_PAUSE)


def owned(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environ: Mapping[str, str | None] | None = None,
    output: IO[bytes] | int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; the kernel sends it SIGTERM should this process die without stopping it.

    `environ` changes the environment; a variable with None is left out. A test run forks the sidecar if it can.
    """
    whole = {**os.environ, **({} if environ is None else environ)}
    how: dict[str, Any] = {
        "cwd": folder,
        "env": {name: value for name, value in whole.items() if value is not None},
        "stdin": subprocess.DEVNULL,
        "stdout": output,
        "stderr": subprocess.STDOUT,
        "start_new_session": True,
    }
    if preloaded.is_possible(command, how["env"]):
        return preloaded.Forked(command, **how)
    return subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *command], **how)


def stop_group(leader: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send a signal to the leader, wait for its end and that of all its session; SIGKILL what does not go. Give its status."""
    leader.send_signal(number)
    try:
        return leader.wait(timeout=PATIENCE)
    finally:
        _clear(leader.pid)
        leader.wait(timeout=PATIENCE)


def _clear(session: int) -> None:
    """Wait until a session is empty, a second long in peace, then with SIGKILL."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not session_members(session), "its processes are gone", seconds=1)
    for pid in session_members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not session_members(session), "its processes are gone after SIGKILL")


def session_members(leader: int) -> list[int]:
    """Give the ids of the processes, alive, of the session that `leader` leads."""
    return [pid for pid, session in _sessions() if session == leader]


def _sessions() -> Iterator[tuple[int, int]]:
    """Give (process, its session) for every process that is no zombie (proc_pid_stat(5): state, ppid, pgrp, session)."""
    # Not glob: it looks into each folder, and fails on a process that ends meanwhile.
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if state != "Z":
                yield int(folder.name), int(session)
