"""What external hosts may send: no report, address or file raises an exception, or costs more than its size allows."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.proof.address import check_address, obstacle, tagged, untagged
from sidecar.core.proof.values import Verification
from sidecar.core.proof.verify import verify
from sidecar.core.reports.reading import read
from sidecar.core.settings.keys import Keys
from tests.core.proof.making import MAIL, NOW, SENDER, bounce, dkim_field, keys, secret, traced, verified

KNOWN = Keys(secrets=keys().secrets, dkim=keys().dkim, authserv_ids=("mx.sender.example",))
TRUE = traced(dkim_field(MAIL) + MAIL)
RESULTS = "Authentication-Results: mx.sender.example; dkim=pass header.d=a.example; spf=pass smtp.mailfrom=b.example\n"


def proved(report: bytes, recipient: str = SENDER) -> Verification:
    """Verify a report, and check what holds of every verification."""
    found = verified(report, recipient, KNOWN)
    assert found.why.isprintable()
    assert len(found.why) < 1500
    assert {one.method for one in found.methods} == {"dkim", "header", "address"}
    for one in found.methods:
        assert one.holds == bool(one.identity)
        assert one.holds or not one.recipients
    assert msgspec.json.encode(found)
    return found


PIECES = st.sampled_from(
    [
        *("\n", "\n ", "\n\n", ":", ";", "=", "b=", "; h=", "; c=relaxed; ", "d=sender.example", "+", ".", "@", '"', "(", ")"),
        *("To: ", "Message-ID: x\n", "DKIM-Signature: ", "X-Sidecar-Trace: ", "\ud7ff", "\0", "\r", "é", "prvs=", "9" * 30),
    ]
)
CHANGES = st.lists(st.tuples(st.integers(0, len(TRUE)), st.integers(0, 40), PIECES | st.text(max_size=8)), max_size=4)


def changed(text: str, changes: list[tuple[int, int, str]]) -> str:
    """Return a text with pieces of it replaced: where, how many characters, by what."""
    for start, length, piece in changes:
        text = text[:start] + piece + text[start + length :]
    return text


@given(CHANGES, st.sampled_from(["jo@remote.example", "", "x" * 400, "é@ü.example"]))
def test_any_change(changes: list[tuple[int, int, str]], reported: str) -> None:
    """A true report with whatever changes: never an exception, and no recipient that was not signed."""
    found = proved(bounce(changed(TRUE, changes), reported))
    assert found.proof("victim@remote.example").verified != "recipient"


@given(st.binary(max_size=300), st.text(max_size=100))
def test_any_original(original: bytes, recipient: str) -> None:
    """Any bytes for the returned message, any text for the recipient."""
    report = bounce("@", "jo@remote.example").replace(b"\n@\n", b"\n" + original + b"\n")
    assert proved(report, recipient).proof("jo@remote.example").verified == "none"


LOCAL_PARTS = st.text("aB+.=-_2", min_size=1, max_size=45)
TAGS = st.sampled_from(["", "+", f"+{secret().id}20788", f"+{secret().id}20788{'a' * 16}", f"+{'2' * 23}"])


@given(st.text(max_size=80) | st.builds("{}{}@a.example".format, LOCAL_PARTS, TAGS))
def test_any_address(text: str) -> None:
    """A made token always holds, an address without an obstacle always gets one, and no other address holds."""
    assert not check_address(text, keys(), NOW).holds
    made = tagged(text, secret(), NOW)
    assert (made == text) == (obstacle(text) is not None)
    if made != text:
        assert check_address(made, keys(), NOW).holds
        assert untagged(made) == text


BIG = 1 << 20
LINES = "x:\n" * 20_000
HOSTILE = {
    "blanks in a signature": f"DKIM-Signature: v=1{' ' * 60_000}; d=sender.example; s=rsa; b=x\n{MAIL}",
    "tags": f"DKIM-Signature: {'a=b;' * 16_000}\n{MAIL}",
    "names": f"DKIM-Signature: v=1; a=rsa-sha256; d=sender.example; s=rsa; bh=AAAA; b=AAAA; t={NOW}; h=from{':x' * 190}\n"
    + "x:\n" * 20_000
    + MAIL,
    "signatures": dkim_field(MAIL, h="from:" + ":".join("x" * 150)) * 100 + "x:\n" * 800 + MAIL,
    "fields": "X-Sidecar-Trace: x\n" * 3000 + MAIL,
    "lines of a field": f"X-Sidecar-Trace: {'a' * 10}{chr(10)} a" * 5000 + MAIL,
    "line ends": "\n" * BIG + TRUE,
    "one line": "x" * BIG,
    "parentheses in To": dkim_field(paren := MAIL.replace("Al", "(" * 20_000)) + paren,
    "quotes in To": dkim_field(quotes := MAIL.replace("Al", '"\\' * 20_000)) + quotes,
    "commas in To": dkim_field(commas := MAIL.replace("Al <", "," * 50_000 + "<")) + commas,
    "blanks in the body": dkim_field(MAIL) + MAIL + (" " * 70 + "\n") * 13_000,
    "a body of blanks": dkim_field(MAIL) + MAIL + " " * (BIG - 1000),
}
HEADS = {
    "blanks": RESULTS.replace("; dkim", f";{' ' * 60_000}dkim"),
    "blanks within": RESULTS.replace("dkim=", f"dkim{' ' * 3000}="),
    "parentheses": RESULTS.replace("; dkim", f";{'(' * 60_000}dkim"),
    "semicolons": RESULTS.replace("; dkim", ";" * 60_000 + "dkim"),
    "equals": RESULTS.replace("pass", "=" * 3000),
    "many": RESULTS * 1000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_original_time(name: str) -> None:
    """Each is verified in a few milliseconds (measured: at most 4 ms, for a megabyte)."""
    report = bounce(HOSTILE[name], *["jo@remote.example"] * 50)
    reading, start = read(report), time.process_time()
    verify(reading, recipients=[SENDER], report=report, keys=KNOWN, now=NOW)
    assert time.process_time() - start < 0.1
    proved(report)


@pytest.mark.parametrize("name", HEADS)
def test_head_time(name: str) -> None:
    """The report's own header section is read as quickly."""
    report = HEADS[name].encode() + bounce(MAIL, "jo@remote.example")
    reading, start = read(report), time.process_time()
    verify(reading, recipients=[SENDER], report=report, keys=KNOWN, now=NOW)
    assert time.process_time() - start < 0.1
    proved(report)


