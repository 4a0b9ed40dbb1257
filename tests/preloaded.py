"""Starts of the sidecar as forks of a process that has loaded it: each saves 0.2 s of CPU time.

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

PATIENCE: Final = 120.0
"""Seconds until a command that does not end fails the test."""

USER: Final = "PRELOADED_USER"
"""The environment variable with the process that may fork: one of pytest, and none that it starts."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_PRCTL: Final = ctypes.CDLL(None, use_errno=True).prctl

_kept = ExitStack()


def popen(command: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
    """Start Python with the module `sidecar`, or with code of a test that calls it. `how` is what subprocess.Popen gets."""
    return (Forked if is_possible(command, how.get("env") or os.environ) else subprocess.Popen)(command, **how)


def run(
    command: Sequence[str], *, check: bool = False, timeout: float = PATIENCE, **how: Any
) -> subprocess.CompletedProcess[Any]:
    """Do as subprocess.run for `popen`, with pipes for output and errors. With `input`, the command gets these bytes."""
    sent = how.pop("input", None)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | ({} if sent is None else {"stdin": subprocess.PIPE})
    with popen(command, **streams | how) as process:
        try:
            out, errors = process.communicate(sent, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, errors)
    if check:
        done.check_returncode()
    return done


def is_possible(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return True in a process of pytest, if Python and the linker would find the options and variables that they have here."""
    of_python = [*command[:2]] == [sys.executable, "-c"] or [*command[:3]] == [sys.executable, "-m", "sidecar"]
    return of_python and os.environ.get(USER) == str(os.getpid()) and _of_start(environ) == _AT_START


def _of_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that count when a program starts."""
    return {name: value for name, value in environ.items() if name.startswith(("PYTHON", "LD_")) and name != "PYTHONPATH"}


_AT_START: Final = _of_start(os.environ)


class Forked(subprocess.Popen[Any]):
    """A program that the process that has loaded it has forked. It gets SIGTERM if the test's process dies."""

    def _execute_child(self, args: Sequence[str], *how: Any) -> None:
        """Ask for the fork, where Popen would start a program. `how` is what Popen gives."""
        *_, folder, environ, _, _, _, stdin, _, _, stdout, _, stderr = how[:15]
        request = {
            "command": args[1:],
            "folder": str(folder or Path.cwd()),
            "environ": {**(environ or os.environ)},
            "parent": os.getpid(),
            "session": how[-2],
        }
        # -1 is a stream of the test.
        streams = [number if given == -1 else given for number, given in enumerate((stdin, stdout, stderr))]
        asked = _loaded("run" in args).asked
        _PRCTL(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(asked, [json.dumps(request).encode()], streams)
            self.pid = int(asked.recv(ROOM))
        finally:
            _PRCTL(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        self._child_created = True
        self._close_pipe_fds(*how[9:15])  # type: ignore[attr-defined]


@cache
def _loaded(serves: bool) -> Forks:
    """Start the process that loads the program, once for each process of pytest, with which it ends.

    That of `sidecar run` has loaded no other command, as a program that serves.
    """
    return _kept.enter_context(forks(__name__, PRELOADED="run" if serves else ""))


def stop() -> None:
    """End the processes that have loaded the program."""
    _kept.close()
    _loaded.cache_clear()


def _serve() -> None:
    """Start the program for each request."""
    import_module("sidecar.commands.run" if os.environ["PRELOADED"] else "sidecar.cli")
    requests = socket.socket(fileno=int(sys.argv[1].partition("=")[2]))
    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, ROOM, 3)
        if not request:
            return
        asked = json.loads(request)
        if not os.environ["PRELOADED"]:
            _load(asked["command"])
        # The kernel passes the child of a child that has ended to the test.
        if (pid := os.fork()) == 0:
            if os.fork():
                os._exit(0)
            _start(asked, descriptors, requests)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(pid, 0)


def _load(command: list[str]) -> None:
    """Load the command of the sidecar that is called, if it is one."""
    from sidecar.cli import COMMANDS, main  # noqa: PLC0415 - what starts programs does not need it

    for name in COMMANDS.keys() & {*command[2:3]}:
        main.get_command(main.make_context("sidecar", ["--help"], resilient_parsing=True), name)


def _start(asked: dict[str, Any], descriptors: list[int], requests: socket.socket) -> None:
    """Run the program as `setpriv --pdeathsig TERM` and Python would."""
    while os.getppid() != asked["parent"]:
        time.sleep(0.0005)
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if asked["session"]:
        os.setsid()
    requests.send(str(os.getpid()).encode())
    requests.close()
    become(asked["folder"], asked["environ"], dict(enumerate(descriptors)))
    form, what, *arguments = asked["command"]
    sys.argv = [form, *arguments]
    code = f"from {what}.cli import main; main()" if form == "-m" else what
    exec(code, {"__name__": "__main__"})  # noqa: S102 - of the tests


if __name__ == "__main__":
    _serve()
