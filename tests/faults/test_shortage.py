"""A worker that may open nothing any more."""

import re
import resource
import signal
from pathlib import Path

import pytest

from sidecar.daemon.milter import ENGINES
from tests.faults.scene import lowest_free_descriptor
from tests.mta.processes import wait_until
from tests.wire.client import DISCARD, Mta
from tests.wire.program import Program
from tests.wire.test_program import OOB


def take_a_report(mta: Mta) -> None:
    mta.envelope(b"<>", b"<sender@bounce.example>")
    assert mta.content(OOB) == (DISCARD, [])


def awakenings(pid: int) -> int:
    """Count how often the main thread of a process has slept and gone on (proc_pid_status(5))."""
    found = re.search(r"(?m)^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/task/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "SIGTERM: stopping"), (signal.SIGHUP, "reloaded")])
def test_a_worker_that_retires_without_descriptors_finishes_what_is_open(
    number: signal.Signals, said: str, engine: str
) -> None:
    """Beside libmilter it cannot count its connections then: that takes a descriptor, and it must neither see none nor die."""
    with Program(milter="workers = 1", engine=engine) as program, program.mta() as mta:
        mta.begin()
        take_a_report(mta)
        (pid,) = program.workers()
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free_descriptor(pid), hard))
        program.signal(number)
        wait_until(lambda: program.count(said), "the worker is told to end")
        before = awakenings(pid)
        wait_until(lambda: awakenings(pid) >= before + 5, "it has looked for open connections")
        take_a_report(mta)
        mta.quit()
        wait_until(lambda: program.says("a worker ended with status 0"), "it has ended as it should")