def test_many_recipients() -> None:
    """A report with a thousand recipients about a message of ours."""
    report = bounce(TRUE, *(f"user{number}@remote.example" for number in range(1000)))
    reading, start = read(report), time.process_time()
    found = verify(reading, recipients=[SENDER], report=report, keys=KNOWN, now=NOW)[SENDER]
    assert time.process_time() - start < 0.2
    assert found.proof("user1@remote.example").verified == "message"


def test_many_spellings() -> None:
    """A report to a thousand spellings of a token does not compare each one with a thousand reported recipients."""
    token = tagged("news+victim=remote.example@bounce.sender.example", secret(), NOW)
    letters = [at for at, letter in enumerate(token) if letter.isalpha()][:10]
    spellings = [
        "".join(one.upper() if at in letters and number >> letters.index(at) & 1 else one for at, one in enumerate(token))
        for number in range(1000)
    ]
    report = bounce(TRUE, *(f"user{number}@remote.example" for number in range(999)), "Victim@remote.example")
    reading, start = read(report), time.process_time()
    found = verify(reading, recipients=spellings, report=report, keys=KNOWN, now=NOW)
    assert time.process_time() - start < 0.5
    assert {one.proof("Victim@remote.example").verified for one in found.values()} == {"recipient"}
    assert len(found) == 1000
