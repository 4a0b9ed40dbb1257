"""`sidecar run` with a suppression list: reports of real sessions are on it soon, whatever is killed."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, DISCARD
from tests.wire.program import Program
from tests.wire.test_program import OOB

SECTION = 'bounce_classifier = ["iana"]\n{}'


def addresses(program: Program) -> list[str]:
    database = program.directory / "state/suppression.db"
    if not database.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened:
            return [address for (address,) in opened.execute("SELECT address FROM entry")]
    except sqlite3.OperationalError:  # it is being made
        return []


def bounce(program: Program, name: bytes) -> None:
    with program.mta() as mta:
        mta.begin()
        assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
        assert mta.content(OOB.replace(b"gone@", name + b"@")) == (DISCARD, [])


def reader(program: Program) -> set[int]:
    """Return the process that has the lock of the list."""
    locked = (program.directory / "state/suppression.db.lock").stat().st_ino
    # Processes that wait for a lock of others have an arrow.
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
    return {int(row[4]) for row in rows if row[5].rsplit(":", 1)[1] == str(locked)} & program.workers()


def test_the_life_of_the_process() -> None:
    """It is killed and replaced, reloaded, stopped and removed, and counts each report once."""
    with Program(settings=SECTION.format("[suppression]")) as program:
        bounce(program, b"first")
        wait_until(lambda: addresses(program) == ["first@example.net"], "the report is on the list")
        (killed,) = reader(program)
        os.kill(killed, signal.SIGKILL)
        bounce(program, b"second")
        wait_until(lambda: len(addresses(program)) == 2, "another process continues")
        assert reader(program) != {killed}

        program.settings += '\n[[suppression.rule]]\nwhen = ["BadDomain"]'
        program.write()
        program.signal(signal.SIGHUP)
        wait_until(lambda: not addresses(program), "the new rules are in force")

        checkpoint = program.directory / "state/checkpoints/suppression.json"
        assert checkpoint.exists()
        program.settings = ""
        program.write()
        program.signal(signal.SIGHUP)
        wait_until(lambda: not checkpoint.exists(), "retention does not wait for the list any more")
        assert program.stop() == 0
        assert not [line for line in program.lines() if line["level"] == "error" and line.get("pid") != killed]
