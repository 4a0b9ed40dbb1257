"""The whole catalogue through real MTAs: all comes as the policy says, and what is set up wrongly is found out."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from sidecar.commands.simulate.client import Target
from sidecar.commands.simulate.shapes import SHAPES, MessageShape
from sidecar.commands.simulate.simulation import NewRecords, Result, Simulation
from sidecar.config import load
from sidecar.core.evaluate.evaluator import Evaluator
from tests import ROOT
from tests.mta.house import House, Pair, house
from tests.mta.postfix import HOST
from tests.mta.sendmail import SendmailHouse, sendmail_house

pytestmark = pytest.mark.mta

DOMAINS = """\
["drop.example"]
log_oob = "LogThenDrop"
log_arf = "LogThenDrop"
["relay.example"]
log_oob = "LogThenRelay"
log_arf = "LogThenRelay"
["bounce.example"]
log_oob = "LogThenDrop"
[listener."10.1.1.1:25"."own.example"]
log_oob = "LogThenDrop"
"""

BOUNCES, COMPLAINTS, OTHERS = ([shape for shape in SHAPES if shape.kind == kind] for kind in ("oob", "arf", "none"))
# Three of the bounces are none: delayed, delayed in text form, delivered; and one is two.
FAILED = len(BOUNCES) - 3 + 1


@pytest.fixture(scope="module")
def homes() -> Iterator[dict[str, Pair]]:
    with ExitStack() as stack:
        postfix = stack.enter_context(house(domains=DOMAINS))
        yield {"postfix": postfix, "sendmail": stack.enter_context(sendmail_house(domains=DOMAINS))}


@pytest.fixture(params=["postfix", "sendmail"])
def home(request: pytest.FixtureRequest, homes: dict[str, Pair]) -> Pair:
    return homes[request.param]


@pytest.fixture
def postfix(homes: dict[str, Pair]) -> House:
    home = homes["postfix"]
    assert isinstance(home, House)
    return home


@contextmanager
def near(home: Pair) -> Iterator[tuple[str, int]]:
    """Be where the MTA can be reached, and say how: Sendmail has a network of its own."""
    if isinstance(home, SendmailHouse):
        with home.sendmail._network():
            yield "127.0.0.1", 2526
    else:
        assert isinstance(home, House)
        yield HOST, home.postfix.port


def play(home: Pair, *to: str, shapes: Sequence[MessageShape] = SHAPES, **more: Any) -> list[Result]:
    """Send shapes, as a stranger unless somebody else is named, and see what came of each."""
    settings = load(home.sidecar.config).settings
    assert settings is not None
    whom = more or {"bind": "127.0.0.2"}
    with near(home) as (host, port):
        target = Target(host=host, port=port, **whom)
        simulation = Simulation(
            target=target,
            recipients=to,
            sender="fbl@mailbox.example",
            token="7d0fe1a9",  # noqa: S106 - a mark, and no secret
            evaluator=Evaluator(settings),
            journal=NewRecords(settings.journal.directory),
        )
        return [simulation.send(shape) for shape in shapes]


def records(results: Sequence[Result]) -> Counter[str]:
    return Counter(record.type for result in results for record in result.records or ())


def outcomes(results: Sequence[Result]) -> Counter[str]:
    return Counter(result.expected.disposition for result in results if result.expected)


TAKEN = {"Reception": len(BOUNCES), "OOB": FAILED, "Feedback": len(COMPLAINTS), "Rejection": len(OTHERS)}


@pytest.mark.parametrize(
    ("to", "outcome"), [("n@drop.example", "logged_and_dropped"), ("n@relay.example", "logged_and_relayed")]
)
def test_a_stranger(home: Pair, to: str, outcome: str) -> None:
    """A stranger's reports are logged, and dropped or relayed as the domain says; everything else is refused."""
    home.outcome()
    results = play(home, to)
    assert [result.shape.name for result in results if not result.is_fine] == []
    assert [result.note for result in results if result.note] == []
    assert outcomes(results) == {outcome: len(BOUNCES) + len(COMPLAINTS), "rejected_at_end": len(OTHERS)}
    assert records(results) == TAKEN
    came = home.outcome()
    assert Counter(record["type"] for record in came.records) == TAKEN
    assert list(came.delivered) == ([] if outcome == "logged_and_dropped" else [to])


