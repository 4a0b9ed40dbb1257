"""The milters that take part: those that do nothing, the sidecar on each engine, and three mail filters of Debian.

Owns building, starting and stopping them, and reading their CPU time. Never sends mail.
"""

import re
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from tests import ROOT
from tests.mta.places import free_port, private_directory
from tests.mta.processes import owned, stop_group, wait_until

HERE = Path(__file__).parent
PROGRAMS = ROOT / ".bench"

NO_MILTER, OWN_CONTROL, PLAIN_C, BEST_C, PYMILTER = "no milter", "Postfix's own control", "plain C", "best C", "pymilter"
SIDECARS = DIRECT, LIBMILTER, OTHER = "direct", "libmilter", "other checkout"
FILTERS = ("rspamd", "opendkim", "opendmarc")
"""The filters that look up names: they run only in a network namespace, and only for a relay host's mail."""

_RSPAMD = {
    # Debian's default sends each message on to another process; this is quicker.
    "override.d/worker-proxy.inc": 'bind_socket = "{socket} mode=0666";\ncount = {workers};\n'
    'upstream "local" {{ default = yes; self_scan = yes; }}\n',
    "override.d/worker-normal.inc": "enabled = false;\n",
    "override.d/worker-controller.inc": "enabled = false;\n",
    # These three ask services on the Internet. Without a Redis server rspamd turns off what needs one.
    **{f"local.d/{module}.conf": "enabled = false;\n" for module in ("rbl", "fuzzy_check", "asn")},
}
# opendkim signs what a client on 127.0.0.1 sends. The system's log is not part of the measurement.
_OPENDKIM = (
    "Mode sv\nDomain send.example\nSelector bench\nKeyFile {folder}/key.pem\nRequireSafeKeys no\n"
    "Canonicalization relaxed/simple\nOversignHeaders From\nSocket local:{socket}\nUMask 000\nSyslog no\n"
)
# By default opendmarc skips all mail from 127.0.0.1, where all mail of the benchmark is from.
_OPENDMARC = (
    "PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat\nIgnoreHosts {folder}/ignored\n"
    "Socket local:{socket}\nUMask 000\nSyslog no\n"
)


class Running(NamedTuple):
    """A milter that is running: its socket, and the ids of its processes."""

    name: str
    socket: Path | None = None
    pids: Sequence[int] = ()

    def cpu(self) -> float:
        """Return the seconds of CPU time that all its processes have had (clock_getcpuclockid(3): another process's clock)."""
        try:
            return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids)
        except OSError as error:
            raise RuntimeError(f"a process of {self.name} ended during the measurement") from error


