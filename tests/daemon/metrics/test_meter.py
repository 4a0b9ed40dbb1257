"""Each outcome of a session is counted under its own name, and no text from outside becomes a name."""

import uuid
from ipaddress import ip_address
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from sidecar.core.disposition import Disposition
from sidecar.core.session import Quota, World
from sidecar.core.session.events import Connect, Data, Event, Mail, Rcpt, content_events
from sidecar.core.session.replies import NO_MEMORY, TOO_MANY_RECORDS, TOO_MANY_REPORTS, UNVERIFIED, too_large
from sidecar.core.session.verdicts import Continue, Decision, Discard, Outcome, Reject, Reply, Tempfail
from sidecar.core.settings.proof import VerifyRule, VerifySettings
from sidecar.core.settings.values import ANY_LISTENER, BounceRule, LimitSettings, Where
from sidecar.daemon.metrics import CELL, Memory, Meter
from sidecar.daemon.metrics.series import OTHER
from sidecar.daemon.process.metered import MeteredJournal, MeteredQuota, MeteredRecorder, metered_session
from tests.building import entry, settings
from tests.core.proof.making import MAIL, bounce, keys
from tests.core.session.driving import rules
from tests.journal.write.test_flood import refusal
from tests.journal.write.test_recorder import TAKEN, Disk

OOB = (
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
    b"Final-Recipient: rfc822; u@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n--b--\r\n"
)
ARF = (
    b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: %b\r\nUser-Agent: x\r\nVersion: 1\r\n\r\n--b--\r\n"
)
DOMAINS = (
    entry("relay.example", relay_to=True),
    entry("bounce.example", log_oob="LogThenDrop"),
    entry("keep.example", log_oob="LogThenRelay"),
    entry("fbl.example", log_arf="LogThenDrop"),
    entry("send.example", relay_from=["198.51.100.0/24"], relay_from_authz=["daniel"]),
)
EXTERNAL, HOST = "203.0.113.9", "127.0.0.1"


class Counting:
    """A meter and its counts."""

    def __init__(self) -> None:
        self._memory = Memory()
        self.meter = Meter(self._memory.block(self._memory.free([])))

    def counted(self) -> dict[tuple[str, ...], int]:
        """Return all counts that are not zero, without times."""
        totals = self._memory.totals()
        return {name: count for name, cell in CELL.items() if (count := totals[cell]) and "seconds" not in name[0]}


def judge(
    *,
    peer: str = EXTERNAL,
    sender: str = "",
    auth: str | None = None,
    to: tuple[str, ...] = ("x@bounce.example",),
    message: bytes | None = None,
    more: dict[str, Any] | None = None,
) -> dict[tuple[str, ...], int]:
    """Judge an envelope, and a message, with a metered session, like a worker. Return the counts."""
    counting = Counting()
    made = rules(settings(**{"domains": DOMAINS} | (more or {})))
    world = World(clock=lambda: 1.0, new_id=lambda: str(uuid.uuid4()), node_id="node")
    session = metered_session(counting.meter)(rules=lambda: made, world=world)

    def hand(event: Event) -> Outcome:
        outcome = session.handle(event)
        if outcome.records:
            counting.meter.judged(outcome)
        return outcome

    connected = hand(Connect(peer=ip_address(peer), port=None, listener=ANY_LISTENER))
    if isinstance(connected.verdict, Continue):
        hand(Mail(sender=sender, authz_id=auth, declared_size=None))
        for address in to:
            hand(Rcpt(address=address, mta_spelling=address))
        rest = [] if message is None else [Data(), *content_events(message)]
        for event in rest:
            if not isinstance(hand(event).verdict, Continue):
                break
    return counting.counted()


