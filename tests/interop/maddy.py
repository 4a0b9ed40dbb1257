"""A private maddy on loopback, built from Go's module proxy, with the sidecar as its milter check and a Postfix behind it.

Owns starting and stopping it. Never judges a reply.
"""

import contextlib
import re
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from sidecar.core.names import split_endpoint
from tests import ROOT
from tests.mta.client import Connection, Peer
from tests.mta.house import Pair
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import HOST, Postfix
from tests.mta.processes import owned, stop_group, wait_until
from tests.mta.sendmail import PASSWORD
from tests.mta.sidecar import Sidecar

BUILT = ROOT / ".venv" / "interop"
VERSION = "v0.8.2"
LOG_SHOWN = 60

# The load balancer's header lets the tests play any peer.
SETTINGS = """\
hostname mx.example
state_dir {directory}/state
runtime_dir {directory}/run
tls off
log stderr

auth.pass_table accounts {{
    table static {{
        entry daniel "{password}"
        entry danielle "{password}"
    }}
}}

target.smtp next_hop {{
    starttls no
    targets tcp://{host}:{next_hop}
}}

smtp tcp://{host}:{port} {{
    proxy_protocol {{
        trust {host}
    }}
    auth &accounts
    insecure_auth yes
{lines}
}}
"""

CHECK = """\
check {
    milter unix:///run/sidecar/sidecar.sock
}
deliver_to &next_hop
"""
"""The lines of the smtp block, unless a test has others. The socket is that of deploy/maddy."""


class Maddy:
    """A context manager: within it, this maddy answers on `port`. `lines` are for its smtp block; `next_hop` is a port."""

    def __init__(self, directory: Path, *, lines: str, next_hop: int) -> None:
        self.directory = directory
        self.port = free_port()
        self._next_hop, self._lines = next_hop, lines
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.directory / "log"

    def __enter__(self) -> Self:
        subprocess.run([Path(__file__).with_name("get_maddy.sh"), BUILT], check=True)
        for name in ("state", "run"):
            (self.directory / name).mkdir(parents=True)
        command = [str(BUILT / f"maddy-{VERSION}"), "hash", "--bcrypt-cost", "4", "--password", PASSWORD]
        password = subprocess.check_output(command, text=True).strip()
        where = {"directory": self.directory, "host": HOST, "port": self.port, "next_hop": self._next_hop}
        settings = SETTINGS.format(**where, password=password, lines=self._lines)
        (self.directory / "maddy.conf").write_text(settings)
        with self.log.open("wb") as log:
            command = [str(BUILT / f"maddy-{VERSION}"), "-config", str(self.directory / "maddy.conf"), "run"]
            self._process = owned(command, folder=self.directory, output=log)
        try:
            wait_until(self._answers, f"maddy on port {self.port} answers", give_up=self._died)
        except BaseException as error:
            self.stop()
            error.add_note(self.log.read_text())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if error is not None:
            error.add_note("log of maddy:\n" + "\n".join(self.log.read_text().splitlines()[-LOG_SHOWN:]))

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            stop_group(self._process, signal.SIGTERM)
            self._process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port)):
            return True
        return False

    def _died(self) -> str | None:
        status = self._process.poll() if self._process else None
        return None if status is None else f"maddy ended with status {status}"


class ProxiedConnection(Connection):
    """A connection of a peer that the header of a load balancer names (PROXY protocol, version 1)."""

    def __init__(self, port: int, peer: Peer) -> None:
        self._peer = peer
        self._smtp = smtplib.SMTP(timeout=300)
        self._smtp.sock = socket.create_connection((HOST, port), timeout=300)
        (own, own_port), (there, there_port) = split_endpoint(peer.address), split_endpoint(peer.listener)
        self.write(f"PROXY TCP{own.version} {own} {there} {own_port} {there_port}\r\n".encode())
        assert self.reply().code == 220

    def __enter__(self) -> Self:
        assert self.say(f"EHLO {self._peer.helo}").code == 250
        self.log_in(PASSWORD)
        return self


class MaddyPair(Pair, frozen=True, kw_only=True):
    """A maddy, its sidecar, and the Postfix that takes its mail."""

    maddy: Maddy
    next_hop: Postfix

    def connect(self, peer: Peer) -> Connection:
        """Open a connection as `peer`."""
        return ProxiedConnection(self.maddy.port, peer)

    def delivered(self) -> dict[str, bytes]:
        """Return what was delivered since the last call: recipient -> message."""
        return self.next_hop.delivered()


@contextmanager
def maddy_pair(
    *,
    domains: str,
    relay_hosts: Sequence[str] = ("127.0.0.1",),
    settings: str = "",
    engine: str = "direct",
    lines: str = CHECK,
) -> Iterator[MaddyPair]:
    """Start a sidecar, a maddy in front of it and a Postfix behind that; end all of them, whatever happens."""
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=domains, relay_hosts=relay_hosts, settings=settings, engine=engine) as sidecar,
        Postfix(directory / "postfix") as next_hop,
    ):
        lines = lines.replace("unix:///run/sidecar/sidecar.sock", re.sub("^unix:", "unix://", sidecar.socket))
        with Maddy(directory / "maddy", lines=lines, next_hop=next_hop.port) as maddy:
            yield MaddyPair(sidecar=sidecar, maddy=maddy, next_hop=next_hop)
