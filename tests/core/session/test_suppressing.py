"""Recipients on the suppression list: who is looked up, what follows, and what the records say."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.policy import compile_policy
from sidecar.core.session import Rules, Session
from sidecar.core.session.events import Connect, Data, EndOfHeaders, EndOfMessage, Header, Mail, Rcpt
from sidecar.core.session.replies import suppressed
from sidecar.core.session.suppressing import UnreadableListError
from sidecar.core.session.verdicts import Continue, Outcome, Reject, Tempfail
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import Where
from sidecar.suppression.rules import ListEntry
from tests.building import entry, settings
from tests.core.session.driving import world

LISTED = ListEntry(reason="BadDomain", source="reports", since=1_790_000_000, expires=1_800_000_000)
PLACE = Where(file="sidecar.toml", line=7, key="suppression.check")


class Known:
    """A list in memory. With a fault it cannot be read."""

    def __init__(self, fault: str = "", **entries: ListEntry) -> None:
        self.fault, self.entries, self.asked = fault, entries, list[str]()

    def may_have(self, _: SuppressionSettings, address: str) -> bool:
        """Return True for what `find` has to answer."""
        return bool(self.fault) or address.partition("@")[0] in self.entries

    def find(self, _: SuppressionSettings, address: str, now: int) -> ListEntry | None:
        """Note who is looked up, and when."""
        assert now > 1_700_000_000
        self.asked.append(address)
        if self.fault:
            raise UnreadableListError(self.fault)
        return self.entries.get(address.partition("@")[0])


def session_of(known: Known, *, compat: Any = None, domains: Any = (), **more: Any) -> Session:
    listed = SuppressionSettings(database=Path("x"), places={"": PLACE}, **{"check": "reject", **more})
    made = replace(settings(domains), suppression=listed, compat=compat)
    rules = Rules(policy=compile_policy(made), settings=made)
    return Session(rules=lambda: rules, world=replace(world(), suppression=known))


def offered(session: Session, *recipients: str, sender: str = "a@sender.example", peer: str = "127.0.0.1") -> list[Outcome]:
    session.handle(Connect(peer=ip_address(peer), port=1, listener="10.1.1.1:25"))
    session.handle(Mail(sender=sender))
    return [session.handle(Rcpt(address=one, mta_spelling=f"<{one}>")) for one in recipients]


def test_rejected() -> None:
    known = Known(gone=LISTED)
    gone, fine = offered(session_of(known), "gone@x.example", "fine@x.example")
    assert isinstance(gone.verdict, Reject)
    assert str(gone.verdict.reply) == "550 5.7.1 gone@x.example is on the suppression list: BadDomain since 2026-09-21"
    (record,) = gone.records
    assert record.type == "Rejection"
    assert (record.meta["disposition"], record.recipient) == ("rejected_at_rcpt", "gone@x.example")
    entry_of_list = {
        "reason": "BadDomain", "source": "reports", "since": "2026-09-21T14:13:20Z", "expires": "2027-01-15T08:00:00Z",
    }  # fmt: skip
    assert record.meta["suppressed"] == entry_of_list
    sentence = "gone@x.example is on the suppression list: BadDomain since 2026-09-21, until 2027-01-15"
    assert record.meta["why"] == f"{sentence} (sidecar.toml:7 suppression.check)"
    assert (gone.checked, fine.checked, type(fine.verdict)) == ("rejected", "not_listed", Continue)


@pytest.mark.parametrize("domains", [(), (entry("x.example", log_oob="LogThenRelay"),)])
def test_logged(domains: Any) -> None:
    """Only the records of suppressed recipients say so, in any order; the verdict is as without the list."""
    for recipients in (["gone@x.example", "fine@x.example"], ["fine@x.example", "gone@x.example", "ok@y.example"]):
        session = session_of(Known(gone=LISTED), check="log", domains=domains)
        assert {type(one.verdict) for one in offered(session, *recipients)} == {Continue}
        outcome = session.handle(Data())
        for event in (Header(name=b"Subject", value=b"x"), EndOfHeaders(), EndOfMessage()):
            if isinstance(outcome.verdict, Continue):
                outcome = session.handle(event)
        assert [record.recipient for record in outcome.records] == recipients
        assert ["suppressed" in record.meta for record in outcome.records] == [one.startswith("gone") for one in recipients]
        assert not any("suppression" in record.meta["why"] for record in outcome.records)


@pytest.mark.parametrize(
    ("case", "asked"),
    [
        ({}, True),
        ({"sender": ""}, False),
        ({"peer": "203.0.113.9"}, False),
        ({"sender": "a@off.example"}, False),
        ({"sender": "a@x.below.example"}, True),
        ({"sender": "a@below.example"}, False),
    ],
)
def test_recipients_that_are_looked_up(case: Mapping[str, str], asked: bool) -> None:
    """Those of relay hosts, but not of bounces, where the domain of the envelope sender is checked."""
    known = Known(gone=LISTED)
    settings = {"domain": {"off.example": "off", "below.example": "off", "*.below.example": "log"}}
    session = session_of(known, domains=[entry("x.example", relay_to=True)], **settings)
    offered(session, "gone@x.example", **case)
    assert bool(known.asked) == asked


@pytest.mark.parametrize(("unreadable", "verdict", "records"), [("accept", Continue, 0), ("tempfail", Tempfail, 1)])
def test_unreadable(unreadable: str, verdict: type, records: int) -> None:
    (outcome,) = offered(session_of(Known("the disk is gone"), on_unreadable=unreadable), "gone@x.example")
    assert (type(outcome.verdict), outcome.checked, len(outcome.records)) == (verdict, "unreadable", records)
    if isinstance(outcome.verdict, Tempfail):
        assert str(outcome.verdict.reply) == "451 4.3.0 the suppression list cannot be read; try again later"
        assert outcome.records[0].meta["disposition"] == "tempfailed"
        assert "the disk is gone" in outcome.records[0].meta["why"]


def test_not_looked_up_twice() -> None:
    """An address that is not on the list is known before the look-up."""
    known = Known(gone=LISTED)
    session = session_of(known)
    offered(session)
    for name, waits in (("fine", False), ("gone", True), ("fine", False)):
        event = Rcpt(address=f"{name}@x.example", mta_spelling="")
        assert session.may_wait(event) == waits
        assert session.handle(event).checked == ("rejected" if waits else "not_listed")
    assert known.asked == ["gone@x.example"]
    assert not session.may_wait(Data())


def test_the_same_with_compat() -> None:
    """The reply and the entry stay; the Rejection has KumoMTA's recipient, the last one that was accepted."""
    session = session_of(Known(gone=LISTED), compat="kumomta")
    _, gone = offered(session, "fine@x.example", "gone@x.example")
    (record,) = gone.records
    assert (record.recipient, record.meta["suppressed"]["reason"]) == ("fine@x.example", "BadDomain")
    assert record.response.command == "RCPT TO:<gone@x.example>"


def test_the_reply_is_one_line() -> None:
    """The reason can be the words of a person: no control character, and the day is never cut off."""
    reply = suppressed("a" * 1000 + "@x.example", replace(LISTED, reason="one\r\n250 two\x00" + "z" * 300))
    assert reply.text.isprintable()
    assert reply.text.endswith("z since 2026-09-21")
    assert len(str(reply)) <= 490
