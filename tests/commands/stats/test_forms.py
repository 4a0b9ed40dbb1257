"""The forms of reports: what counts as lost, derived or unparsable, and when a reporter's reports drifted."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.command import command
from sidecar.commands.stats.forms import OTHERS, FormCounts, FormTally, has_drifted
from sidecar.core.records import decode, encode, form_of, reporting_domain
from tests.building import entry, settings
from tests.commands.stats.test_collector import NOON, record
from tests.core.session.driving import ARF, BROKEN, OOB, PLAIN
from tests.core.session.test_text import BOUNCE, last

DROP, FBL = "b@bounce.example.com", "f@fbl.example.com"
DOMAINS = (entry("bounce.example.com", log_oob="LogThenDrop"), entry("fbl.example.com", log_arf="LogThenDrop"))
WHOLE = b"Original-Rcpt-To: jo@isp.example\r\nOriginal-Mail-From: <>\r\nArrival-Date: 2 Jul 2026 18:55:38 +0000\r\nUser-Agent"


@pytest.mark.parametrize(
    ("message", "to", "more", "expected"),
    [
        (OOB, DROP, {}, [None, "complete"]),
        (OOB.replace(b"Action: failed", b"Action: expired"), DROP, {}, [None, "derived"]),
        (OOB.replace(b"Reporting-MTA", b"X"), DROP, {}, [None, "lost"]),
        (OOB.replace(b"Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1", b"X:"), DROP, {}, [None, "lost"]),
        (BOUNCE, DROP, {}, [None, "derived"]),
        (BROKEN, DROP, {}, ["unparsable"]),
        (BROKEN, DROP, {"unparsable_reports": "quarantine"}, ["unparsable"]),
        (BROKEN, DROP, {"compat": "kumomta"}, [None, None]),
        (PLAIN, DROP, {}, [None]),
        (ARF.replace(b"User-Agent", WHOLE), FBL, {}, ["complete"]),
        (ARF, FBL, {}, ["lost"]),
        (ARF.replace(b"User-Agent", WHOLE.replace(b"Original-Mail-From: <>\r\n", b"")), FBL, {}, ["derived"]),
    ],
)
def test_forms(message: bytes, to: str, more: dict[str, Any], expected: list[str | None]) -> None:
    """A record has the same form in the milter and when it is read again."""
    records = last(message, to, its=settings(DOMAINS, **more)).records
    assert [form_of(one) for one in records] == expected
    assert [form_of(decode(encode(one))) for one in records] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mx7.Mail.Example.com.", "example.com"),
        ("mx.example.co.uk", "example.co.uk"),
        ("example.de", "example.de"),
        ("mx.firma.de", "firma.de"),
        ("localhost", "localhost"),
        ("192.0.2.7", ""),
        ("[192.0.2.7]", ""),
        ("not a name", ""),
        ("", ""),
    ],
)
def test_hosts_of_one_provider_are_one_reporter(name: str, expected: str) -> None:
    """By the domain of the host."""
    assert reporting_domain(decode(record("OOB", name=name))) == expected


def counts(complete: int, lost: int) -> FormCounts:
    return FormCounts(complete=complete, lost=lost)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (counts(100, 0), counts(0, 20), True),
        (counts(1000, 10), counts(80, 20), True),
        (counts(100, 0), counts(0, 19), False),  # too few
        (counts(19, 0), counts(0, 100), False),
        (counts(100_000, 0), counts(91_000, 9_000), False),  # certain, and small
        (counts(16, 4), counts(13, 7), False),  # large, and chance
        (counts(0, 100), counts(100, 0), False),  # it has become better
    ],
)
def test_what_is_a_drift(before: FormCounts, now: FormCounts, *, expected: bool) -> None:
    """A growth must be large and more than chance."""
    assert has_drifted(before, now) is expected


def test_memory_is_bounded() -> None:
    """A flood of names displaces the rare ones, and no count is lost."""
    tally = FormTally()
    for number in range(5000):
        tally.add(f"r{number}.example", "complete", 1, before=False)
        tally.add("frequent.example", "lost", 1, before=False)
    forms = tally.forms(None)
    assert {one.name for one in forms.reporters[:2]} == {OTHERS, "frequent.example"}
    assert len(forms.reporters) == 100
    assert len(tally._counts) <= 2001
    assert sum(map(sum, tally._counts.values())) == 10_000


def bounce(name: str, when: int, *, whole: bool) -> bytes:
    answer = {"code": 550, "enhanced_code": {"class": 5, "subject": 1, "detail": 1}, "content": "gone", "command": None}
    return record("OOB", name=name, timestamp=when, created=when, response=answer, recipient="x@a.example" if whole else "")


def test_drift_of_a_reporter(tmp_path: Path) -> None:
    """The option compares two times, marks the reporter, and sets the exit status."""
    lines = [bounce("mx1.steady.example", NOON + at, whole=True) for at in range(60)]
    lines += [bounce(f"mx{at}.changed.example", NOON + at, whole=at < 30) for at in range(60)]
    log = tmp_path / "log"
    log.write_bytes(b"\n".join(lines) + b"\n")
    result = CliRunner().invoke(command, ["--json", "--drift", "2026-11-22T12:00:30Z", str(log)])
    forms = json.loads(result.stdout)["forms"]
    assert (result.exit_code, forms["drifted"], forms["since"]) == (1, 1, "2026-11-22T12:00:30Z")
    assert [(one["name"], one["drifted"]) for one in forms["reporters"]] == [
        ("changed.example", True),
        ("steady.example", False),
    ]
    assert forms["reporters"][0]["forms"] == {"complete": 0, "lost": 30, "derived": 0, "unparsable": 0}
    assert forms["reporters"][0]["before"] == {"complete": 30, "lost": 0, "derived": 0, "unparsable": 0}
    shown = CliRunner().invoke(command, ["--drift", "2026-11-22T12:00:30Z", str(log)])
    assert " 30  100.0 %    0.0 %       0.0 %   0.0 %  changed.example  drifted\n" in shown.stdout
    alone = CliRunner().invoke(command, [str(log)])
    assert alone.exit_code == 0
    assert " 60  50.0 %    0.0 %       0.0 %  changed.example\n" in alone.stdout


def test_without_reports() -> None:
    """Nothing is shown of them."""
    collector = Collector()
    collector.add(decode(record()))
    assert collector.summary().forms.reporters == []
