"""Reports that real Postfixes made: what is read from them, and what one leaves in the journal that is made on the spot."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Struct, to_builtins

from sidecar.core.reports.reading import read
from tests import DATA
from tests.mta.client import EXTERNAL, Connection
from tests.mta.house import house
from tests.mta.mails import ORIGINAL
from tests.mta.make_reports import SENDER, SITUATIONS
from tests.mta.places import private_directory
from tests.mta.postfix import HOST, Postfix, table

MADE = DATA / "made"
REFUSED = "Recipient address rejected"


class Expected(Struct, frozen=True, kw_only=True):
    """One recipient of a report. `original` is its Original-Recipient, which Postfix always gives."""

    recipient: str
    action: str
    status: str
    diagnostic: tuple[str, str]
    original: str | None = None
    recipient_type: str = "rfc822"


def refused(local: str, status: str, reply: str, *, domain: str = "remote.example", **more: Any) -> Expected:
    """Expect a recipient whom another Postfix refused with `reply`, of which {} is the address."""
    address = f"{local}@{domain}"
    diagnostic = ("smtp", reply.format(f"<{address}>: {REFUSED}"))
    return Expected(recipient=address, action="failed", status=status, diagnostic=diagnostic, **more)


UNKNOWN = "550 5.1.1 {}: No such user here"
FULL = "552 5.2.2 {}: The mailbox is full"

EXPECTED: Mapping[str, list[Expected]] = {
    "unknown-user": [refused("nobody", "5.1.1", UNKNOWN)],
    "unknown-user-long-reply": [
        refused(
            "nobody",
            "5.1.1",
            "550-5.1.1 {}: No such user here 550 5.1.1 For help see https://remote.example/mail",
            domain="wordy.example",
        )
    ],
    "over-quota": [refused("full", "5.2.2", FULL)],
    "two-of-three": [refused("full", "5.2.2", FULL), refused("nobody", "5.1.1", UNKNOWN)],
    "refused-content": [refused("content", "5.7.1", "554 5.7.1 {}: We do not want this")],
    "host-not-found": [
        Expected(
            recipient="somebody@nowhere.invalid",
            action="failed",
            status="5.4.4",
            diagnostic=(
                "X-Postfix",
                "Host or domain name not found. Name service error for name=nowhere.invalid type=AAAA: Host not found",
            ),
        )
    ],
    "unknown-here": [
        Expected(
            recipient="somebody@here.example",
            action="failed",
            status="5.1.1",
            diagnostic=("X-Postfix", 'unknown user: "somebody@here.example"'),
        )
    ],
    "program-failed": [
        Expected(
            recipient="somebody@program.example",
            action="failed",
            status="5.3.0",
            diagnostic=("x-unix", "this program failed"),
        )
    ],
    "delayed": [
        Expected(
            recipient="later@remote.example",
            action="delayed",
            status="4.2.1",
            diagnostic=("smtp", f"450 4.2.1 <later@remote.example>: {REFUSED}: Too busy, come back later"),
        )
    ],
    "gave-up": [
        Expected(
            recipient="somebody@silent.example",
            action="failed",
            status="4.4.1",
            diagnostic=("X-Postfix", "connect to 127.0.0.1[127.0.0.1]:9: Connection refused"),
        )
    ],
    "envid-orcpt": [refused("nobody", "5.1.1", UNKNOWN, original="Old.Name+17@customer.example")],
    "relayed": [
        Expected(
            recipient="fine@remote.example",
            action="relayed",
            status="2.0.0",
            diagnostic=("smtp", "250 2.0.0 Ok: queued as ..."),
        )
    ],
    "delivered": [
        Expected(
            recipient="someone@bounce.sender.example",
            action="delivered",
            status="2.0.0",
            diagnostic=("X-Postfix", "delivery via virtual: delivered to maildir"),
        )
    ],
    "utf8-address": [refused("nïemand", "5.1.1", UNKNOWN, recipient_type="utf-8")],
}
ENVELOPE_IDS = {"envid-orcpt": "campaign+17/4711", "relayed": "proof-1"}


def test_every_made_report_is_expected() -> None:
    """Files, situations and expectations are the same set."""
    assert {path.stem for path in MADE.glob("*.eml")} == set(SITUATIONS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_made_report(name: str) -> None:
    """A report that a real Postfix made is read whole: who, what became of it, why, and the sender's own marks."""
    reading = read((MADE / f"{name}.eml").read_bytes())
    assert reading.arf is None
    assert reading.oob is not None
    per_message, found = reading.oob.per_message, to_builtins(reading.oob.per_recipient)
    assert to_builtins(per_message.reporting_mta) == {"mta_type": "dns", "name": "mx.sender.example"}
    assert per_message.original_envelope_id == ENVELOPE_IDS.get(name)
    assert per_message.arrival_date is not None
    assert [_as_expected(recipient) for recipient in found] == EXPECTED[name]
    original = reading.oob.original_message or ""
    # In the Return-Path of one returned message Postfix has quoted each byte of a letter: that is no UTF-8.
    assert "Message-ID: <week-17@sender.example>" in (original if isinstance(original, str) else original.decode("latin-1"))


def _as_expected(found: dict[str, Any]) -> Expected:
    """Bring a recipient as it was read into the form of the table; queue ids, which are chance, become three dots."""
    final, original, status = found["final_recipient"], found["original_recipient"], found["status"]
    code = found["diagnostic_code"]
    words, mark, _ = code["diagnostic"].partition("queued as ")
    return Expected(
        recipient=final["recipient"],
        recipient_type=final["recipient_type"],
        action=found["action"],
        status=f"{status['class']}.{status['subject']}.{status['detail']}",
        diagnostic=(code["diagnostic_type"], f"{words}{mark}..." if mark else words),
        original=None if original["recipient"] == final["recipient"] else original["recipient"],
    )


@pytest.mark.mta
def test_a_bounce_made_on_the_spot() -> None:
    """A real Postfix whose mail was refused reports to the sender's bounce domain, and the journal says who and why."""
    bounce_domain = '["bounce.sender.example"]\nlog_oob = "LogThenDrop"\n'
    refusal = {"smtpd_recipient_restrictions": f"check_recipient_access {table({'nobody@': '550 5.1.1 No such user here'})}"}
    with house(domains=bounce_domain, postfix=refusal) as ours, private_directory() as directory:
        settings = {
            "myhostname": "mx.customer.example",
            "relay_transport": f"smtp:[{HOST}]:{ours.postfix.port}",
            # To our Postfix this one is no relay host but a stranger at another address.
            "smtp_bind_address": "127.0.0.2",
        }
        with Postfix(directory / "theirs", settings=settings) as theirs:
            with Connection(theirs.port, EXTERNAL) as connection:
                assert connection.send(SENDER, ["nobody@bounce.sender.example"], ORIGINAL).last.code == 250
            reception, oob = ours.arrival(records=2).records
    assert (reception["type"], reception["sender"], reception["recipient"]) == ("Reception", "", SENDER)
    assert (oob["type"], oob["sender"], oob["recipient"]) == ("OOB", SENDER, "nobody@bounce.sender.example")
    assert oob["peer_address"] == {"name": "mx.customer.example", "addr": "127.0.0.2"}
    assert oob["response"]["code"] == 550
    assert oob["response"]["content"].endswith("Recipient address rejected: No such user here")
    assert oob["response"]["enhanced_code"] == {"class": 5, "subject": 1, "detail": 1}
