"""The recipe of deploy/sendmail on Debian's own sendmail.mc: all that its sendmail.cf had remains."""

import os
import shutil
import subprocess
import sys
from difflib import ndiff
from pathlib import Path

import pytest

from sidecar.commands.doctor.sendmail_checks import check_sendmail
from sidecar.commands.export import sendmail_access
from sidecar.config import load
from sidecar.core.open_domains import OpenDomains
from tests import ROOT
from tests.deploy.documents import Document
from tests.mta.places import free_port
from tests.mta.sendmail import UNPACKED, get_sendmail

pytestmark = pytest.mark.mta

FOLDER = ROOT / "deploy" / "sendmail"
MACROS = UNPACKED / "usr/share/sendmail/cf"
ACCESS = "/etc/mail/access-and-sidecar"


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    """A folder with Debian's sendmail.mc, which includes the macros of the same package. Its makers leave two files to add."""
    get_sendmail()
    shutil.copytree(MACROS, tmp_path / "cf")
    (tmp_path / "m4").mkdir()
    for name in ("dialup.m4", "provider.m4"):
        (tmp_path / "m4" / name).touch()
    for path in (tmp_path / "cf").rglob("*.m[4c]"):
        text = path.read_bytes().replace(b"/usr/share/sendmail/cf", bytes(tmp_path / "cf"))
        path.write_bytes(text.replace(b"/etc/mail/m4", bytes(tmp_path / "m4")))
    shutil.copy(tmp_path / "cf/debian/sendmail.mc", tmp_path)
    return tmp_path


