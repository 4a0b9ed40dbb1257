"""Whom the sidecar is measured against: milters that do nothing, in C and in Python. And the sidecar, started alike.

Owns building, starting and stopping them. Never measures.
"""

import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.scenarios import write_settings
from tests.mta.processes import owned, stop_group, wait_until

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SIDECARS = {"sidecar": "libmilter", "direct": "direct"}
"""The sidecar by the name that it has here, and which engine it runs on then."""
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
) -> Iterator[str | None]:
    """Run a rival within the context, and give its socket; None for no milter."""
    if name == "no milter":
        yield None
        return
    # A new folder each time: what an earlier one left in its journal must not be read again at the start.
    folder.mkdir(parents=True)
    path = folder / "sidecar.sock"
    command = _command(name, outcome, folder, programs, path, workers=workers, domains=domains, relay_listener=relay_listener)
    log = folder / "log"
    with log.open("wb") as output:
        process = owned(command, folder=ROOT, output=output)
    try:

        def died() -> str | None:
            return None if process.poll() is None else f"{name} ended: {log.read_text(errors='replace')[-2000:]}"

        wait_until(path.is_socket, f"{name} listens", give_up=died, seconds=120)
        if name in SIDECARS:
            # It looks for warnings when it serves already: of a million domains that takes a CPU some ten seconds.
            wait_until(lambda: len(children(process.pid)) == workers, "all warnings are told", give_up=died, seconds=120)
        path.chmod(0o666)
        yield f"unix:{path}"
        if reason := died():
            raise RuntimeError(reason)
    finally:
        # libmilter takes up to 5 s to end in order, and nobody needs that of a rival.
        stop_group(process, signal.SIGTERM if name in SIDECARS else signal.SIGKILL)


def _command(
    name: str,
    outcome: str,
    folder: Path,
    programs: Path,
    path: Path,
    *,
    workers: int,
    domains: int,
    relay_listener: str | None,
) -> Sequence[str]:
    match name:
        case "plain C":
            return [str(programs / "noop"), f"unix:{path}", "plain"]
        case "best C":
            return [str(programs / "noop"), f"unix:{path}", outcome]
        case "pymilter":
            return [sys.executable, "-m", "tests.bench.noop", f"unix:{path}", str(workers), outcome]
        case "sidecar" | "direct":
            config = write_settings(
                folder, domains=domains, workers=workers, relay_listener=relay_listener, engine=SIDECARS[name]
            )
            return [sys.executable, "-c", "from sidecar.cli import main; main()", "run", "--config", str(config)]
        case _:
            raise ValueError(f"{name} is no rival")
