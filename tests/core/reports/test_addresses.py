"""Addresses in their normal form, and what is no address."""

import re

import pytest

from sidecar.core.reports.addresses import mailbox, readable_address, wide_set
from sidecar.core.reports.fields import ip_address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("<>", ""),
        ("<PostMaster>", "Postmaster"),
        ("A.b@C.Example", "A.b@c.example"),
        ("<@h.example,@i.example:a@b.example>", "a@b.example"),
        ('"a b"@b.example', '"a b"@b.example'),
        ("a@B_c.Example", "a@B_c.Example"),
        ("a@b\u00fccher.example", "a@xn--bcher-kva.example"),
        ("\u00fc@b.example", "\u00fc@b.example"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[ipv6:2001:DB8::1]", "a@[IPv6:2001:db8::1]"),
        ("a@[IPv6:::ffff:192.0.2.1]", "a@[IPv6:::ffff:192.0.2.1]"),
        ("a@[X-Tag:any]", "a@[X-Tag:any]"),
        *((bad, None) for bad in ("a", "a@", "@b", "a@b.", "a@.b", ".a@b", "a.@b", "a@-b", "a b@c", "<a@b", "a@b>", "a@b c")),
        *((bad, None) for bad in ("a@[1.2.3]", "a@[1.2.3.256]", "a@[IPv6:1]", "a@[IPv6:fe80::1%1]", "a@b\u3002c", "@a:b@c")),
        *((bad, None) for bad in ("a@" + "b" * 64, "a@" + "\u00fc" * 64, "a@" + ".".join(["b" * 60] * 5), "a@b\u2026", " a@b")),
        ("a@" + "\u00fc." * 4 + "b", "a@" + "xn--tda." * 4 + "b"),
        *((bad, None) for bad in ("a@" + "\u00fc." * 5 + "b", "a@" + "\u0f77" * 60)),
    ],
)
def test_mailbox(text: str, expected: str | None) -> None:
    """An address has one normal form, or it is none."""
    if expected is None:
        with pytest.raises(ValueError):  # noqa: PT011 - its text is the address
            mailbox(text)
    else:
        assert mailbox(text) == expected
        assert readable_address(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("198.51.100.2", "198.51.100.2"),
        ("198.51.100.2 (host.example)", "198.51.100.2"),
        ("[198.51.100.2]", "198.51.100.2"),
        ("[IPv6:2001:DB8::1] (host)", "2001:db8::1"),
        ("2001:DB8::1", "2001:DB8::1"),
        *((text, "198.51.100.2") for text in ("198.51.100.2;", "ip; 198.51.100.2", "<198.51.100.2>")),
        *((text, "198.51.100.2") for text in ("198.51.100.2 host.example", "198.51.100.2, 192.0.2.1", '"198.51.100.2"')),
        *((text, "198.51.100.2") for text in ("host.example [198.51.100.2]", "host.example (198.51.100.2)", "198.51.100.2/32")),
        *((text, "198.51.100.2") for text in ("(192.0.2.1) 198.51.100.2", "198.51.100.2 (a (b (c)))", "198.51.100.2 (host")),
        *((text, "2001:db8::1") for text in ("[2001:db8::1]:25", "host (2001:db8::1)", "IPv6:2001:DB8::1", "2001:db8::1;")),
        *(
            (text, text)
            for text in ("999.1.1.1 x", "1.2.3.4.5", "host-1.2.3.4.example", "a::b.example", "198.051.100.002", "12:30")
        ),
        ("198.51.100.2:25", "198.51.100.2:25"),
        ("unknown (host)", "unknown (host)"),
        ("", ""),
    ],
)
def test_ip_address(text: str, expected: str) -> None:
    """What is not part of an IP address goes; a text without one stays as it is."""
    assert ip_address(text) == expected


@pytest.mark.parametrize("characters", ["0-9A-Za-z_", r" !#-\[\]-~", r"\0\r\n^-"])
def test_wide_set(characters: str) -> None:
    """A wide set has the ASCII characters that are named, and all others beyond ASCII."""
    named, wide = re.compile(f"[{characters}]"), re.compile(wide_set(characters))
    assert all(bool(wide.match(one)) == bool(named.match(one)) for one in map(chr, range(0x80)))
    assert all(map(wide.match, ("\x80", "\u00fc", "\ud800", "\uffff", "\U0010ffff")))
