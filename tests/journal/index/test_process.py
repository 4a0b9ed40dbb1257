"""`sidecar run` with a console: records of real sessions are in the index soon, each once, whatever is killed."""

import os
import signal
from contextlib import closing
from pathlib import Path

from sidecar.journal.index import IndexUnavailableError, Search
from sidecar.journal.index.index import Index
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, DISCARD
from tests.wire.program import Program
from tests.wire.test_program import OOB

SETTINGS = '[admin]\nsocket = "unix:{folder}/admin.sock"\nconsole = {console}'


def bounce(program: Program, name: bytes) -> None:
    with program.mta() as mta:
        mta.begin()
        assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
        assert mta.content(OOB.replace(b"gone@", name + b"@")) == (DISCARD, [])


def found(program: Program) -> list[str]:
    """Return the failed recipients in the index, the oldest first; nothing while it cannot be read."""
    with closing(Index(program.directory / "state/index.db")) as index:
        try:
            page = index.search(Search(types=("OOB",)), limit=100)
        except IndexUnavailableError:
            return []
    return [row.recipients[0].partition("@")[0] for row in reversed(page.rows)]


def keeper(program: Program) -> set[int]:
    """Return the process that has the lock of the index."""
    locked = (program.directory / "state/index.db.lock").stat().st_ino
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
    return {int(row[4]) for row in rows if row[5].rsplit(":", 1)[1] == str(locked)} & program.workers()


def use(program: Program, *, console: str) -> None:
    program.settings = SETTINGS.format(folder=program.directory, console=console)
    program.write()


def test_the_life_of_the_process() -> None:
    """It is killed, its database is removed, and a reload ends it; no verdict waits for it."""
    program = Program()
    use(program, console="true")
    with program:
        bounce(program, b"first")
        wait_until(lambda: found(program) == ["first"], "the report is in the index")
        (killed,) = keeper(program)
        assert {10} == {os.getpriority(os.PRIO_PROCESS, int(one.name)) for one in Path(f"/proc/{killed}/task").iterdir()}
        os.kill(killed, signal.SIGKILL)
        bounce(program, b"second")
        wait_until(lambda: found(program) == ["first", "second"], "another process continues")

        database = program.directory / "state/index.db"
        database.unlink()
        bounce(program, b"third")
        wait_until(lambda: found(program) == ["first", "second", "third"], "it is made again")

        # A folder in its place: the process fails again and again.
        database.unlink()
        database.mkdir()
        wait_until(lambda: any("of the index failed" in line["event"] for line in program.lines()), "the process fails")
        bounce(program, b"fourth")
        database.rmdir()
        wait_until(lambda: len(found(program)) == 4, "it recovers")

        (ended,) = keeper(program)
        use(program, console="false")
        program.signal(signal.SIGHUP)
        wait_until(lambda: ended not in program.workers(), "without a console there is no index process")
        assert program.stop() == 0
