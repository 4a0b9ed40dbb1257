"""The faults of `make soak`: each does what its name says, and a short run of some loses no record and changes no verdict."""

import subprocess
import sys
import time

import pytest

from tests import ROOT
from tests.fleet.clock import needs_clock, step
from tests.fleet.network import ISOLATED
from tests.fleet.servers import needs_nats
from tests.soak import fleet

needs_namespaces = pytest.mark.skipif(
    subprocess.run([*ISOLATED, "true"], capture_output=True, check=False).returncode != 0,
    reason="network namespaces cannot be made here",
)


@needs_clock
def test_a_step_of_the_clock() -> None:
    """One process and its forks see another time of day, and the same monotonic clock."""
    program = (
        "import os, sys, time\n"
        "print('runs', flush=True)\n"
        "for _ in sys.stdin:\n"
        "    if not os.fork():\n"
        "        print(time.time(), time.monotonic(), flush=True)\n"
        "        os._exit(0)\n"
        "    os.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "runs\n"  # before that the kernel can still be mapping its memory
        for seconds in (0, 3600, -7200, 0):
            step(process.pid, seconds)
            process.stdin.write("\n")
            process.stdin.flush()
            wall, monotonic = map(float, process.stdout.readline().split())
            assert wall - time.time() == pytest.approx(seconds, abs=30)
            assert monotonic == pytest.approx(time.monotonic(), abs=30)
        process.stdin.close()


@needs_namespaces
def test_the_cuts_of_the_network() -> None:
    subprocess.run([*ISOLATED, sys.executable, "-m", "tests.fleet.isolated"], cwd=ROOT, check=True)


@needs_nats
@needs_clock
@needs_namespaces
def test_a_short_run() -> None:
    """A server's disk is full, and the node's clock steps."""
    done = fleet.attack(2, seed=1, seconds=60, burst=0.5, only=["full disk", "node's clock"])
    assert len(done.faults) == 2
    assert done.written == 3 * done.sessions > 100
    assert (done.lost, done.read_twice, done.different) == ([], [], [])
    assert done.stored_twice == 0
