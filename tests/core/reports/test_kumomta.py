"""Where lenient reading differs from KumoMTA's, and why. That strict reading does not is tested with its records."""

import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from sidecar.core.reports.reading import read
from sidecar.core.reports.values import ReportReading
from tests import DATA, ROOT
from tests.core.kumod import MAILS, each_mail, message_of

DIFFERENCES: list[dict[str, Any]] = tomllib.loads((DATA / "kumomta/differences.toml").read_text())["difference"]


def kind_of(reading: ReportReading) -> str | None:
    return "arf" if reading.arf is not None else "oob" if reading.oob is not None else None


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


def _is_below(path: str, names: set[str]) -> bool:
    return f".{path.lstrip('.').partition('.')[0]}" in names or ".derived" in path


def found_difference(mail: dict[str, Any]) -> tuple[str, frozenset[str]] | None:
    """Return how the lenient reading differs from KumoMTA's: the change, and the paths of the values."""
    strict, lenient = read(message_of(mail), strict=True), read(message_of(mail))
    if kind_of(strict) != kind_of(lenient):
        return ("accepted" if kind_of(strict) is None else "lost"), frozenset()
    # What no report says: where it is derived, `meta.derived` names it (tests of `sparse`).
    unsaid = {f".{path.rpartition('.')[2]}" for path in lenient.derived}
    theirs, ours = (
        {repr(leaf) for leaf in leaves(msgspec.to_builtins(one.arf or one.oob)) if not _is_below(leaf[0], unsaid)}
        for one in (strict, lenient)
    )
    paths = frozenset(path.partition(",")[0].strip("('.") for path in theirs ^ ours)
    return ("value", paths) if paths else None


@each_mail
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


def test_the_policy_reference_has_each_difference() -> None:
    """Each reason is a row of its table, with the number of reports."""
    rows = dict.fromkeys((difference["reason"] for difference in DIFFERENCES), 0)
    for difference in DIFFERENCES:
        rows[difference["reason"]] += len(difference["reports"])
    lines = (ROOT / "deploy/docs/policy.md").read_text().splitlines()
    for reason, reports in rows.items():
        assert any(line.startswith(f"| {reason} | ") and line.endswith(f" | {reports} |") for line in lines), reason
