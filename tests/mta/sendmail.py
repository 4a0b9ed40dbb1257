"""A private Sendmail in a network of its own: own settings, queue and host name, gone without a trace afterwards.

Owns starting and stopping it, and reading what it queued. Never delivers, and never touches the Sendmail of the machine.
"""

import contextlib
import ctypes
import os
import re
import signal
import smtplib
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from msgspec import Struct

from sidecar.core.names import split_endpoint
from tests import ROOT
from tests.mta.client import Answer, Connection, Peer, Refused
from tests.mta.house import Pair
from tests.mta.places import private_directory, unpack
from tests.mta.processes import owned, stop_group, wait_until
from tests.mta.sidecar import Sidecar

UNPACKED = ROOT / ".venv" / "sendmail"
"""Debian's packages, unpacked: they cannot be installed beside Postfix."""

PROGRAM = UNPACKED / "usr/libexec/sendmail/sendmail"

LISTENERS = ("10.1.1.1:25", "10.1.1.1:2525", "[2001:db8::25]:25", "[::]:2526")
"""The last one takes IPv4 as well, and sees those peers by their IPv4-mapped addresses."""

PASSWORD = "secret"  # noqa: S105 - of accounts that live as long as one test
TRANSCRIPT_SHOWN = 60

# Every address is this machine's, so that a client can be any peer, and a listener have any address.
START = """\
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind
hostname mx.example
exec "$0" -bD -C sendmail.cf -X transcript
"""

# The rules for addresses are Sendmail's own; whatever may be relayed is left to the sidecar.
SETTINGS = """\
divert(-1)
include(`{unpacked}/usr/share/sendmail/cf/m4/cf.m4')
divert(0)dnl
OSTYPE(`linux')
define(`QUEUE_DIR', `{directory}/queue')
define(`confPID_FILE', `{directory}/pid')
define(`ALIAS_FILE', `')
define(`STATUS_FILE', `')
define(`HELP_FILE', `')
define(`confDELIVERY_MODE', `queueonly')
define(`confTO_IDENT', `0s')
define(`confREFUSE_LA', `9999')
define(`confQUEUE_LA', `9999')
define(`confAUTH_MECHANISMS', `PLAIN')
define(`confSERVER_CERT', `{directory}/certificate.pem')
define(`confSERVER_KEY', `{directory}/key.pem')
define(`confCACERT', `{directory}/certificate.pem')
define(`confCACERT_PATH', `{directory}')
TRUST_AUTH_MECH(`PLAIN')
FEATURE(`no_default_msa')
FEATURE(`accept_unresolvable_domains')
FEATURE(`accept_unqualified_senders')
FEATURE(`nocanonify')
{lines}
{daemons}
INPUT_MAIL_FILTER(`sidecar', `S={milter}, F=T, T=S:4m;R:4m;E:10m')
MAILER(`local')
MAILER(`smtp')
LOCAL_CONFIG
ESASL_CONF_PATH={directory}
"""

SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
mech_list: PLAIN
sasldb_path: {directory}/accounts
"""


class Queued(Struct, frozen=True, kw_only=True):
    """A message that Sendmail took: its envelope as it would go on, and its body."""

    sender: str
    recipients: tuple[str, ...]
    message: bytes


class Sendmail:
    """A context manager: within it, this Sendmail answers on LISTENERS of its own network.

    Sendmail refuses a UNIX socket below a folder that everybody may write to, so `directory` cannot be below /tmp.
    `milter` is in Sendmail's spelling, `lines` more lines of m4, `accounts` who may say AUTH.
    """

    def __init__(self, directory: Path, *, milter: str, lines: str = "", accounts: Sequence[str] = ()) -> None:
        self.directory = directory
        self._milter = milter
        self._lines = lines
        self._accounts = accounts
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        _need_a_network_of_its_own()
        get_sendmail()
        self._lay_out()
        command = ["unshare", "--net", "--uts", "--", "sh", "-e", "-c", START, str(PROGRAM)]
        with (self.directory / "output").open("wb") as output:
            self._daemon = owned(command, folder=self.directory, output=output)
        try:
            wait_until(self._answers, "Sendmail answers", give_up=self._died)
        except BaseException as error:
            self.stop()
            error.add_note(self._log_text())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if error is not None:
            error.add_note(f"what Sendmail heard and said:\n{self._log_text()}")

    def stop(self) -> None:
        """End all its processes and wait until they are gone."""
        if self._daemon is not None:
            stop_group(self._daemon, signal.SIGTERM)
            self._daemon = None

    def connect(self, peer: Peer) -> "Caller":
        """Open a connection as `peer`, from the peer's own address to the listener's."""
        with self._network():
            return Caller(peer)

    def queued(self) -> list[Queued]:
        """Wait until nobody is connected any more, and give what was queued since the last call."""
        wait_until(lambda: not self._sessions(), "all of Sendmail's sessions are over")
        queue = self.directory / "queue"
        found = [_read_queue_file(path) for path in sorted(queue.glob("qf*"))]
        for path in queue.iterdir():
            path.unlink()
        return found

    def next_hosts(self, addresses: Sequence[str]) -> list[str]:
        """Give the host that each address would be delivered to by Sendmail's rules; "" where that is this one, or nobody."""
        assert self._daemon is not None
        where = ["nsenter", "-t", str(self._daemon.pid), "--net", "--uts", "--"]
        command = [*where, str(PROGRAM), "-bt", "-C", str(self.directory / "sendmail.cf")]
        questions = "".join(f"/parse {address}\n" for address in addresses)
        answer = subprocess.run(command, input=questions.encode(), capture_output=True, check=True)
        found = re.findall(r"(?m)^mailer (\S+), (?:host (\S+), )?user ", answer.stdout.decode("utf-8", "replace"))
        assert len(found) == len(addresses)
        return [host if mailer == "esmtp" else "" for mailer, host in found]

    def _lay_out(self) -> None:
        """Write the settings, the accounts and a certificate."""
        (self.directory / "queue").mkdir(parents=True, mode=0o700)
        settings = SETTINGS.format(
            unpacked=UNPACKED,
            directory=self.directory,
            lines=self._lines,
            daemons="\n".join(map(_daemon_options, LISTENERS)),
            milter=self._milter,
        )
        done = subprocess.run(["m4"], input=settings.encode(), capture_output=True, check=True)
        (self.directory / "sendmail.cf").write_bytes(done.stdout)
        (self.directory / "Sendmail.conf").write_text(SASL.format(directory=self.directory))
        for account in self._accounts:
            where = ("-f", str(self.directory / "accounts"), "-u", "mx.example")
            command = [str(UNPACKED / "usr/sbin/saslpasswd2"), "-p", "-c", *where, account]
            subprocess.run(command, input=PASSWORD.encode(), check=True)
        make_certificate(self.directory)

    @contextmanager
    def _network(self) -> Iterator[None]:
        """Let this thread open sockets in Sendmail's network; a socket stays in the one that it was opened in."""
        assert self._daemon is not None
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/proc/{self._daemon.pid}/ns/net").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def _sessions(self) -> str:
        assert self._daemon is not None
        pid = self._daemon.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text()

    def _answers(self) -> bool:
        # The last listener is the last to be opened. A relay host's address, for no rule is to refuse this.
        peer = Peer(address="127.0.0.1", listener="127.0.0.1:2526")
        with contextlib.suppress(OSError, Refused), self.connect(peer) as connection:
            return connection.say("NOOP").code == 250
        return False

    def _died(self) -> str | None:
        status = self._daemon.poll() if self._daemon else None
        return None if status is None else f"Sendmail ended with status {status}"

    def _log_text(self) -> str:
        files = (self.directory / name for name in ("output", "transcript"))
        lines = [line for path in files if path.exists() for line in path.read_text(errors="replace").splitlines()]
        return "\n".join(lines[-TRANSCRIPT_SHOWN:])


