"""Runs the demonstration: one scene after another, the last one with a second Postfix.

Owns running the scenes, and comparing the results with the expected ones. Never prints.
"""

from collections.abc import Iterator

from msgspec import Struct, structs

from tests.demo.scenes import DOMAINS, REAL_BOUNCE, RELAY_HOSTS, SCENES, Scene
from tests.mta.client import Connection
from tests.mta.house import House, Outcome, house
from tests.mta.places import private_directory
from tests.mta.postfix import HOST, Postfix


class Played(Struct, frozen=True, kw_only=True):
    """A scene, its result, and what differs from the expected result."""

    scene: Scene
    outcome: Outcome
    faults: tuple[str, ...]


def play() -> Iterator[Played]:
    """Yield each scene when it was played. Stop all that was started at the end, also if the caller stops early."""
    with house(domains=DOMAINS, relay_hosts=RELAY_HOSTS) as home:
        yield from play_in(home)


def play_in(home: House) -> Iterator[Played]:
    """Yield each scene when it was played."""
    for scene in SCENES:
        outcome = home.offer(scene.sender, scene.recipients, scene.content, peer=scene.peer)
        yield _compare(scene, outcome)
    yield _compare(REAL_BOUNCE, _let_a_neighbour_bounce(home))


def _let_a_neighbour_bounce(home: House) -> Outcome:
    """Let a second Postfix get a rejection, and wait for the bounce report that it sends."""
    settings = {
        "myhostname": REAL_BOUNCE.peer.helo,
        "relay_transport": f"smtp:[{HOST}]:{home.postfix.port}",
        # For the first Postfix this is an external host: only 127.0.0.1 is a relay host.
        "smtp_bind_address": REAL_BOUNCE.peer.address,
    }
    with private_directory() as directory, Postfix(directory / "neighbour", settings=settings) as neighbour:
        with Connection(neighbour.port, REAL_BOUNCE.peer) as connection:
            answers = connection.send(REAL_BOUNCE.sender, REAL_BOUNCE.recipients, REAL_BOUNCE.content)
        outcome = home.arrival(records=len(REAL_BOUNCE.expected.records))
        return structs.replace(outcome, answers=answers)


def _compare(scene: Scene, outcome: Outcome) -> Played:
    """Return the scene with all differences from the expected result."""
    expected = scene.expected
    found = {
        "the answer": (str(outcome.last)[: len(expected.answer)], expected.answer),
        "the records": (tuple(record["type"] for record in outcome.records), expected.records),
        "who got it": (tuple(outcome.delivered), expected.delivered),
        "a reason": (all(record["meta"].get("why") for record in outcome.records), True),
    }
    faults = tuple(f"{what}: {is_!r} instead of {must!r}" for what, (is_, must) in found.items() if is_ != must)
    return Played(scene=scene, outcome=outcome, faults=faults)
