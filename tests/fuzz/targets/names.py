"""Addresses, domains and listeners: any text has one normal form or none.

Owns what is true of a normal form by itself. Never knows which names are good ones.
"""

import contextlib
import re
from collections.abc import Iterator

from sidecar.core.names import NO_DOMAIN, normal_domain, normal_listener, split_endpoint
from sidecar.core.policy.address import domain_of

_ADDRESSES = (
    "user@example.com",
    '"quoted @ \\" sign"@EXAMPLE.com.',
    "@a.example,@[IPv6:::1]:user@b.example",
    "user@[192.0.2.1]",
    "user@bücher.example",
    "user@xn--bcher-kva.example",
    "user@*.faß。example",
    "user@_dmarc.\u05d0\u05d1.example",
    "[2001:db8::1]:25",
    "::ffff:192.0.2.1",
    "192.0.2.1:65536",
    "[fe80::1%eth0]:25",
)
# What a name may be made of once it is in normal form: nothing that a log, a key path or an SMTP reply must escape.
_NORMAL = re.compile(r"[a-z0-9_*-]{1,63}(?:\.[a-z0-9_*-]{1,63})*|\[[a-z0-9.:-]+\]")
_LOCAL_PART = re.compile(r"[A-Za-z0-9.+=_-]+")
# A zone (`%eth0`, RFC 4007) is the operator's or the MTA's word, and stays as it is.
_LISTENER = re.compile(r"(?:[0-9.]+|\[[0-9a-f:]+(?:%[^%\[\]]+)?\]):[0-9]{1,5}")


def seeds() -> Iterator[bytes]:
    """Return addresses and endpoints of every form."""
    return (address.encode() for address in _ADDRESSES)


def check(data: bytes) -> None:
    """Check every reader of names on one text, decoded as at the door."""
    text = data.decode("utf-8", "replace")
    _check_domain(text)
    _check_address(text)
    with contextlib.suppress(ValueError):
        split_endpoint(text)
    with contextlib.suppress(ValueError):
        listener = normal_listener(text)
        assert _LISTENER.fullmatch(listener), listener
        assert normal_listener(listener) == listener


def _check_domain(text: str) -> None:
    domain = normal_domain(text)
    if domain is None:
        return
    assert _NORMAL.fullmatch(domain), domain
    assert normal_domain(domain) == domain
    if text.isascii():
        assert normal_domain(text.upper()) == domain
        assert text.rstrip(".").lower() == domain
    assert domain_of(f"user@{text}") == domain


def _check_address(text: str) -> None:
    domain = domain_of(text)
    assert domain == NO_DOMAIN or domain_of(f"user@{domain}") == domain
    if not text.startswith("@") and '"' not in text:
        local_part, _, host = text.rpartition("@")
        assert domain in {NO_DOMAIN, normal_domain(host)}
        if _LOCAL_PART.fullmatch(local_part):
            assert domain == (normal_domain(host) or NO_DOMAIN)
    # A quoted local part hides nothing and adds nothing.
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"@example.com'
    assert domain_of(quoted) == "example.com"