def test_each_recipient_on_its_own(home: Pair) -> None:
    """With several recipients, each is judged by its own domain, and one that nobody named is refused."""
    results = play(home, "n@elsewhere.example", "n@bounce.example")
    assert [result.shape.name for result in results if not result.is_fine] == []
    assert outcomes(results) == {"logged_and_dropped": len(BOUNCES), "rejected_at_end": len(COMPLAINTS) + len(OTHERS)}
    assert {answer.code for result in results for answer in result.dialogue.recipients} == {550, 250}


def test_a_relay_host(home: Pair) -> None:
    """A relay host gets everything through, but the reports that the domain drops."""
    results = play(home, "n@drop.example", bind="127.0.0.1")
    assert all(result.is_fine for result in results)
    assert outcomes(results) == {"logged_and_dropped": len(BOUNCES) + len(COMPLAINTS), "relayed": len(OTHERS)}


def test_xclient(postfix: House) -> None:
    """By XCLIENT the MTA takes us for the peer that we name."""
    results = play(postfix, "n@drop.example", shapes=SHAPES[:1], xclient="203.0.113.9:4444")
    assert [record.peer_address.addr for result in results for record in result.records or () if record.peer_address] == [
        "203.0.113.9"
    ] * 2
    assert results[0].is_fine


def test_rules_of_other_listeners_do_not_count(postfix: House) -> None:
    """What is expected is worked out for the listener that was called."""
    assert outcomes(play(postfix, "n@own.example", shapes=SHAPES[:1])) == {"rejected_at_rcpt": 1}


def test_the_mtas_own_rules() -> None:
    """What Postfix refuses by itself is rightly refused, or wrongly, and told apart from what the sidecar refused."""
    with house(domains=DOMAINS, postfix={"relay_domains": "relay.example"}) as home:
        (rightly,) = play(home, "n@elsewhere.example", shapes=SHAPES[:1])
        (wrongly,) = play(home, "n@drop.example", shapes=SHAPES[:1])
        (fine,) = play(home, "n@relay.example", shapes=SHAPES[:1])
    assert (rightly.is_fine, wrongly.is_fine, fine.is_fine) == (True, False, True)
    assert (rightly.note or "").startswith("the MTA rejected it by its own rules, before it asked the sidecar")
    assert (wrongly.note or "").startswith("it should have been logged and dropped, and the MTA rejected it by its own rules")


def test_an_open_door() -> None:
    """A Postfix that lacks the milter line, and takes mail for any domain, is found out by the first spam."""
    with house(domains=DOMAINS, postfix={"smtpd_milters": ""}) as home:
        spam = [shape for shape in SHAPES if shape.name in {"postfix", "spam"}]
        results = play(home, "n@drop.example", shapes=spam)
    assert [result.is_fine for result in results] == [False, False]
    assert "the journal has none of the records" in (results[0].note or "")
    assert "was accepted without a record" in (results[1].note or "")


def test_closed_door() -> None:
    """Where nobody takes anything from strangers, each is refused at connect, with its record."""
    with house(domains='["closed.example"]\nrelay_to = false\n') as home:
        results = play(home, "n@closed.example", shapes=SHAPES[:2])
    assert all(result.is_fine for result in results)
    assert outcomes(results) == {"rejected_at_connect": 2}
    assert records(results) == {"Rejection": 2}


def test_a_sender_whose_domain_does_not_exist() -> None:
    """Postfix with reject_unknown_sender_domain accepts the default sender; for another one the note says what to pass."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-m", "tests.mta.lookup"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    existing, missing = map(json.loads, done.stdout.splitlines())
    assert existing["answer"].startswith("250 2.0.0 Ok: queued as ")
    assert (existing["agrees"], existing["note"]) == (True, None)
    assert missing["answer"] == "450 4.1.8 <fbl@missing.example>: Sender address rejected: Domain not found"
    assert not missing["agrees"]
    assert missing["note"].startswith("the MTA does not accept the sender <fbl@missing.example> (450 4.1.8 ")
    assert "add --from" in missing["note"]
