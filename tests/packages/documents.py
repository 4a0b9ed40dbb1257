"""The commands in the documents: all of them are run, in order, in a Debian with systemd, Postfix and the package.

`make test-packages` runs it. pytest does not collect it by itself.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.deploy.documents import FOLDER, Document, Fence, documents
from tests.mta.processes import wait_until
from tests.packages.conftest import PREVIOUS, VERSION
from tests.packages.machine import Machine, machine

README = Document(ROOT / "README.md")
# The last one uninstalls the package.
LAST = Document(FOLDER / "operations.md")
VERSIONS = {"install": VERSION, "upgrade": VERSION, "rollback": PREVIOUS}
MACHINE = {"machine", "postfix-settings", *VERSIONS}
ATTACHING = "Attach it"
EXAMPLE_ID = "1F2A3B4C5D"
APT = 'APT::Get::Assume-Yes "true";\nDpkg::Options { "--force-confold"; };\n'


def others() -> Iterator[Document]:
    for document in documents():
        if document.name not in {README.name, LAST.name} and any(MACHINE & {*fence.words} for fence in document.fences()):
            yield document


@pytest.fixture(scope="module")
def debian(package: Path, previous: Path) -> Iterator[Machine]:
    """A Debian on which the README was followed."""
    with machine() as one:
        one.boot()
        one.path("/etc/apt/apt.conf.d/90test").write_text(APT)
        one.run("postconf", "-e", "myhostname = mx.example.com", "mydestination = localhost", "inet_interfaces = loopback-only")
        one.run("systemctl", "restart", "postfix")
        for name, path in (("new", package), ("old", previous)):
            shutil.copy(path, one.path(f"/root/sidecar_{name}_amd64.deb"))
        one.path("/root/dist").mkdir()
        shutil.copy(package, one.path("/root/dist"))
        follow(one, README)
        one.run("cp", "-a", "/etc/postfix", "/etc/sidecar", "/root")
        yield one


def follow(debian: Machine, document: Document) -> None:
    """Write the files that a document shows, and run its commands, in order. `ATTACHING` begins without what the README did."""
    section = ""
    for fence in document.fences():
        if fence.section == ATTACHING != section:
            debian.run("cp", "-p", "/etc/postfix/main.cf.before-sidecar", "/etc/postfix/main.cf")
        section = fence.section
        if fence.words and fence.words[-1].startswith("/"):
            path = debian.path(fence.words[-1])
            path.write_text((path.read_text() if "append" in fence.words else "") + fence.text)
        elif fence.language == "sh":
            run(debian, fence, f"{document.name}:{fence.line}")


def run(debian: Machine, fence: Fence, place: str) -> None:
    """Run a block in a shell of root."""
    (runner,), script = fence.words, fence.text
    if runner not in MACHINE:
        return
    if runner == "install":
        # The package was built as this command does.
        script = script.removeprefix("make deb && ")
    elif runner == "upgrade":
        debian.run("sh", "-c", "cd /root && apt-get install --allow-downgrades ./sidecar_old_amd64.deb")
        assert_version(debian, PREVIOUS)
    if EXAMPLE_ID in script:
        script = script.replace(EXAMPLE_ID, queue_id(debian))
    debian.outputs[place] = output = debian.run("bash", "-c", f"set -euo pipefail; cd /root\n{script}")
    assert "Traceback" not in output, (place, output)
    if runner in VERSIONS:
        assert_version(debian, VERSIONS[runner])
    elif runner == "postfix-settings":
        check = debian.run("sh", "-c", "postconf -x; postconf -Mx; postfix check")
        assert not re.search(r"(?m)^\S+: (warning|fatal):", check), (place, check)


def assert_version(debian: Machine, version: str) -> None:
    """Wait until the service of this version runs."""
    command = ("sidecar", "status", "--config", "/etc/sidecar/sidecar.toml")
    wait_until(lambda: debian.succeeds(*command) and f"version {version}" in debian.run(*command), f"{version} runs")


def queue_id(debian: Machine) -> str:
    """Return the id of a message that was rejected at its end."""
    log = debian.run("journalctl", "--no-pager", "--output=cat", "--unit=postfix@-")
    found: list[str] = re.findall(r"(\w+): milter-reject: END-OF-MESSAGE", log)
    return found[-1]


def test_the_readme(debian: Machine) -> None:
    """The doctor has no finding. The simulation prints the line that the README shows, and all other messages agree as well."""
    output = "".join(text for place, text in debian.outputs.items() if place.startswith(f"{README.name}:"))
    assert "Postfix fits the sidecar." in output
    (last,) = (code for code in README.codes() if code.endswith("all as expected."))
    assert f"\n{last}\n" in output
    to = ("--to", "news-17@bounce.example.com", "--to", "complaints@fbl.example.com")
    assert "36 messages: 27 accepted" in debian.run("sidecar", "simulate", "--mta", "127.0.0.1:25", "--bind", "127.0.0.2", *to)


def test_the_log_of_a_stopped_service(debian: Machine) -> None:
    """`sidecar status` names the unit that systemd has started."""
    debian.run("systemctl", "stop", "sidecar")
    assert "`journalctl -u sidecar` shows its log." in debian.run("sidecar", "status", status=1)
    debian.run("systemctl", "start", "sidecar")


@pytest.mark.parametrize("document", list(others()), ids=lambda document: document.name)
def test_a_document(document: Document, debian: Machine) -> None:
    """Its commands work on a machine that was set up by the README."""
    restore(debian)
    follow(debian, document)


def test_operations(debian: Machine) -> None:
    """From the first look to the purge."""
    restore(debian)
    follow(debian, LAST)
    assert not debian.path("/var/lib/sidecar").exists()
    assert debian.run("postconf", "smtpd_milters") == "smtpd_milters =\n"


def restore(debian: Machine) -> None:
    """Return to the settings of the README."""
    for name in ("postfix", "sidecar"):
        debian.run("cp", "-a", "--no-target-directory", f"/root/{name}", f"/etc/{name}")
    # More restarts than an operator makes: without the reset systemd would not start it.
    debian.run("systemctl", "reset-failed", "sidecar")
    debian.run("systemctl", "restart", "sidecar", "postfix")
    debian.run("sidecar", "status")