@pytest.mark.parametrize(
    ("question", "counted"),
    [
        ({"peer": HOST, "to": ("x@y",)}, [("connect", "continue", "relay_hosts"), ("rcpt", "accept", "relay_hosts")]),
        ({"to": ("x@relay.example",)}, [("connect", "continue", "deferred"), ("rcpt", "accept", "relay_to")]),
        (
            {"peer": "198.51.100.1", "sender": "s@send.example", "to": ("x@y",)},
            [("connect", "continue", "deferred"), ("rcpt", "accept", "relay_from")],
        ),
        (
            {"sender": "s@send.example", "auth": "daniel", "to": ("x@y",)},
            [("connect", "continue", "deferred"), ("rcpt", "accept", "relay_from_authz")],
        ),
        ({"to": ("x@fbl.example",)}, [("connect", "continue", "deferred"), ("rcpt", "accept", "log_arf")]),
        ({"to": ("x@y",)}, [("connect", "continue", "deferred"), ("rcpt", "reject", "relaying_not_permitted")]),
        ({"to": ("x\n@y",)}, [("connect", "continue", "deferred"), ("rcpt", "reject", "unreadable_address")]),
        ({"more": {"domains": ()}}, [("connect", "reject", "relaying_not_permitted")]),
        (
            {
                "more": {"recipient_limit": 1},
                "to": (
                    "x@relay.example",
                    "y@relay.example",
                ),
            },
            [("connect", "continue", "deferred"), ("rcpt", "accept", "relay_to"), ("rcpt", "tempfail", "too_many_recipients")],
        ),
        (
            {"more": {"limits": LimitSettings(sessions=0)}},
            [("connect", "tempfail", "too_many_sessions")],
        ),
    ],
    ids=str,
)
def test_peers_and_recipients(question: dict[str, Any], counted: list[Any]) -> None:
    """They are counted by stage, action and the key of the deciding rule."""
    assert judge(**question) == {("verdicts", *one): 1 for one in counted}


@pytest.mark.parametrize(
    ("to", "message", "counted"),
    [
        ("x@relay.example", b"Subject: x\r\n\r\n", [("verdicts", "message", "accept", "relay_to")]),
        (
            "x@bounce.example",
            OOB,
            [("verdicts", "message", "discard", "oob"), ("reports", "oob"), ("bounces", "InvalidRecipient")],
        ),
        (
            "x@keep.example",
            OOB,
            [("verdicts", "message", "accept", "oob"), ("reports", "oob"), ("bounces", "InvalidRecipient")],
        ),
        (
            "x@fbl.example",
            ARF % b"Abuse",
            [("verdicts", "message", "discard", "arf"), ("reports", "arf"), ("complaints", "abuse")],
        ),
        (
            "x@fbl.example",
            ARF % b"any text from outside",
            [("verdicts", "message", "discard", "arf"), ("reports", "arf"), ("complaints", OTHER)],
        ),
        ("x@bounce.example", b"Subject: x\r\n\r\n", [("verdicts", "message", "reject", "relaying_not_permitted")]),
    ],
)
def test_messages_and_reports(to: str, message: bytes, counted: list[Any]) -> None:
    """They are counted by their kind, and reports by their class too."""
    rule = BounceRule(pattern="^550 5.1.1 ", bounce_class="InvalidRecipient", where=Where(file="r", line=1, key="k"))
    found = judge(to=(to,), message=message, more={"bounce_rules": (rule,)})
    assert {name: count for name, count in found.items() if name[1] not in {"connect", "rcpt"}} == dict.fromkeys(counted, 1)


def test_proofs() -> None:
    """Each method is counted by its result, once for a message, also if it is rejected."""
    verify = VerifySettings(**asdict(keys()), rule=VerifyRule(unverified="reject"))
    found = judge(message=bounce(MAIL, "jo@remote.example"), more={"verify": verify})
    assert {name: count for name, count in found.items() if name[0] == "proofs"} == {
        ("proofs", "dkim", "absent"): 1,
        ("proofs", "header", "absent"): 1,
        ("proofs", "address", "absent"): 1,
    }
    assert found["verdicts", "message", "reject", "unverified"] == 1
    required = {"verify": replace(verify, domains={"bounce.example": VerifyRule(requires_token=True)})}
    assert judge(more=required)["verdicts", "rcpt", "reject", "address_required"] == 1


