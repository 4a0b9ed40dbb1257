"""The demonstration's plot: a house with a sidecar, a neighbour with a Postfix of its own, and one scene after another.

Owns running the scenes and comparing what came of them with what must. Never prints.
"""

from collections.abc import Iterator

from msgspec import Struct, structs

from tests.demo.scenes import DOMAINS, REAL_BOUNCE, RELAY_HOSTS, SCENES, Scene
from tests.mta.client import Connection
from tests.mta.house import House, Outcome, house
from tests.mta.places import private_directory
from tests.mta.postfix import HOST, Postfix


class Played(Struct, frozen=True, kw_only=True):
    """A scene, what came of it, and what is not as it must be (nothing, if all is well)."""

    scene: Scene
    outcome: Outcome
    faults: tuple[str, ...]


def play() -> Iterator[Played]:
    """Play every scene; everything that was started is stopped at the end, and also when the caller gives up."""
    with house(domains=DOMAINS, relay_hosts=RELAY_HOSTS) as home:
        for scene in SCENES:
            outcome = home.offer(scene.sender, scene.recipients, scene.content, peer=scene.peer)
            yield _compare(scene, outcome)
        yield _compare(REAL_BOUNCE, _let_a_neighbour_bounce(home))


def _let_a_neighbour_bounce(home: House) -> Outcome:
    """Let a real Postfix of a neighbour be refused, and wait for the report that it makes of this."""
    settings = {
        "myhostname": REAL_BOUNCE.peer.helo,
        "relay_transport": f"smtp:[{HOST}]:{home.postfix.port}",
        # For the first Postfix this one is a stranger: 127.0.0.1 alone is a relay host.
        "smtp_bind_address": REAL_BOUNCE.peer.address,
    }
    with private_directory() as directory, Postfix(directory / "neighbour", settings=settings) as neighbour:
        with Connection(neighbour.port, REAL_BOUNCE.peer) as connection:
            answers = connection.send(REAL_BOUNCE.sender, REAL_BOUNCE.recipients, REAL_BOUNCE.content)
        outcome = home.arrival(records=len(REAL_BOUNCE.expected.records))
        return structs.replace(outcome, answers=answers)


def _compare(scene: Scene, outcome: Outcome) -> Played:
    """Name everything that is not as expected."""
    expected = scene.expected
    found = {
        "the answer": (str(outcome.last)[: len(expected.answer)], expected.answer),
        "the records": (tuple(record["type"] for record in outcome.records), expected.records),
        "who got it": (tuple(outcome.delivered), expected.delivered),
        "a reason": (all(record["meta"].get("why") for record in outcome.records), True),
    }
    faults = tuple(f"{what}: {is_!r} instead of {must!r}" for what, (is_, must) in found.items() if is_ != must)
    return Played(scene=scene, outcome=outcome, faults=faults)
