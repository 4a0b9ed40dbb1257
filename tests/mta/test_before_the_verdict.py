"""What Postfix does before the sidecar's verdict: the doctor finds exactly what really lets mail past it, or copies it."""

from collections.abc import Iterator

import pytest
from msgspec import Struct

from tests.commands.doctor.test_real_postfix import doctor, settings_of
from tests.mta.client import EXTERNAL, Connection
from tests.mta.mails import OOB, ORDINARY
from tests.mta.places import private_directory
from tests.mta.postfix import Postfix, table
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

DOMAINS = '["open.example"]\nrelay_to = true\n["bounce.example"]\nlog_oob = "LogThenDrop"\n'
OPEN, REPORTS = "ok@open.example", "gone@bounce.example"
SENDER = "somebody@peer.example.net"
COPY = "copy@copy.example"
ALIAS = "alias@elsewhere.example"

# The recipients that get an ordinary message to OPEN and REPORTS, a bounce to REPORTS, and an ordinary message to REPORTS.
Reached = tuple[set[str], set[str], set[str]]

UNDONE: Reached = ({OPEN}, set(), set())
COPIED: Reached = ({OPEN, COPY}, set(), set())
NOTHING: Reached = (set(), set(), set())
DIVERTED: Reached = ({COPY}, set(), set())
EVERYTHING_DIVERTED: Reached = ({COPY}, {COPY}, {COPY})
EVERYTHING: Reached = ({OPEN, REPORTS}, {REPORTS}, {REPORTS})


class Case(Struct, frozen=True, kw_only=True):
    """Settings of Postfix, whom the three messages reach, what the doctor says, and whether the sidecar records all three."""

    key: str
    value: str
    more: dict[str, str] = {}
    reached: Reached = UNDONE
    finding: str | None = None
    recorded: bool = True


def checks(action: str) -> str:
    return f"regexp:{{ {{ /./ {action} }} }}"


def rcpt(action: str) -> str:
    return f"check_recipient_access {table({REPORTS: action})}"


CASES = [
    Case(key="recipient_bcc_maps", value=table({REPORTS: COPY}), reached=COPIED, finding="warning"),
    Case(key="recipient_bcc_maps", value=table({REPORTS: COPY}), more={"receive_override_options": "no_address_mappings"}),
    # These copy what was accepted for somebody.
    Case(key="always_bcc", value=COPY, reached=COPIED),
    Case(key="sender_bcc_maps", value=f"static:{COPY}", reached=COPIED),
    # The sidecar removes a recipient by the name that the peer gave.
    Case(key="virtual_alias_maps", value=table({REPORTS: ALIAS})),
    Case(key="virtual_alias_maps", value=table({REPORTS: f"{REPORTS} {ALIAS}"}), more={"enable_original_recipient": "no"}),
    Case(key="recipient_canonical_maps", value=table({REPORTS: ALIAS})),
    Case(key="header_checks", value=checks("PASS"), reached=EVERYTHING, finding="error", recorded=False),
    Case(key="body_checks", value=checks("PASS"), reached=EVERYTHING, finding="error", recorded=False),
    Case(key="header_checks", value=checks(f"REDIRECT {COPY}"), reached=EVERYTHING_DIVERTED, finding="error", recorded=False),
    Case(key="body_checks", value=checks(f"REDIRECT {COPY}"), reached=EVERYTHING_DIVERTED, finding="error", recorded=False),
    Case(key="header_checks", value=checks("DISCARD"), reached=NOTHING, finding="warning", recorded=False),
    Case(key="header_checks", value=checks(f"BCC {COPY}"), reached=COPIED),
    Case(key="header_checks", value=checks("FILTER virtual:")),
    Case(key="header_checks", value=checks("WARN")),
    Case(key="header_checks", value=checks("PASS"), more={"receive_override_options": "no_header_body_checks"}),
    Case(key="smtpd_recipient_restrictions", value=rcpt(f"BCC {COPY}"), reached=COPIED, finding="warning"),
    Case(key="smtpd_recipient_restrictions", value=rcpt("DISCARD"), reached=NOTHING, finding="warning", recorded=False),
    Case(key="smtpd_recipient_restrictions", value=rcpt(f"REDIRECT {COPY}"), reached=DIVERTED),
    Case(key="smtpd_recipient_restrictions", value=rcpt("OK")),
    Case(
        key="smtpd_end_of_data_restrictions",
        value="check_client_access static:DISCARD",
        reached=NOTHING,
        finding="warning",
        recorded=False,
    ),
]


@pytest.fixture(scope="module")
def sidecar() -> Iterator[Sidecar]:
    """One sidecar for all cases."""
    with private_directory() as directory, Sidecar(directory / "sidecar", domains=DOMAINS, engine="direct") as running:
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.key} = {case.value}")
def test_before_the_verdict(sidecar: Sidecar, case: Case) -> None:
    """Postfix does with the three messages what is said here, and the doctor says so where the sidecar cannot undo it."""
    settings = {case.key: case.value, **case.more}
    with private_directory() as directory, Postfix(directory / "postfix", milter=sidecar.socket, settings=settings) as postfix:
        found = (line.split(": ") for line in doctor(sidecar, settings_of(postfix)))
        levels = {key: level for level, key in found}
        assert levels.get(case.key) == case.finding
        sidecar.records()
        reached = [
            _reached(postfix, [SENDER, OPEN, REPORTS], ORDINARY),
            _reached(postfix, ["", REPORTS], OOB),
            _reached(postfix, [SENDER, REPORTS], ORDINARY),
        ]
        assert tuple(reached) == case.reached
        # Two workers write; the order between connections is not fixed.
        recorded = ["OOB", "Reception", "Reception", "Reception", "Rejection"] if case.recorded else []
        assert sorted(record["type"] for record in sidecar.records()) == recorded


def _reached(postfix: Postfix, envelope: list[str], content: bytes) -> set[str]:
    sender, *recipients = envelope
    with Connection(postfix.port, EXTERNAL) as connection:
        answers = connection.send(sender, recipients, content)
    assert [answer.code for answer in answers.recipients] == [250] * len(recipients)
    return set(postfix.delivered())
