"""Fields and the kinds of value in them."""

import pytest

from sidecar.core.reports import charsets, fields


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", [[]]),
        (b"A: 1\nB: 2\n\nC: 3\n", [[("a", "1"), ("b", "2")], [("c", "3")]]),
        (b"A:1\r\n\r\nB :2", [[("a", "1")], [("b", "2")]]),
        (b"\n \n\t\r\nA: 1\n", [[("a", "1")]]),
        (b"A: 1\n  2\n\t3\n", [[("a", "1 2 3")]]),
        (b"A: 1\n \n 2\nB: 3\n", [[("a", "1 2"), ("b", "3")]]),
        (b"A: 1\n \nB: 2\n", [[("a", "1")], [("b", "2")]]),
        (b"A: 1\r\n \r\nB: 2\r\n", [[("a", "1")], [("b", "2")]]),
        (b"A:   1  \t 2  \n", [[("a", "1 2")]]),
        (b"A:\nB:", [[("a", ""), ("b", "")]]),
        (b"no field\nA: 1\n: none\nB C: 2\n", [[("a", "1")]]),
        (b"A: \xff\x00\n", [[("a", "\ufffd\x00")]]),
        (b"A: =?utf-8?q?=C3=BC?= =?utf-8?b?w7w=?= x\n", [[("a", "\u00fc\u00fc x")]]),
        (b"A: 1\rB: 2\r\rC: 3\r", [[("a", "1"), ("b", "2")], [("c", "3")]]),
        (b"A: 1\r\r\nB: 2\r\r\n", [[("a", "1"), ("b", "2")]]),
        (b"A: 1\n\rB: 2\n\r", [[("a", "1"), ("b", "2")]]),
        (b"A: 1\rB: 2\nC: 3\n", [[("a", "1 B: 2"), ("c", "3")]]),
        (b"\xef\xbb\xbfA: 1\n", [[("a", "1")]]),
        (b"\n\n\xef\xbb\xbfA: 1\n", [[("a", "1")]]),
        (b"  A: 1\n  B: 2\n\n  C: 3\n    4\n", [[("a", "1"), ("b", "2")], [("c", "3 4")]]),
        (b"A: =?x-sjis?b?g2WDWINn?= =?ISO-2022-JP?B?GyRCJUYlOSVIGyhC?=\n", [[("a", "\u30c6\u30b9\u30c8" * 2)]]),
        (b"A: =?iso-8859-12?q?a?= =?punycode?q?a?=\n", [[("a", "=?iso-8859-12?q?a?= =?punycode?q?a?=")]]),
    ],
)
def test_blocks(body: bytes, expected: list[list[tuple[str, str]]]) -> None:
    """Fields come in order, block by block; what is no field is passed over."""
    assert [block for block in fields.blocks(body) if block] == [block for block in expected if block]


