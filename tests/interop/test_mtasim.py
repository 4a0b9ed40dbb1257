"""GNU mailfromd's mtasim: on both engines, the scenarios that it can play end as with Postfix."""

from collections.abc import Iterator

import pytest

from tests.interop.mtasim import MtasimPair, get_mtasim
from tests.interop.scenarios import DOMAINS, SCENARIOS, SETTINGS
from tests.mta.client import EXTERNAL
from tests.mta.mails import OOB
from tests.mta.places import private_directory
from tests.mta.scenarios import OK, RELAY_HOSTS, Scenario, reply_of
from tests.mta.sidecar import Sidecar

pytestmark = pytest.mark.mta

# After it has accepted a message it asks about no other on the same connection, and it accepts no quoted local part.
PLAYED = [one for one in SCENARIOS if len(one.offers) == 1 and not any('"' in to for to in one.offers[0].to)]


@pytest.fixture(scope="module", params=["direct", "libmilter"])
def pair(request: pytest.FixtureRequest) -> Iterator[MtasimPair]:
    """Start a sidecar. At a rejection before the end of a message mtasim hangs, so every verdict comes there."""
    get_mtasim()
    settings = 'decide = "end"\n' + SETTINGS
    with (
        private_directory() as directory,
        Sidecar(
            directory / "sidecar", domains=DOMAINS, relay_hosts=RELAY_HOSTS, settings=settings, engine=request.param
        ) as sidecar,
    ):
        yield MtasimPair(sidecar=sidecar, folder=directory)


@pytest.mark.parametrize("scenario", PLAYED, ids=lambda scenario: scenario.name)
def test_scenario(pair: MtasimPair, scenario: Scenario) -> None:
    """Replies and records are those of the table, and so is what the milter removes and discards."""
    (offer,) = scenario.offers
    with pair.connect(scenario.peer) as connection:
        answers = connection.send(offer.sender, offer.to, offer.content, parameters=offer.parameters)
    given = (*answers.recipients, *([answers.content] if answers.content else ()))
    assert tuple(reply_of("postfix", answer) for answer in given) == offer.replies
    assert tuple(pair.outcome().written()) == scenario.records
    is_taken, accepted = answers.last.code == 250, offer.replies[: len(offer.to)].count(OK)
    removed = accepted - len(scenario.delivered) if is_taken and scenario.delivered else 0
    assert (connection.removed(), connection.discarded()) == (removed, is_taken and not scenario.delivered)


def test_a_connection_that_is_lost_leaves_nothing(pair: MtasimPair) -> None:
    """The peer hangs up in the middle of a report."""
    with pair.connect(EXTERNAL) as connection:
        connection.say("MAIL FROM:<>")
        connection.say("RCPT TO:<n@bounce.example>")
        assert connection.say("DATA").code == 354
        connection.write(OOB[:200].replace(b"\n", b"\r\n"))
    with pair.connect(EXTERNAL) as connection:
        assert connection.send("", ["n@bounce.example"], OOB).last.code == 250
    assert [kind for kind, _, _ in pair.outcome().written()] == ["Reception", "OOB"]
