"""Processes beside each other: order, failures, and how they end. Each test is a program of its own, as it forks."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from sidecar.commands.replay import WorkerPool

def work(task):
    if task == 5 and sys.argv[1] == "fail":
        raise ZeroDivisionError
    for part in range(task % 3):
        yield f"{task}.{part}"
    yield "x" * 100_000 * (task % 2)

with WorkerPool(work, range(int(sys.argv[2])), count=3) as workers:
    print(len(workers._workers))
    try:
        print(",".join(result for result in workers if "x" not in result))
    except Exception as error:
        print(type(error).__name__, error, error.task)
    ids = [worker.pid for worker in workers._workers]
for pid in ids:
    assert not os.path.exists(f"/proc/{pid}")
"""


def run(*arguments: str) -> tuple[str, str]:
    found = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=30)
    return found.stdout, found.stderr


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 4, 7, 20])
def test_order(tasks: int) -> None:
    """Results come in the order of the tasks, big and small, with no more workers than there are tasks."""
    wanted = [part for task in range(tasks) for part in (*(f"{task}.{n}" for n in range(task % 3)), *[""] * (1 - task % 2))]
    assert run("work", str(tasks)) == (f"{min(tasks, 3)}\n{','.join(wanted)}\n", "")


def test_a_failure() -> None:
    """A worker that fails says on standard error what it was, and the loss names its task."""
    out, error = run("fail", "20")
    assert out == "3\nWorkerLost A worker process ended with status 1. 5\n"
    assert error.splitlines()[-1] == "ZeroDivisionError"
