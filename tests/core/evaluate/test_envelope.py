"""From a record back to the questions behind it."""

from typing import Any

import pytest

from sidecar.core.evaluate.envelope import envelope_of, recorded_answer
from sidecar.core.settings.values import ANY_LISTENER
from tests.core.evaluate.recorded.samples import NOT_PERMITTED, logged, ours, record, rejection


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (record(), ("accepted", "end", False)),
        (ours(), ("accepted", "end", True)),
        (ours("Feedback"), ("accepted", "end", True)),
        (record("OOB", answer=(550, "5.1.1 gone", None)), ("accepted", "end", False)),
        (ours(meta={"quarantine": "x.eml"}), ("quarantined", "end", True)),
        (rejection("rcpt"), ("rejected", "rcpt", False)),
        (rejection("rcpt to:<x@a.example> NOTIFY=NEVER"), ("rejected", "rcpt", False)),
        (rejection("end", content=f"5.7.1 {NOT_PERMITTED} for 203.0.113.9:4444"), ("rejected", "end", False)),
        (ours("Rejection", answer=(550, NOT_PERMITTED, "CONNECT")), ("rejected", "connect", True)),
        (ours("Rejection", answer=(550, NOT_PERMITTED, None), meta={"count": 7}), ("rejected", None, True)),
        (rejection("end", code=451, content="later"), ("tempfailed", "end", False)),
        (rejection("end", code=552, content="a report may have 9 bytes at most"), ("rejected_for_other_reason", "end", False)),
        (rejection("MAIL FROM:<>", code=503, content="5.5.0 must EHLO"), ("rejected_for_other_reason", None, False)),
        (rejection("end", content="no, since relaying not permitted"), ("rejected_for_other_reason", "end", False)),
        (record("Delivery"), ("outgoing", None, False)),
        (record("SomethingNew"), ("outgoing", None, False)),
    ],
)
def test_accounts(made: dict[str, Any], expected: tuple[str, str | None, bool]) -> None:
    """What happened, when, and whose record it is."""
    account = recorded_answer(logged(made))
    assert (account.happened, account.stage, account.is_ours) == expected


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (record(), ("a@sender.test", ("x@a.example",), "unknown")),
        (record(recipient=["x@a.example", "y@b.example"]), ("a@sender.test", ("x@a.example", "y@b.example"), "unknown")),
        (ours("Feedback"), ("a@sender.test", ("x@a.example",), "arf")),
        # A bounce report without a failed recipient has no OOB record.
        (ours(meta={"disposition": "logged_and_dropped"}), ("a@sender.test", ("x@a.example",), "oob")),
        (ours(meta={"disposition": "logged_and_relayed"}), ("a@sender.test", ("x@a.example",), "oob")),
        (ours(meta={"disposition": "relayed"}), ("a@sender.test", ("x@a.example",), "unknown")),
        (ours("Feedback", meta={"disposition": "logged_and_dropped"}), ("a@sender.test", ("x@a.example",), "arf")),
        (ours(meta={"quarantine": "x.eml"}), ("a@sender.test", ("x@a.example",), "unreadable")),
        # An OOB record's sender is the report's recipient.
        (record("OOB", sender="b@bounce.example", recipient="gone@isp.test"), ("", ("b@bounce.example",), "oob")),
        # KumoMTA names the last recipient that it accepted; the one that it rejected stands in the command.
        (rejection("rcpt", recipient=["ok@a.example"]), ("a@sender.test", ("x@a.example",), "unknown")),
        (rejection("rcpt to: <y@b.example> SIZE=1"), ("a@sender.test", ("y@b.example",), "unknown")),
        (rejection("end"), ("a@sender.test", (), "other")),
        (
            rejection("end", code=451, content="later", recipient=["x@a.example"]),
            ("a@sender.test", ("x@a.example",), "unknown"),
        ),
        (ours("Rejection", answer=(550, NOT_PERMITTED, "DATA")), ("a@sender.test", ("x@a.example",), "other")),
        (ours("Rejection", recipient="x<y@b.example", answer=(550, NOT_PERMITTED, "RCPT TO:<x<y@b.example>")), None),
    ],
)
def test_envelopes(made: dict[str, Any], expected: tuple[str, tuple[str, ...], str] | None) -> None:
    """Sender, recipients and what the message was."""
    envelope = envelope_of(logged(made))
    expected = expected or ("a@sender.test", ("x<y@b.example",), "unknown")
    assert (envelope.sender, envelope.recipients, envelope.kind) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("203.0.113.9", ANY_LISTENER, None)),
        ({"peer": "::ffff:192.168.1.7"}, ("192.168.1.7", ANY_LISTENER, None)),
        ({"meta": {"received_via": "10.1.1.1:25", "authz_id": "daniel"}}, ("203.0.113.9", "10.1.1.1:25", "daniel")),
        ({"meta": {"listener": "[::1]:25", "authz_id": 7}}, ("203.0.113.9", "[::1]:25", None)),
    ],
)
def test_connections(more: dict[str, Any], expected: tuple[str, str, str | None]) -> None:
    """Peer, listener and authenticated identity, from our fields or KumoMTA's."""
    envelope = envelope_of(logged(record(**more)))
    assert (str(envelope.peer), envelope.listener, envelope.authz_id) == expected


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (record("Delivery"), "a Delivery record is about outgoing mail, not about incoming mail"),
        (record(peer_address=None), "does not contain the peer's address"),
        (record(peer="/run/smtp.sock"), "does not appear to be"),
        (record(meta={"listener": "10.1.1.1"}), "has no port"),
    ],
)
def test_what_has_no_envelope(made: dict[str, Any], why: str) -> None:
    """A record that cannot be judged says what it lacks."""
    with pytest.raises(ValueError, match=why):
        envelope_of(logged(made))
