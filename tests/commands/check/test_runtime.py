"""What only shows at run time: where `sidecar check` finds an error as root, `sidecar run` ends."""

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sidecar.commands.check.command import command
from tests import ROOT, preloaded
from tests.forked import Forks
from tests.mta.places import free_port, private_directory
from tests.mta.processes import wait_until

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders to others")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can pass through."""
    with private_directory() as folder:
        yield folder


# The other user may not be able to read the interpreter's modules.
AS_USER = """\
import encodings.idna
import os
from sidecar.cli import main
import sidecar.commands.check.command
os.setgroups([])
os.setresgid({0}, {0}, {0})
os.setresuid({0}, {0}, {0})
main()
"""


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "STATE_", "XDG_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def arguments(folder: Path, name: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "sidecar", name, "--config", str(folder / "s.toml"), *more]


def checked(folder: Path, settings: str, *, user: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Return the findings and the exit status of `check`, started by this user or by another one."""
    # Another test can listen on the port of the default.
    socket_of_its_own = "" if "[milter]" in settings else f'\n[milter]\nsocket = "inet:127.0.0.1:{free_port()}"\n'
    (folder / "s.toml").write_text(settings + socket_of_its_own, encoding="utf-8")
    if user is None:
        result = CliRunner().invoke(command, ["--config", str(folder / "s.toml"), "--json"])
        return json.loads(result.stdout)["findings"], result.exit_code
    line = [sys.executable, "-c", AS_USER.format(user), *arguments(folder, "check", "--json")[3:]]
    done = subprocess.run(line, cwd="/", env=environment(folder), capture_output=True, text=True, timeout=120, check=False)
    assert not done.stderr
    return json.loads(done.stdout)["findings"], done.returncode


def ends(loaded: Forks, folder: Path) -> str:
    """Run the program, and return what it logs before it ends with exit status 1."""
    done = loaded.run(["run", "--config", str(folder / "s.toml")], folder=Path("/"), environ=environment(folder))
    assert done.returncode == 1
    return done.stderr.decode()


def of_root(folder: Path) -> None:
    (folder / "state").mkdir(mode=0o750)


def journal_of_root(folder: Path) -> None:
    (folder / "journal").mkdir(mode=0o750)


def list_of_root(folder: Path) -> None:
    (folder / "list").mkdir(mode=0o750)


def closed_above(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0o700)


def lock_of_root(folder: Path) -> None:
    (folder / "state" / "journal").mkdir(parents=True)
    (folder / "state" / "lock").touch(mode=0o600)
    for path in (folder / "state", folder / "state" / "journal"):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)


def link_of_user(folder: Path) -> None:
    (folder / "theirs").mkdir()
    (folder / "theirs" / "link").symlink_to(folder)
    os.chown(folder / "theirs", NOBODY.pw_uid, NOBODY.pw_gid)


def a_file(folder: Path) -> None:
    (folder / "sock").touch()


def closed_settings(folder: Path) -> None:
    (folder / "d.toml").touch(mode=0o600)


AS_NOBODY = 'user = "nobody"\nstate_directory = "state"\n'
LINK = "is a symbolic link that another user than root may have made"
BROKEN: list[tuple[Callable[[Path], None], str, str, int, str]] = [
    (of_root, AS_NOBODY, "unusable_directory", 2, "User nobody cannot write into {}/state: Permission denied."),
    (
        journal_of_root,
        f'{AS_NOBODY}[journal]\ndirectory = "journal"\n',
        "unusable_directory",
        4,
        "User nobody cannot write into {}/journal: Permission denied.",
    ),
    (
        list_of_root,
        f'bounce_classifier = "iana"\n{AS_NOBODY}[suppression]\ndatabase = "list/suppression.db"\n',
        "unusable_directory",
        5,
        "User nobody cannot write into {}/list: Permission denied.",
    ),
    (
        closed_above,
        'user = "nobody"\nstate_directory = "closed/state"\n',
        "unusable_directory",
        2,
        "User nobody cannot write into {0}/closed/state: it does not exist, and {0}/closed is closed to this user.",
    ),
    (lock_of_root, AS_NOBODY, "unusable_directory", 2, "User nobody cannot use {}/state/lock."),
    (
        link_of_user,
        'user = "nobody"\nstate_directory = "theirs/link/state"\n',
        "unusable_directory",
        2,
        f"Root does not create {{0}}/theirs/link/state: {{0}}/theirs/link {LINK}.",
    ),
    (a_file, f'{AS_NOBODY}[milter]\nsocket = "unix:sock"\n', "unusable_socket", 4, "{}/sock exists and is no socket."),
    (
        closed_settings,
        f'{AS_NOBODY}listener_domains = "d.toml"\n',
        "unreadable_by_user",
        1,
        "User nobody cannot read {}/d.toml, so every reload would fail.",
    ),
    (lambda _: None, 'user = "no.such.user"\n', "unknown_account", 1, 'This machine has no user "no.such.user".'),
    (
        lambda _: None,
        f'{AS_NOBODY}[milter]\nsocket = "unix:sock"\nsocket_group = "no.such.group"\n',
        "unknown_account",
        5,
        'This machine has no group "no.such.group".',
    ),
]


@as_root
@pytest.mark.parametrize(("breaks", "settings", "code", "line", "text"), BROKEN)
def test_what_ends_the_program_is_an_error(
    loaded: Forks, folder: Path, breaks: Callable[[Path], None], settings: str, code: str, line: int, text: str
) -> None:
    """Each fault has a finding at its line, and `run` ends with the same settings."""
    breaks(folder)
    findings, status = checked(folder, settings)
    # Another program of this machine can have the default port.
    others = {"low_disk", "port_in_use"}
    found = [(each["level"], each["code"], each["line"], each["text"]) for each in findings if each["code"] not in others]
    # A folder is named once for each key that puts something there.
    assert ("error", code, line, text.format(folder)) in found
    assert {each[1] for each in found} == {code}
    assert status == 1
    assert re.search("no user|not permitted|cannot|is no socket|not found", ends(loaded, folder))


@as_root
@pytest.mark.parametrize("kind", ["inet", "unix"])
def test_a_socket_in_use(loaded: Forks, folder: Path, kind: str) -> None:
    """Another program on the port or the path is an error, and `run` ends."""
    port = free_port()
    name = f"inet:127.0.0.1:{port}" if kind == "inet" else f"unix:{folder}/sock"
    settings = f'state_directory = "state"\n[milter]\nsocket = "{name}"\n'
    with socket.socket(socket.AF_INET if kind == "inet" else socket.AF_UNIX) as other:
        other.bind(("127.0.0.1", port) if kind == "inet" else f"{folder}/sock")
        other.listen()
        findings, status = checked(folder, settings)
        assert [(each["level"], each["code"], each["line"]) for each in findings] == [("error", "port_in_use", 3)]
        assert status == 1
        assert "listening" in ends(loaded, folder) or "in use" in ends(loaded, folder)
    assert checked(folder, settings) == ([], 0)


@as_root
def test_a_socket_that_can_be_the_sidecars(folder: Path) -> None:
    """Another user cannot see whether the sidecar itself has the port: the fix is not simply to stop the program."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = f'state_directory = "{folder}"\n[milter]\nsocket = "inet:127.0.0.1:{other.getsockname()[1]}"\n'
        findings, _ = checked(folder, settings, user=NOBODY.pw_uid)
    (found,) = (each for each in findings if each["code"] == "port_in_use")
    assert (found["level"], found["fix"]) == ("warning", "If it is not the sidecar itself, stop it, or choose another port.")


@as_root
def test_the_sockets_of_the_running_program(folder: Path) -> None:
    """The program's own sockets are no finding, and settings without a finding serve."""
    settings = f'user = "nobody"\nstate_directory = "state"\n[milter]\nsocket = "inet:127.0.0.1:{free_port()}"\nworkers = 1\n'
    assert checked(folder, settings) == ([], 0)
    with preloaded.popen(arguments(folder, "run"), cwd="/", env=environment(folder), stderr=subprocess.DEVNULL) as program:
        try:
            status = folder / "state" / "status.json"
            wait_until(lambda: status.exists() and json.loads(status.read_bytes())["state"] == "serving", "the program serves")
            assert checked(folder, settings) == ([], 0)
        finally:
            program.terminate()


@as_root
def test_a_folder_of_the_service_user(loaded: Forks, folder: Path) -> None:
    """Root does not write there, and its `run` ends; the systemd unit starts the program as that user, so it is a warning."""
    of_root(folder)
    os.chown(folder / "state", NOBODY.pw_uid, NOBODY.pw_gid)
    findings, status = checked(folder, 'state_directory = "state"\n')
    assert {(each["level"], each["code"]) for each in findings} == {("warning", "unusable_directory")}
    assert status == 0
    assert "belongs to user nobody" in findings[0]["text"]
    assert "belongs to user nobody" in ends(loaded, folder)
    assert checked(folder, 'state_directory = "state"\n', user=NOBODY.pw_uid) == ([], 0)


@as_root
def test_another_user_gets_warnings(folder: Path) -> None:
    """This user may not be the one of the service."""
    of_root(folder)
    (folder / "sockets").mkdir(mode=0o755)
    settings = 'state_directory = "state"\n[milter]\nsocket = "unix:sockets/sock"\n'
    findings, status = checked(folder, settings, user=NOBODY.pw_uid)
    found = {(each["level"], each["code"], each["line"]) for each in findings}
    assert found == {
        ("warning", "unusable_directory", 1),
        ("warning", "unusable_directory", None),
        ("warning", "unusable_socket", 3),
    }
    assert status == 0


def test_a_missing_socket_folder(folder: Path) -> None:
    """A warning: the service manager can create it."""
    findings, status = checked(folder, f'state_directory = "{folder}/state"\n[milter]\nsocket = "unix:missing/sock"\n')
    assert [(each["level"], each["code"], each["line"]) for each in findings] == [("warning", "unusable_socket", 3)]
    assert findings[0]["text"] == f"The folder of the socket, {folder}/missing, does not exist."
    assert status == 0


@pytest.mark.parametrize("admin", ["inet:127.0.0.1:9999", "inet:[::1]:9999", "inet:localhost:9999"])
def test_two_sockets_on_one_port(folder: Path, admin: str) -> None:
    """An error of the settings, on whatever address."""
    findings, status = checked(folder, f'[milter]\nsocket = "inet:127.0.0.1:9999"\n[admin]\nsocket = "{admin}"\n')
    assert [(each["level"], each["code"], each["line"]) for each in findings] == [("error", "conflict", 4)]
    assert status == 1


def test_nothing_is_left_behind(folder: Path) -> None:
    """The check creates no folder and no file."""
    (folder / "there").mkdir()
    settings = 'state_directory = "new/state"\n[journal]\ndirectory = "there"\n'
    checked(folder, settings)
    assert sorted(path.name for path in folder.rglob("*")) == ["s.toml", "there"]
    shutil.rmtree(folder / "there")


def test_an_unreadable_list(tmp_path: Path) -> None:
    """The program starts without it, and the fix is not about rights that the user has."""
    (tmp_path / "list.db").write_bytes(b"no list" * 1000)
    (tmp_path / "sidecar.toml").write_text(
        'bounce_classifier = "iana"\nstate_directory = "."\n[suppression]\ndatabase = "list.db"\ncheck = "log"\n'
    )
    done = CliRunner().invoke(command, ["--config", str(tmp_path / "sidecar.toml")])
    assert "list.db is damaged (file is not a database). Restart the sidecar." in done.output
    # Errors are root's.
    last = (
        "The program starts, but cannot check recipients: 1 error."
        if os.geteuid() == 0
        else "The settings are valid, with 1 warning"
    )
    assert done.output.splitlines()[-1].startswith(last)


@as_root
def test_no_revision_of_the_policy_yet(tmp_path: Path) -> None:
    """The file of the active revision is missing until the first one, and its user need not read it."""
    tmp_path.chmod(0o755)
    preloaded.run([sys.executable, "-m", "sidecar", "keys", "policy", str(tmp_path / "policy.key")], check=True, timeout=60)
    settings = 'state_directory = "state"\n[fleet]\nservers = ["nats://127.0.0.1:4222"]\npolicy_keys = ["policy.key.pub"]\n'
    assert checked(tmp_path, settings) == ([], 0)
