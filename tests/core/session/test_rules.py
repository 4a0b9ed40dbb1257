"""Reloads in the middle of a connection: each message is judged by the rules that were newest at its MAIL."""

from typing import Any

import pytest

from sidecar.core.session import NewestRules, NoRulesError, Session
from sidecar.core.session.events import Abort, Data, Event, Mail, Rcpt
from sidecar.core.session.replies import UNKNOWN_LISTENER, relaying_not_permitted
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome, Reject, Tempfail, Verdict
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LimitSettings
from tests.building import entry, settings
from tests.core.session.driving import (
    EXTERNAL,
    LISTENER,
    OOB,
    PLAIN,
    RELAY_HOST,
    content,
    envelope,
    headers_of,
    hello,
    play,
    rules,
    world,
)

OPEN = entry("a.example", relay_to=True)
REPORTS = entry("a.example", log_oob="LogThenDrop")
CLOSED = entry("other.example", relay_to=True)
TO = "x@a.example"
NOT_PERMITTED = Reject(reply=relaying_not_permitted(EXTERNAL, 4444))
SLOPPY = OOB.replace(b"Action: failed", b"Action: Failed")


class Reloaded:
    """A session whose rules can be replaced: by those of other settings, or by none."""

    def __init__(self, *domains: Any, answers_data: bool = True, **more: Any) -> None:
        self.newest = NewestRules(rules(settings(domains, **more)))
        self.session = Session(rules=self.newest, world=world(), answers_data=answers_data)

    def reload(self, *domains: Any, **more: Any) -> None:
        """Let other settings be the newest."""
        self.newest.rules = rules(settings(domains, **more))

    def play(self, *events: Event) -> Verdict:
        """Feed events; give the last verdict."""
        return self.outcome(*events).verdict

    def outcome(self, *events: Event) -> Outcome:
        """Feed events; give the last outcome."""
        return play(self.session, events)[-1]


def test_a_right_that_is_taken_away_is_gone_with_the_next_message() -> None:
    """The one in hand keeps what it began with, its later recipients and its verdict included."""
    it = Reloaded(OPEN)
    it.play(*hello(), *envelope([TO]))
    it.reload(CLOSED)
    assert it.play(Rcpt(address="y@a.example", mta_spelling="<y@a.example>")) == Continue()
    assert it.play(*content(PLAIN)) == Accept()
    outcome = it.outcome(*envelope([TO]))
    assert outcome.verdict == NOT_PERMITTED
    why = "no listener domain matches a.example; 203.0.113.9 is not in relay_hosts (sidecar.toml:1 relay_hosts)"
    assert outcome.records[0].meta["why"] == why


def test_a_right_that_is_given_holds_from_the_next_message_on() -> None:
    it = Reloaded(CLOSED)
    assert it.play(*hello(), *envelope([TO])) == NOT_PERMITTED
    it.reload(OPEN)
    assert it.play(Rcpt(address=TO, mta_spelling=f"<{TO}>")) == NOT_PERMITTED
    assert it.play(Abort(), *envelope([TO])) == Continue()


@pytest.mark.parametrize("began", [True, False])
def test_a_relay_host_is_one_by_the_newest_list(began: bool) -> None:
    """What a peer was at connect decides nothing later: a relay host's mail is accepted at DATA, and no other's is."""
    before, after = ((str(RELAY_HOST),), ()) if began else ((), (str(RELAY_HOST),))
    it = Reloaded(OPEN, relay_hosts=before)
    it.play(*hello(RELAY_HOST), *envelope([TO]))
    it.reload(OPEN, relay_hosts=after)
    assert it.play(Data()) == (Accept() if began else Continue())
    it.play(Abort())
    assert it.play(*envelope(["x@elsewhere.example"])) == (
        Reject(reply=relaying_not_permitted(RELAY_HOST, 4444)) if began else Continue()
    )
    it.play(Abort())
    assert it.play(*envelope([TO]), Data()) == (Continue() if began else Accept())


def test_a_peer_that_would_be_rejected_at_connect_now_is_rejected_at_rcpt() -> None:
    """Each recipient has its record, with the reason of the rejection at connect."""
    it = Reloaded(OPEN)
    it.play(*hello())
    it.reload()
    for _ in range(2):
        outcome = it.outcome(*envelope([TO]))
        assert outcome.verdict == NOT_PERMITTED
        (record,) = outcome.records
        assert (record.type, record.response.command) == ("Rejection", f"RCPT TO:<{TO}>")
        assert "no listener domain accepts mail from external hosts on this listener" in record.meta["why"]
        it.play(Abort())
    it.reload(OPEN)
    assert it.play(*envelope([TO])) == Continue()


