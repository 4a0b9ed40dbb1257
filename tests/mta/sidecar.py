"""A running sidecar: `sidecar run` in processes of its own, with settings and a journal below one directory.

Owns starting it, telling it to reload, stopping it and reading its records. Never looks at them with the sidecar's own code.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import ROOT
from tests.mta.processes import owned, stop_group, wait_until

Record = dict[str, Any]
"""A log record as JSON gives it."""

SETTINGS = """\
relay_hosts = {relay_hosts}
state_directory = "state"
listener_domains = ["listener_domains.toml"]
{settings}

[milter]
socket = "unix:{directory}/sidecar.sock"
socket_group = "postfix"
workers = 2
engine = "{engine}"

[journal]
directory = "journal"

[log]
format = "json"
"""


class Sidecar:
    """A context manager: within it, a sidecar serves at `socket`.

    `directory` must be reachable by user postfix. `domains` is the text of the listener domains file, `settings` more lines
    of sidecar.toml.
    """

    def __init__(
        self,
        directory: Path,
        *,
        domains: str,
        relay_hosts: Sequence[str] = ("127.0.0.1",),
        settings: str = "",
        engine: str = "direct",
    ) -> None:
        self.directory = directory
        self._relay_hosts = relay_hosts
        self._domains = domains
        self._settings = settings
        self._engine = engine
        self._process: subprocess.Popen[bytes] | None = None
        self._news: socket.socket | None = None
        self._seen: dict[Path, int] = {}

    @property
    def socket(self) -> str:
        """Where Postfix finds it, in Postfix's spelling."""
        return f"unix:{self.directory}/sidecar.sock"

    @property
    def config(self) -> Path:
        """Its settings file."""
        return self.directory / "sidecar.toml"

    @property
    def log(self) -> Path:
        """Its log file: JSON lines."""
        return self.directory / "log"

    def __enter__(self) -> Self:
        self.directory.mkdir(mode=0o755)
        self.config.write_text(self._settings_text())
        self.write_domains(self._domains)
        self._news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        # A skip of `--quick` is a BaseException, too.
        try:
            self._start()
        except BaseException as error:
            self.stop()
            if self.log.exists():
                error.add_note(self.log.read_text())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        status = self.stop()
        if error is not None:
            error.add_note(f"log of the sidecar:\n{self.log.read_text()}")
        elif status != 0:
            raise RuntimeError(f"the sidecar ended with status {status}:\n{self.log.read_text()}")

    def _start(self) -> None:
        assert self._news is not None
        self._news.bind(str(self.directory / "notify"))
        # The program as installed is `python -m sidecar`; the folder is that of these tests, wherever they run.
        environ = {"NOTIFY_SOCKET": str(self.directory / "notify"), "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "sidecar", "run", "--config", self.config.name]
            self._process = owned(command, folder=self.directory, environ=environ, output=log)
        wait_until(lambda: self._heard("READY=1"), "the sidecar is ready", give_up=self._died)

    def stop(self) -> int:
        """Stop it in order, wait until all its processes are gone, and give its exit status."""
        process, self._process = self._process, None
        if self._news is not None:
            self._news.close()
            self._news = None
        return 0 if process is None else stop_group(process, signal.SIGTERM)

    def write_domains(self, text: str) -> None:
        """Write the listener domains file; a running sidecar takes it at the next reload."""
        (self.directory / "listener_domains.toml").write_text(text)

    def reload(self) -> str:
        """Send SIGHUP, wait until it says that it is ready again, and give what it logged meanwhile."""
        assert self._process is not None
        before = self.log.stat().st_size
        self._process.send_signal(signal.SIGHUP)
        wait_until(lambda: self._heard("READY=1"), "the sidecar is ready again", give_up=self._died)
        return self.log.read_bytes()[before:].decode()

    def workers(self) -> list[int]:
        """Give the process ids of its workers."""
        assert self._process is not None
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def records(self) -> list[Record]:
        """Give the records that reached the disk since the last call. Those of one connection are in order."""
        lines: list[bytes] = []
        for path in sorted((self.directory / "journal").glob("*.jsonl")):
            seen, text = self._seen.get(path, 0), path.read_bytes()
            # The last line can be on its way.
            self._seen[path] = end = text.rfind(b"\n") + 1
            lines += text[seen:end].splitlines()
        return [json.loads(line) for line in lines]

    def _settings_text(self) -> str:
        relay_hosts = json.dumps(list(self._relay_hosts))
        return SETTINGS.format(relay_hosts=relay_hosts, settings=self._settings, directory=self.directory, engine=self._engine)

    def _heard(self, news: str) -> bool:
        assert self._news is not None
        try:
            return news in self._news.recv(4096).decode().splitlines()
        except BlockingIOError:
            return False

    def _died(self) -> str | None:
        status = self._process.poll() if self._process else None
        return None if status is None else f"it ended with status {status}"