class _Bound(smtplib.SMTP):
    """smtplib's client with its own end bound; the address may be in use by a connection that is just ending."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        own = self.source_address
        assert own is not None
        one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        one.settimeout(timeout)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Closed without a TIME_WAIT, which would keep the next connection from this port.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            one.bind(own)
            one.connect((host, port))
        except OSError:
            one.close()
            raise
        return one


class Caller(Connection):
    """A connection from the peer's own address; a `login` of the peer is proved with AUTH PLAIN."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        own, own_port = split_endpoint(peer.address)
        host, port = split_endpoint(peer.listener)
        try:
            self._smtp = _Bound(str(host), port or 25, timeout=300, source_address=(str(own), own_port or 0))
        except smtplib.SMTPConnectError as error:
            text = error.smtp_error
            raise Refused(Answer(code=error.smtp_code, text=text if isinstance(text, str) else text.decode())) from error

    def __enter__(self) -> Self:
        greeting = self.say(f"EHLO {self._peer.helo}")
        if greeting.code != 250:
            self._smtp.close()
            raise Refused(greeting)
        self.log_in(PASSWORD)
        return self


class SendmailHouse(Pair, frozen=True, kw_only=True):
    """A Sendmail and its sidecar."""

    sendmail: Sendmail

    @property
    def certificate(self) -> Path:
        """The folder of its certificate, which it trusts."""
        return self.sendmail.directory

    def connect(self, peer: Peer) -> Connection:
        """Open a connection as `peer`."""
        return self.sendmail.connect(peer)

    def delivered(self) -> dict[str, bytes]:
        """Give what was queued since the last call: recipient -> message."""
        return {recipient: one.message for one in self.sendmail.queued() for recipient in one.recipients}


@contextmanager
def sendmail_house(
    *,
    domains: str,
    relay_hosts: Sequence[str] = ("127.0.0.1",),
    settings: str = "",
    engine: str = "direct",
    lines: str = "FEATURE(`promiscuous_relay')",
    accounts: Sequence[str] = (),
) -> Iterator[SendmailHouse]:
    """Start a sidecar and a Sendmail in front of it; end both, whatever happens. Arguments as those two have them."""
    with (
        private_directory(below="/run") as directory,
        Sidecar(directory / "sidecar", domains=domains, relay_hosts=relay_hosts, settings=settings, engine=engine) as sidecar,
        Sendmail(directory / "sendmail", milter=sidecar.socket, lines=lines, accounts=accounts) as mta,
    ):
        yield SendmailHouse(sendmail=mta, sidecar=sidecar)


def _need_a_network_of_its_own() -> None:
    """Skip the test where this machine, a container most likely, lets nobody make one; never in CI."""
    possible = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, check=False).returncode == 0
    if not possible and not os.environ.get("CI"):
        pytest.skip("Sendmail needs a network of its own, and this machine lets nobody make one")


def get_sendmail() -> None:
    """Unpack Sendmail, unless that was done before."""
    unpack(UNPACKED, "sendmail-bin", "sendmail-cf", "sasl2-bin")


def make_certificate(directory: Path) -> None:
    """Make a self-signed certificate: key.pem and certificate.pem."""
    subject = ("-subj", "/CN=mx.example", "-days", "2", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    files = ("-keyout", directory / "key.pem", "-out", directory / "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", *subject, *files], check=True, capture_output=True)
    (directory / "key.pem").chmod(0o600)


def _daemon_options(listener: str) -> str:
    address, port = split_endpoint(listener)
    family = "inet6" if address.version == 6 else "inet"
    return f"DAEMON_OPTIONS(`Name=port{port}, Family={family}, Addr={address}, Port={port}, M=E')"


def _read_queue_file(path: Path) -> Queued:
    """Read a queue control file (Sendmail Installation and Operation Guide, appendix B) and the data file beside it."""
    control = path.read_bytes()
    sender = re.search(rb"(?m)^S(.*)$", control)
    recipients = re.findall(rb"(?m)^R[^:\n]*:(.*)$", control)
    headers = re.findall(rb"(?m)^H\?[^?]*\?(.*(?:\n[ \t].*)*)$", control)
    body = path.with_name(path.name.replace("qf", "df", 1)).read_bytes()
    return Queued(
        sender=sender[1].decode() if sender else "",
        recipients=tuple(recipient.decode("utf-8", "replace").removeprefix("<").removesuffix(">") for recipient in recipients),
        message=b"\n".join(headers) + b"\n\n" + body,
    )


def _enter(namespace: int) -> None:
    """Move this thread to a network (setns(2); CLONE_NEWNET in linux/sched.h)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, 0x40000000) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")
