"""`sidecar run` with a suppression list: reports of real sessions are on it soon, whatever is killed."""

import json
import os
import re
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner

from sidecar.cli import main
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


CHECK = """[suppression]
check = "reject"
on_unreadable = "tempfail"
[admin]
socket = "unix:{folder}/admin.sock"
"""


def findings(program: Program) -> dict[str, str]:
    """Return the codes of `check` that are about the list, and their levels."""
    result = CliRunner().invoke(main, ["check", "--json", "--config", str(program.directory / "sidecar.toml")])
    found = {one["code"]: one["level"] for one in json.loads(result.stdout)["findings"]}
    return {code: level for code, level in found.items() if code in {"unreadable_list", "no_list_writer"}}


def rcpt(program: Program) -> str:
    with program.mta() as mta:
        mta.begin(peer="127.0.0.1")
        (reply,) = mta.envelope(b"<a@sender.example>", b"<gone@example.net>")
    return reply.text


def checks(program: Program) -> dict[str, int]:
    """Return the counts of look-ups, by their results."""
    with socket.socket(socket.AF_UNIX) as http:
        http.connect(str(program.directory / "admin.sock"))
        http.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: http.recv(65536), b"")).decode()
    found = re.findall(r'^sidecar_suppression_checks_total\{result="(\w+)"\} ([0-9.]+)$', text, re.MULTILINE)
    return {result: int(float(count)) for result, count in found if float(count)}


def test_a_list_that_cannot_be_read() -> None:
    """The milter answers 451, `check` says why and that no process keeps the list, and the metric counts each look-up."""
    program = Program()
    program.settings = SECTION.format(CHECK.format(folder=program.directory))
    program.write()
    with program:
        wait_until(lambda: rcpt(program) == "", "the list can be read")
        bounce(program, b"gone")
        wait_until(lambda: rcpt(program).startswith("550 5.7.1 gone@example.net is on the"), "the address is on the list")
        assert not findings(program)

        # A folder in its place: the process of the list fails, too.
        database = program.directory / "state/suppression.db"
        database.unlink()
        database.mkdir()
        wait_until(lambda: rcpt(program).startswith("451 4.3.0 the suppression list cannot be read"), "the list cannot be read")
        level = "error" if os.geteuid() == 0 else "warning"
        expected = {"unreadable_list": level, "no_list_writer": "warning"}
        wait_until(lambda: findings(program) == expected, "no process keeps the list")
        counted = checks(program)
        assert counted.keys() == {"not_listed", "rejected", "unreadable"}
        assert counted["rejected"] == 1

        database.rmdir()
        wait_until(lambda: rcpt(program).startswith("550"), "the list is made again from the journal")
