"""Debian's miltertest, an independent client, over the whole protocol against the whole program, with both engines."""

import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

from tests import ROOT
from tests.mta.mails import OOB, ORDINARY
from tests.mta.processes import PATIENCE
from tests.wire.program import Program

pytestmark = pytest.mark.skipif(
    which("miltertest") is None and "CI" not in os.environ, reason="miltertest is not installed (apt-get install miltertest)"
)

# Rejected is once each: the recipient, the message that is no report, and the one that only claims to be a report.
RECORDS = {"rejected_at_rcpt": 1, "rejected_at_end": 2, "logged_and_dropped": 12, "relayed": 3}


@pytest.mark.parametrize("engine", ["libmilter", "direct"])
def test_the_whole_protocol(engine: str, tmp_path: Path) -> None:
    for name, message in (("oob", OOB), ("plain", ORDINARY)):
        (tmp_path / name).write_bytes(message.replace(b"\n", b"\r\n"))
    with Program(engine=engine, milter="workers = 1") as program:
        values = {"socket": f"unix:{program.address}", "oob": f"{tmp_path}/oob", "plain": f"{tmp_path}/plain"}
        defined = [word for key, value in values.items() for word in ("-D", f"{key}={value}")]
        command = ["miltertest", *defined, "-s", f"{ROOT}/tests/wire/protocol.lua"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        dispositions = [record["meta"]["disposition"] for record in program.records()]
        assert {word: dispositions.count(word) for word in dispositions} == RECORDS
        assert program.count("an unexpected fault") == 0
        assert program.count("a connection is ended") == 0
