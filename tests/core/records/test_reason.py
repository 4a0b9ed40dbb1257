"""What many sentences have in common."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.records.build import WHY_LIMIT
from sidecar.core.records.reason import LIMIT, shape


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relaying not permitted for 203.0.113.9:4444", "relaying not permitted for <ip>"),
        ("relaying not permitted for [2001:db8::1]:25", "relaying not permitted for <ip>"),
        (
            "no listener domain matches a.example; 203.0.113.9 is not in relay_hosts (sidecar.toml:1 relay_hosts)",
            "no listener domain matches <domain>; <ip> is not in relay_hosts (sidecar.toml:1 relay_hosts)",
        ),
        (
            '"*.example.com" accepts no mail for a.example.com from external hosts (/etc/domains.toml:3 "*.example.com")',
            '"*.example.com" accepts no mail for <domain> from external hosts (/etc/domains.toml:3 "*.example.com")',
        ),
        (
            'a.example accepts bounce reports from any host, logs them and drops them (d.toml:3 "*".log_oob)',
            '<domain> accepts bounce reports from any host, logs them and drops them (d.toml:3 "*".log_oob)',
        ),
        ("5.1.1 <user@x.example>: Recipient address rejected", "5.1.1 <address>: Recipient address rejected"),
        ("OK ids=8a5475ccbbc611eda12250ebf67f93bd", "OK <id>"),
        ("queued as 4XyZ12abQ at 08:30:00", "queued as <id> at <number>"),
        ("and 17 more reasons", "and <number> more reasons"),
        (
            "no Action of RFC 3464, and no Status of class 4 or 5; 3 others",
            "no Action of RFC 3464, and no Status of class 4 or 5; <number> others",
        ),
        ("its Content-Type is 'text/plain', not multipart/report", "its Content-Type is 'text/plain', not multipart/report"),
        (
            "as many as limits.sessions allows, or limits.record_bytes_burst, 4000; limits.example is none",
            "as many as limits.sessions allows, or limits.record_bytes_burst, <number>; <domain> is none",
        ),
        ("", ""),
    ],
)
def test_shape(text: str, expected: str) -> None:
    """What is one record's own is marked; which rule it was, and the words, stand."""
    assert shape(text) == expected


def test_the_end_of_a_long_reason() -> None:
    """The longest reason of a record is complete."""
    reason = ("no listener domain matches it; " * 40)[:WHY_LIMIT]
    assert shape(reason) == reason


@given(st.text(alphabet='<>()[]":;.@/a1- ٣é\n', max_size=2000))
def test_any_text(text: str) -> None:
    """Any text has a shape, and that is no longer than a reason may be."""
    assert len(shape(text)) <= LIMIT


@pytest.mark.parametrize("piece", ["(", '"', "(a:1 ", "a.", ":", "1:", "@", "-1"])
def test_linear(piece: str) -> None:
    """No text takes long: a stranger can write what he likes a million times."""
    began = time.process_time()
    for number in range(100):
        shape(f"{number}{piece * LIMIT}")
    assert time.process_time() - began < 1
