"""Commands of the program in forks of one process that has loaded all of them. A fork takes 20 ms of CPU time, a start 160.

Owns the fork and its standard streams, which it opens as the interpreter does. Tests of the start itself start the program.
"""

import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import ROOT

_ROOM = 1 << 20
"""Bytes of a request: the arguments and the environment."""


class Forks:
    """The process that has loaded all commands. `run` asks it for one call at a time."""

    def __init__(self, ours: socket.socket) -> None:
        self._ours = ours

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environ: Mapping[str, str],
        streams: Mapping[int, int] | None = None,
        closed: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in a folder, and return its output and exit status.

        `streams` are descriptors for standard streams. Those that are neither named nor closed are /dev/null and captured.
        """
        with open(os.devnull, "rb") as null, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:  # noqa: PTH123
            standard = {0: null.fileno(), 1: out.fileno(), 2: err.fileno()} | dict(streams or {})
            given = {number: descriptor for number, descriptor in standard.items() if number not in closed}
            request = json.dumps({"arguments": arguments, "folder": str(folder), "environ": environ, "open": list(given)})
            socket.send_fds(self._ours, [request.encode()], list(given.values()))
            status = int(self._ours.recv(_ROOM) or b"-1")
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(arguments), status, out.read(), err.read())


@contextmanager
def forks() -> Iterator[Forks]:
    """Start the process. It ends when this one closes its socket or ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
        with subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL):
            theirs.close()
            yield Forks(ours)
            ours.close()


def _serve(requests: socket.socket) -> None:
    """Run each request in a fork, and send its exit status. The forks end as the interpreter ends."""
    from sidecar.cli import COMMANDS, main  # noqa: PLC0415 - the tests' own process loads only what it needs

    for name in COMMANDS:
        main.get_command(main.make_context("sidecar", ["--help"], resilient_parsing=True), name)
    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, _ROOM, 3)
        if not request:
            return
        if (pid := os.fork()) == 0:
            requests.close()
            asked = json.loads(request)
            _become(asked["folder"], asked["environ"], dict(zip(asked["open"], descriptors, strict=True)))
            main(asked["arguments"])
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(folder: str, environ: Mapping[str, str], streams: Mapping[int, int]) -> None:
    """Take the folder, the environment and the standard streams of a request."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number in range(3):
        if number in streams:
            os.dup2(streams[number], number)
        else:
            os.close(number)
    for descriptor in streams.values():
        os.close(descriptor)
    encoding = environ.get("PYTHONIOENCODING", "utf-8")
    # A stream that is closed at the start is None.
    made = [
        open(number, "r" if number == 0 else "w", encoding=encoding, closefd=False) if number in streams else None  # noqa: SIM115
        for number in range(3)
    ]
    sys.stdin, sys.stdout, sys.stderr = made


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
