"""The milter protocol's packets: what an MTA sends as the session's events, and answers as bytes.

Owns the wire format, that of libmilter's mfdef.h. Never knows a verdict, and never a socket.
A packet is its length in 4 bytes, a letter, and a payload: words that each end with a NUL, numbers, or a piece of a body.
"""

import socket
import struct
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from sidecar.core.session.events import Connect, Event, Fields
from sidecar.daemon.milter import translation
from sidecar.daemon.milter.context import Macros
from sidecar.daemon.milter.negotiation import MACRO_KEYS, Step

# As libmilter's limit. MTAs send bodies in pieces (MILTER_CHUNK_SIZE is 65,535), and Postfix cuts header fields for milters to
# 60,000 bytes, whatever its header_size_limit is.
PAYLOAD_LIMIT = 65_535
# Of a macro's value. The longest is an identity of SMTP AUTH, at most 255 bytes with PLAIN (RFC 4616). A longer one is ignored:
# a part of it would be another identity.
MACRO_LIMIT = 1024

HEAD = struct.Struct("!Ic")
"""The begin of a packet: the length of everything after the length itself, and the letter."""

OFFER, MACROS, END_OF_MESSAGE, QUIT, QUIT_BUT_STAY, UNKNOWN = b"O", b"D", b"E", b"Q", b"K", b"U"
"""Letters that are no plain step; after QUIT_BUT_STAY another SMTP connection follows on the same milter connection."""

LETTERS = {
    Step.CONNECT: b"C",
    Step.HELO: b"H",
    Step.MAIL: b"M",
    Step.RCPT: b"R",
    Step.DATA: b"T",
    Step.HEADER: b"L",
    Step.END_OF_HEADERS: b"N",
    Step.BODY: b"B",
    Step.END_OF_MESSAGE: END_OF_MESSAGE,
    Step.ABORT: b"A",
}

_NUMBERS = struct.Struct("!III")
_NUMBER = struct.Struct("!I")
_PORT = struct.Struct("!H")
_BLANK = ord(" ")
_FAMILIES = {b"4": socket.AF_INET, b"6": socket.AF_INET6, b"L": socket.AF_UNIX}
# Versions of the protocol, as with libmilter.
_OLDEST, _NEWEST = 2, 6


class MalformedError(Exception):
    """Not a packet of the milter protocol, or one that is not allowed now: the sender is no MTA, or a faulty one."""


class Offer(Struct, frozen=True, kw_only=True):
    """An MTA's offer: the version of the protocol, and its bits for actions and steps."""

    version: int
    actions: int
    steps: int


def packet(letter: bytes, payload: bytes = b"") -> bytes:
    """Return a packet."""
    return HEAD.pack(len(payload) + 1, letter) + payload


def offer(payload: bytes) -> Offer:
    """Read an MTA's offer. Raise MalformedError, also for a version of the protocol that is too old."""
    if len(payload) < _NUMBERS.size:
        raise MalformedError("an offer has three numbers")
    version, actions, steps = _NUMBERS.unpack_from(payload)
    if version < _OLDEST:
        raise MalformedError(f"version {version} of the protocol is too old")
    return Offer(version=min(version, _NEWEST), actions=actions, steps=steps)


def agreement(version: int, actions: int, steps: int, macros: Iterable[tuple[int, str]]) -> bytes:
    """Return the answer to an offer; `macros` are those asked for, by libmilter's number of a stage."""
    asked = b"".join(_NUMBER.pack(stage) + names.encode() + b"\0" for stage, names in macros)
    return packet(OFFER, _NUMBERS.pack(version, actions, steps) + asked)


def header_field(name: str, value: str, index: int) -> bytes:
    """Return the payload that inserts a header field before the one with this index."""
    return _NUMBER.pack(index) + f"{name}\0{value}\0".encode()


def words(payload: bytes) -> list[bytes]:
    """Split a payload into words. Raise MalformedError if the last one has no end, or there is none."""
    if payload[-1:] != b"\0":
        raise MalformedError("a word has no end")
    return payload[:-1].split(b"\0")


def macros(payload: bytes) -> dict[bytes, bytes]:
    """Read the macros of a stage, after its letter: names and values in turn. Raise MalformedError.

    Only those that were asked for are returned, without braces, and none whose value is too long. Of two spellings of one name
    the one with braces counts.
    """
    if len(payload) <= 1:
        return {}
    if payload[-1:] != b"\0":
        raise MalformedError("MACROS: a word has no end")
    pairs = payload[1:-1].split(b"\0")
    kept = {}
    for name, value in zip(pairs[::2], pairs[1::2], strict=False):
        key = MACRO_KEYS.get(name)
        if key is not None and len(value) <= MACRO_LIMIT and (name != key or key not in kept):
            kept[key] = value
    return kept


def _connect(source: Macros, payload: bytes) -> Connect:
    """Read the name of the peer, the letter of its address family, its port, and its address."""
    name, _, rest = payload.partition(b"\0")
    if not rest:
        raise MalformedError("the family of the address is missing")
    family = _FAMILIES.get(rest[:1], socket.AF_UNSPEC)
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return translation.connect(source, translation.text(name), family, None)
    if len(rest) <= _PORT.size + 1 or rest[-1:] != b"\0":
        raise MalformedError("the address is missing, or has no end")
    (port,) = _PORT.unpack_from(rest, 1)
    # Some clients end the address with two NULs. Sendmail writes "IPv6:" before addresses of version 6.
    address = translation.text(rest[3:].rstrip(b"\0")).removeprefix("IPv6:")
    try:
        return translation.connect(source, translation.text(name), family, (address, port))
    except ValueError as error:
        raise MalformedError(str(error)) from error


def _fields(_macros: Macros, payloads: list[bytes], size: int) -> Fields:
    """Read header fields; a name can have any bytes."""
    fields = []
    for payload in payloads:
        name, nul, value = payload.partition(b"\0")
        if not nul or value[-1:] != b"\0":
            raise MalformedError("a header field has a name and a value")
        fields.append((name, value[1:-1] if value[0] == _BLANK else value[:-1]))
    return Fields(fields=fields, size=size)


TRANSLATIONS: Mapping[Step, Callable[..., Event]] = {
    Step.CONNECT: _connect,
    Step.HELO: lambda source, payload: translation.helo(source, translation.text(payload.removesuffix(b"\0"))),
    Step.MAIL: lambda source, payload: translation.mail(source, *words(payload)),
    Step.RCPT: lambda source, payload: translation.rcpt(source, *words(payload)),
    Step.HEADER: _fields,
    **translation.PLAIN,
}
"""How the payload of each step becomes its event; for header fields it is a list of payloads. Each raises MalformedError."""
