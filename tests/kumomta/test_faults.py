"""sidecar.lua when the sidecar does not answer, or not as it should: nothing is accepted for want of an answer."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kumomta.endpoint import GOOD, Endpoint, endpoint
from tests.kumomta.node import TRY_AGAIN, Answer, Node

BODIES: dict[str, Any] = {
    "empty": b"",
    "no JSON": b"<html>It works!</html>",
    "half of it": json.dumps(GOOD).encode()[:-5],
    "a word": "yes",
    "true": True,
    "a number": 1,
    "a list": [],
    "an empty object": {},
    "a key missing": {key: value for key, value in GOOD.items() if key != "relay_to"},
    "a key too many": GOOD | {"relay_all": False},
    "a value null": GOOD | {"relay_to": None},
    "not boolean": GOOD | {"relay_to": 1},
    "a word for a boolean": GOOD | {"relay_to": "false"},
    "no list": GOOD | {"relay_from": "0.0.0.0/0"},
    "a list with numbers": GOOD | {"relay_from_authz": [1]},
    "an object for a list": GOOD | {"relay_from": {"0": "0.0.0.0/0"}},
    "no mode": GOOD | {"log_oob": "LogThenKeep"},
    "a boolean for a mode": GOOD | {"log_arf": True},
}


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as server:
        yield server


@pytest.fixture(params=["tempfail", "file"])
def choice(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is done when there is no answer."""
    return {"on_failure": "tempfail"} if request.param == "tempfail" else {"on_failure": "file", "files": ["domains.toml"]}


def put_off_or_by_file(node: Node, choice: dict[str, Any], *, reason: str = "") -> Answer:
    """See that a question is put off, or answered by the files; give the answer."""
    answer = node.ask("x.example")
    if choice["on_failure"] == "tempfail":
        assert answer.reject == TRY_AGAIN
    else:
        assert answer.result == {"relay_to": False}
        assert answer.files == ["x.example"]
        assert node.ask("file.example").result == {"relay_to": True}
    assert len(answer.logged) == 1
    (logged,) = answer.logged
    assert "no answer from http://127.0.0.1:" in logged
    assert reason in logged
    assert logged.isprintable()
    return answer


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_answer_that_is_not_understood(server: Endpoint, choice: dict[str, Any], body: Any) -> None:
    """It is as good as none, even where most of it would do."""
    server.answer(body)
    with Node(endpoint=server.url, **choice) as node:
        put_off_or_by_file(node, choice)


@pytest.mark.parametrize("status", [204, 301, 400, 403, 404, 429, 500, 503])
def test_any_other_status_than_200(server: Endpoint, choice: dict[str, Any], status: int) -> None:
    """Only 200 is an answer, whatever comes with another status."""
    server.status = status
    with Node(endpoint=server.url, **choice) as node:
        put_off_or_by_file(node, choice, reason=f"status {status}")


def test_another_program(server: Endpoint, choice: dict[str, Any]) -> None:
    """What some other server says with 200 is none of the sidecar's answers."""
    server.headers = {}
    server.answer(None)
    with Node(endpoint=server.url, **choice) as node:
        put_off_or_by_file(node, choice, reason="another program")


@pytest.mark.parametrize("mood", ["silent", "hangs up", "breaks off", "drips"])
def test_an_answer_that_does_not_come(server: Endpoint, choice: dict[str, Any], mood: str) -> None:
    """Who asks waits no longer than he was told to, however little by little the answer comes."""
    server.mood = mood
    with Node(endpoint=server.url, timeout="300ms", **choice) as node:
        began = time.monotonic()
        put_off_or_by_file(node, choice)
        assert time.monotonic() - began < 60


