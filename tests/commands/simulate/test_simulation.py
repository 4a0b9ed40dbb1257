"""What must come of a message, and the comparison with what came."""

from collections.abc import Sequence

import pytest

from sidecar.commands.simulate import simulation
from sidecar.commands.simulate.client import Answer, Dialogue
from sidecar.commands.simulate.shapes import SHAPES
from sidecar.commands.simulate.simulation import Expected, compare, external_options, relay_host_reason
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Question
from sidecar.core.records import Logged
from tests.building import entry, settings

EXTERNAL, LISTENER = "127.0.0.2:4444", "127.0.0.1:25"
DOMAINS = [
    entry("drop.example", log_oob="LogThenDrop", log_arf="LogThenDrop"),
    entry("relay.example", log_oob="LogThenRelay", log_arf="LogThenRelay"),
    entry("fbl.example", log_arf="LogThenDrop"),
]
EVALUATOR = Evaluator(settings(DOMAINS))
MESSAGES = {shape.name: shape.filled(to="n@drop.example", mark="token", now=0) for shape in SHAPES}


def expect(name: str, *to: str, peer: str = EXTERNAL, evaluator: Evaluator = EVALUATOR) -> Expected:
    question = Question(peer=peer, listener=LISTENER, sender="", to=list(to))
    return simulation.expect(evaluator, question, MESSAGES[name])


BOUNCED = ("Reception", "OOB")
EXPECTATIONS = [
    ("postfix", ["n@drop.example"], "logged_and_dropped", BOUNCED),
    ("postfix", ["n@relay.example"], "logged_and_relayed", BOUNCED),
    ("many-recipients", ["n@drop.example"], "logged_and_dropped", (*BOUNCED, "OOB")),
    ("delayed", ["n@drop.example"], "logged_and_dropped", ("Reception",)),
    ("yahoo", ["n@relay.example"], "logged_and_relayed", ("Feedback",)),
    ("postfix", ["n@fbl.example"], "rejected_at_end", ("Rejection",)),
    ("spam", ["n@relay.example"], "rejected_at_end", ("Rejection",)),
    ("spam", ["n@elsewhere.example"], "rejected_at_rcpt", ("Rejection",)),
    ("postfix", ["n@elsewhere.example", "n@drop.example"], "logged_and_dropped", ("Rejection", *BOUNCED)),
]


@pytest.mark.parametrize(("name", "to", "outcome", "records"), EXPECTATIONS)
def test_expectation(name: str, to: list[str], outcome: str, records: tuple[str, ...]) -> None:
    """What must come of a shape is what the policy's session says, rejected recipients included."""
    expected = expect(name, *to)
    assert (expected.disposition, expected.records) == (outcome, records)
    assert (expected.reply is None) == ("logged" in outcome)


def test_closed_door() -> None:
    """If no domain accepts anything, an external host is rejected at connect, with one record."""
    expected = expect("spam", "n@drop.example", evaluator=Evaluator(settings()))
    assert (expected.disposition, expected.records) == ("rejected_at_connect", ("Rejection",))


def test_relay_host() -> None:
    """A relay host is recognised, with the reason, and all its mail is expected to be relayed."""
    assert relay_host_reason(EVALUATOR, EXTERNAL, LISTENER) is None
    assert "127.0.0.1 is a relay host" in (relay_host_reason(EVALUATOR, "127.0.0.1:4444", LISTENER) or "")
    assert expect("spam", "n@elsewhere.example", peer="127.0.0.1:4444").disposition == "relayed"


WAYS = [
    (["127.0.0.1"], "127.0.0.1:4444", "add --bind 127.0.0.2"),
    (["127.0.0.0/8"], "127.0.0.1:4444", "add --bind with an address that is not in relay_hosts"),
    (["::1"], "[::1]:4444", "add --bind with an address that is not in relay_hosts"),
    (["192.0.2.0/24"], "192.0.2.7", "add --bind with an address that is not in relay_hosts"),
]


@pytest.mark.parametrize(("relay_hosts", "peer", "way"), WAYS)
def test_external_options(relay_hosts: list[str], peer: str, way: str) -> None:
    """A relay host gets the options that make it an external host, and 127.0.0.2 only if that is one."""
    evaluator = Evaluator(settings(DOMAINS, relay_hosts=relay_hosts))
    assert external_options(evaluator, peer, LISTENER).startswith(way)


