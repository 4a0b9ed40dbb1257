"""The whole program beside KumoMTA's tools: packed segments of several kinds, and refusals recorded as KumoMTA records them."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, DISCARD, Reply
from tests.wire.program import Program
from tests.wire.test_program import OOB

SETTINGS = 'compat = "kumomta"\n[journal]\nformat = "zstd"\nsegment_age = 1\n[journal.OOB]\nsuffix = "_oob"\n'
SEGMENT = re.compile(r"\d{8}-\d{6}\.\d{6}(_oob)?")
PLAIN = b"Subject: hello\r\n\r\nJust a letter.\r\n"


def segments(program: Program) -> list[Path]:
    folder = program.directory / "state" / "journal"
    assert all(SEGMENT.fullmatch(path.name) for path in folder.iterdir())
    return sorted(folder.iterdir())


def is_live(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o222)


def unpacked(path: Path) -> list[dict[str, Any]]:
    """Unpack with Debian's own program; a live segment breaks off, and it says so behind all that there is."""
    done = subprocess.run(["zstdcat", path], check=False, capture_output=True)
    assert done.returncode == 0 or is_live(path)
    return [json.loads(line) for line in done.stdout.splitlines()]


def types(program: Program) -> dict[str, list[str]]:
    """Return the types of all records, by the end of their segments' names."""
    found: dict[str, list[str]] = {"": [], "_oob": []}
    for path in segments(program):
        found["_oob" if path.name.endswith("_oob") else ""] += [record["type"] for record in unpacked(path)]
    return found


def test_a_node_of_kumomtas_could_have_written_it() -> None:
    """What is answered is in packed segments at once, each kind in its own; idle ones are finished; a refusal has a pair."""
    with Program(settings=SETTINGS, milter="workers = 1") as program:
        with program.mta() as mta:
            mta.begin()
            assert mta.envelope(b"<>", b"<sender@bounce.example>") == [CONTINUE]
            assert mta.content(OOB) == (DISCARD, [])
            assert types(program) == {"": ["Reception"], "_oob": ["OOB"]}
        with program.mta() as mta:
            mta.begin()
            assert mta.envelope(b"<a@b.example>", b"<sender@bounce.example>") == [CONTINUE]
            assert mta.content(PLAIN) == (Reply("y", "550 5.7.1 relaying not permitted"), [])
        wait_until(lambda: not any(map(is_live, segments(program))), "idle segments are finished")
        assert types(program) == {"": ["Reception", "Reception", "Rejection"], "_oob": ["OOB"]}


def test_killed_with_a_segment_open() -> None:
    """After kill -9 of a worker the next one ends the open frames, and the journal has every record that was answered."""
    with Program(settings=SETTINGS.replace("age = 1", "age = 3600"), milter="workers = 1") as program:
        for _ in range(3):
            with program.mta() as mta:
                mta.begin()
                mta.envelope(b"<>", b"<sender@bounce.example>")
                assert mta.content(OOB) == (DISCARD, [])
        assert all(map(is_live, segments(program)))
        (worker,) = program.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not any(map(is_live, segments(program))), "its successor has finished what it left")
        assert types(program) == {"": ["Reception"] * 3, "_oob": ["OOB"] * 3}
