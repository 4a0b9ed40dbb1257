"""What is advised works: with the lines written where the advice says, the same envelope is decided otherwise."""

from functools import reduce

import pytest
from hypothesis import assume, example, given
from hypothesis import settings as tries
from msgspec.structs import replace

from sidecar.commands.explain.advice import Adviser, Change
from sidecar.core.disposition import REJECTED
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.evaluate.evaluator import Evaluator, Judgement
from sidecar.core.names import plain_address
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, Settings
from tests.building import entry, settings
from tests.commands.explain.worlds import applied, configurations
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


@example(*SAME_DOMAIN)
@example(*DOMAIN_ABOVE)
@given(configurations(), envelopes())
@tries(max_examples=300, deadline=None)
def test_closing_closes(under: Settings, envelope: Envelope) -> None:
    """All changes together: nothing is relayed any more, and where the advice says so, not even a recipient is accepted."""
    advice = Adviser(Evaluator(under)).to_reject(envelope, judged(under, envelope))
    assume(advice is not None)
    assert advice is not None
    assert advice.changes
    after = judged(reduce(applied, advice.changes, under), envelope)
    assert not any(recipient.relay for recipient in after.recipients)
    if "at RCPT" in advice.then:
        assert after.outcome in {"rejected_at_connect", "rejected_at_rcpt"}
    else:
        assert after.outcome in {*REJECTED, "content_unknown", "quarantined"}


@given(configurations(), envelopes())
@tries(max_examples=300, deadline=None)
def test_opening_opens(under: Settings, envelope: Envelope) -> None:
    """Each change alone lets the recipients in that it is for, and says what else it opens."""
    assume(judged(under, envelope).outcome in REJECTED and len(set(envelope.recipients)) == 1)
    advice = Adviser(Evaluator(under)).to_accept(envelope)
    if advice is None:
        assert "\x00" in envelope.recipients[0]
        return
    for change in advice.changes:
        after = judged(applied(under, change), envelope)
        assert after.outcome not in REJECTED
        assert change.opens


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
            [("domains.toml", None, ('["a.example"]', 'relay_from = ["10.0.0.0/8"]', "log_oob = false"))],
        ),
        (
            [entry("*.example", "10.1.1.1:25", relay_to=True)],
            [("domains.toml", None, ('[listener."10.1.1.1:25"."a.example"]', "relay_to = false"))],
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
    assert lines_for(under) == [("d.json", None, ('"a.example": {"log_oob":false}',))]


def test_long_lists_are_not_written_out() -> None:
    """Of a list with many networks the text says what to take out."""
    many = [f"203.0.113.{number}" for number in range(20)]
    under = settings([], relay_hosts=many)
    advice = Adviser(Evaluator(under)).to_reject(ENVELOPE, judged(under, ENVELOPE))
    assert advice is not None
    assert advice.changes == (
        Change(text="Remove 203.0.113.9 from relay_hosts.", file="sidecar.toml", line=1, key="relay_hosts"),
    )