def test_a_listener_that_matters_now_and_was_not_told_is_a_451() -> None:
    it = Reloaded(OPEN)
    it.play(*hello(listener=None))
    it.reload(OPEN, entry("a.example", listener=LISTENER, relay_to=True))
    assert it.play(*envelope([TO])) == Tempfail(reply=UNKNOWN_LISTENER)


def test_a_peer_rejected_at_connect_stays_rejected() -> None:
    """Its connection is over, as far as its MTA knows."""
    it = Reloaded()
    assert it.play(*hello()) == NOT_PERMITTED
    it.reload(OPEN)
    assert it.play(Mail(sender=""), Rcpt(address=TO, mta_spelling=TO)) == NOT_PERMITTED


@pytest.mark.parametrize("headers", [(), ("subject",)])
def test_nothing_is_decided_at_data_where_the_mta_gets_no_answer_there(headers: tuple[str, ...]) -> None:
    """That was agreed on when the connection began, whatever the settings are now."""
    it = Reloaded(OPEN, headers=("subject",), answers_data=False)
    it.play(*hello(RELAY_HOST))
    it.reload(OPEN, headers=headers)
    outcomes = play(it.session, [*envelope([TO]), *content(PLAIN)])
    assert outcomes[2].verdict == Continue()
    assert outcomes[-1].verdict == Accept()
    assert headers_of(outcomes[-1].records[0]) == ({"Subject": "hello"} if headers else {})


@pytest.mark.parametrize(("before", "after"), [(None, "kumomta"), ("kumomta", None)])
def test_compat_holds_for_whole_messages(before: Any, after: Any) -> None:
    """A sloppy report is read, and what is rejected is recorded, in one way from MAIL to the end of the message."""
    expected = {
        None: (Discard(), ["Reception", "OOB"], [None, None]),
        "kumomta": (Reject, ["Reception", "Rejection"], ["kumomta", "kumomta"]),
    }
    it = Reloaded(REPORTS, compat=before)
    it.play(*hello(), *envelope([TO]))
    it.reload(REPORTS, compat=after)
    for compat in (before, after):
        outcome = it.outcome(*content(SLOPPY))
        verdict, types, marks = expected[compat]
        assert outcome.verdict == verdict or type(outcome.verdict) is verdict
        assert [record.type for record in outcome.records] == types
        assert [record.meta.get("compat") for record in outcome.records] == marks
        it.play(*envelope([TO]))


def test_the_bounds_of_a_message_are_those_of_its_rules() -> None:
    it = Reloaded(OPEN, recipient_limit=1)
    it.play(*hello(), *envelope([TO]))
    it.reload(OPEN, recipient_limit=2)
    assert isinstance(it.play(Rcpt(address=TO, mta_spelling=TO)), Tempfail)
    it.play(Abort())
    assert it.play(*envelope([TO, TO])) == Continue()
    assert isinstance(it.play(Rcpt(address=TO, mta_spelling=TO)), Tempfail)


def test_without_rules_a_message_ends_by_its_own_and_no_other_begins() -> None:
    it = Reloaded(OPEN)
    it.play(*hello(), *envelope([TO]))
    it.newest.rules = None
    assert it.play(*content(PLAIN)) == Accept()
    with pytest.raises(NoRulesError, match="could not compile the reloaded settings"):
        it.session.handle(Mail(sender=""))
    it.session.give_up()


def test_a_connection_keeps_its_place_over_reloads() -> None:
    """It is taken once, and given back once: the quota is the worker's own."""
    limits = LimitSettings(sessions=1)
    it = Reloaded(OPEN, limits=limits)
    it.play(*hello())
    for _ in range(3):
        it.reload(OPEN, limits=limits)
        assert it.play(*envelope([TO])) == Continue()
        it.play(Abort())


def test_settings_of_rules_are_one_object_with_their_policy() -> None:
    made: Settings = settings((OPEN,))
    newest = NewestRules(rules(made))
    assert newest() is newest()
    assert newest().settings is made