class Rivals:
    """A context manager that starts each milter when it is first needed, and stops all of them at the end."""

    def __init__(self, *, workers: int = 2, domains: int = 10, other: Path = ROOT) -> None:
        self._workers, self._domains, self._other = workers, domains, other
        self._stack = ExitStack()
        self._running: dict[tuple[str, str], Running] = {}
        self._ports: dict[tuple[str, bool], int] = {}

    def __enter__(self) -> Self:
        self._folder = self._stack.enter_context(private_directory())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def port(self, name: str, *, relay_host: bool) -> int:
        """Return the port on which Postfix serves this rival's mail from relay hosts, or from external hosts."""
        while (name, relay_host) not in self._ports:
            # A free port may be the one of another rival, whose Postfix is not running at the moment.
            if (port := free_port()) not in self._ports.values():
                self._ports[name, relay_host] = port
        return self._ports[name, relay_host]

    def running(self, name: str, outcome: str) -> Running:
        """Return the milter, which runs from now on."""
        if name in {NO_MILTER, OWN_CONTROL}:
            return Running(name)
        key = (name, outcome if name in {BEST_C, PYMILTER} else "")
        if key not in self._running:
            self._running[key] = self._start(name, outcome, self._folder / f"{len(self._running)}")
        return self._running[key]

    def _start(self, name: str, outcome: str, folder: Path) -> Running:
        folder.mkdir()
        path, log = folder / "sidecar.sock", folder / "log"
        command = self._command(name, outcome, folder, path)
        notices = self._stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notices.bind(str(folder / "notices"))
        with log.open("wb") as output:
            environ = {"NOTIFY_SOCKET": str(folder / "notices")}
            process = owned(command, folder=self._checkout(name), output=output, environ=environ)
        # libmilter needs up to 5 s to stop.
        self._stack.callback(stop_group, process, signal.SIGTERM if name in (*SIDECARS, "rspamd") else signal.SIGKILL)

        def died() -> str | None:
            return None if process.poll() is None else f"{name} ended: {_text(log)[-2000:]}"

        def ready() -> bool:
            if name in SIDECARS:
                return bool(select.select([notices], [], [], 0)[0]) and b"READY=1" in notices.recv(4096)
            if name == "rspamd":  # it compiles regular expressions in the background
                found = re.findall(r"\(rspamd_proxy\).*full hyperscan database", _text(folder / "rspamd.log"))
                return len(found) == self._workers
            return path.is_socket()

        def complete() -> bool:  # the sidecar's loader looks for warnings while the workers are already running
            return name not in (*SIDECARS, PYMILTER) or len(children(process.pid)) == self._workers

        wait_until(ready, f"{name} is ready", give_up=died, seconds=240)
        wait_until(complete, f"{name} has only its workers", give_up=died, seconds=240)
        path.chmod(0o666)
        return Running(name, path, (process.pid, *children(process.pid)))

    def _command(self, name: str, outcome: str, folder: Path, path: Path) -> Sequence[str]:
        words = {"folder": str(folder), "socket": str(path), "workers": str(self._workers)}
        match name:
            case "plain C" | "best C":
                return [str(PROGRAMS / "noop"), f"unix:{path}", "plain" if name == PLAIN_C else outcome]
            case "pymilter":
                return [sys.executable, "-m", "tests.bench.noop", f"unix:{path}", str(self._workers), outcome]
            case "rspamd":
                for file, content in _RSPAMD.items():
                    (folder / file).parent.mkdir(exist_ok=True)
                    (folder / file).write_text(content.format(**words))
                shutil.chown(folder, "_rspamd", "_rspamd")
                variables = [f"--var={variable}={folder}" for variable in ("LOCAL_CONFDIR", "DBDIR", "RUNDIR", "LOGDIR")]
                return ["rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd", *variables]
            case "opendkim":
                subprocess.run(
                    ["openssl", "genrsa", "-out", str(folder / "key.pem"), "2048"], check=True, stderr=subprocess.DEVNULL
                )
                (folder / "settings").write_text(_OPENDKIM.format(**words))
                return ["opendkim", "-f", "-x", str(folder / "settings")]
            case "opendmarc":
                (folder / "ignored").write_text("192.0.2.99\n")
                (folder / "settings").write_text(_OPENDMARC.format(**words))
                return ["opendmarc", "-f", "-c", str(folder / "settings")]
            case _:
                return self._sidecar(name, folder)

    def _checkout(self, name: str) -> Path:
        return self._other if name == OTHER else ROOT

    def _sidecar(self, name: str, folder: Path) -> Sequence[str]:
        checkout = self._checkout(name)
        # Each checkout writes its own settings: another one may lack a key of ours.
        write = runpy.run_path(str(checkout / "tests/bench/scenarios.py"))["write_settings"]
        config = write(
            folder,
            domains=self._domains,
            workers=self._workers,
            relay_listener=f"127.0.0.1:{self.port(name, relay_host=True)}",
            engine="libmilter" if name == LIBMILTER else "direct",
        )
        python = checkout / ".venv/bin/python"
        program = "from sidecar.cli import main; main()"
        return [str(python) if python.exists() else sys.executable, "-c", program, "run", "--config", str(config)]


def build() -> None:
    """Compile the milters in C. Raises CalledProcessError, its output on the terminal."""
    compiler = (sysconfig.get_config_var("CC") or "gcc").split()[0]
    source, target = HERE / "noop.c", PROGRAMS / "noop"
    PROGRAMS.mkdir(exist_ok=True)
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        flags = ["-O2", "-Wall", "-Wextra", "-pthread"]
        subprocess.run([compiler, *flags, "-o", str(target), str(source), "-lmilter"], check=True)


def children(pid: int) -> Sequence[int]:
    """Return the process ids of a process's children (proc(5))."""
    return [int(word) for word in _text(Path(f"/proc/{pid}/task/{pid}/children")).split()]


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
