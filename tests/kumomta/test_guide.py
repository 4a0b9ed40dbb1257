"""The guide for KumoMTA nodes: its settings, commands and policies work as they are, but for ports and folders."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.commands.explain.test_record import lines
from tests.core.evaluate.recorded.samples import record
from tests.deploy.documents import Document, Fence
from tests.kumomta.node import DEPLOYED, HERE
from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.wire.program import Program

GUIDE = Document(DEPLOYED / "README.md")
FENCES = list(GUIDE.fences())
POLICIES = [fence for fence in FENCES if fence.language == "lua"]

SIGN = """
local message = { sender = 'news@example.com', recipients = { 'jo@remote.example' }, header = { { 'Message-ID', '<1@a>' } } }
kumo.handlers.smtp_server_message_received(kumo.message(message))
print(message.sender:match '^news%+%w+@example.com$' and #message.header)
"""

SUPPRESSION = """
local via
local meta = { get_meta = function() return via end }
for _, listener in ipairs { '10.0.0.1:25', '10.0.0.1:587' } do
  via = listener
  kumo.handlers.smtp_server_rcpt_to('jo@remote.example', meta)
  print(#kumo.logged)
end
kumo.handlers.http_message_generated(kumo.message { sender = 'a@example.com', recipients = { 'b@remote.example' } })
print(#kumo.logged)
"""

# A policy script begins so.
HEAD = f"package.path = '{HERE}/lua/?.lua;{DEPLOYED}/?.lua;' .. package.path\nlocal kumo = require 'kumo'\n"
SIDECAR = "local sidecar = require 'sidecar'\n"
ASK = """
local meta = {{ get_meta = function() end }}
local found = kumo.handlers.get_listener_domain('bounce.example.com', '{listener}', meta)
print(found and found.log_oob or 'nothing')
"""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def program(port: int) -> Iterator[Program]:
    """A sidecar with the settings of the guide."""
    one = Program(domains='["bounce.example.com"]\nlog_oob = "LogThenDrop"\n')
    (guide,) = (fence.text for fence in FENCES if fence.language == "toml")
    own = (f'state_directory = "{one.directory}/state"\n', f'\n[milter]\nsocket = "unix:{one.path}"\n[log]\nformat = "json"\n')
    (one.directory / "sidecar.toml").write_text(moved(guide, one.directory, port).join(own))
    with one:
        wait_until(lambda: "LogThenDrop" in shell(block("curl"), one.directory, port), "the policy is served")
        yield one


def moved(text: str, folder: Path, port: int) -> str:
    """Return a piece of the guide for the ports and folders of a test."""
    places = {
        "127.0.0.1:8894": f"127.0.0.1:{port}",
        "/opt/kumomta/etc/policy": str(DEPLOYED),
        "/opt/kumomta/etc": str(folder),
        "/etc/sidecar": str(folder),
        "/var/log/kumomta": f"{folder}/node-log",
        "sidecar:setup {}": f"sidecar:setup {{ endpoint = 'http://127.0.0.1:{port}', timeout = '10s' }}",
    }
    for old, new in places.items():
        text = text.replace(old, new)
    return text


def block(command: str) -> Fence:
    """Return the block that begins with a command."""
    (found,) = (fence for fence in FENCES if fence.words == ("kumomta",) and fence.text.startswith(command))
    return found


def shell(fence: Fence, folder: Path, port: int) -> str:
    """Run a block, and return its output."""
    text = f'sidecar() {{ {sys.executable} -m sidecar "$@"; }}\n{moved(fence.text, folder, port)}'
    done = subprocess.run(
        ["bash", "-c", text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def test_every_block_is_run_here() -> None:
    """The commands and policies of the guide are those below."""
    assert [fence.language for fence in FENCES] == [*["text"] * 3, "toml", "sh", *["lua"] * 5, "sh"]


def test_disagreements(program: Program, port: int) -> None:
    """The last command lists what a node accepted and this policy rejects."""
    log = program.directory / "node-log"
    log.mkdir()
    meta = {"received_via": "10.1.1.1:25"}
    (log / "20261122-093000.123456.jsonl").write_bytes(
        lines(record(recipient="x@closed.example", meta=meta), record("Delivery", id="2", meta=meta))
    )
    output = shell(block("sidecar explain"), program.directory, port)
    assert "to <x@closed.example>: accepted with 250" in output
    assert output.endswith("no listener domain matches         1         0\n")


@pytest.mark.parametrize(
    ("number", "listener", "answer"),
    [(0, "10.0.0.1:25", "LogThenDrop"), (4, "10.0.0.1:25", "LogThenDrop"), (4, "10.0.0.1:587", "nothing")],
)
def test_policies(program: Program, port: int, number: int, listener: str, answer: str) -> None:
    """A node with the policy gets the listener domain from the sidecar, and the listener of the applications gets none."""
    policy = moved(POLICIES[number].text, program.directory, port)
    script = HEAD + ("" if SIDECAR in policy else SIDECAR) + policy + ASK.format(listener=listener)
    done = subprocess.run(["lua5.4", "-"], input=script, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{answer}\n", "")


def test_suppression(tmp_path: Path) -> None:
    """Only recipients of the applications' listener, and of injected messages, are checked: they find no sidecar here."""
    (tmp_path / "sidecar-token").write_text("the-token-of-the-examples-is-no-secret\n")
    policy = moved(POLICIES[2].text, tmp_path, 0).replace("token =", f"endpoint = 'http://127.0.0.1:{free_port()}', token =")
    script = HEAD + policy + SUPPRESSION
    done = subprocess.run(["lua5.4", "-"], input=script, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n1\n2\n", "")


def test_verifying(program: Program, port: int) -> None:
    """A node with the policy asks about a recipient, and accepts it in a domain that requires no token."""
    policy = moved(
        POLICIES[3].text.replace("setup {}", f"setup {{ endpoint = 'http://127.0.0.1:{port}' }}"), program.directory, port
    )
    script = f"{HEAD}{policy}\nkumo.handlers.smtp_server_rcpt_to('x@bounce.example.com')\nprint(#kumo.logged)\n"
    done = subprocess.run(["lua5.4", "-"], input=script, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_signing(tmp_path: Path) -> None:
    """A message that passes the policy has a token in its sender, and three new fields."""
    (tmp_path / "sidecar-secret").write_text("the-secret-of-the-examples-is-no-secret\n")
    script = HEAD + moved(POLICIES[1].text, tmp_path, 0) + SIGN
    done = subprocess.run(["lua5.4", "-"], input=script, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("4\n", "")
