"""Runs of a program in forks of one process that has loaded it. A fork takes 30 ms of CPU time, a start of the sidecar 200.

Owns the fork and its standard streams, which it opens as the interpreter does. Never knows what it runs.
"""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import ROOT

ROOM = 1 << 20
"""Bytes of a request: the arguments and the environment."""


class Forks:
    """The process that has loaded the program, behind the socket `asked`. `run` asks it for one run at a time."""

    def __init__(self, asked: socket.socket) -> None:
        self.asked = asked

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path = ROOT,
        environ: Mapping[str, str] = os.environ,
        streams: Mapping[int, int] | None = None,
        closed: Sequence[int] = (),
        seconds: float = 120,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the program in a folder, and return its output and exit status. Raise TimeoutError after so many seconds.

        `streams` are descriptors for standard streams. Those that are neither named nor closed are /dev/null and captured.
        """
        with open(os.devnull, "rb") as null, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:  # noqa: PTH123
            standard = {0: null.fileno(), 1: out.fileno(), 2: err.fileno()} | dict(streams or {})
            given = {number: descriptor for number, descriptor in standard.items() if number not in closed}
            request = {"arguments": arguments, "folder": str(folder), "environ": dict(environ), "open": list(given)}
            self.asked.settimeout(seconds)
            socket.send_fds(self.asked, [json.dumps(request).encode()], list(given.values()))
            try:
                status = self.asked.recv(ROOM)
            except TimeoutError:
                self.asked.close()  # the status would be the answer to the next request
                raise
            if not status:
                raise RuntimeError("the process that has loaded the program ended")
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(arguments), int(status), out.read(), err.read())


@contextmanager
def forks(module: str, **environ: str) -> Iterator[Forks]:
    """Start the process: a module that calls `serve`. At the end nothing of it stays."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        ours,
        theirs,
        subprocess.Popen(
            [sys.executable, "-m", module, f"--serve={theirs.fileno()}"],
            cwd=ROOT,
            env={**os.environ, **environ},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        theirs.close()
        try:
            yield Forks(ours)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def serve(run: Callable[[list[str]], object]) -> None:
    """Run each request in a fork, and send its exit status. The forks end as the interpreter ends."""
    requests = socket.socket(fileno=int(sys.argv[1].partition("=")[2]))
    # Otherwise each fork copies what the garbage collector looks at.
    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, ROOM, 3)
        if not request:
            return
        if (pid := os.fork()) == 0:
            requests.close()
            asked = json.loads(request)
            become(asked["folder"], asked["environ"], dict(zip(asked["open"], descriptors, strict=True)))
            run(asked["arguments"])
            sys.exit()
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(folder: str, environ: Mapping[str, str], streams: Mapping[int, int]) -> None:
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


def _main() -> None:
    """Load all commands of the sidecar, and run each request as its command line."""
    from sidecar.cli import COMMANDS, main  # noqa: PLC0415 - what asks for runs does not need it

    for name in COMMANDS:
        main.get_command(main.make_context("sidecar", ["--help"], resilient_parsing=True), name)
    serve(main)


if __name__ == "__main__":
    _main()
