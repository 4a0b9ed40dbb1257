"""A real haproxy before Postfix: which peer and listener the sidecar sees (load balancer guide)."""

import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from tests.commands.doctor.test_real_postfix import doctor
from tests.mta.client import Peer
from tests.mta.house import house
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import Postfix, postconf, version
from tests.mta.processes import owned, stop_group, wait_until
from tests.mta.sidecar import Sidecar

pytestmark = [
    pytest.mark.mta,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed"),
]

CLIENT, FRONT, BALANCER, BACK = "127.0.0.77", "127.0.0.5", "127.0.0.9", "127.0.0.1"
DOMAINS = '["bounce.example.com"]\nlog_oob = "LogThenDrop"\n'
SETTINGS = """\
defaults
    mode tcp
    timeout connect 10s
    timeout client 5m
    timeout server 5m
frontend smtp
    bind {front}:{port}
    default_backend mx
backend mx
    option smtpchk EHLO balancer.example
    server mx1 {back}:{back_port} source {balancer} {options}
"""
# From here on smtpd_forbid_unauth_pipelining is on by default.
PIPELINING_FORBIDDEN = (3, 9)
PROXY = {"smtpd_upstream_proxy_protocol": "haproxy"}


class Behind(Postfix):
    """A Postfix that expects a PROXY header, without which it does not greet."""

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((BACK, self.port)):
            return True
        return False


class Seen(Struct, frozen=True, kw_only=True):
    """The replies to a client, and the peer and listener in the sidecar's record (without their ports; None: no record)."""

    replies: list[str]
    peer: str | None
    listener: str | None


class Stand(Struct, frozen=True, kw_only=True):
    """A client's way to Postfix, through haproxy or directly."""

    sidecar: Sidecar
    postfix: Postfix
    port: int

    def relays(self, *, header: bytes = b"") -> Seen:
        """Try to relay as the client; with `header` directly to Postfix, otherwise through haproxy."""
        address = (BACK, self.postfix.port) if header else (FRONT, self.port)
        replies = dialogue(address, header, "EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@elsewhere.example>")
        records = self.sidecar.records()
        peer = records[0]["peer_address"]["addr"] if records else None
        return Seen(replies=replies, peer=peer, listener=records[0]["meta"]["listener"] if records else None)


def dialogue(address: tuple[str, int], header: bytes, *lines: str) -> list[str]:
    """Return the last line of each reply, from the greeting on."""
    replies = []
    with socket.create_connection(address, timeout=120, source_address=(CLIENT, 0)) as client, client.makefile("rb") as reader:
        client.sendall(header)
        for line in (*lines, ""):
            reply = next((text for text in reader if text[3:4] != b"-"), None)
            if reply is None:  # the MTA has closed the connection
                break
            replies.append(reply.decode().strip())
            if line:
                client.sendall(f"{line}\r\n".encode())
    return replies


@contextmanager
def stand(
    options: str,
    postfix: Mapping[str, str],
    *,
    relay_hosts: Sequence[str] = (BACK,),
    services: Sequence[str] = (),
    back_port: int | None = None,
    domains: str = DOMAINS,
) -> Iterator[Stand]:
    """Start all three. `options` are those of haproxy's server line; `back_port` is Postfix's, unless it is that of smtpd."""
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=domains, relay_hosts=relay_hosts) as sidecar,
        Behind(directory / "postfix", milter=sidecar.socket, settings=postfix, services=services) as mta,
    ):
        port, config = free_port(), directory / "haproxy.cfg"
        where = {"front": FRONT, "port": port, "back": BACK, "back_port": back_port or mta.port, "balancer": BALANCER}
        config.write_text(SETTINGS.format(options=options, **where))
        with (directory / "haproxy.log").open("wb") as log:
            process = owned(["haproxy", "-db", "-f", str(config)], output=log)
        try:
            wait_until(lambda: listens(FRONT, port), "haproxy listens", give_up=lambda: ended(process, directory))
            yield Stand(sidecar=sidecar, postfix=mta, port=port)
        finally:
            stop_group(process, signal.SIGTERM)


def listens(host: str, port: int) -> bool:
    """Return True if a connection is accepted."""
    with contextlib.suppress(OSError), socket.create_connection((host, port)):
        return True
    return False


def ended(process: subprocess.Popen[bytes], directory: Path) -> str | None:
    """Return the log of a haproxy that has ended."""
    return None if process.poll() is None else (directory / "haproxy.log").read_text()


@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2"])
def test_proxy_protocol(options: str) -> None:
    """The peer is the client, and the listener is the balancer's own address and port."""
    with stand(options, PROXY) as this:
        seen = this.relays()
        assert seen.replies[-1].startswith(f"550 5.7.1 relaying not permitted for {CLIENT}:")
        assert (seen.peer, seen.listener) == (CLIENT, f"{FRONT}:{this.port}")


