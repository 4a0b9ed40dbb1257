"""The guide for the policy of a fleet: its files and commands work as they are, but for the server and its credential."""

import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from sidecar.cli import main
from tests.deploy.documents import FOLDER, Document, Fence
from tests.fleet.servers import Server, needs_nats, server
from tests.mta.processes import wait_until
from tests.wire.program import Program

pytestmark = [needs_nats]

FENCES = [one for one in Document(FOLDER / "fleet.md").fences() if one.language == "toml" or "fleet" in one.words]
STATUS = "sidecar fleet status --config operator.toml"


def adapted(text: str, one: Server) -> str:
    """Return settings for the server of the test, which asks for no credential."""
    return text.replace("tls://nats1.example.com:4222", one.url).replace('credentials = "fleet.creds"\n', "")


def steps() -> Iterator[Fence]:
    """Yield the blocks from the first key on, in order."""
    begun = False
    for fence in FENCES:
        begun |= fence.text.startswith("sidecar keys policy")
        if begun:
            yield fence


def steady(status: str) -> str:
    """Return a status without what differs each time: times, the version, and the width of their columns."""
    without_times = re.sub(r"\d+ seconds? ago", "", status)
    return re.sub(r"(?m) +| *[0-9.]*\d$", " ", without_times)


def test_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each status is what the guide shows, within 80 columns."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        one = stack.enter_context(server())
        for fence in steps():
            if fence.language == "toml" and not fence.words:
                for name in ("mx1", "mx2"):
                    public = str(tmp_path / "policy.key.pub")
                    settings = f'{adapted(fence.text, one)}node = "{name}"\n'.replace("policy.key.pub", public)
                    stack.enter_context(Program(settings=settings, milter="workers = 1"))
            elif fence.language == "toml":
                with (tmp_path / fence.words[0]).open("a" if "append" in fence.words else "w") as file:
                    file.write(adapted(fence.text, one))
            elif fence.language == "sh":
                for line in fence.text.splitlines():
                    run(line)
            else:
                wait_for(fence.text)
                assert max(map(len, fence.text.splitlines())) <= 80


def wait_for(status: str) -> None:
    """Wait until the nodes have this status."""
    found = ""

    def is_reached() -> bool:
        nonlocal found
        found = run(STATUS)
        return steady(found) == steady(status)

    try:
        wait_until(is_reached, status)
    except TimeoutError as error:
        error.add_note(found)
        raise


def run(line: str) -> str:
    """Run a command of the guide, and return what it prints. A status can show a node that is still behind."""
    result = CliRunner().invoke(main, shlex.split(line)[1:])
    assert result.exit_code == 0 or line == STATUS, result.output
    # The guide has to wait where an operator reads: a promotion needs a canary that serves.
    return result.stdout
