"""The guide to personal data: its commands find and erase one person's data, and no one else's."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.deploy.documents import FOLDER, Document
from tests.mta.processes import wait_until
from tests.suppression.test_process import SECTION, addresses, bounce
from tests.wire.program import Program

FIND, ERASE = (fence.text for fence in Document(FOLDER / "personal-data.md").fences() if fence.words == ("personal-data",))
# The test stops and starts the program itself.
SHELL = 'sidecar() {{ {python} -m sidecar "$@"; }}\nsystemctl() {{ :; }}\nsudo() {{ shift 2; "$@"; }}\naddress={address}\n'
pytestmark = pytest.mark.daemon


def shell(text: str, folder: Path, address: str) -> str:
    """Run a block of the guide. Return its output."""
    text = text.replace("/etc/sidecar", str(folder)).replace("/var/lib/sidecar", f"{folder}/state")
    script = SHELL.format(python=sys.executable, address=address) + text
    return subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False).stdout


def files_with(folder: Path, address: str) -> list[str]:
    files = (path for path in (folder / "state").rglob("*") if path.is_file())
    return [path.name for path in files if address.encode() in path.read_bytes().lower()]


def test_find_and_erase() -> None:
    with Program(settings=SECTION.format("[suppression]")) as program:
        folder = program.directory
        for name in (b"alice", b"bob", b"Alice"):
            bounce(program, name)
        wait_until(lambda: addresses(program) == ["alice@example.net", "bob@example.net"], "both are on the list")
        found = shell(FIND, folder, "alice@example.net")
        assert "alice@example.net is on the list: InvalidRecipient" in found
        assert found.count('"type":"OOB"') == 2
        assert program.stop() == 0
        assert files_with(folder, "alice@example.net")
        erased = shell(ERASE, folder, "alice@example.net")
        assert erased == "alice@example.net: erased.\n"
        assert not files_with(folder, "alice@example.net")
        assert len(files_with(folder, "bob@example.net")) > 1
        # Other rules read the whole journal again, also segments that have no line any more.
        program.settings += '\n[[suppression.rule]]\nwhen = ["InvalidRecipient", "BadDomain"]'
        program.write()
        program.start()
        bounce(program, b"carol")
        wait_until(lambda: addresses(program) == ["bob@example.net", "carol@example.net"], "the list is as before")
        assert program.stop() == 0
        assert not [line for line in program.lines() if line["level"] == "error"]
