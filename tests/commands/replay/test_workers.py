"""Worker processes: order, failures, and how they end. Each test is a program of its own, as it forks."""

import re
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from multiprocessing import active_children
from sidecar.commands.replay.replayer import JudgedBatch, ReplayTally
from sidecar.commands.replay.stores import Piece
from sidecar.commands.replay.workers import WorkerLostError, run_workers

def work(task):
    (piece,) = task
    number = int(piece.path)
    if number == 5 and sys.argv[1] == "fail":
        raise ZeroDivisionError
    if number == 5 and sys.argv[1] == "killed":
        # Half of a result is in the pipe, and the lock for writing stays closed.
        queue = sys._getframe(1).f_back.f_locals["result_queue"]
        queue._wlock.acquire()
        os.write(queue._writer.fileno(), b"\\0\\0\\1\\0half")
        os.kill(os.getpid(), signal.SIGKILL)
    rest = (Piece(path=piece.path, start=piece.start + 1),) if piece.start < number % 3 else ()
    filler = b"x" * 100_000 * (number % 2)
    return JudgedBatch(lines=b"%d.%d " % (number, piece.start) + filler, tally=ReplayTally(), rest=rest)

tasks = ((Piece(path=str(number)),) for number in range(int(sys.argv[2])))
try:
    with run_workers(work, tasks, count=3) as batches:
        workers = active_children()
        print(len(workers))
        print(",".join(batch.lines.decode().split()[0] for batch in batches))
except (WorkerLostError, ZeroDivisionError) as error:
    print(type(error).__name__, error)
for worker in workers:
    assert not os.path.exists(f"/proc/{worker.pid}")
"""


def run(*arguments: str) -> str:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert found.stderr == ""
    return found.stdout


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 4, 7, 20])
def test_order(tasks: int) -> None:
    """Batches come in the order of the tasks and of their rests, with no more workers than there are tasks."""
    wanted = [f"{task}.{part}" for task in range(tasks) for part in range(task % 3 + 1)]
    assert run("work", str(tasks)) == f"{min(tasks, 3)}\n{','.join(wanted)}\n"


def test_an_exception() -> None:
    """An exception in a worker is raised for the reader of the batches, and all workers end."""
    assert run("fail", "20") == "3\nZeroDivisionError \n"


def test_a_worker_killed_while_it_writes() -> None:
    """Half a result of a killed worker does not stop the program: it ends with one sentence."""
    text = (
        r"A worker process was killed, as the kernel does when memory is short. It was reading [0-5], or a file soon after it."
    )
    assert re.fullmatch(rf"3\nWorkerLostError {text}\n", run("killed", "20"))
