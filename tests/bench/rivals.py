"""Whom the sidecar is measured against: milters that do nothing, in C and in Python. And the sidecar, started alike.

Owns building, starting and stopping them. Never measures.
"""

import runpy
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.mta.processes import owned, stop_group, wait_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIDECARS = {"sidecar": "libmilter", "direct": "direct"}
"""The sidecar by the name that it has here, and which engine it runs on then."""


class Running(NamedTuple):
    """A rival that runs: its socket, None for no milter, and the id of the process that was started."""

    socket: str | None
    pid: int


RIVALS = ("no milter", "plain C", "best C", "pymilter")


def build(folder: Path) -> None:
    """Compile the load generator and the rivals in C into `folder`. Raises CalledProcessError, its output on the terminal."""
    compiler = (sysconfig.get_config_var("CC") or "gcc").split()[0]
    folder.mkdir(parents=True, exist_ok=True)
    for name, libraries in (("load", ()), ("noop", ("-lmilter",))):
        target = folder / name
        source = HERE / f"{name}.c"
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(target), str(source), *libraries, "-pthread"]
            subprocess.run(command, check=True)


def children(pid: int) -> Sequence[str]:
    """Give the process ids of a process's children (proc(5))."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@contextmanager
def rival(
    name: str,
    outcome: str,
    folder: Path,
    programs: Path,
    *,
    workers: int = 2,
    domains: int = 10,
    relay_listener: str | None = None,
    checkout: Path = ROOT,
) -> Iterator[Running]:
    """Run a rival within the context. The sidecar is that of `checkout`, with that one's `.venv` where it has one."""
    if name == "no milter":
        yield Running(socket=None, pid=0)
        return
    # A new folder each time: what an earlier one left in its journal must not be read again at the start.
    folder.mkdir(parents=True)
    path = folder / "sidecar.sock"
    if name in SIDECARS:
        command = _sidecar(name, folder, checkout, workers=workers, domains=domains, relay_listener=relay_listener)
    else:
        command = _milter(name, outcome, programs, path, workers=workers)
    log = folder / "log"
    with log.open("wb") as output:
        process = owned(command, folder=checkout, output=output)
    try:

        def died() -> str | None:
            return None if process.poll() is None else f"{name} ended: {log.read_text(errors='replace')[-2000:]}"

        wait_until(path.is_socket, f"{name} listens", give_up=died, seconds=120)
        if name in SIDECARS:
            # It looks for warnings when it serves already: of a million domains that takes a CPU some ten seconds.
            wait_until(lambda: len(children(process.pid)) == workers, "all warnings are told", give_up=died, seconds=120)
        path.chmod(0o666)
        yield Running(socket=f"unix:{path}", pid=process.pid)
        if reason := died():
            raise RuntimeError(reason)
    finally:
        # libmilter takes up to 5 s to end in order, and nobody needs that of a rival.
        stop_group(process, signal.SIGTERM if name in SIDECARS else signal.SIGKILL)


def _milter(name: str, outcome: str, programs: Path, path: Path, *, workers: int) -> Sequence[str]:
    match name:
        case "plain C":
            return [str(programs / "noop"), f"unix:{path}", "plain"]
        case "best C":
            return [str(programs / "noop"), f"unix:{path}", outcome]
        case "pymilter":
            return [sys.executable, "-m", "tests.bench.noop", f"unix:{path}", str(workers), outcome]
        case _:
            raise ValueError(f"{name} is no rival")


def _sidecar(
    name: str, folder: Path, checkout: Path, *, workers: int, domains: int, relay_listener: str | None
) -> Sequence[str]:
    # Each checkout writes its own settings: another one may lack a key of ours.
    own = runpy.run_path(str(checkout / "tests" / "bench" / "scenarios.py"))
    config = own["write_settings"](
        folder, domains=domains, workers=workers, relay_listener=relay_listener, engine=SIDECARS[name]
    )
    python = checkout / ".venv" / "bin" / "python"
    program = "from sidecar.cli import main; main()"
    return [str(python) if python.exists() else sys.executable, "-c", program, "run", "--config", str(config)]
