"""Go's two milter client libraries as MTAs: on both engines, all scenarios end as with Postfix."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product

import pytest

from tests.interop import scenarios as alone
from tests.interop.golang import LIBRARIES, Library, LibraryPair
from tests.mta.client import EXTERNAL
from tests.mta.mails import ARF, OOB, ORDINARY
from tests.mta.places import private_directory
from tests.mta.scenarios import DOMAINS, RELAY_HOST, RELAY_HOSTS, SCENARIOS, SETTINGS, Scenario
from tests.mta.sidecar import Sidecar
from tests.mta.test_scenarios import play

pytestmark = pytest.mark.mta

ENGINES = ("direct", "libmilter")
LARGEST = 500_000
DROPPED = ["Reception", "OOB"]
INCAPABLE = "451 4.3.5 the mail server here lacks what this message needs; try again later"
# SMFIF_SETSYMLIST of the protocol.
ASKS_FOR_MACROS = 0x100


@contextmanager
def started(engine: str, *, domains: str = DOMAINS, settings: str = SETTINGS) -> Iterator[Sidecar]:
    """Start a sidecar."""
    settings = f"report_size_limit = {LARGEST}\n{settings}"
    with (
        private_directory() as directory,
        Sidecar(directory / "sidecar", domains=domains, relay_hosts=RELAY_HOSTS, settings=settings, engine=engine) as sidecar,
    ):
        yield sidecar


@pytest.fixture(scope="module")
def libraries() -> Iterator[dict[str, Library]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Library(name)) for name in LIBRARIES}


@pytest.fixture(scope="module")
def sidecars() -> Iterator[dict[str, Sidecar]]:
    with ExitStack() as stack:
        yield {engine: stack.enter_context(started(engine)) for engine in ENGINES}


@pytest.fixture(params=[(library, engine) for library in LIBRARIES for engine in ENGINES], ids="-".join)
def pair(request: pytest.FixtureRequest, libraries: dict[str, Library], sidecars: dict[str, Sidecar]) -> LibraryPair:
    library, engine = request.param
    return LibraryPair(sidecar=sidecars[engine], library=libraries[library], taken={})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(pair: LibraryPair, scenario: Scenario) -> None:
    """Replies, records and what is delivered are those of the table."""
    play("postfix", pair, scenario)


@pytest.mark.parametrize("after", ["rcpt", "header", "body"])
def test_a_message_that_is_broken_off(pair: LibraryPair, after: str) -> None:
    """It leaves no record, and the next message of the connection is judged by itself."""
    with pair.connect(EXTERNAL) as connection:
        assert connection.send("", ["n@bounce.example"], OOB, Abort=after).content is None
        assert connection.send("", ["n@bounce.example"], OOB).last.code == 250
    assert [kind for kind, _, _ in pair.outcome().written()] == DROPPED


def test_large_messages(pair: LibraryPair) -> None:
    """A large report is read, one that is too large gets 552, and ordinary mail of any size is relayed."""
    with pair.connect(EXTERNAL) as connection:
        large = connection.send("", ["n@bounce.example"], OOB, Size=LARGEST * 3 // 4)
        too_large = connection.send("", ["n@bounce.example"], OOB, Size=LARGEST)
        mail = connection.send("a@b.example", ["a@relay.example"], ORDINARY, Size=2_000_000)
    assert [one.last.code for one in (large, too_large, mail)] == [250, 552, 250]
    outcome = pair.outcome()
    assert [kind for kind, _, _ in outcome.written()] == [*DROPPED, "Rejection", "Reception"]
    assert list(outcome.delivered) == ["a@relay.example"]


def test_an_mta_that_removes_no_recipient(pair: LibraryPair) -> None:
    """A message that needs it gets 451 and has no record. All others are as always."""
    with pair.connect(EXTERNAL, offered=ASKS_FOR_MACROS) as connection:
        dropped = connection.send("", ["n@bounce.example"], OOB)
        mixed = connection.send("", ["n@bounce.example", "a@relay.example"], OOB)
        relayed = connection.send("", ["c@arf-on.example"], ARF)
    assert [str(one.last) for one in (dropped, mixed, relayed)] == ["250 ok", INCAPABLE, "250 ok"]
    outcome = pair.outcome()
    assert [kind for kind, _, _ in outcome.written()] == [*DROPPED, "Feedback"]
    assert list(outcome.delivered) == ["c@arf-on.example"]


def test_an_mta_that_names_no_listener(pair: LibraryPair) -> None:
    """If a listener has its own rules, every peer gets 451, and no attempt has a record."""
    with pair.connect(RELAY_HOST, macros={}) as connection:
        answers = connection.send("a@b.example", ["you@elsewhere.example"], ORDINARY)
    assert str(answers.last) == "451 4.3.5 the policy service does not know which listener this is"
    assert pair.outcome().written() == []


@pytest.mark.parametrize("engine", ENGINES)
def test_an_mta_that_goes_on_after_a_verdict(libraries: dict[str, Library], engine: str) -> None:
    """With decide = "end" it gets each verdict at the end, and one record of each message. Stalwart sends the header twice."""
    offers = [
        (RELAY_HOST, "a@b.example", "you@elsewhere.example", ORDINARY, 250, ["Reception"]),  # by default at DATA
        (EXTERNAL, "a@b.example", "a@relay.example", ORDINARY, 250, ["Reception"]),  # by default at the end of the headers
        (EXTERNAL, "a@b.example", "n@bounce.example", ORDINARY, 550, ["Rejection"]),  # likewise
        (EXTERNAL, "", "n@bounce.example", OOB, 250, DROPPED),
    ]
    with started(engine, domains=alone.DOMAINS, settings='decide = "end"\n' + alone.SETTINGS) as sidecar:
        for library, whole, (peer, sender, to, content, code, records) in product(libraries.values(), (False, True), offers):
            pair = LibraryPair(sidecar=sidecar, library=library, taken={})
            with pair.connect(peer, macros={}) as connection:
                assert connection.send(sender, [to], content, GoesOn=True, Whole=whole).last.code == code
            outcome = pair.outcome()
            assert [kind for kind, _, _ in outcome.written()] == records
            assert list(outcome.delivered) == ([to] if records == ["Reception"] else [])
