"""The milter's translation, without libmilter: any bytes of an MTA or a peer become an event that the session can take.

Owns what is true of the events. Never knows what becomes of them.
"""

import contextlib
import json
import socket
from collections.abc import Iterator

import msgspec

from sidecar.core.names import normal_listener
from sidecar.daemon.milter import translation
from tests.fuzz.macros import Macros

_MACROS = (
    *("i", "{auth_authen}", "{daemon_addr}", "{if_addr}", "{daemon_port}"),
    *("{cipher}", "{tls_version}", "{cert_subject}", "{verify}"),
)
_SEEDS = (
    b"<a@b.example>\0SIZE=1000\0BODY=8BITMIME\n4ABC\0daniel\x0010.1.1.1\0\x0025",
    "<\N{LATIN SMALL LETTER U WITH DIAERESIS}@b.example>\0size=99999999999999999999\n\0\0IPv6:2001:db8::1\0\x0025".encode(),
    b"<>\n\0\0\0\0\0AES\0TLSv1.3\0/C=DE/CN=Mail+20+2FX+c3+a9\0OK",
    b"\xff\0SIZE=\n\0\0mx.example\x000.0.0.0\0smtp",
)


def seeds() -> Iterator[bytes]:
    """Give MAIL commands and macros; a line end parts them, NULs part their words."""
    return iter(_SEEDS)


def check(data: bytes) -> None:
    """Check every translation of the words in one input."""
    command, _, told = data.partition(b"\n")
    path, *parameters = command.split(b"\0")
    macros = Macros(dict(zip(_MACROS, told.decode("utf-8", "replace").split("\0"), strict=False)))
    mail = translation.mail(macros, path, *parameters)
    rcpt = translation.rcpt(macros, path, *parameters)
    assert json.loads(msgspec.json.encode([mail, rcpt]))[0]["sender"] == mail.sender == rcpt.address
    assert rcpt.mta_spelling in {rcpt.address, f"<{rcpt.address}>"}
    assert mail.authz_id != ""
    assert rcpt.queue_id != ""
    # What reads KumoMTA's records holds a size in 64 bits.
    assert mail.declared_size is None or 0 <= mail.declared_size < 1 << 63
    header = translation.header(macros, "Subject", path)
    assert header.value in {path, path[1:]}
    assert translation.body(macros, data).chunk == data
    _check_connect(macros, path.decode("utf-8", "replace"))
    _check_tls(macros)


def _check_tls(macros: Macros) -> None:
    tls = translation.helo(macros, "x").tls
    if tls is not None:
        assert tls.cipher or tls.protocol_version
        assert all(0 < len(part) <= 255 for part in tls.subject)
        json.loads(msgspec.json.encode(tls))


def _check_connect(macros: Macros, path: str) -> None:
    event = translation.connect(macros, path, socket.AF_INET, ("203.0.113.9", len(path)))
    assert event.port != 0
    assert event.listener is None or normal_listener(event.listener) == event.listener
    with contextlib.suppress(translation.UnknownPeerError):
        translation.connect(macros, path, socket.AF_UNIX, path)
        raise AssertionError("a peer without an address has no event")
