"""The corpus: each NAME.eml says what a message looks like, its NAME.json what it says."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from sidecar.core.records import with_numbers
from sidecar.core.reports.reading import may_be_report, read
from sidecar.core.reports.values import ReportReading
from tests import DATA

CORPUS = sorted((DATA / "reports").glob("*.eml"))


def as_json(reading: ReportReading) -> dict[str, object]:
    """Return a reading in the shape of `sidecar parse --json`, without the file."""
    kind = "arf" if reading.arf is not None else "oob" if reading.oob is not None else None
    content = reading.arf if reading.arf is not None else reading.oob
    report = msgspec.json.decode(msgspec.json.encode(with_numbers(content))) if content else None
    found = {"kind": kind, "why": reading.why, "read_as": reading.read_as, "derived": [*reading.derived]}
    return {**found, "report": report}


def test_the_corpus_is_there() -> None:
    """No test over the corpus passes because there is none."""
    assert len(CORPUS) > 80
    assert {path.stem for path in CORPUS} == {path.stem for path in CORPUS[0].parent.glob("*.json")}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_says(path: Path) -> None:
    """Every message of the corpus is read as its JSON says, with CRLF as with LF. Its name begins with its kind."""
    expected = {"read_as": "", "derived": [], **json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))}
    assert as_json(read(path.read_bytes())) == expected
    kind = path.stem.partition("-")[0]
    assert expected["kind"] == (None if kind == "none" else kind)
    bare = re.sub(rb"\r+\n", b"\n", path.read_bytes())
    assert read(bare.replace(b"\n", b"\r\n")) == read(bare)


def test_both_kinds_at_once() -> None:
    """A message that is both kinds of report gives both readings, with the same original message."""
    reading = read((CORPUS[0].parent / "arf-and-oob.eml").read_bytes())
    assert reading.arf is not None
    assert reading.oob is not None
    assert reading.arf.original_message == reading.oob.original_message


def test_no_content_type() -> None:
    """A message without a Content-Type is no report, and cannot become one."""
    assert not may_be_report(None)
    assert read(b"\n--b\n").why == "not a report, because it has no Content-Type"
