"""Packets of the milter protocol in any order, many of them broken: two bytes of input for each.

Owns the packets. The target conversation has what must hold for their answers.
"""

import struct
from collections.abc import Iterator

from tests.core.session.driving import ARF, BROKEN, OOB
from tests.fuzz.targets import conversation

_WAY = b"OCHMRRTLLNBE"
"""The usual order. Input that begins like it gets far."""

_PORT = struct.pack("!H", 4444)
_OFFERS = [
    struct.pack("!III", version, actions, steps)
    for version in (6, 4, 2)
    for actions, steps in ((0x1FF, 0x1FFFFF), (0x3F, 0x7F), (0x21, 0), (0, 0), (0x0F, 0x3FF))
]
_PEERS = [
    b"4" + _PORT + b"203.0.113.9\0",
    b"4" + _PORT + b"127.0.0.1\0\0",
    b"6" + _PORT + b"IPv6:2001:db8::9\0",
    b"6" + _PORT + b"fe80::1%eth0\0",
    b"L\0\0/run/s\0",
    b"U",
]
_DOMAINS = ("bounce", "keep", "fbl", "fblkeep", "open", "else")
_BODIES = [message.partition(b"\r\n\r\n")[2] for message in (OOB, ARF, BROKEN)]
_TYPES = [f'multipart/report; report-type={kind}; boundary="cut"'.encode() for kind in ("delivery-status", "feedback-report")]

# Some payloads of each packet.
_PAYLOADS: dict[bytes, list[bytes]] = {
    b"O": _OFFERS,
    b"C": [b"peer.example\0" + peer for peer in _PEERS],
    b"H": [b"peer.example\0", b"\xff\0", b""],
    b"M": [b"<>\0", b"<a@auth.example>\0SIZE=99\0", b"<a@from.example>\0", b"\xff\0"],
    b"R": [f"<b@{domain}.example>\0".encode() for domain in _DOMAINS],
    b"T": [b""],
    b"L": [b"Subject\0 x\0", *(b"Content-Type\0 " + kind + b"\0" for kind in _TYPES), b"X-\xff\0\xff\0", b"a\0\0"],
    b"N": [b""],
    b"B": [*_BODIES, *(body[: len(body) // 2] for body in _BODIES), b"x" * 40_000, b""],
    b"E": [b"", b"the rest"],
    b"A": [b""],
    b"D": [b"Mi\x004Q\0{auth_authen}\0daniel\0", b"C{daemon_name}\0maddy\0", b"Mi\0", b"M{auth_authen}\0\xff\0", b"L", b""],
    b"K": [b""],
    b"U": [b"XYZZY\0"],
    b"Q": [b""],
    b"Z": [b""],
}
_LETTERS = [*_PAYLOADS]
_USUAL, _CUT, _LONGER, _CHANGED = 200, 215, 230, 245
"""The second byte: below each of these the payload is usual, cut, longer, or has another byte; above, its length is wrong."""


def seeds() -> Iterator[bytes]:
    """Yield whole messages in the usual order, with usual payloads, and the next one on the same connection."""
    for number in range(12):
        yield bytes(byte for letter in _WAY + _WAY[3:] for byte in (_LETTERS.index(bytes([letter])), number))


def check(data: bytes) -> None:
    """Check the answers to the packets of one input."""
    conversation.check(b"".join(packets(data)))


def packets(data: bytes) -> Iterator[bytes]:
    """Yield the packets that this input stands for."""
    for first, second in zip(data[::2], data[1::2], strict=False):
        letter = _LETTERS[first % len(_LETTERS)]
        payloads = _PAYLOADS[letter]
        payload = payloads[second % len(payloads)]
        at = (first * 7 + second) % (len(payload) + 1)
        if _USUAL <= second < _CUT:
            payload = payload[:at]
        elif _CUT <= second < _LONGER:
            payload += bytes([first])
        elif _LONGER <= second < _CHANGED:
            payload = payload[:at] + bytes([first]) + payload[at + 1 :]
        length = len(payload) + 1 if second < _CHANGED else first << 24 | second
        yield struct.pack("!I", length) + letter + payload
