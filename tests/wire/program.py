"""A sidecar under test: `sidecar run` as an operator starts it, its log and journal below a short folder of its own.

Owns starting it, watching it and making sure that nothing of it stays. Never looks at it with its own code.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import ROOT
from tests.mta.places import free_port, new_directory
from tests.mta.processes import PATIENCE, owned, session_members, stop_group, wait_until
from tests.wire.client import Mta

DOMAINS = """\
["relay.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenDrop"
["keep.example"]
log_oob = "LogThenRelay"
"""

SETTINGS = """\
relay_hosts = ["127.0.0.1", "192.0.2.0/24"]
listener_domains = ["listener_domains.toml"]
state_directory = "state"
{settings}
[milter]
socket = "{socket}"
engine = "{engine}"
{milter}
[log]
format = "json"
level = "{level}"
"""


class Program:
    """A running sidecar, as a context manager. `address` is where its socket is.

    `python` is how the interpreter is to run it, `environ` what its environment has besides, and `wrapper` what runs the
    interpreter.
    """

    def __init__(
        self,
        *,
        inet: bool = False,
        settings: str = "",
        milter: str = "workers = 2",
        engine: str = "direct",
        domains: str = DOMAINS,
        level: str = "info",
    ) -> None:
        self.directory = new_directory()
        self.path = self.directory / "s"
        self.address: str | tuple[str, int] = ("127.0.0.1", free_port()) if inet else str(self.path)
        self.settings, self.milter, self.engine, self.level = settings, milter, engine, level
        self.python = ["-m", "sidecar"]
        self.wrapper: list[str] = []
        self.environ: dict[str, str | None] = {}
        self.write(domains=domains)
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, *, domains: str | None = None) -> None:
        """Write the settings, and the listener domains if there are any."""
        spelled = f"inet:127.0.0.1:{self.address[1]}" if isinstance(self.address, tuple) else f"unix:{self.address}"
        text = SETTINGS.format(settings=self.settings, socket=spelled, engine=self.engine, milter=self.milter, level=self.level)
        (self.directory / "sidecar.toml").write_text(text)
        if domains is not None:
            (self.directory / "listener_domains.toml").write_text(domains)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self.log.exists():
            error.add_note(f"log of the sidecar:\n{self.log.read_text()}")
        self.kill()
        shutil.rmtree(self.directory)

    # --- its life

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the program and do not wait."""
        command = [*self.wrapper, sys.executable, *self.python, "run", "--config", str(self.directory / "sidecar.toml")]
        with self.log.open("ab") as log:
            self._process = owned(command, environ={"PYTHONPATH": str(ROOT), **self.environ}, output=log)
        return self._process

    def start(self) -> None:
        """Start the program and wait until it says that it is ready."""
        before = self.count("ready")
        process = self.launch()
        wait_until(
            lambda: self.count("ready") > before,
            "the sidecar is ready",
            give_up=lambda: None if process.poll() is None else self.log.read_text(),
        )

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for the supervisor's end and give its exit status; then nothing of it may be left."""
        assert self._process is not None
        status = self._process.wait(timeout=PATIENCE)
        wait_until(lambda: not session_members(self.pid), "nothing of the sidecar is left")
        return status

    def stop(self) -> int:
        """Stop it in order."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill_supervisor(self) -> int:
        """Kill the supervisor alone, with SIGKILL; give its process id, which its workers have as their session."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        return self._process.pid

    def kill(self) -> None:
        """Make sure that nothing of it is left."""
        if self._process is not None:
            stop_group(self._process, signal.SIGKILL)

    def workers(self) -> set[int]:
        """Return the process ids of its workers."""
        return set(session_members(self.pid)) - {self.pid}

    # --- what it says

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.directory / "log"

    def lines(self) -> list[dict[str, Any]]:
        """Return the whole lines of its log. Raise ValueError for one that is no JSON."""
        whole, _, _ = (self.log.read_bytes() if self.log.exists() else b"").rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def count(self, event: str) -> int:
        """Count the lines of its log that begin with this event."""
        return sum(line["event"].startswith(event) for line in self.lines())

    def says(self, text: str) -> bool:
        """Return True if a line of its log has this text in it."""
        return any(text in line["event"] for line in self.lines())

    def records(self) -> list[dict[str, Any]]:
        """Return all records in its journal, in order; each worker writes segments of its own."""
        segments = sorted((self.directory / "state" / "journal").glob("*.jsonl"))
        records = [json.loads(line) for segment in segments for line in segment.read_text().splitlines()]
        return sorted(records, key=lambda record: str(record["event_time"]))

    # --- speaking to it

    def mta(self) -> Mta:
        """Connect to it as an MTA."""
        return Mta(self.address)

    def answers(self) -> bool:
        """Return True if it answers a new connection."""
        try:
            with self.mta() as mta:
                return bool(mta.negotiate().version)
        except (OSError, EOFError):
            return False


@contextmanager
def scripted(folder: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the scripted milter, which listens in `folder` under this name."""
    log = folder / ("log" if name == "s" else f"{name}.log")
    with log.open("wb") as output:
        process = owned([sys.executable, "-m", "tests.wire.scripted", f"unix:{folder}/{name}", *arguments], output=output)
    try:
        wait_until(
            (folder / name).exists, "the milter listens", give_up=lambda: None if process.poll() is None else log.read_text()
        )
        yield process
    finally:
        stop_group(process, signal.SIGKILL)
