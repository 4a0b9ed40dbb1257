"""One target under atheris, in a process of its own: `python -m tests.fuzz.child TARGET [libFuzzer's options and inputs]`.

Owns the instrumentation and the time an input may take. Ends as libFuzzer ends: status 0 when nothing was found.
"""

import importlib
import sys
import time
from collections.abc import Callable
from typing import Protocol, cast

import atheris

# Seconds. Inputs are of some kilobytes and take a few milliseconds, instrumented; what is loaded at first use takes up to a
# tenth of a second. `stalls` has a stop-watch of its own.
STALL = 0.5
OWN_WATCH = "stalls"


class Target(Protocol):
    """What a module of `tests.fuzz.targets` has; `runs` knows its seeds."""

    def check(self, data: bytes, /) -> None:
        """Fail where something is untrue of one input."""


def main() -> None:
    """Fuzz until libFuzzer has enough. Never returns."""
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["sidecar"]):
        target = cast("Target", importlib.import_module(f"tests.fuzz.targets.{name}"))
    atheris.Setup([sys.argv[0], *options], target.check if name == OWN_WATCH else _timed(target.check))
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
