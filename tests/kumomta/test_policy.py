"""sidecar.lua with a real sidecar: a node gets what the policy has, and gets each change."""

import signal
import tomllib
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.core.names import normal_domain, normal_listener
from sidecar.core.policy import Policy, compile_policy
from tests.kumomta.node import TRY_AGAIN, Node
from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.wire.program import Program

# Every key and every step of the lookup: exact, by wildcard, by the listener's own map, by `*`, and walks that end at nothing.
DOMAINS = """\
["example.com"]
relay_to = true
["bounce.example.com"]
log_oob = "LogThenDrop"
["fbl.example.com"]
log_arf = "LogThenRelay"
["send.example.com"]
relay_from = ["10.0.0.0/24", "2001:db8::/32"]
["auth.example.com"]
relay_from_authz = ["daniel", "wéz"]
["*.example.com"]
log_oob = true
log_arf = true
["www.example.com"]
log_oob = false
["*.sub.test"]
relay_to = true
["omg.wtf.woot.sub.test"]
relay_to = false
["bücher.example"]
relay_to = true
["*"]
relay_to = false
[listener."10.1.1.1:25"."*.example.com"]
log_oob = false
relay_from_authz = ["daniel"]
[listener."[2001:db8::1]:25"."*"]
log_oob = "LogThenDrop"
"""
NAMES = [
    *tomllib.loads(DOMAINS).keys() - {"listener", "*"},
    "",
    "a.example.com",
    "a.b.example.com",
    "sub.test",
    "a.sub.test",
    "woot.sub.test",
    "wtf.woot.sub.test",
    "EXAMPLE.COM",
    "example.com.",
    "xn--bcher-kva.example",
    "gmail.com",
    "[192.0.2.1]",
    "[IPv6:2001:db8::7]",
    "not a domain",
    "a..b",
    "x" * 300,
    "ex%61mple.com&domain=example.com",
    "*",
    "*.example.com",
    "bücher.example/../",
]
LISTENERS = ["10.1.1.1:25", "192.0.2.1:25", "[2001:db8::1]:25", "[2001:DB8:0::1]:25"]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def program(port: int) -> Iterator[Program]:
    """A sidecar that serves its policy."""
    with Program(domains=DOMAINS, milter=serving(port)) as program:
        with node_of(port) as node:
            wait_until(lambda: node.ask("example.com").reject is None, "the policy is served")
        yield program


def serving(port: int) -> str:
    return f'workers = 1\n[admin]\nsocket = "inet:127.0.0.1:{port}"'


def node_of(port: int, ttl: str = "0s") -> Node:
    return Node(endpoint=f"http://127.0.0.1:{port}", ttl=ttl, timeout="10s")


def policy_of(folder: Path) -> Policy:
    settings = load(folder / "sidecar.toml").settings
    assert settings is not None
    return compile_policy(settings)


@pytest.mark.parametrize("authz_id", [None, "daniel", "wéz", "nobody", ""])
@pytest.mark.parametrize("listener", LISTENERS)
def test_a_node_gets_what_the_policy_has(program: Program, port: int, listener: str, authz_id: str | None) -> None:
    """For every name, listener and login the listener domain is the one that the policy looks up; none where there is none."""
    policy = policy_of(program.directory)
    with node_of(port) as node:
        for name in NAMES:
            entry = policy.lookup(normal_listener(listener), normal_domain(name) or "")
            answer = node.ask(name, listener=listener, authz_id=authz_id)
            assert (answer.reject, answer.error, answer.logged) == (None, None, {}), name
            if entry is None:
                assert answer.result is None
                continue
            login = [] if authz_id not in entry.relay_from_authz else ["203.0.113.9"]
            relay_from = answer.result.pop("relay_from") or []
            assert list(relay_from) == [network.text for network in entry.relay_from] + login, name
            modes = {"log_oob": entry.log_oob.value, "log_arf": entry.log_arf.value}
            assert answer.result == {"relay_to": entry.relay_to, **modes}, name


def test_a_change_reaches_the_node(program: Program, port: int) -> None:
    """After a reload the next question gets the new answer; what was remembered stays until its time is over."""
    with node_of(port) as node, node_of(port, ttl="5s") as remembering:
        assert remembering.ask("new.test").result["relay_to"] is False
        program.write(domains=DOMAINS + '["new.test"]\nrelay_to = true\n')
        program.signal(signal.SIGHUP)
        wait_until(lambda: node.ask("new.test").result["relay_to"] is True, "the new policy is served")
        assert remembering.ask("new.test").result["relay_to"] is False
        # The process that ends may take one question more, and its answer is remembered for another five seconds.
        clock = count(5, 5)

        def hears() -> bool:
            remembering.do("clock", now=next(clock))
            return remembering.ask("new.test").result["relay_to"] is True

        wait_until(hears, "the new answer is heard when the old one is too old")


def test_a_sidecar_that_is_stopped() -> None:
    """Mail is tempfailed while it is down, and judged when it runs again."""
    port = free_port()
    with Program(domains=DOMAINS, milter=serving(port)) as program, node_of(port, ttl="5s") as node:
        wait_until(lambda: node.ask("example.com").result is not None, "the policy is served")
        program.stop()
        assert node.ask("bounce.example.com").reject == TRY_AGAIN
        program.start()
        wait_until(lambda: node.ask("bounce.example.com").result is not None, "the policy is served again")
