"""One row of the table: bursts of mail to each rival in turn, all of them behind one Postfix.

Owns the Postfix, the order of the bursts and their measurement. Never prints.
"""

import os
import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.rivals import BEST_C, OWN_CONTROL, PYMILTER, SIDECARS, Rivals, Running
from tests.bench.scenarios import Scenario, outcome_of
from tests.mta.places import private_directory
from tests.mta.postfix import HOST, Postfix
from tests.mta.processes import wait_until

SINK = {
    "relay_transport": "discard",
    "default_transport": "discard",
    "local_transport": "discard",
    "smtpd_milters": "",
    # The clients of the benchmark make thousands of errors, and none of them is to be delayed.
    "smtpd_error_sleep_time": "0s",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "default_process_limit": "100",
}
DISCARD = "discard unix - - n - - discard"
_OWN_CONTROL = "-o { smtpd_relay_restrictions = check_recipient_access inline:{bounce.example=OK,fbl.example=OK}, reject }"

_LOGGED = re.compile(r"status=sent|milter-discard|milter-reject|reject: RCPT")
_EXPECTED = {
    "accept": "status=sent",
    "relay": "status=sent",
    "discard": "milter-discard",
    "reject-rcpt": "milter-reject",
    "reject-headers": "milter-reject",
}
_ROW_SECONDS = 600
"""Seconds after which a row begins no further round; its Postfix ends by itself after 900."""


class Burst(NamedTuple):
    """What a message cost in one burst, in seconds: of time, and of CPU time of the milter's processes."""

    time: float
    cpu: float


Round = dict[str, Burst]
"""A burst of each rival, by its name."""


def measure(
    scenarios: Sequence[Scenario], names: Sequence[str], rivals: Rivals, *, connections: int, rounds: int, messages: int | None
) -> list[Round]:
    """Send `messages` (by default the scenario's burst) to each rival in each round, in an order that changes every round."""
    milters = [rivals.running(name, outcome_of(scenarios)) for name in names]
    messages = messages or (scenarios[0].burst if len(scenarios) == 1 else 300)
    order = random.Random(1)  # noqa: S311 - no secret
    found: list[Round] = []
    with private_directory() as folder:
        services = [DISCARD, *(line for milter in milters for line in _services(milter, rivals))]
        with Postfix(folder / "postfix", settings=SINK, services=services) as postfix:
            stand = _Stand(postfix, scenarios, folder, connections=connections, messages=messages)
            deadline = time.monotonic() + _ROW_SECONDS
            for _ in range(rounds + 1):
                order.shuffle(milters)
                bursts = {milter.name: stand.burst(milter, rivals) for milter in milters}
                found.append({name: bursts[name] for name in names})
                if len(found) > 1 and time.monotonic() > deadline:
                    break
    return found[1:]  # Postfix starts its processes during the first round


def _services(milter: Running, rivals: Rivals) -> list[str]:
    own = _OWN_CONTROL if milter.name == OWN_CONTROL else ""
    options = f"-o smtpd_milters={f'unix:{milter.socket}' if milter.socket else ''} {own}"
    ports = [rivals.port(milter.name, relay_host=relay_host) for relay_host in (True, False)]
    return [f"{HOST}:{port} inet n - n - - smtpd {options}" for port in ports]


class _Stand:
    def __init__(
        self, postfix: Postfix, scenarios: Sequence[Scenario], folder: Path, *, connections: int, messages: int
    ) -> None:
        self._postfix, self._scenarios = postfix, scenarios
        self._each = max(1, messages // len(scenarios))
        self._sessions = max(1, connections // len(scenarios))
        self._contents = [folder / f"{number}.eml" for number in range(len(scenarios))]
        for content, scenario in zip(self._contents, scenarios, strict=True):
            content.write_bytes(scenario.message.replace(b"\r\n", b"\n"))
        self._read = 0  # bytes of Postfix's log

    def burst(self, milter: Running, rivals: Rivals) -> Burst:
        """Send one burst; its time ends when Postfix's queue is empty."""
        loads = [
            source(scenario, content, rivals.port(milter.name, relay_host=scenario.relay_host), sessions=self._sessions)
            for scenario, content in zip(self._scenarios, self._contents, strict=True)
        ]
        messages = self._each * len(loads)
        cpu, began = milter.cpu(), time.monotonic()
        send(loads, messages=messages)
        queue = [self._postfix.directory / "queue" / name for name in ("incoming", "active")]
        wait_until(lambda: not any(os.listdir(folder) for folder in queue), "Postfix's queue is empty", seconds=60)  # noqa: PTH208
        burst = Burst((time.monotonic() - began) / messages, (milter.cpu() - cpu) / messages)
        self._check(milter, messages)
        return burst

    def _check(self, milter: Running, messages: int) -> None:
        """Raise RuntimeError if Postfix's log does not show the outcome that this rival must give to each message."""
        with self._postfix.log.open(errors="replace") as file:
            found: Counter[str] = Counter()

            def complete() -> bool:
                file.seek(self._read)
                found.clear()
                found.update(_LOGGED.findall(file.read()))
                return found.total() >= messages

            wait_until(complete, f"Postfix logged {messages} messages of {milter.name}")
            self._read = file.tell()
        judges = milter.name in (*SIDECARS, BEST_C, PYMILTER)
        results = [_EXPECTED[scenario.outcome] if judges else "status=sent" for scenario in self._scenarios]
        if milter.name == OWN_CONTROL:
            results = ["reject: RCPT"]
        expected = Counter({result: self._each * results.count(result) for result in results})
        if found != expected:
            outcomes = f"the expected outcomes {dict(expected)}, but {dict(found)}"
            raise RuntimeError(f"{milter.name} did not give {outcomes}; its socket is {milter.socket}")


def source(scenario: Scenario, content: Path, port: int, *, sessions: int) -> Sequence[str]:
    """Return the smtp-source command for a scenario, without the number of messages; with -A it continues after a rejection."""
    envelope = ("-f", scenario.sender, "-t", scenario.recipient, "-F", str(content))
    return ["smtp-source", "-A", "-s", str(sessions), *envelope, f"inet:{HOST}:{port}"]


def send(loads: Sequence[Sequence[str]], *, messages: int) -> None:
    """Run all loads at once, with this number of messages together, until the last one is answered."""
    counted = ["-m", str(messages // len(loads))]
    running = [subprocess.Popen([*load[:-1], *counted, load[-1]], stderr=subprocess.PIPE) for load in loads]
    try:
        for process in running:
            _, errors = process.communicate(timeout=200)
            if process.returncode:
                raise RuntimeError(f"smtp-source ended with {process.returncode}: {errors.decode(errors='replace')[-500:]}")
    finally:
        for process in running:
            process.kill()
            process.wait()
