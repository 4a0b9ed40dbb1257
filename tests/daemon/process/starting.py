"""A sidecar that is started with some of its numbers changed, so that a test need not wait as long as an operator."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.wire.program import Program

_MAIN = """\
from sidecar.cli import main
from sidecar.daemon.process import reload, status, systemd, workers
{changes}
main()
"""


@contextmanager
def quick(changes: Mapping[str, float], **how: Any) -> Iterator[Program]:
    """Yield a program that is not started yet, with other values for the constants named, such as `reload.LOOK_SECONDS`."""
    program = Program(**how)
    lines = "\n".join(f"{name} = {value!r}" for name, value in changes.items())
    program.python = ["-c", _MAIN.format(changes=lines)]
    try:
        yield program
    finally:
        program.__exit__(None, None, None)