def test_a_class_of_a_rule_file_counts_as_other() -> None:
    """A name in monitoring is never from a file, so the set stays closed."""
    rule = BounceRule(pattern=".", bounce_class="my own", where=Where(file="r", line=1, key="k"))
    assert judge(message=OOB, more={"bounce_rules": (rule,)})["bounces", OTHER] == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (too_large("the header section of a report", 1, "bytes"), "too_big"),
        (too_large("a report", 1, "bytes"), "too_big"),
        (UNVERIFIED, "unverified"),
        (Reply(code=599, enhanced="5.9.9", text="x"), OTHER),
    ],
)
def test_rejections_of_messages(reply: Reply, reason: str) -> None:
    """They are counted by the reply; an unknown one as other."""
    counting = Counting()
    decision = Decision(stage="message", action="reject", disposition=Disposition.REJECTED_AT_RCPT, why="")
    counting.meter.judged(Outcome(verdict=Reject(reply=reply), decision=decision))
    assert counting.counted() == {("verdicts", "message", "reject", reason): 1}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(TOO_MANY_REPORTS, "too_many_reports"), (TOO_MANY_RECORDS, "too_many_records"), (NO_MEMORY, "no_room")],
)
def test_tempfails_of_messages(reply: Reply, reason: str) -> None:
    """They are counted by the reply: each limit that an operator can raise has its own reason."""
    counting = Counting()
    decision = Decision(stage="message", action="tempfail", disposition=Disposition.REJECTED_AT_RCPT, why="")
    counting.meter.judged(Outcome(verdict=Tempfail(reply=reply), decision=decision))
    assert counting.counted() == {("verdicts", "message", "tempfail", reason): 1}


def test_a_report_above_the_limit_on_records_is_counted_as_tempfailed() -> None:
    """It is not counted as a report, although its Rejection can be only a count in the journal."""
    counting, disk = Counting(), Disk()
    limits = LimitSettings(record_bytes_burst=1000, rejection_records_per_second=1)
    recorder = MeteredRecorder(counting.meter, journal=disk, quarantine=disk, limits=limits)
    decision = Decision(stage="message", action="tempfail", disposition=Disposition.REJECTED_AT_RCPT, why="")
    above = Outcome(
        verdict=Tempfail(reply=TOO_MANY_RECORDS), records=(refusal(),) * 2, decision=decision, network="cb007109", received=0
    )
    report = replace(above, verdict=Discard(), records=TAKEN.records * 2, above=lambda: above)
    assert [recorder.write(report).decision for _ in range(3)] == [None] * 3
    assert disk.written == []
    assert counting.counted() == {("verdicts", "message", "tempfail", "too_many_records"): 3}


def test_each_stage_and_action_has_other() -> None:
    """So everything is counted."""
    verdicts = [name for name in CELL if name[0] == "verdicts"]
    assert all((*name[:3], OTHER) in verdicts for name in verdicts)


def test_a_rejected_session_does_not_count_as_open() -> None:
    counting = Counting()
    quota: Quota = MeteredQuota(counting.meter, LimitSettings(sessions=2))
    assert [quota.enter() for _ in range(3)] == [True, True, False]
    quota.leave()
    assert counting.counted() == {("sessions",): 1}


def test_a_failed_write_is_counted_and_raised() -> None:
    """The caller gets the same exception as without a meter."""
    from sidecar.journal import JournalError  # noqa: PLC0415 - for this one
    from sidecar.journal.write.disk_thread import Done  # noqa: PLC0415 - as well
    from sidecar.journal.write.routes import Batch  # noqa: PLC0415 - as well

    class Full:
        def encode(self, _records: object) -> Batch:
            return Batch(lines=(), size=0)

        def write(self, _batch: Batch, *, durable: bool) -> None:
            raise JournalError(f"full, durable={durable}")

        def submit(self, _batch: Batch, *, durable: bool, done: Done) -> bool:
            done(JournalError(f"full, durable={durable}"))
            return False

        def roll(self) -> None: ...

        def close(self) -> None: ...

    counting = Counting()
    with pytest.raises(JournalError, match="durable=True"):
        MeteredJournal(counting.meter, Full()).write(Batch(lines=(), size=0), durable=True)
    errors: list[JournalError | None] = []
    assert not MeteredJournal(counting.meter, Full()).submit(Batch(lines=(), size=0), durable=True, done=errors.append)
    assert [str(error) for error in errors] == ["full, durable=True"]
    assert counting.counted() == {("journal_errors",): 2}
