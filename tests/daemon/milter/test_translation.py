"""An MTA's words as events: what is decoded, what is left out, what is not believed."""

import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.records import Tls
from sidecar.core.session.events import Connect, Header, Helo, Mail, Rcpt
from sidecar.daemon.milter import translation
from sidecar.daemon.milter.negotiation import Step


class Macros:
    """An MTA's macros."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def getsymval(self, name: str, /) -> str | None:
        """Return one."""
        return self.values.get(name)


NOTHING = Macros()


@pytest.mark.parametrize(
    ("given_path", "sender"),
    [
        (b"<>", ""),
        (b"", ""),
        (b"<a@b.example>", "a@b.example"),
        (b"a@b.example", "a@b.example"),
        ("<grün@b.example>".encode(), "grün@b.example"),
        (b"<a\xff@b.example>", "a\N{REPLACEMENT CHARACTER}@b.example"),
        (b'<"<x>"@b.example>', '"<x>"@b.example'),
        (b"<@relay.example:a@b.example>", "@relay.example:a@b.example"),
        (b"<a@b.example", "<a@b.example"),
    ],
)
def test_a_path_loses_its_angle_brackets_and_nothing_else(given_path: bytes, sender: str) -> None:
    assert translation.mail(NOTHING, given_path) == Mail(sender=sender)
    assert translation.rcpt(NOTHING, given_path) == Rcpt(address=sender, mta_spelling=given_path.decode("utf-8", "replace"))


@given(st.binary(max_size=100), st.lists(st.binary(max_size=30), max_size=4))
def test_any_bytes_become_text_that_can_be_written_down(path: bytes, parameters: list[bytes]) -> None:
    event = translation.mail(NOTHING, path, *parameters)
    assert event.sender.encode().decode() == event.sender


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ([b"SIZE=1000"], 1000),
        ([b"BODY=8BITMIME", b"size=7"], 7),
        ([b"SIZE=00000000000000000001"], 1),
        ([b"SIZE=" + b"9" * 18], 10**18 - 1),
        ([b"SIZE=" + b"9" * 20], None),
        ([b"SIZE=" + b"9" * 21], None),
        ([b"SIZE="], None),
        ([b"SIZE=-1"], None),
        ([b"SIZE=1 "], None),
        ([b"SIZE=\xd9\xa1"], None),
        ([b"XSIZE=1"], None),
        ([], None),
    ],
)
def test_a_declared_size_is_twenty_digits_at_most_and_fits_64_bits(parameters: list[bytes], size: int | None) -> None:
    assert translation.mail(NOTHING, b"<>", *parameters).declared_size == size


def test_an_empty_macro_is_none() -> None:
    """Postfix sends its queue id as an empty text where it has none."""
    macros = Macros(**{"i": "", "{auth_authen}": ""})
    assert translation.mail(macros, b"<>") == Mail(sender="")
    assert translation.data(macros).queue_id is None


@pytest.mark.parametrize(
    ("macros", "listener"),
    [
        ({"{daemon_addr}": "10.1.1.1", "{daemon_port}": "25"}, "10.1.1.1:25"),
        ({"{daemon_addr}": "0.0.0.0", "{if_addr}": "10.1.1.1", "{daemon_port}": "25"}, "10.1.1.1:25"),  # noqa: S104 - as Sendmail says
        ({"{daemon_addr}": "IPv6:2001:db8::1", "{daemon_port}": "25"}, "[2001:db8::1]:25"),
        ({"{daemon_addr}": "10.1.1.1"}, None),
        ({"{daemon_port}": "25"}, None),
        ({"{daemon_addr}": "mx.example", "{daemon_port}": "25"}, None),
        ({"{daemon_addr}": "10.1.1.1", "{daemon_port}": "smtp"}, None),
        ({"{daemon_addr}": "10.1.1.1", "{daemon_port}": "65536"}, None),
        ({"{daemon_addr}": "10.1.1.1", "{daemon_port}": "-1"}, None),
        ({"{daemon_addr}": "10.1.1.1", "{daemon_port}": "2_5"}, None),
    ],
)
def test_the_listener_is_reported_whole_or_not_at_all(macros: dict[str, str], listener: str | None) -> None:
    reported = translation.connect(Macros(**macros), "peer.example", socket.AF_INET, ("203.0.113.9", 0))
    assert reported == Connect(peer=ip_address("203.0.113.9"), port=None, listener=listener)


@pytest.mark.parametrize("braces", ["{{{}}}", "{}"])
def test_libmilters_macros_with_and_without_braces(braces: str) -> None:
    """An MTA can leave the braces out."""
    sent = {"daemon_addr": "10.1.1.1", "daemon_port": "25", "auth_authen": "daniel", "tls_version": "TLSv1.3"}
    macros = Macros(**{braces.format(name): value for name, value in sent.items()})
    translations = translation.TRANSLATIONS
    assert translations[Step.CONNECT](macros, "x", socket.AF_INET, ("203.0.113.9", 0)).listener == "10.1.1.1:25"  # type: ignore[union-attr]
    assert translations[Step.HELO](macros, "x") == Helo(name="x", tls=Tls(cipher="", protocol_version="TLSv1.3"))
    assert translations[Step.MAIL](macros, b"<>") == Mail(sender="", authz_id="daniel")


@pytest.mark.parametrize("reported", [(socket.AF_UNIX, "/run/x"), (0, None), (socket.AF_INET, None)])
def test_a_peer_without_an_ip_address_is_an_error(reported: tuple[int, str | None]) -> None:
    with pytest.raises(translation.UnknownPeerError):
        translation.connect(NOTHING, "peer.example", *reported)


@pytest.mark.parametrize(
    ("sent", "value"), [(b" x", b"x"), (b"x", b"x"), (b"  x ", b" x "), (b"\tx\n\ty", b"\tx\n\ty"), (b"", b"")]
)
def test_a_field_loses_the_one_space_after_its_colon(sent: bytes, value: bytes) -> None:
    assert translation.header(NOTHING, "Subject", sent) == Header(name=b"Subject", value=value)


def test_a_listener_that_is_no_text_is_not_reported() -> None:
    """A macro that is not UTF-8 is no listener; it is read outside the guard."""

    class Garbled(Macros):
        def getsymval(self, name: str, /) -> str | None:
            raise UnicodeDecodeError("utf-8", name.encode(), 0, 1, "invalid start byte")

    assert translation.listener(Garbled()) is None


TLS = {"{cipher}": "TLS_AES_256_GCM_SHA384", "{tls_version}": "TLSv1.3"}


@pytest.mark.parametrize(
    ("macros", "subject"),
    [
        ({}, ()),
        ({"{cert_subject}": "mx.example.net"}, ("CN=mx.example.net",)),
        ({"{cert_subject}": "/C=DE/CN=mx.example.net"}, ()),
        ({"{cert_subject}": "/C=DE/CN=mx.example.net", "{verify}": "FAIL"}, ()),
        ({"{cert_subject}": "/C=DE/CN=mx.example.net", "{verify}": "NO"}, ()),
        (
            {"{cert_subject}": "/C=DE/O=A/B+20M+c3+bcller/CN=mx.example.net", "{verify}": "OK"},
            ("C=DE", "O=A/B M\u00fcller", "CN=mx.example.net"),
        ),
        ({"{cert_subject}": "x" * 5000}, ("CN=" + "x" * 252,)),
        ({"{cert_subject}": "/CN=+ff+00", "{verify}": "OK"}, ("CN=\ufffd\x00",)),
    ],
)
def test_a_tls_session(macros: dict[str, str], subject: tuple[str, ...]) -> None:
    """Cipher and version are as the MTA spells them; the subject is that of a verified certificate, in its parts."""
    tls = Tls(cipher="TLS_AES_256_GCM_SHA384", protocol_version="TLSv1.3", subject=subject)
    assert translation.helo(Macros(**TLS | macros), "x") == Helo(name="x", tls=tls)


def test_no_tls_session() -> None:
    """A subject alone is no TLS session, and text that is not UTF-8 is none of an MTA."""
    assert translation.helo(Macros(**{"{cert_subject}": "x"}), "x") == Helo(name="x")

    class Broken(Macros):
        def getsymval(self, name: str, /) -> str | None:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, name)

    assert translation.helo(Broken(), "x") == Helo(name="x")
