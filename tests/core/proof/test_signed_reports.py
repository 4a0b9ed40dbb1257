"""Reports that Postfix, Sendmail and Exim made for mail that OpenDKIM and Exim signed: all are verified, by each method."""

import pytest

from sidecar.core.reports.reading import read
from tests.core.proof.making import DAY, SIGNED, made, made_keys, verified

REPORTS = made()["reports"]
# The MTA returned the header section alone: asked to by RET=HDRS, or because the message is too large.
HEADER_ONLY = ("-truncated", "-header-only")


def test_all_are_there() -> None:
    """A report of each MTA in each situation; only Sendmail returns a large message whole."""
    assert {path.stem for path in SIGNED.glob("*.eml")} == set(REPORTS)
    assert {name.partition("-")[0] for name in REPORTS} == {"postfix", "sendmail", "exim"}
    assert len(REPORTS) == 26


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_verified(name: str, line_end: bytes) -> None:
    """Each failed recipient is proved by DKIM, and by the trace header if it is the only one; the address has its token."""
    report = (SIGNED / f"{name}.eml").read_bytes().replace(b"\n", line_end)
    reading = read(report)
    found = verified(report, REPORTS[name]["recipient"], made_keys(), made()["now"] + 60)
    reported = REPORTS[name]["reported"]
    assert reading.oob is not None
    assert {one.final_recipient.recipient for one in reading.oob.per_recipient if one.final_recipient} == set(reported)
    for recipient in reported:
        assert found.proof(recipient).verified == "recipient", found.why
        assert found.proof(recipient).verified_by == ("dkim", "header", "address")
    dkim, header, _ = found.methods
    assert sorted(dkim.recipients) == sorted(reported)
    assert list(header.recipients) == (reported if len(reported) == 1 else [])
    assert dkim.body == ("absent" if name.endswith(HEADER_ONLY) else "whole")


@pytest.mark.parametrize("name", REPORTS)
def test_old(name: str) -> None:
    """After 32 days none of them proves anything."""
    report, now = (SIGNED / f"{name}.eml").read_bytes(), made()["now"] + 32 * DAY
    found = verified(report, REPORTS[name]["recipient"], made_keys(), now)
    assert found.proof(*REPORTS[name]["reported"]).verified == "none"
