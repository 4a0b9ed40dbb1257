"""Runs of the fuzzer and of the property tests, each in a process, watched to its end, and its figures read.

Owns the options of libFuzzer and of pytest. Never knows what a target checks.
"""

import hashlib
import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from tests import ROOT
from tests.forked import Forks, forks
from tests.fuzz.climbing import Climb

COST = "cost"
"""The search by cost, which climbs without libFuzzer: branches say nothing of what a byte costs."""

# A sample report has up to 4 kB; a longer input makes each run slower and finds no other line of code.
_LENGTH = 6000
_MEMORY = 1024
# Seconds for one input, should it hang inside a call that never comes back to Python.
_HANG = 20
# Seconds for the start and the seeds, beside those of the run itself.
_START = 600

PROPERTIES = "properties"
"""All property tests, with ten times as many examples as `make test` has."""

_FIGURES = {
    "inputs": re.compile(r"stat::number_of_executed_units:\s*(\d+)"),
    "per_second": re.compile(r"stat::average_exec_per_sec:\s*(\d+)"),
    "coverage": re.compile(r"cov: (\d+)"),
    "corpus": re.compile(r"corp: (\d+)"),
}


class Run(Struct, frozen=True, kw_only=True):
    """What came of a run: how many inputs, how many a second, how many branches of the program and inputs that reach them.

    `fault` is None when every input was answered as it must be, else the end of what libFuzzer said, with the file that
    holds the input.
    """

    inputs: int
    per_second: int
    coverage: int
    corpus: int
    fault: str | None


@contextmanager
def fuzzers() -> Iterator[Forks]:
    """Start the process that has loaded all targets, for `run`."""
    with tempfile.TemporaryDirectory() as temporary, forks("tests.fuzz.child", TMPDIR=temporary, PYTHONHASHSEED="0") as loaded:
        yield loaded


def run(
    loaded: Forks, target: str, folder: Path, *, seconds: int, inputs: int = -1, seeds: int = sys.maxsize, seed: int = 0
) -> Run:
    """Run a target for so many seconds or inputs, whichever is over first. `seed` 0 is a new one each time.

    The inputs begin with all seeds of the target, or with about `seeds` of them, evenly chosen.

    `folder` keeps what is found from run to run: the inputs that reach new code, and those that fail.
    """
    corpus = folder / target
    corpus.mkdir(parents=True, exist_ok=True)
    contents = list(importlib.import_module(f"tests.fuzz.targets.{target}").seeds())
    for content in contents[:: max(1, len(contents) // seeds)]:
        (corpus / hashlib.sha256(content).hexdigest()).write_bytes(content)
    options = {
        "seed": seed,
        "runs": inputs,
        "max_total_time": seconds,
        "max_len": _LENGTH,
        "rss_limit_mb": _MEMORY,
        "timeout": _HANG,
        "print_final_stats": 1,
        "artifact_prefix": f"{folder.absolute()}/{target}-",
    }
    arguments = [target, *(f"-{key}={value}" for key, value in options.items()), str(corpus.absolute())]
    ended = loaded.run(arguments, seconds=seconds + _START)
    said = (ended.stderr + ended.stdout).decode("utf-8", "replace")
    figures = {name: int((pattern.findall(said) or ["0"])[-1]) for name, pattern in _FIGURES.items()}
    return Run(fault=None if ended.returncode == 0 else said[-4000:], **figures)


def climb(folder: Path, *, seconds: int, inputs: int = sys.maxsize, seed: int = 0) -> Climb:
    """Search for expensive input for so many seconds or inputs, whichever is over first. `seed` 0 is a new one each time."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.climbing", str(folder), *map(str, (seconds, inputs, seed))],
        stdout=subprocess.PIPE,
        timeout=seconds + _START,
        check=True,
    )
    return msgspec.json.decode(ended.stdout, type=Climb)


class Searched(Struct, frozen=True, kw_only=True):
    """How many property tests passed, and the end of the output of pytest if one failed."""

    passed: int
    fault: str | None


def search(folder: Path, *more: str, seconds: int, seed: int, factor: int = 10) -> Searched:
    """Run the property tests below a folder, in an order and with examples that the seed decides, until the time is over.

    `more` are options of pytest.
    """
    options = ["-q", "-n", "2", "-m", "hypothesis", "--hypothesis-seed", str(seed), *more]
    environ = {**os.environ, "HYPOTHESIS_PROFILE": "search", "SEARCH_FACTOR": str(factor)}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as pytest:
        try:
            said, _ = pytest.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.send_signal(signal.SIGTERM)
            said, _ = pytest.communicate()
    passed, failed = (int((re.findall(rf"(\d+) {word}", said) or ["0"])[-1]) for word in ("passed", "(?:failed|error)"))
    interrupted = "KeyboardInterrupt" in said
    return Searched(passed=passed, fault=said[-8000:] if failed or (pytest.returncode and not interrupted) else None)