def dialogue(*recipients: str, content: str | None = None, rejected: str | None = None) -> Dialogue:
    read = [Answer(code=int(text[:3]), text=text[4:]) for text in (*recipients, *filter(None, (content, rejected)))]
    return Dialogue(
        peer=EXTERNAL,
        listener=LISTENER,
        recipients=tuple(read[: len(recipients)]),
        last=read[-1] if content or rejected else read[0],
    )


OK, TAKEN = "250 2.1.5 Ok", "250 2.0.0 Ok: queued"
NO = "550 5.7.1 relaying not permitted for 127.0.0.2:5555"
OWN = "554 5.7.1 <n@elsewhere.example>: Relay access denied"
AT_END = "550 5.7.1 relaying not permitted"

COMPARISONS = [
    pytest.param(("postfix", "n@drop.example"), dialogue(OK, content=TAKEN), BOUNCED, True, None, id="as expected"),
    pytest.param(("postfix", "n@drop.example"), dialogue(OK, content=TAKEN), None, True, None, id="no journal"),
    pytest.param(("spam", "n@drop.example"), dialogue(OK, content=AT_END), ["Rejection"], True, None, id="rejected"),
    pytest.param(("spam", "n@elsewhere.example"), dialogue(NO), ["Rejection"], True, None, id="rejected_at_rcpt"),
    pytest.param(
        ("spam", "n@elsewhere.example"), dialogue(OWN), [], True, "before it asked the sidecar", id="rejected by the MTA"
    ),
    pytest.param(
        ("spam", "n@elsewhere.example"), dialogue(NO), [], False, "the journal has none", id="rejected in our words, unrecorded"
    ),
    pytest.param(
        ("postfix", "n@elsewhere.example", "n@drop.example"),
        dialogue(OWN, OK, content=TAKEN),
        BOUNCED,
        True,
        "before it asked the sidecar",
        id="one recipient rejected by the MTA itself",
    ),
    pytest.param(
        ("postfix", "n@elsewhere.example", "n@drop.example"),
        dialogue(OK, OK, content=TAKEN),
        BOUNCED,
        False,
        "sidecar status",
        id="one recipient too many",
    ),
    pytest.param(("spam", "n@drop.example"), dialogue(OK, content=TAKEN), [], False, "sidecar doctor", id="an open door"),
    pytest.param(
        ("spam", "n@drop.example"), dialogue(OK, content=TAKEN), ["Reception"], False, "sidecar status", id="other settings"
    ),
    pytest.param(("postfix", "n@drop.example"), dialogue(OWN), [], False, "sidecar doctor", id="not asked"),
    pytest.param(("postfix", "n@drop.example"), dialogue(OWN), None, False, "another reason", id="no journal, not asked"),
    pytest.param(
        ("postfix", "n@drop.example"), dialogue(OK, content="451 4.3.0 later"), [], False, "tempfailed", id="trouble"
    ),
    pytest.param(
        ("postfix", "n@drop.example"), dialogue(OK, content=TAKEN), [], False, "the journal has none", id="unrecorded"
    ),
    pytest.param(
        ("postfix", "n@drop.example"),
        dialogue(OK, content=TAKEN),
        ["Reception"],
        False,
        "the records are Reception, and should be Reception, OOB",
        id="a record is missing",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answers", "records", "agrees", "note"), COMPARISONS)
def test_comparison(
    question: tuple[str, ...], answers: Dialogue, records: Sequence[str] | None, agrees: bool, note: str | None
) -> None:
    """Answers and records are as they must be or not, and a note says what is behind it."""
    logged = None if records is None else [Logged(type=name) for name in records]
    is_right, found = compare(expect(*question), answers, logged)
    assert is_right == agrees
    assert (note is None) if found is None else (note is not None and note in found)


def test_rejected_at_connect_in_the_mtas_words() -> None:
    """A peer rejected at connect hears the MTA's words, early or late."""
    expected = expect("spam", "n@drop.example", evaluator=Evaluator(settings()))
    logged = [Logged(type="Rejection")]
    assert compare(expected, dialogue(rejected="554 5.7.1 not accepting"), logged)[0]
    assert compare(expected, dialogue(NO), logged)[0]


def test_not_sent() -> None:
    """What could not be sent is no fault of the policy's."""
    unsent = Dialogue(peer=EXTERNAL, listener=LISTENER, lacking="8BITMIME")
    agrees, note = compare(expect("postfix", "n@drop.example"), unsent, [])
    assert agrees
    assert "8BITMIME" in (note or "")