@pytest.mark.parametrize("charset", sorted({*charsets._CHARSETS, *charsets._MORE_ALIASES}))
def test_charsets(charset: str) -> None:
    """Every charset that is named can be decoded."""
    assert fields.blocks(f"A: =?{charset}?q?plain?=".encode()) == [[("a", "plain")]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.1.1", (5, 1, 1, None)),
        ("5.1.1 (bad mailbox)", (5, 1, 1, "(bad mailbox)")),
        ("5.1.1(bad mailbox)", (5, 1, 1, "(bad mailbox)")),
        ("5.1.1. bad", (5, 1, 1, "bad")),
        ("5.1.1.9", (5, 1, 1, None)),
        ("5.1.10", (5, 1, 10, None)),
        ("4.0.0 \u00fc", (4, 0, 0, "\u00fc")),
        ("5.512.999", (5, 512, 999, None)),
        ("255.65535.65535", (255, 65535, 65535, None)),
        ("256.1.1", None),
        ("5.65536.1", None),
        ("+5.+1.+1", (5, 1, 1, None)),
        ("0005.1.000001", (5, 1, 1, None)),
        ("5.1", None),
        ("550", None),
        ("550 5.1.1", None),
        ("5.1.123456", None),
        ("\u0665.1.1", None),
        ("", None),
    ],
)
def test_status(text: str, expected: tuple[int, int, int, str | None] | None) -> None:
    """A status is three numbers and perhaps a comment, or it is None."""
    status = fields.status(text)
    found = None if status is None else (status.class_, status.subject, status.detail, status.comment)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (text, (5, 1, 1))
            for text in ("5.1.1 (x)", "#5.1.1", "(x) 5.1.1", "smtp; 550 5.1.1", "550-5.1.1", '"5.1.1"', "<5.1.1>")
        ),
        *((text, (5, 1, 1)) for text in ("5. 1. 1", "5 . 1 . 1", "V5.1.1", "Status 5.1.1, or 5.2.2")),
        *((text, None) for text in ("550", "5", "5.1", "5.x.x", "x 192.5.1.1", "x 5.1.1234", "x 5.1.1.9", "unknown")),
    ],
)
def test_readable_status(text: str, expected: tuple[int, int, int] | None) -> None:
    """A status can stand among other words. An IP address is none."""
    status = fields.readable_status(text)
    assert (None if status is None else (status.class_, status.subject, status.detail)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("550", 5), ("5", 5), ("5.x.x", 5), ("4.1", 4), ("(x) 450 full", 4), ("unknown", None), ("1.2", None), ("5501", None)],
)
def test_class_of(text: str, expected: int | None) -> None:
    """The class of a status that is none is its first digit, if it is a class."""
    assert fields.class_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3),
        ("+3", 3),
        ("00000000003", 3),
        ("4294967295", 4294967295),
        ("4294967296", None),
        ("-3", None),
        ("3 mails", None),
        ("9" * 5000, None),
        ("", None),
    ],
)
def test_number(text: str, expected: int | None) -> None:
    """A count has 32 bits, and as many zeros as KumoMTA accepts."""
    assert fields.number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rfc822; a@example.net", ("rfc822", "a@example.net")),
        ("RFC822;a@example.net", ("RFC822", "a@example.net")),
        ("rfc822 ;  <a@example.net>", ("rfc822", "a@example.net")),
        ("rfc822; A Name <a@example.net>", ("rfc822", "a@example.net")),
        ("rfc822; <a@example.net> (gone)", ("rfc822", "a@example.net")),
        ('rfc822; "<b>"@example.net', ("rfc822", '"<b>"@example.net')),
        ("rfc822; <a@example.net", ("rfc822", "a@example.net")),
        ("rfc822; a@example.net>", ("rfc822", "a@example.net")),
        ("rfc822; a@example.net (A Name)", ("rfc822", "a@example.net")),
        ("rfc822; (A (Long) Name) a@example.net", ("rfc822", "a@example.net")),
        ("rfc822; A Name <a@example.net> (gone)", ("rfc822", "a@example.net")),
        ("rfc822;a@example.net;orcpt", ("rfc822", "a@example.net")),
        ("rfc822;rfc822;a@example.net", ("rfc822", "a@example.net")),
        ("rfc822; RFC822; <a@example.net>", ("rfc822", "a@example.net")),
        ("rfc822; mailto:a@example.net", ("rfc822", "a@example.net")),
        ("rfc822; <mailto:a@example.net>", ("rfc822", "a@example.net")),
        ("rfc822; <@b.example,@c.example:a@example.net>", ("rfc822", "a@example.net")),
        ("rfc822; A@EXAMPLE.net", ("rfc822", "A@example.net")),
        ("rfc822; a@b\u00fccher.example", ("rfc822", "a@xn--bcher-kva.example")),
        ('rfc822; "a;b (c)"@example.net', ("rfc822", '"a;b (c)"@example.net')),
        ('rfc822; "a;b" <c@example.net> (gone); x', ("rfc822", "c@example.net")),
        ("rfc822; a user (gone)", ("rfc822", "a user")),
        *(
            (f"rfc822; {text}", ("rfc822", "a@example.net"))
            for text in (
                *(
                    "'a@example.net'",
                    '"a@example.net"',
                    "[a@example.net]",
                    "<a@example.net>:",
                    "a@example.net.",
                    "a@example.net,",
                ),
                *(
                    "a @ example.net",
                    "a@ example.net",
                    "<a@example. net>",
                    "a@example.net (a (b (c (d))))",
                    "a@example.net (gone",
                ),
                *("a@example.net unknown user", "a@example.net: host mx said 550", "mailto:a@example.net?subject=x"),
                *("smtp:a@example.net", "SMTP; a@example.net", "; a@example.net", "rfc2822; <a@example.net>"),
                *("a@example.net <a@example.net>", "@b.example:a@example.net", "\u200ba@example.net", "a@example.net\0"),
            )
        ),
        ("rfc822; a@example.net, b@example.net", ("rfc822", "a@example.net, b@example.net")),
        ("rfc822; unknown (ask postmaster@example.net)", ("rfc822", "unknown")),
        ('rfc822; "b@c"@a@example.net', ("rfc822", '"b@c"@a@example.net')),
        ("rfc822; b@c@example.net", ("rfc822", "b@c@example.net")),
        ("a@example.net;", ("rfc822", "a@example.net")),
        ("<a@example.net>;orcpt", ("rfc822", "a@example.net")),
        ("rfc822: a@example.net", ("rfc822", "a@example.net")),
        ("rfc822:a@example.net", ("rfc822", "a@example.net")),
        ("rfc821; <a@example.net>", ("rfc821", "a@example.net")),
        ("SMTP; A Name <a@example.net>", ("SMTP", "a@example.net")),
        ("x-local; <a@example.net> (gone)", ("x-local", "a@example.net")),
        ("x-local; a user of a@example.net", ("x-local", "a user of a@example.net")),
        ("utf-8; <\u00fc@b\u00fccher.example>", ("utf-8", "\u00fc@b\u00fccher.example")),
        ("X400; C=de;A= ;P=net;S=doe;G=jo", ("X400", "C=de;A= ;P=net;S=doe;G=jo")),
        ("ex; /o=net/ou=first/cn=jo", ("ex", "/o=net/ou=first/cn=jo")),
        ("smtp; <>", None),
        ("RFC822 a@example.net", ("RFC822", "a@example.net")),
        ("a@example.net", ("rfc822", "a@example.net")),
        ("; a@example.net", ("", "a@example.net")),
        ("X-Local; Bob; the builder", ("X-Local", "Bob; the builder")),
        ("utf-8; \u00fc@example.net", ("utf-8", "\u00fc@example.net")),
        ("UTF-8; \\x{FC}@b\\x{fc}cher.example", ("UTF-8", "\u00fc@b\u00fccher.example")),
        ("utf-8; \\x{1F4E7}@example.net (gone)", ("utf-8", "\U0001f4e7@example.net")),
        (
            "utf-8; \\x{D}\\x{A}\\x{1B}\\x{D800}\\x{FFFFFF}\\x{}@example.net",
            ("utf-8", "\\x{D}\\x{A}\\x{1B}\\x{D800}\\x{FFFFFF}\\x{}@example.net"),
        ),
        ("rfc822; \\x{FC}@example.net", ("rfc822", "\\x{FC}@example.net")),
        ("rfc822;", None),
        ("rfc822; <>", None),
        ("", None),
    ],
)
def test_recipient(text: str, expected: tuple[str, str] | None) -> None:
    """A recipient has a type and an address without brackets; without an address it is None."""
    recipient = fields.recipient(text)
    assert (None if recipient is None else (recipient.recipient_type, recipient.recipient)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smtp; 550 5.1.1 gone; for good", ("smtp", "550 5.1.1 gone; for good")),
        ("SMTP;550 gone", ("SMTP", "550 gone")),
        ("smtp 550 gone", ("smtp", "550 gone")),
        ("550 5.7.1 Service unavailable; blocked", ("smtp", "550 5.7.1 Service unavailable; blocked")),
        ("550-5.1.1 first 550 second", ("smtp", "550-5.1.1 first 550 second")),
        ("550", ("smtp", "550")),
        ("5501; text", ("5501", "text")),
        ("; 550 gone", ("smtp", "550 gone")),
        ("smtp: 550 gone", ("smtp", "550 gone")),
        ("#5.1.1 gone; text", ("smtp", "#5.1.1 gone; text")),
        ("<550 gone>", ("smtp", "<550 gone>")),
        ("550: gone", ("smtp", "550: gone")),
        ("smtp; SMTP; 550 gone", ("smtp", "SMTP; 550 gone")),
        ("X-Unix; 67", ("X-Unix", "67")),
        ("X-Postfix; lost", ("X-Postfix", "lost")),
        ("mailbox full", ("", "mailbox full")),
        ("5.2.1 Off; see https://a.example", ("smtp", "5.2.1 Off; see https://a.example")),
        ("5.2.1.7 no code; text", ("5.2.1.7 no code", "text")),
        ("", ("", "")),
    ],
)
def test_diagnostic_code(text: str, expected: tuple[str, str]) -> None:
    """A diagnostic has a type if it names one or its text is an SMTP reply."""
    code = fields.diagnostic_code(text)
    assert code is not None
    assert (code.diagnostic_type, code.diagnostic) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dns; mx.example.org", ("dns", "mx.example.org")),
        ("DNS;mx.example.org", ("DNS", "mx.example.org")),
        ("mx.example.org", ("dns", "mx.example.org")),
        ("mx.example.org (192.0.2.1)", ("dns", "mx.example.org (192.0.2.1)")),
        ("mailbus; SYS30", ("mailbus", "SYS30")),
        ("dns;", None),
    ],
)
def test_mta_name(text: str, expected: tuple[str, str] | None) -> None:
    """An MTA has a type and a name; without a name it is None."""
    mta = fields.mta_name(text)
    assert (None if mta is None else (mta.mta_type, mta.name)) == expected
