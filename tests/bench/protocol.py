"""Rounds at the milter protocol: the load generator plays the MTA.

Owns how a round is run. Never prints.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.rivals import rival
from tests.bench.scenarios import Scenario, outcome_of

# What the last answer must be, by step and code, so that a rival is measured for the outcome and for nothing less.
_EXPECTED = {
    "accept": {"Na", "Ta", "Ec"},
    "refuse-rcpt": {"R5", "Rr", "Ec"},
    "discard": {"Ed", "Ec"},
    "relay": {"Ea", "Ec"},
    "refuse-headers": {"N5", "Nr", "Ec"},
}


def play(
    name: str,
    scenarios: Sequence[Scenario],
    folder: Path,
    programs: Path,
    *,
    seconds: float,
    connections: int,
    workers: int = 2,
    domains: int = 10,
) -> dict[str, Any]:
    """Let a rival serve these scenarios for some seconds. Gives the load generator's figures, and `rate` in sessions/s."""
    folder.mkdir(parents=True)
    scripts = []
    for number, scenario in enumerate(scenarios):
        content = folder / f"{number}.eml"
        content.write_bytes(scenario.message)
        script = folder / f"{number}.txt"
        script.write_text(scenario.script(content))
        scripts.append(str(script))
    with rival(name, outcome_of(scenarios), folder / "rival", programs, workers=workers, domains=domains) as running:
        assert running.socket is not None, "without a milter there is nobody to speak to"
        # A warm-up: first connections make threads, and first answers load modules.
        for duration in (0.3, seconds):
            command = [str(programs / "load"), running.socket, str(connections), str(duration), *scripts]
            result: dict[str, Any] = json.loads(subprocess.check_output(command))
    _check(name, scenarios, set(result["answers"]))
    return {**result, "rate": result["sessions"] / result["seconds"]}


def _check(name: str, scenarios: Sequence[Scenario], answers: set[str]) -> None:
    for scenario in scenarios:
        if not answers & _EXPECTED[scenario.outcome]:
            raise RuntimeError(f"{name} did not give the outcome of {scenario.name!r}: {sorted(answers)}")
