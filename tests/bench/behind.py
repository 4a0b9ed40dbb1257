"""Rounds behind a real Postfix, with smtp-source as the peer.

Owns how a round is run. Never prints.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.rivals import ROOT, rival
from tests.bench.scenarios import RELAY_HOST, Scenario, outcome_of
from tests.mta.postfix import HOST, Postfix, free_port

SINK = {
    "relay_transport": "discard",
    "default_transport": "discard",
    "local_transport": "discard",
    "smtpd_milters": "",
    # The peers of a bench make thousands of errors, and none of them shall wait for it.
    "smtpd_error_sleep_time": "0s",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "default_process_limit": "100",
}
_DISCARD = "discard   unix  -       -       n       -       -       discard"


class Stand(NamedTuple):
    """A Postfix with a rival: the loads for `send`, and the rival's process id."""

    loads: list[Sequence[str]]
    pid: int


def play(
    name: str,
    scenarios: Sequence[Scenario],
    folder: Path,
    programs: Path,
    *,
    messages: int,
    connections: int,
    workers: int = 2,
    domains: int = 10,
) -> dict[str, Any]:
    """Send so many messages of each scenario through a Postfix that this rival serves. Gives `rate` in messages/s.

    `own control` as a name is Postfix refusing by itself what the sidecar would refuse at RCPT.
    """
    with stand(name, scenarios, folder, programs, connections=connections, workers=workers, domains=domains) as where:
        seconds = send(where.loads, messages=messages)
    return {"messages": messages, "seconds": seconds, "rate": messages / seconds}


@contextmanager
def stand(
    name: str,
    scenarios: Sequence[Scenario],
    folder: Path,
    programs: Path,
    *,
    connections: int,
    workers: int = 2,
    domains: int = 10,
    checkout: Path = ROOT,
) -> Iterator[Stand]:
    """Run a Postfix that this rival serves, warmed up; arguments as `play` and `rival` have them."""
    folder.mkdir(parents=True)
    relay_port = free_port()
    listener = f"{HOST}:{relay_port}"
    milter = rival(
        "no milter" if name == "own control" else name,
        outcome_of(scenarios),
        folder / "rival",
        programs,
        workers=workers,
        domains=domains,
        relay_listener=listener,
        checkout=checkout,
    )
    with milter as running:
        settings = SINK | ({"smtpd_milters": running.socket} if running.socket else {})
        if name == "own control":
            settings |= {"relay_domains": "bounce.example, fbl.example", "mynetworks": "192.0.2.99"}
        services = [f"{listener} inet n - n - - smtpd", _DISCARD]
        with Postfix(folder / "postfix", settings=settings, services=services) as postfix:
            loads = []
            for number, scenario in enumerate(scenarios):
                content = folder / f"{number}.eml"
                content.write_bytes(scenario.message.replace(b"\r\n", b"\n"))
                port = relay_port if scenario.peer == RELAY_HOST else postfix.port
                loads.append(source(scenario, content, port, sessions=max(1, connections // len(scenarios))))
            # A warm-up: Postfix starts its processes when they are first needed.
            send(loads, messages=100)
            yield Stand(loads, running.pid)


def source(scenario: Scenario, content: Path, port: int, *, sessions: int) -> Sequence[str]:
    """Give the smtp-source command for a scenario, but for the number of messages; -A goes on after a refusal."""
    envelope = ("-f", scenario.sender, "-t", scenario.recipient, "-F", str(content))
    return ["smtp-source", "-A", "-s", str(sessions), *envelope, f"inet:{HOST}:{port}"]


def send(loads: Sequence[Sequence[str]], *, messages: int) -> float:
    """Let all loads run at once, with so many messages together; give the seconds until the last is through."""
    began = time.monotonic()
    counted = ["-m", str(messages // len(loads))]
    running = [subprocess.Popen([*load[:-1], *counted, load[-1]], stderr=subprocess.PIPE) for load in loads]
    for process in running:
        _, errors = process.communicate(timeout=600)
        if process.returncode:
            raise RuntimeError(f"smtp-source ended with {process.returncode}: {errors.decode(errors='replace')[-500:]}")
    return time.monotonic() - began
