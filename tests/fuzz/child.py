"""The targets under atheris, each run in a fork of one process: loading the program with instrumentation takes longest.

Owns the instrumentation and the time an input may take. A request is a target, then libFuzzer's options and inputs. It ends as
libFuzzer ends: status 0 when nothing was found.
"""

import importlib
import time
from collections.abc import Callable
from typing import Protocol, cast

import atheris

from tests.forked import serve
from tests.fuzz.targets import BROKEN, TARGETS

# Seconds. Inputs are of some kilobytes and take a few milliseconds, instrumented; what is loaded at first use takes up to a
# tenth of a second. `stalls` has a stop-watch of its own.
STALL = 0.5
OWN_WATCH = "stalls"


class Target(Protocol):
    """What a module of `tests.fuzz.targets` has; `runs` knows its seeds."""

    def check(self, data: bytes, /) -> None:
        """Fail where something is untrue of one input."""


def main() -> None:
    """Load all targets, and run each request in a fork until the socket closes."""
    with atheris.instrument_imports(include=["sidecar"]):
        targets = {name: cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}")) for name in (*TARGETS, BROKEN)}
    serve(lambda arguments: _fuzz(arguments[0], targets[arguments[0]], arguments[1:]))


def _fuzz(name: str, target: Target, options: list[str]) -> None:
    """Fuzz until libFuzzer has enough. Never returns."""
    atheris.Setup([name, *options], target.check if name == OWN_WATCH else _timed(target.check))
    atheris.Fuzz()


def _timed(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def one_input(data: bytes) -> None:
        start = time.process_time()
        check(data)
        took = time.process_time() - start
        assert took < STALL, f"{len(data)} bytes took {took:.3f} s of processor time"

    return one_input


if __name__ == "__main__":
    main()
