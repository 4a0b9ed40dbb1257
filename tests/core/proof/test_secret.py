"""Secrets and tokens: what a secret file can have, what a MAC covers, and how long a token is valid."""

import hmac
from base64 import b32encode

import pytest
from rich.pretty import pretty_repr

from sidecar.core.proof.secret import Token, age_fault, mac, make_secret, make_token, maker, read_secret
from sidecar.core.settings.keys import Keys, Secret
from tests.core.proof.making import DAY, NOW, secret


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it has 0 characters"),
        (b"x" * 31, "it has 31 characters"),
        (b"x" * 257, "it has 257 characters; a secret has at most 256"),
        (b"x" * 40 + b"\n" + b"y" * 40, "more than one line"),
        (b"x" * 40 + b"\r" + b"y" * 40, "more than one line"),
        ("ä" * 40, "not printable ASCII"),
        (b"x" * 40 + b" y", "not printable ASCII"),
        (b"x" * 40 + b"\0", "not printable ASCII"),
    ],
)
def test_bad_secret(content: bytes | str, why: str) -> None:
    found = read_secret(content.encode() if isinstance(content, str) else content)
    assert isinstance(found, str)
    assert why in found


def test_secret_is_the_line() -> None:
    """The key is the text of the line, so that `openssl` and Lua can use it; no output shows it."""
    found = secret(b"  a-secret-of-more-than-32-characters \r\n\n")
    assert found.key == b"a-secret-of-more-than-32-characters"
    assert found.id == b32encode(hmac.digest(found.key, b"sidecar key id", "sha256")).decode().lower()[:2]
    assert "a-secret" not in f"{found} {found!r} {[found]}"


def test_new_secret() -> None:
    line = make_secret(bytes(range(32)))
    assert isinstance(read_secret(line.encode()), Secret)
    assert len(line) == 52
    with pytest.raises(ValueError, match="31 random bytes"):
        make_secret(bytes(31))


def test_mac() -> None:
    """80 bits of HMAC-SHA256 over label and texts, one on each line."""
    expected = b32encode(hmac.digest(secret().key, b"address\n20788\na@b.example", "sha256")[:10]).decode().lower()
    assert mac(secret(), b"address", b"20788", b"a@b.example") == expected
    assert make_token(secret(), b"address", NOW, b"a@b.example") == f"{secret().id}20788{expected}"


def test_maker() -> None:
    """The secret that made a token is found among several, also if two have the same key id."""
    first, second = secret(), secret(b"another-secret-of-the-tests-that-is-none")
    token = Token(id=second.id, day="20788", mac=mac(second, b"header", b"20788", b"x"))
    assert maker(token, (first, second), b"header", b"x") is second
    same_id = Secret(key=first.key, id=second.id)
    assert maker(token, (same_id, second), b"header", b"x") is second
    assert maker(token, (first,), b"header", b"x") == f"no secret has its key id {second.id!r}"
    assert maker(token, (second,), b"header", b"y") == "its MAC does not match"
    assert maker(token, (second,), b"sender", b"x") == "its MAC does not match"


@pytest.mark.parametrize(
    ("now", "fault"),
    [
        (20788 * DAY - 601, "it is of 2026-12-01, which is in the future"),
        (20788 * DAY - 600, None),
        (20789 * DAY, None),
        (20789 * DAY + 10 * DAY + 600, None),
        (20789 * DAY + 10 * DAY + 601, "it is of 2026-12-01, and older than 10 days"),
    ],
)
def test_age(now: int, fault: str | None) -> None:
    """A token is valid until it is too old for any time of its day; a clock can be ten minutes wrong."""
    assert age_fault(Token(id="aa", day="20788", mac=""), now, 10 * DAY) == fault


def test_no_text_has_the_key() -> None:
    """Neither Python nor rich prints a key, also inside other values."""
    for value in (secret(), Keys(secrets=(secret(),))):
        assert "no-secret" not in repr(value) + str(value) + pretty_repr(value)
