"""What is advised works: with the lines written where the advice says, the same envelope is decided otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import pytest
from hypothesis import assume, example, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.disposition import REJECTED, Disposition
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import EnvelopeOutcome, Evaluator, Judgement
from sidecar.core.evaluate.recorded.advice import Adviser, Change
from sidecar.core.names import plain_address
from sidecar.core.networks import Networks
from sidecar.core.policy.address import domain_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry
from tests.building import entry, network, settings
from tests.core.evaluate.recorded.worlds import LISTENER, PROBES, applied, configurations
from tests.core.evaluate.test_evaluator import envelopes


def judged(under: Settings, envelope: Envelope) -> Judgement:
    return Evaluator(under).judge(envelope)


EXTERNAL = plain_address("203.0.113.9")
# The wildcard's own entry lets the sender in as well; and a name of its own would hide the sender's domain from its wildcard.
SAME_DOMAIN = (
    settings([entry("*.example.com", relay_from=["203.0.113.0/24"], log_oob="LogThenDrop")], relay_hosts=[]),
    Envelope(
        peer=EXTERNAL,
        listener=ANY_LISTENER,
        authz_id=None,
        sender="a@a.example.com",
        recipients=("x@a.example.com",),
        kind="oob",
    ),
)
DOMAIN_ABOVE = (
    settings([entry("*", relay_from=["203.0.113.0/24"]), entry("*.example.com", relay_to=True)], relay_hosts=[]),
    replace(SAME_DOMAIN[1], recipients=("x@b.a.example.com",)),
)


# What the advice for a report to both names must not do: a new name below a wildcard hides it from the names below that.
TWO_LEVELS = replace(SAME_DOMAIN[1], sender="", recipients=("x@a.example.com", "x@b.a.example.com"), kind="oob")
RELAYED_BELOW = (settings([entry("*", relay_to=True), entry("*.example.com", log_oob="LogThenDrop")]), TWO_LEVELS)
LOGGED_BELOW = (settings([entry("*", log_oob="LogThenDrop"), entry("*.example.com", relay_to=True)]), TWO_LEVELS)
ON_ONE_LISTENER = (
    settings([entry("*", LISTENER, log_oob="LogThenDrop"), entry("*", relay_to=True)]),
    replace(TWO_LEVELS, listener=LISTENER, kind="arf"),
)
# A name in the listener's own map takes other names out of its `*`, and one of them has an entry for every listener.
LEAVES_MAP = (
    settings([entry("*", LISTENER), entry("a.example.com", log_oob="LogThenDrop")]),
    replace(TWO_LEVELS, listener=LISTENER, recipients=("x@example.com",)),
)


def verdict(under: Evaluator, envelope: Envelope) -> EnvelopeOutcome:
    """Return the outcome. A host that is rejected at connect is rejected at RCPT if an entry permits something to others."""
    outcome = under.judge(envelope).outcome
    return Disposition.REJECTED_AT_RCPT if outcome is Disposition.REJECTED_AT_CONNECT else outcome


def verdicts(under: Evaluator, more: Iterable[Envelope]) -> dict[Envelope, EnvelopeOutcome]:
    return {probe: verdict(under, probe) for probe in (*PROBES, *more)}


def is_concerned(concerns: set[str], before: Evaluator, envelope: Envelope) -> bool:
    """Return True if a change names the recipient's or the sender's domain, the wildcard that it finds, or the peer."""
    for address in (*envelope.recipients, envelope.sender):
        domain = domain_of(address)
        entry = before.policy.lookup(envelope.listener, domain)
        if domain in concerns or (entry is not None and entry.domain.startswith("*") and entry.domain in concerns):
            return True
    networks = [text for text in concerns if text[0].isdigit() or ":" in text]
    return Networks(map(network, networks)).find(envelope.peer) is not None


def assert_nothing_else(
    old: Evaluator, before: Mapping[Envelope, EnvelopeOutcome], after: Settings, changes: Sequence[Change]
) -> None:
    """No other name, listener or peer has another verdict, and ordinary mail gets further only if a change says so.

    `before` has the verdicts of probes.
    """
    new = Evaluator(after)
    concerns = {each for change in changes for each in change.concerns}
    relays = any(
        word in line for change in changes for line in change.lines for word in ("relay_to = true", "relay_from_authz")
    )
    relays = relays or any(change.key is not None and change.key.endswith("relay_hosts") and change.opens for change in changes)
    for probe, outcome in before.items():
        if (changed := verdict(new, probe)) != outcome:
            assert is_concerned(concerns, old, probe), (probe, changes)
            assert probe.kind != "other" or relays or changed in REJECTED, (probe, changes)


@example(*SAME_DOMAIN, [])
@example(*DOMAIN_ABOVE, [])
@example(*RELAYED_BELOW, [])
@example(*LOGGED_BELOW, [])
@example(*ON_ONE_LISTENER, [])
@given(configurations(), envelopes(), st.lists(envelopes(), max_size=5))
@tries(max_examples=100, deadline=None)
def test_closing_closes_that_and_nothing_else(under: Settings, envelope: Envelope, probes: list[Envelope]) -> None:
    """All changes together: nothing is relayed any more, and where the advice says so, not even a recipient is accepted."""
    advice = Adviser(Evaluator(under)).to_reject(envelope, judged(under, envelope))
    assume(advice is not None)
    assert advice is not None
    assert advice.changes
    changed = reduce(applied, advice.changes, under)
    after = judged(changed, envelope)
    assert not any(recipient.relay for recipient in after.recipients)
    if "at RCPT" in advice.then:
        assert after.outcome in {"rejected_at_connect", "rejected_at_rcpt"}
    else:
        assert after.outcome in {*REJECTED, "content_unknown", "quarantined"}
    old = Evaluator(under)
    assert_nothing_else(old, verdicts(old, probes), changed, advice.changes)


@example(RELAYED_BELOW[0], replace(TWO_LEVELS, kind="arf"), [])
@example(LOGGED_BELOW[0], replace(TWO_LEVELS, recipients=("x@example.com",), kind="arf"), [])
@example(*ON_ONE_LISTENER, [])
@example(*LEAVES_MAP, [])
@given(configurations(), envelopes(), st.lists(envelopes(), max_size=5))
@tries(max_examples=100, deadline=None)
def test_opening_opens_that_and_nothing_else(under: Settings, envelope: Envelope, probes: list[Envelope]) -> None:
    """Each change alone lets the recipients in that it is for, and says what else it opens."""
    assume(judged(under, envelope).outcome in REJECTED)
    advice = Adviser(Evaluator(under)).to_accept(envelope)
    if advice is None:
        assert any("\x00" in recipient for recipient in envelope.recipients)
        return
    assert advice.changes
    old = Evaluator(under)
    before = verdicts(old, probes)
    for change in advice.changes:
        changed = applied(under, change)
        if len(set(envelope.recipients)) == 1:
            assert judged(changed, envelope).outcome not in REJECTED
        assert change.opens
        assert_nothing_else(old, before, changed, [change])


ENVELOPE = Envelope(
    peer=plain_address("203.0.113.9"),
    listener=ANY_LISTENER,
    authz_id=None,
    sender="",
    recipients=("x@a.example",),
    kind="unknown",
)


@pytest.mark.parametrize("recipient", ["x@*", "x@*.com", "x@a.*"])
def test_a_stranger_cannot_have_a_wildcard_advised(recipient: str) -> None:
    """An address with a `*` for a label never becomes an entry, which would be for every domain."""
    under = settings([])
    envelope = Envelope(
        peer=ENVELOPE.peer, listener=ANY_LISTENER, authz_id="x", sender=recipient, recipients=(recipient,), kind="unknown"
    )
    advice = Adviser(Evaluator(under)).to_accept(envelope)
    assert advice is not None
    assert [change.key for change in advice.changes] == ["relay_hosts"]


def lines_for(under: Settings, envelope: Envelope = ENVELOPE) -> list[tuple[str | None, int | None, tuple[str, ...]]]:
    advice = Adviser(Evaluator(under)).to_reject(envelope, judged(under, envelope))
    assert advice is not None
    return [(change.file, change.line, change.lines) for change in advice.changes]


@pytest.mark.parametrize(
    ("domains", "expected"),
    [
        (
            [entry("*", log_oob="LogThenRelay", log_arf="LogThenRelay")],
            [
                ("domains.toml", 2, ("log_oob = false",)),
                ("domains.toml", 3, ("log_arf = false",)),
                ("domains.toml", None, ('["bounce.example.com"]', 'log_oob = "LogThenDrop"')),
                ("domains.toml", None, ('["fbl.example.com"]', 'log_arf = "LogThenDrop"')),
            ],
        ),
        (
            [entry("*", log_oob="LogThenRelay"), entry("bounce.example.com", log_oob="LogThenDrop")],
            [("domains.toml", 2, ("log_oob = false",))],
        ),
        ([entry("a.example", relay_to=True)], [("domains.toml", 2, ("relay_to = false",))]),
        (
            [entry("*.example", log_oob="LogThenDrop", relay_from=["10.0.0.0/8"])],
            [
                (
                    "domains.toml",
                    None,
                    (
                        '["a.example"]',
                        'relay_from = ["10.0.0.0/8"]',
                        "log_oob = false",
                        '["*.a.example"]',
                        'relay_from = ["10.0.0.0/8"]',
                        'log_oob = "LogThenDrop"',
                    ),
                )
            ],
        ),
        (
            [entry("*.example", "10.1.1.1:25", relay_to=True)],
            [
                (
                    "domains.toml",
                    None,
                    (
                        '[listener."10.1.1.1:25"."a.example"]',
                        "relay_to = false",
                        '[listener."10.1.1.1:25"."*.a.example"]',
                        "relay_to = true",
                    ),
                )
            ],
        ),
    ],
)
def test_the_lines(domains: list[DomainEntry], expected: list[object]) -> None:
    """The lines are TOML that can be written as they are, and the place is the key's own."""
    on_listener = Envelope(
        peer=ENVELOPE.peer, listener="10.1.1.1:25", authz_id=None, sender="", recipients=("x@a.example",), kind="unknown"
    )
    assert lines_for(settings(domains), on_listener) == expected


def test_json_files_get_json() -> None:
    """Lines for a file of JSON are JSON."""
    it = replace(entry("*.example", log_oob="LogThenDrop"), steps={"": ("d.json", 0), "log_oob": ("d.json", 1)})
    under = settings([it])
    tables = ('"a.example": {"log_oob":false},', '"*.a.example": {"log_oob":"LogThenDrop"}')
    assert lines_for(under) == [("d.json", None, tables)]


def test_long_lists_are_not_written_out() -> None:
    """Of a list with many networks the text says what to take out."""
    many = [f"203.0.113.{number}" for number in range(20)]
    under = settings([], relay_hosts=many)
    advice = Adviser(Evaluator(under)).to_reject(ENVELOPE, judged(under, ENVELOPE))
    assert advice is not None
    assert advice.changes == (
        Change(
            text="Remove 203.0.113.9 from relay_hosts.",
            file="sidecar.toml",
            line=1,
            key="relay_hosts",
            concerns=("203.0.113.9",),
        ),
    )
