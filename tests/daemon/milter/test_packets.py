"""What becomes of the payloads of packets; what libmilter would hand over for the same is translated to the same event."""

import socket
import struct
from ipaddress import ip_address

import pytest

from sidecar.core.session.events import Body, Connect, Data, EndOfHeaders, EndOfMessage, Fields, Helo
from sidecar.daemon.milter import packets, translation
from sidecar.daemon.milter.negotiation import Step
from sidecar.daemon.milter.packets import TRANSLATIONS, MalformedError


class Macros:
    """Macros of one connection."""

    def getsymval(self, name: str, /) -> str | None:
        """Return a macro."""
        return {"{daemon_addr}": "10.1.1.1", "{daemon_port}": "25", "i": "4Q"}.get(name)


MACROS = Macros()
PORT = struct.pack("!H", 4444)


@pytest.mark.parametrize(
    ("payload", "peer"),
    [
        (b"mx\x004" + PORT + b"203.0.113.9\0", "203.0.113.9"),
        (b"mx\x006" + PORT + b"2001:db8::9\0", "2001:db8::9"),
        (b"mx\x006" + PORT + b"IPv6:2001:db8::9\0", "2001:db8::9"),
        (b"mx\x006" + PORT + b"::ffff:203.0.113.9\0", "203.0.113.9"),
        (b"\xff\x004" + PORT + b"203.0.113.9\0", "203.0.113.9"),
        # Some clients write two NULs, or the scope.
        (b"mx\x004" + PORT + b"203.0.113.9\0\0", "203.0.113.9"),
        (b"mx\x006" + PORT + b"fe80::1%eth0\0", "fe80::1"),
    ],
)
def test_a_peer(payload: bytes, peer: str) -> None:
    connect = TRANSLATIONS[Step.CONNECT](MACROS, payload)
    assert connect == Connect(peer=ip_address(peer), port=4444, listener="10.1.1.1:25")


@pytest.mark.parametrize("payload", [b"mx\0U", b"mx\0L" + PORT + b"/run/s\0", b"mx\0X"])
def test_a_peer_without_an_ip_address(payload: bytes) -> None:
    """As libmilter's: nothing can be decided about it."""
    with pytest.raises(translation.UnknownPeerError):
        TRANSLATIONS[Step.CONNECT](MACROS, payload)


@pytest.mark.parametrize(
    "address", [b"203.0.113.999\0", b"\0", b"203.0.113.9%eth0", b"203.0.113.9", b"203.0.113.9\x00203.0.113.8\0", b"\xff\0", b""]
)
def test_a_peer_that_cannot_be_read(address: bytes) -> None:
    """No address is made up, whatever stands there."""
    with pytest.raises(MalformedError):
        TRANSLATIONS[Step.CONNECT](MACROS, b"mx\x004" + PORT + address)


@pytest.mark.parametrize("payload", [b"", b"mx", b"mx\0"])
def test_a_peer_without_a_family(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        TRANSLATIONS[Step.CONNECT](MACROS, payload)


def test_the_other_steps() -> None:
    """The same events as from what libmilter hands over."""
    assert TRANSLATIONS[Step.HELO](MACROS, b"\xffpeer\0") == Helo(name="\N{REPLACEMENT CHARACTER}peer")
    words = [b"<a@b>", b"SIZE=1000"]
    assert TRANSLATIONS[Step.MAIL](MACROS, b"<a@b>\0SIZE=1000\0") == translation.mail(MACROS, *words)
    assert TRANSLATIONS[Step.RCPT](MACROS, b"<a@b>\0NOTIFY=NEVER\0") == translation.rcpt(MACROS, b"<a@b>", b"NOTIFY=NEVER")
    assert TRANSLATIONS[Step.DATA](MACROS, b"") == Data(queue_id="4Q")
    assert TRANSLATIONS[Step.END_OF_HEADERS](MACROS, b"") == EndOfHeaders()
    assert TRANSLATIONS[Step.BODY](MACROS, b"a\0b") == Body(chunk=b"a\0b")
    assert TRANSLATIONS[Step.END_OF_MESSAGE](MACROS, b"") == EndOfMessage(queue_id="4Q")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"Subject\0 hello\0", (b"Subject", b"hello")),
        (b"Subject\0hello\0", (b"Subject", b"hello")),
        (b"X-\xff\0  a\n\tb\0", (b"X-\xff", b" a\n\tb")),
        (b"Empty\0\0", (b"Empty", b"")),
    ],
)
def test_a_header_field(payload: bytes, field: tuple[bytes, bytes]) -> None:
    """A space after the colon is not part of the value; a name of any bytes is a name."""
    assert TRANSLATIONS[Step.HEADER](MACROS, [payload, payload], 99) == Fields(fields=[field, field], size=99)


@pytest.mark.parametrize("payload", [b"", b"Subject", b"Subject\0", b"Subject\0value"])
def test_a_header_field_that_is_none(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        TRANSLATIONS[Step.HEADER](MACROS, [b"a\0b\0", payload], 99)


@pytest.mark.parametrize("step", [Step.MAIL, Step.RCPT])
@pytest.mark.parametrize("payload", [b"", b"<a@b>"])
def test_an_address_that_does_not_end_is_none(step: Step, payload: bytes) -> None:
    """No sender is not the null sender, and half an address is not an address."""
    with pytest.raises(MalformedError):
        TRANSLATIONS[step](MACROS, payload)


def test_every_step_is_translated_by_both_engines() -> None:
    assert set(TRANSLATIONS) == set(translation.TRANSLATIONS) == set(Step)


def test_a_newer_protocol_is_answered_with_the_newest_that_is_spoken() -> None:
    assert packets.offer(struct.pack("!III", 9, 1, 2)) == packets.Offer(version=6, actions=1, steps=2)


def test_families_are_those_of_sockets() -> None:
    """They stand in what an operator reads."""
    with pytest.raises(translation.UnknownPeerError, match=f"family {int(socket.AF_UNIX)}"):
        TRANSLATIONS[Step.CONNECT](MACROS, b"mx\0L" + PORT + b"/run/s\0")