def test_nobody_listens(choice: dict[str, Any]) -> None:
    """A sidecar that is down puts mail off, or leaves it to the files."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with Node(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}", **choice) as node:
            put_off_or_by_file(node, choice)


def test_files_that_fail_too(server: Endpoint) -> None:
    """Where the files cannot be read either, the error reaches KumoMTA, which answers it with a 4xx."""
    server.status = 500
    with Node(endpoint=server.url, on_failure="file", files=["broken.toml"]) as node:
        answer = node.ask("x.example")
    assert answer.error is not None
    assert answer.result is None


def test_a_failure_is_not_remembered(server: Endpoint, choice: dict[str, Any]) -> None:
    """As soon as the sidecar is back its answers count, though kumo.memoize would keep an error for a minute."""
    with Node(endpoint=server.url, ttl="1 hour", **choice) as node:
        server.status = 503
        put_off_or_by_file(node, choice)
        server.status = 200
        assert node.ask("x.example").result["relay_to"] is True


def test_a_failure_asks_once(server: Endpoint) -> None:
    """The first failure is not doubled by asking again at once."""
    server.status = 503
    with Node(endpoint=server.url) as node:
        node.ask("x.example")
        assert len(server.asked) == 1
        node.ask("x.example")
        assert len(server.asked) == 2


def test_an_answer_that_is_remembered_outlives_the_sidecar(server: Endpoint) -> None:
    """For as long as it is remembered, and no longer."""
    with Node(endpoint=server.url, ttl="5s") as node:
        good = node.ask("x.example")
        server.status = 503
        node.do("clock", now=4.9)
        assert node.ask("x.example").result == good.result
        node.do("clock", now=5)
        assert node.ask("x.example").reject == TRY_AGAIN


@pytest.mark.parametrize("peer", [None, "", "nobody", "203.0.113.9", "[::1", "2001:db8::1:25"])
def test_a_peer_that_is_not_told(server: Endpoint, peer: str | None) -> None:
    """A login that may relay does not make a relay of just anybody: without the peer's address there is no answer."""
    server.answer(GOOD | {"relay_from_authz": ["daniel"]})
    with Node(endpoint=server.url) as node:
        assert node.ask("x.example", peer=peer, authz_id="daniel").reject == TRY_AGAIN
        assert node.ask("x.example", peer=peer, authz_id="somebody").result["relay_to"] is True


def test_a_kumomta_without_the_modes(server: Endpoint) -> None:
    """A version that does not know "LogThenDrop" puts mail off, rather than take it without."""
    with Node(endpoint=server.url) as node:
        node.do("too_old")
        assert node.ask("x.example").reject == TRY_AGAIN


def test_what_is_asked(server: Endpoint) -> None:
    """The question has what the answer is remembered by, and no more."""
    with Node(endpoint=server.url) as node:
        node.ask("x.example", authz_id="da niel&peer=1.2.3.4")
        node.ask("")
    assert server.asked == [
        {"domain": "x.example", "listener": "10.1.1.1:25", "authz_id": "da niel&peer=1.2.3.4"},
        {"domain": "", "listener": "10.1.1.1:25"},
    ]


def test_what_is_remembered_apart(server: Endpoint) -> None:
    """Domain, listener and login each make another question; the same one is asked once."""
    with Node(endpoint=server.url) as node:
        for _ in range(2):
            node.ask("x.example")
            node.ask("y.example")
            node.ask("x.example", listener="10.1.1.2:25")
            node.ask("x.example", authz_id="daniel")
            node.ask("x.example", authz_id="wez")
    assert len(server.asked) == 5


def test_no_memory_at_all(server: Endpoint) -> None:
    """A ttl of nothing asks each time."""
    with Node(endpoint=server.url, ttl="0s") as node:
        for _ in range(3):
            assert node.ask("x.example").result["relay_to"] is True
        server.status = 503
        assert node.ask("x.example").reject == TRY_AGAIN
    assert len(server.asked) == 4


def test_a_login_relays_for_its_own_connection_only(server: Endpoint) -> None:
    """The peer of one session gets into relay_from for that session, and not into what others are told."""
    server.answer(GOOD | {"relay_to": False, "relay_from": ["192.0.2.0/24"], "relay_from_authz": ["daniel"]})
    with Node(endpoint=server.url) as node:
        for peer, told in (("203.0.113.9:4444", "203.0.113.9"), ("[2001:db8::7]:25", "2001:db8::7")):
            answer = node.ask("x.example", peer=peer, authz_id="daniel")
            assert answer.result["relay_from"] == ["192.0.2.0/24", told]
        assert node.ask("x.example").result["relay_from"] == ["192.0.2.0/24"]
        assert node.ask("x.example", authz_id="wez").result["relay_from"] == ["192.0.2.0/24"]
    assert len(server.asked) == 3


def test_no_entry(server: Endpoint) -> None:
    """Null is an answer like any other: no listener domain, and remembered as that."""
    server.answer(None)
    with Node(endpoint=server.url, on_failure="file", files=["domains.toml"]) as node:
        assert node.ask("file.example") == node.ask("file.example") == Answer(logged={}, files={})
    assert len(server.asked) == 1
