"""What a real KumoMTA recorded of 102 mails: strict reading gives the same, lenient reading differs as the table lists."""

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from sidecar.core.reports import read
from sidecar.core.reports.values import DiagnosticCode, PerRecipient, ReportReading
from tests import DATA

FOLDER = DATA / "kumomta"
MAILS: list[dict[str, Any]] = [json.loads(line) for line in (FOLDER / "reports.jsonl").read_text().splitlines()]
DIFFERENCES: list[dict[str, Any]] = tomllib.loads((FOLDER / "differences.toml").read_text())["difference"]
ANSWERS = {"oob": 250, "arf": 250, None: 550}

mails = pytest.mark.parametrize("mail", MAILS, ids=lambda mail: mail["name"])


def kind_of(reading: ReportReading) -> str | None:
    return "arf" if reading.arf is not None else "oob" if reading.oob is not None else None


def message_of(mail: dict[str, Any]) -> bytes:
    content: str = mail["mail"]
    return content.encode("latin-1")


def smtp_reply(diagnostic: DiagnosticCode | None) -> tuple[int, str]:
    """KumoMTA's rule, as the contract has it: `CODE text` of the type smtp, else 550."""
    if diagnostic is None or diagnostic.diagnostic_type != "smtp":
        return 550, ""
    code, space, rest = diagnostic.diagnostic.partition(" ")
    digits = code.removeprefix("+")
    if space and digits.isdecimal() and int(digits) < 1 << 16:
        return int(digits), rest
    return 550, diagnostic.diagnostic


def bounced(entry: PerRecipient, reporter: str, sender: str) -> dict[str, Any]:
    """Return what the OOB record of a recipient takes from the report."""
    known = entry.original_recipient or entry.final_recipient
    assert known is not None
    assert entry.status is not None
    code, content = smtp_reply(entry.diagnostic_code)
    return {
        "sender": sender,
        "recipient": known.recipient,
        "code": code,
        "content": content,
        "enhanced_code": (entry.status.class_, entry.status.subject, entry.status.detail),
        "reporter": reporter,
    }


def recorded(record: dict[str, Any]) -> dict[str, Any]:
    response = record["response"]
    return {
        "sender": record["sender"],
        "recipient": record["recipient"],
        "code": response["code"],
        "content": response["content"],
        "enhanced_code": tuple(response["enhanced_code"][key] for key in ("class", "subject", "detail")),
        "reporter": record["peer_address"]["name"],
    }


@mails
def test_strict_reading_is_kumods(mail: dict[str, Any]) -> None:
    """The answer, every bounced recipient and the whole feedback_report are those of the real KumoMTA."""
    reading = read(message_of(mail), strict=True)
    assert ANSWERS[kind_of(reading)] == mail["answer"][0]
    records = {kind: [record for record in mail["records"] if record["type"] == kind] for kind in ("Feedback", "OOB")}
    assert [msgspec.to_builtins(reading.arf)] * (reading.arf is not None) == [
        record["feedback_report"] for record in records["Feedback"]
    ]
    if reading.oob is None:
        assert records["OOB"] == []
    else:
        reporter = reading.oob.per_message.reporting_mta
        assert reporter is not None
        failed = [entry for entry in reading.oob.per_recipient if entry.action == "failed"]
        sender = mail["envelope"]["to"][0]
        assert [bounced(entry, reporter.name, sender) for entry in failed] == [*map(recorded, records["OOB"])]


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path of each value in a report, and the value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}.{number}")
    else:
        yield path, value


def found_difference(mail: dict[str, Any]) -> tuple[str, frozenset[str]] | None:
    """Return how the lenient reading differs from KumoMTA's: the change, and the paths of the values."""
    strict, lenient = read(message_of(mail), strict=True), read(message_of(mail))
    if kind_of(strict) != kind_of(lenient):
        return ("accepted" if kind_of(strict) is None else "lost"), frozenset()
    theirs, ours = (set(map(repr, leaves(msgspec.to_builtins(one.arf or one.oob)))) for one in (strict, lenient))
    paths = frozenset(path.partition(",")[0].strip("('.") for path in theirs ^ ours)
    return ("value", paths) if paths else None


@mails
def test_lenient_reading_differs_as_listed(mail: dict[str, Any]) -> None:
    """Lenient reading loses no report, and of each value that differs the table has the reason."""
    listed = [difference for difference in DIFFERENCES if mail["name"] in difference["reports"]]
    found = found_difference(mail)
    if found is None:
        assert [difference["change"] for difference in listed] in ([], ["record"])
        return
    change, paths = found
    assert [difference["change"] for difference in listed] == [change]
    prefixes = listed[0].get("fields", [])
    for prefix in prefixes:
        assert any(path.startswith(prefix) for path in paths)
    assert all(path.startswith(tuple(prefixes)) for path in paths)


def test_differences_name_mails() -> None:
    """Each line of the table is about mails that exist, each mail once, with a sentence as its reason."""
    names = [name for difference in DIFFERENCES for name in difference["reports"]]
    assert len(names) == len(set(names))
    assert {*names} <= {mail["name"] for mail in MAILS}
    assert len(MAILS) == 102
    for difference in DIFFERENCES:
        assert difference["change"] in {"accepted", "value", "record"}
        assert ("fields" in difference) == (difference["change"] == "value")
        assert difference["reason"].endswith(".")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("name", "expected"),
    [("last-attempt", "2026-07-02T16:55:38Z"), ("last-attempt-old", "2026-07-02T18:55:38Z"), ("plain-ok", None)],
)
def test_times(name: str, expected: str | None, *, strict: bool) -> None:
    """The time of an OOB record is the Last-Attempt-Date, in UTC."""
    mail = next(mail for mail in MAILS if mail["name"] == name)
    reading = read(message_of(mail), strict=strict)
    assert reading.oob is not None
    assert reading.oob.per_recipient[0].last_attempt_date == expected
