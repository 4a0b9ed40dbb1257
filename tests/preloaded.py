"""Starts of `sidecar run` as forks of one process that has loaded it: each saves 0.2 s of CPU time.

Owns that process, and the fork, which is a child of the test as any program that it starts. Only pytest forks: what measures
speed or attacks the program starts Python, as an operator does, and so does a test that runs it within another program.
"""

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from tests.forked import ROOM, Forks, become, forks

FORMS: Final = ("-m", "-c")
"""How Python runs the program: the module `sidecar`, or the code of a test that changes it first."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PRCTL: Final = ctypes.CDLL(None, use_errno=True).prctl

_kept = ExitStack()


def possible(python: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return True in a run of pytest, if Python and the linker would find the options and variables that they have here."""
    return (
        "PYTEST_CURRENT_TEST" in os.environ
        and len(python) == len(FORMS)
        and python[0] in FORMS
        and of_start(environ) == AT_START
    )


def of_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that count when a program starts."""
    return {name: value for name, value in environ.items() if name.startswith(("PYTHON", "LD_")) and name != "PYTHONPATH"}


AT_START: Final = of_start(os.environ)


class Started(subprocess.Popen[bytes]):
    """A program that the process that has loaded it has forked. It gets SIGTERM if the test's process dies."""

    def __init__(
        self, python: Sequence[str], arguments: Sequence[str], *, folder: Path, environ: Mapping[str, str], output: int
    ) -> None:
        self._request = {"python": python, "arguments": arguments, "folder": str(folder), "environ": dict(environ)}
        self._output = output
        super().__init__([sys.executable, *python, *arguments])

    def _execute_child(self, *_: Any) -> None:
        """Ask for the fork, where Popen would start a program."""
        request = json.dumps(self._request | {"parent": os.getpid()}).encode()
        asked = _loaded().asked
        _PRCTL(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            with open(os.devnull, "rb") as null:  # noqa: PTH123
                socket.send_fds(asked, [request], [null.fileno(), self._output, self._output])
            self.pid = int(asked.recv(ROOM))
        finally:
            _PRCTL(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._child_created = True


@cache
def _loaded() -> Forks:
    """Load the program, once for each process of pytest, with which it ends."""
    return _kept.enter_context(forks(__name__))


def stop() -> None:
    """End the process that has loaded the program."""
    _kept.close()
    _loaded.cache_clear()


def _serve() -> None:
    """Start the program for each request."""
    import_module("sidecar.commands.run")
    requests = socket.socket(fileno=int(sys.argv[1].partition("=")[2]))
    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, ROOM, 3)
        if not request:
            return
        # The kernel passes the child of a child that has ended to the test.
        if (pid := os.fork()) == 0:
            if os.fork():
                os._exit(0)
            _run(json.loads(request), descriptors, requests)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(pid, 0)


def _run(asked: dict[str, Any], descriptors: list[int], requests: socket.socket) -> None:
    """Run the program as `setpriv --pdeathsig TERM` and Python would."""
    while os.getppid() != asked["parent"]:
        time.sleep(0.0005)
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.setsid()
    requests.send(str(os.getpid()).encode())
    requests.close()
    become(asked["folder"], asked["environ"], dict(enumerate(descriptors)))
    form, what = asked["python"]
    sys.argv = [form, *asked["arguments"]]
    code = f"from {what}.cli import main; main()" if form == "-m" else what
    exec(code, {"__name__": "__main__"})  # noqa: S102 - of the tests


if __name__ == "__main__":
    _serve()
