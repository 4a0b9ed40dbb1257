"""A record as a line of JSON: nothing in it that a terminal or a reader of lines could stumble over, and of bounded size."""

import json
import tracemalloc
from unittest.mock import Mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.records import Record, encode, with_numbers
from sidecar.core.records import record as record_module
from sidecar.core.reports.values import ArfReport, OobReport, PerMessage
from sidecar.core.text import printable_json
from tests.core.records.making import reception

MEGABYTE = 1 << 20
HIDDEN = "".join(map(chr, (0x7F, *range(0x80, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))))
REPORT = ArfReport(
    feedback_type="abuse", user_agent=None, version=None, authentication_results=[], original_rcpto_to=[], reported_domain=[],
    reported_uri=[], extensions={},
)  # fmt: skip


def record(text: str, size: int) -> Record:
    """Make the record of a feedback report with this returned message."""
    report = replace(REPORT, original_message=text)
    return reception(size=size, report=report)


TEXTS = (
    HIDDEN,
    HIDDEN[1] + 'a"\\\n\r\t\x01',
    HIDDEN[-1] + "\N{CYRILLIC SMALL LETTER A}",
    "\N{GRINNING FACE}" + HIDDEN[1] * 3,
    HIDDEN[2] + "a" * 500,
)


@pytest.mark.parametrize("times", [1, 10, 1000])
@pytest.mark.parametrize("text", TEXTS)
def test_values_stay_the_same(text: str, times: int) -> None:
    """However many characters are escaped, alone or by the piece, a reader of JSON finds the text that was there."""
    line = encode(record(text * times, MEGABYTE)).decode()
    assert json.loads(line)["feedback_report"]["original_message"] == text * times
    assert not set(line) & set(HIDDEN)
    assert line.endswith("}\n")


@settings(deadline=None)
@given(
    st.text(st.sampled_from(HIDDEN[:3] + HIDDEN[-3:] + '"\\\n\t\x01ab\xe9\u05d0\u20ac\U0001f600'), max_size=400),
    st.integers(1, 200),
)
def test_printable_json(text: str, times: int) -> None:
    """JSON of any text, long or short, means the same when it is escaped; what is hidden is gone, and what is not stays."""
    before = json.dumps({"a": [text] * times}, ensure_ascii=False).encode()
    after = printable_json(before)
    assert json.loads(after) == json.loads(before)
    assert not set(after.decode()) & set(HIDDEN)
    if not set(text) & set(HIDDEN):
        assert after == before


@pytest.mark.parametrize("text", ["\x7f", "\x01", "\N{REPLACEMENT CHARACTER}", '"\x80'])
def test_a_large_text_is_bounded(text: str) -> None:
    """Its JSON has 1.5 times the bytes of its report and 256 kB at most, and is cut where it would have more."""
    line = encode(record(text * 4 * MEGABYTE, 4 * MEGABYTE))
    assert len(line) < 6.3 * MEGABYTE
    written = json.loads(line)["feedback_report"]["original_message"]
    assert len(written) > MEGABYTE / 2
    assert (text * 4 * MEGABYTE).startswith(written)


def test_a_text_that_people_write_is_whole() -> None:
    """In any script, and a small one whatever is in it."""
    for text in ("Привет, мир!\n" * 100_000, 'say "hello"\n' * 100_000, "\x7f" * 40_000):
        line = encode(record(text, len(text.encode())))
        assert json.loads(line)["feedback_report"]["original_message"] == text


def test_memory_beside_the_line() -> None:
    """Escaping needs the line itself twice, and no object for each character."""
    text = record("\x80" * 4 * MEGABYTE, 8 * MEGABYTE)
    tracemalloc.start()
    try:
        line = encode(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.3 * len(line)


@pytest.mark.parametrize("octets", [b"\xff", b"Subject: \xe9\n\nbody\n", bytes(range(256)) * 200])
def test_bytes_that_are_no_text(octets: bytes) -> None:
    """A returned message that is not UTF-8 is an array of its bytes, as KumoMTA writes it."""
    line = encode(reception(size=len(octets), report=replace(REPORT, original_message=octets)))
    assert json.loads(line)["feedback_report"]["original_message"] == list(octets)


def test_many_bytes_are_bounded() -> None:
    """An array is cut where a text would be."""
    octets = b"\xff" * 4 * MEGABYTE
    line = encode(reception(size=len(octets), report=replace(REPORT, original_message=octets)))
    assert len(line) < 6.3 * MEGABYTE
    written = json.loads(line)["feedback_report"]["original_message"]
    assert len(written) > MEGABYTE
    assert set(written) == {0xFF}


def test_records_share_their_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of several recipients are those of each alone, and the large text is escaped once."""
    shared = replace(REPORT, original_message="\x80" * 2 * MEGABYTE)
    other = replace(REPORT, original_message="other" * 10_000)
    records = [reception(size=4 * MEGABYTE, report=report) for report in (shared, shared, other, shared)]
    records.insert(2, reception())
    assert encode(*records) == b"".join(map(encode, records))
    escaped = Mock(return_value=b'""')
    monkeypatch.setattr(record_module, "_text", escaped)
    encode(*records[:1] * 100)
    assert escaped.call_count == 1


@pytest.mark.parametrize("report", [REPORT, OobReport(per_message=PerMessage(extensions={}), per_recipient=[])])
def test_reports_outside_records(report: ArfReport | OobReport) -> None:
    """In other JSON, too, bytes are an array of numbers and not base64; a text stays as it is."""
    for original, written in ((b"\xff\n", [255, 10]), ("text", "text"), (None, None)):
        shown = with_numbers(replace(report, original_message=original))
        assert json.loads(msgspec.json.encode(shown))["original_message"] == written


def test_the_schema() -> None:
    """The HTTP process makes one of it at its start: a returned message is a text, an array of numbers, or null."""
    report = msgspec.json.schema(ArfReport)["$defs"]["ArfReport"]
    kinds = {kind["type"] for kind in report["properties"]["original_message"]["anyOf"]}
    assert kinds == {"string", "array", "null"}
    assert "tls_cipher" in msgspec.json.schema(Record)["$defs"]["Record"]["properties"]