def test_postscreen() -> None:
    """With postscreen its own setting counts, and that of smtpd does not."""
    port = free_port()
    services = [
        f"{BACK}:{port} inet n - n - 1 postscreen",
        "smtpd pass - - n - - smtpd",
        "dnsblog unix - - n - 0 dnsblog",
        "tlsproxy unix - - n - 0 tlsproxy",
    ]
    settings = {"postscreen_upstream_proxy_protocol": "haproxy", "postscreen_greet_wait": "1s"}
    with stand("send-proxy-v2", settings, services=services, back_port=port) as this:
        seen = this.relays()
        assert seen.replies[-1].startswith(f"550 5.7.1 relaying not permitted for {CLIENT}:")
        assert (seen.peer, seen.listener) == (CLIENT, f"{FRONT}:{this.port}")


def test_without_the_protocol() -> None:
    """Every client has the balancer's address, and Postfix's own listener. Client rules cannot work."""
    with stand("", {}) as this:
        seen = this.relays()
        assert (seen.peer, seen.listener) == (BALANCER, f"{BACK}:{this.postfix.port}")


def test_balancer_in_relay_hosts() -> None:
    """Without the protocol every external host relays."""
    with stand("", {}, relay_hosts=(BALANCER,)) as this:
        assert this.relays().replies[-1] == "250 2.1.5 Ok"


def test_one_side_only() -> None:
    """A header that Postfix does not expect is a wrong command, and the peer is the balancer."""
    with stand("send-proxy", {}) as this:
        replies = this.relays().replies
        # If the header arrives before the greeting, a Postfix that forbids pipelining ends the connection.
        is_early = version() >= PIPELINING_FORBIDDEN and replies[-1] == "554 5.5.0 Error: SMTP protocol synchronization"
        assert is_early or replies[:2] == ["220 mx.example ESMTP Postfix", "500 5.5.2 Error: command not recognized"]
        log, connected = this.postfix.log, f"connect from unknown[{BALANCER}]"
        wait_until(lambda: log.exists() and connected in log.read_text(), "Postfix has logged the balancer as its peer")
    with stand("", PROXY | {"smtpd_upstream_proxy_timeout": "1s"}) as this:
        assert dialogue((FRONT, this.port), b"") == ["421 4.3.0 mx.example Server local error"]


def test_forged_header() -> None:
    """A host that reaches Postfix's port itself can be every peer, also a relay host."""
    with stand("send-proxy", PROXY) as this:
        seen = this.relays(header=b"PROXY TCP4 127.0.0.1 127.0.0.5 4444 25\r\n")
        assert seen.replies[-1] == "250 2.1.5 Ok"


def test_health_check() -> None:
    """A check comes from the balancer's own address, which is an external host. It leaves no record."""
    with stand("send-proxy-v2 check inter 200ms", PROXY) as this:
        log, ended_check = this.postfix.log, f"disconnect from unknown[{BALANCER}] ehlo=1 quit=1 commands=2"
        wait_until(lambda: log.exists() and log.read_text().count(ended_check) > 1, "haproxy has checked twice")
        assert this.sidecar.records() == []
        assert this.relays().peer == CLIENT


def test_health_check_without_domains() -> None:
    """If no domain accepts anything, external hosts and the check are rejected at connect: for haproxy the MX is down."""
    with stand("send-proxy-v2 check inter 200ms", PROXY, domains="") as this:
        log = this.sidecar.directory.parent / "haproxy.log"
        wait_until(lambda: "Server mx/mx1 is DOWN" in log.read_text(), "haproxy has found it down")


def test_xclient() -> None:
    """The proxy names peer, listener and login: the sidecar uses all three."""
    login = '["login.example"]\nrelay_from_authz = ["daniel"]\n'
    with house(domains=DOMAINS + login) as this:
        peer = Peer(address="198.51.100.7:4444", listener="10.1.1.1:25")
        (record,) = this.offer("a@b.example", ["c@elsewhere.example"], b"\n", peer=peer).records
        assert record["response"]["content"] == "relaying not permitted for 198.51.100.7:4444"
        assert record["meta"]["listener"] == "10.1.1.1:25"
        known = Peer(address="198.51.100.7:4444", listener="10.1.1.1:25", login="daniel")
        (record,) = this.offer("a@login.example", ["c@elsewhere.example"], b"\n", peer=known).records
        assert (record["type"], record["meta"]["authz_id"]) == ("Reception", "daniel")


def test_xclient_of_a_relay_host() -> None:
    """A proxy in relay_hosts that sends no XCLIENT lets every external host relay."""
    with house(domains=DOMAINS, relay_hosts=(CLIENT,)) as this:
        settings = postconf("-x", directory=this.postfix.directory)
        assert "error: smtpd_authorized_xclient_hosts" in doctor(this.sidecar, settings)
        address = (BACK, this.postfix.port)
        replies = dialogue(address, b"", "EHLO client.example", "MAIL FROM:<a@b.example>", "RCPT TO:<c@elsewhere.example>")
        assert replies[-1] == "250 2.1.5 Ok"
