"""Faults of a fleet while a node answers and ships: no record may be lost or read twice, and no verdict may differ.

Owns the count. It runs in namespaces of its own: see `attack`.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from tests import ROOT
from tests.fleet.network import ISOLATED
from tests.soak.fleet.traffic import Waits


class Outcome(Struct, kw_only=True):
    """What happened: faults by name, records written, and those that are missing in the stream or were read from it twice.

    `stored_twice` counts messages that the stream has twice: a reader recognises them by their ids. `different` are the replies
    that only one of the programs gave, of `sessions` with each.
    """

    faults: dict[str, int]
    written: int
    lost: list[str]
    read_twice: list[str]
    stored_twice: int
    sessions: int
    different: list[str]
    waits: list[Waits]
    rounds: int


def attack(number: int, *, seed: int, seconds: float, burst: float = 2.0, only: Sequence[str] = ()) -> Outcome:
    """Make so many faults, or as many as fit into the time, in namespaces of its own. The options are those of `__main__`."""
    options = {"--number": number, "--seed": seed, "--seconds": seconds, "--burst": burst}
    words = [str(word) for pair in options.items() for word in pair] + [word for one in only for word in ("--only", one)]
    command = [*ISOLATED, sys.executable, "-m", "tests.soak.fleet", *words]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(ran.stdout, type=Outcome)


def differences(fleet: Counter[str], alone: Counter[str]) -> list[str]:
    """Return what only one of two programs answered, with its number."""
    both = (("with a fleet", fleet, alone), ("without a fleet", alone, fleet))
    return [f"{who}: {count} times {text}" for who, one, two in both for text, count in one.items() if text not in two]
