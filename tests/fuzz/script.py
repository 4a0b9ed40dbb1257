"""Bytes as the events of a connection: a small language that a fuzzer can write, and a person can read.

Owns its words. A script is a row of words parted by NUL; the first letter of each says what comes, as in `_WORDS`. What no
letter begins is passed over.
"""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from sidecar.core.session.events import Abort, Close, Connect, Data, EndOfHeaders, EndOfMessage, Event, content_events
from sidecar.daemon.milter import translation
from tests.fuzz.contract import PARTNER, RELAY_HOSTS
from tests.fuzz.macros import Macros

_PEERS = ("203.0.113.9", "2001:db8::9", PARTNER, *RELAY_HOSTS)

_NOT_FOLDED = re.compile(rb"\n(?![ \t])")

Word = Callable[[Macros, bytes], Iterator[Event]]


def events(script: bytes) -> Iterator[Event]:
    """Give the events of a script."""
    macros = Macros({})
    for word in script.split(b"\0"):
        speak = _WORDS.get(word[:1])
        if speak is not None:
            yield from speak(macros, word[1:])


def _connect(_macros: Macros, text: bytes) -> Iterator[Event]:
    """`C` and a digit for the peer; a second digit is its port."""
    which, port = (*text[:2], 0, 0)[:2]
    yield Connect(peer=ip_address(_PEERS[which % len(_PEERS)]), port=port or None, listener="10.1.1.1:25")


def _mail(macros: Macros, text: bytes) -> Iterator[Event]:
    path, *parameters = text.split(b" ")
    yield translation.mail(macros, path, *parameters)


def _header(macros: Macros, text: bytes) -> Iterator[Event]:
    name, _, value = text.partition(b":")
    if b"\n" in name or _NOT_FOLDED.search(value):
        return  # an MTA has read the lines already, and tells of each field by itself
    yield translation.header(macros, name.decode("utf-8", "replace"), value)


def _macro(name: str) -> Word:
    def told(macros: Macros, text: bytes) -> Iterator[Event]:
        macros.values[name] = text.decode("utf-8", "replace")
        yield from ()

    return told


def _whole(_macros: Macros, text: bytes) -> Iterator[Event]:
    yield Data()
    yield from content_events(text)


_WORDS: dict[bytes, Word] = {
    b"A": _macro("{auth_authen}"),
    b"I": _macro("i"),
    b"C": _connect,
    b"L": lambda macros, text: iter((translation.helo(macros, text.decode("utf-8", "replace")),)),
    b"M": _mail,
    b"R": lambda macros, text: iter((translation.rcpt(macros, text),)),
    b"D": lambda macros, _: iter((translation.data(macros),)),
    b"H": _header,
    b"E": lambda *_: iter((EndOfHeaders(),)),
    b"B": lambda macros, text: iter((translation.body(macros, text),)),
    b"T": lambda *_: iter((EndOfMessage(),)),
    b"X": lambda *_: iter((Abort(),)),
    b"Q": lambda *_: iter((Close(),)),
    b"W": _whole,
}