def made(folder: Path) -> list[str]:
    """Return the lines of the sendmail.cf, without comments and empty lines."""
    done = subprocess.run(["m4", folder / "sendmail.mc"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]


def attach(folder: Path) -> str:
    done = subprocess.run([FOLDER / "attach", folder / "sendmail.mc"], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def changed(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    lines = list(ndiff(before, after))
    return [line[2:] for line in lines if line[0] == "-"], [line[2:] for line in lines if line[0] == "+"]


def test_debian(stock: Path) -> None:
    """The steps change the map and add to the privacy flags. Nothing else is lost, and the doctor finds nothing."""
    before, original = made(stock), (stock / "sendmail.mc").read_text()
    assert any(line.startswith("SConnControl") for line in before)
    assert attach(stock) == ""
    after = made(stock)
    removed, added = changed(before, after)
    (flags,) = (line for line in before if line.startswith("O PrivacyOptions="))
    assert removed == ["Kaccess hash -T<TMPF> /etc/mail/access", flags]
    assert f"{flags},noexpn,novrfy" in added
    assert {"O InputMailFilters=sidecar", f"Kaccess hash -T<TMPF> {ACCESS}"} <= set(added)
    assert (stock / "sendmail.mc.before-sidecar").read_text() == original
    text = (stock / "sendmail.mc").read_text()
    attach(stock)
    assert (stock / "sendmail.mc").read_text() == text
    settings = load(FOLDER / "sidecar.toml").settings
    assert settings is not None
    entries = (FOLDER / "access").read_text() + sendmail_access(OpenDomains(settings), "")
    assert check_sendmail("\n".join(after), settings, {ACCESS: entries, f"{ACCESS}.db": ""}.get) == []


def test_the_commands_of_the_guide(stock: Path) -> None:
    """The doctor finds nothing after all steps, and the last block leaves what was there before. The first one checks."""
    checking, *attaching, removing = (
        fence.text for fence in Document(FOLDER / "README.md").fences() if fence.words == RUN_HERE
    )
    shutil.copytree(FOLDER, stock / "deployed")
    # Another program of this machine can listen on the port of the guide.
    port = str(free_port())
    for path in (stock / "deployed").iterdir():
        path.write_text(moved(path.read_text(), stock).replace("8893", port))
    settings = (FOLDER / "sidecar.toml").read_text().replace("8893", port)
    (stock / "sidecar.toml").write_text(f'state_directory = "{stock}/state"\n{settings}')
    for name in ("access", "listener_domains.toml"):
        shutil.copy(FOLDER / name, stock)
    before = "\n".join(made(stock))
    (stock / "sendmail.cf").write_text(before)
    assert run("".join((*attaching, checking)), stock).count("Sendmail fits the sidecar.\n") == 2
    run(removing, stock)
    assert (stock / "sendmail.cf").read_text() == before
    assert (stock / "services").read_text().splitlines() == ["restart sendmail", "restart sendmail", "stop sidecar"]


RUN_HERE = ("sendmail",)


def run(block: str, folder: Path) -> str:
    """Run a block of the guide with a folder in place of /etc/mail and /etc/sidecar, and return its output."""
    stubs = {
        "sidecar": f'exec {sys.executable} -m sidecar "$@"',
        "makemap": f'exec {UNPACKED}/usr/libexec/sendmail/makemap -C {folder}/sendmail.cf "$@"',
        "journalctl": "exit 0",
        "systemctl": f'echo "$@" >>{folder}/services',
    }
    programs = folder / "stubs"
    programs.mkdir(exist_ok=True)
    for name, text in stubs.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\ncd {folder}/deployed\n{moved(block, folder)}"],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def moved(text: str, folder: Path) -> str:
    """Return text with the folder in place of those of Sendmail and the sidecar."""
    return text.replace("/etc/mail", str(folder)).replace("/etc/sidecar", str(folder))


def test_other_filters_and_options(stock: Path) -> None:
    """The sidecar's filter is before the others, and access_db keeps its options."""
    path = stock / "sendmail.mc"
    text = path.read_text().replace("FEATURE(`access_db', , `skip')", "FEATURE(`access_db', , `relaytofulladdress')")
    path.write_text(text.replace("MAILER_DEF", "INPUT_MAIL_FILTER(`opendkim', `S=inet:8891@127.0.0.1')dnl\nMAILER_DEF"))
    before = made(stock)
    attach(stock)
    removed, added = changed(before, made(stock))
    assert "O InputMailFilters=sidecar, opendkim" in added
    assert all(line.startswith(("Kaccess", "O PrivacyOptions", "O InputMailFilters")) for line in removed)
    path.write_text("  FEATURE(access_db)dnl\nMAILER(`smtp')\n")
    attach(stock)
    assert path.read_text().count("access_db") == 1
    path.write_text(text.replace("MAILER_DEF", "define(`confINPUT_MAIL_FILTERS', `opendkim')dnl\nMAILER_DEF"))
    assert attach(stock) == "Write sidecar as the first name in confINPUT_MAIL_FILTERS.\n"


@pytest.mark.parametrize("text", ["FEATURE(`access_db',\n`skip')dnl\nMAILER(`smtp')\n", "OSTYPE(`linux')\n"])
def test_a_file_that_it_cannot_change(tmp_path: Path, text: str) -> None:
    """Without a place for its lines, `attach` fails, and the file stays."""
    (tmp_path / "sendmail.mc").write_text(text)
    with pytest.raises(subprocess.CalledProcessError):
        attach(tmp_path)
    assert (tmp_path / "sendmail.mc").read_text() == text


def test_without_flags_and_map(tmp_path: Path) -> None:
    """A sendmail.mc without access_db and privacy flags gets both; Sendmail's default flag remains."""
    get_sendmail()
    base = (
        f"divert(-1)\ninclude(`{MACROS}/m4/cf.m4')\ndivert(0)dnl\nOSTYPE(`linux')dnl\nMAILER(`local')dnl\nMAILER(`smtp')dnl\n"
    )
    (tmp_path / "sendmail.mc").write_text(base)
    attach(tmp_path)
    assert {"O PrivacyOptions=authwarnings,noexpn,novrfy", f"Kaccess hash -T<TMPF> {ACCESS}"} <= set(made(tmp_path))
