"""`check` as root knows which user systemd starts the program as, and asks as that user."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.commands.check import units
from sidecar.commands.check.units import Unit, units_of
from tests import ROOT
from tests.commands.check.test_runtime import checked
from tests.mta.places import private_directory

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user can pass through, with two places for units."""
    with private_directory() as folder:
        monkeypatch.setattr(units, "PLACES", (folder / "etc", folder / "lib"))
        yield folder


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def service(config: str, *more: str, user: str = "nobody") -> tuple[str, ...]:
    return "[Unit]", "User=no", "[Service]", f"ExecStart=/usr/bin/sidecar run --config {config}", f"User={user}", *more


def users(config: str) -> dict[str, str]:
    return {unit.name: unit.user for unit in units_of(Path(config))}


# --- reading units


def test_our_own_unit(folder: Path) -> None:
    """The unit of the package, with the drop-in for Postfix."""
    write(folder / "lib/sidecar.service", (ROOT / "systemd/sidecar.service").read_text())
    write(folder / "etc/sidecar.service.d/postfix.conf", (ROOT / "systemd/postfix.conf").read_text())
    managed = Path("/var/lib/sidecar"), Path("/run/sidecar")
    unit = Unit(
        name="sidecar.service",
        user="sidecar",
        group="sidecar",
        groups=("postfix",),
        managed=managed,
        writable=(*managed, Path("/var/spool/postfix/sidecar")),
    )
    assert units_of(Path("/etc/sidecar/sidecar.toml")) == units_of(None) == [unit]
    assert units_of(Path("/etc/sidecar/other.toml")) == []


def test_the_first_place_counts(folder: Path) -> None:
    """As do drop-ins of any place, in the order of their names; an empty value forgets those before it."""
    write(folder / "lib/sidecar.service", *service("/a.toml"))
    assert users("/a.toml") == {"sidecar.service": "nobody"}
    write(folder / "etc/sidecar.service", *service("/b.toml", user="root"))
    assert (users("/a.toml"), users("/b.toml")) == ({}, {"sidecar.service": "root"})
    write(
        folder / "lib/sidecar.service.d/10.conf", "[Service]", "ExecStart=", "ExecStart=-/x/sidecar run \\", " --config=/c.toml"
    )
    write(folder / "etc/sidecar.service.d/20.conf", "[Service]", "# User=x", "User=daemon")
    assert (users("/b.toml"), users("/c.toml")) == ({}, {"sidecar.service": "daemon"})
    write(folder / "etc/sidecar.service.d/30.conf", "[Service]", "User=")
    assert users("/c.toml") == {}


def test_instances(folder: Path) -> None:
    """A template has an instance for each settings file, with drop-ins of its own."""
    more = "Group=%i", "StateDirectory=sidecar/%i", "ProtectSystem=strict"
    write(folder / "lib/sidecar@.service", *service("/etc/sidecar/%i.toml", *more))
    write(folder / "etc/sidecar@b.service.d/user.conf", "[Service]", "User=daemon")
    (first,), (second,) = units_of(Path("/etc/sidecar/a.toml")), units_of(Path("/etc/sidecar/b.toml"))
    assert (first.name, first.user, first.group, first.writable) == (
        *("sidecar@a.service", "nobody", "a"),
        (Path("/var/lib/sidecar/a"),),
    )
    assert (second.name, second.user) == ("sidecar@b.service", "daemon")
    assert units_of(Path("/etc/sidecar/a/b.toml")) == []


def test_what_is_no_unit(folder: Path) -> None:
    """Masked units, pipes, other programs, accounts that systemd makes up, and broken or huge files."""
    (folder / "etc").mkdir()
    (folder / "etc/sidecar-a.service").symlink_to(os.devnull)
    os.mkfifo(folder / "etc/sidecar-b.service")
    (folder / "etc/sidecar-c.service").mkdir()
    (folder / "etc/sidecar-d.service").symlink_to("missing")
    for name in "abcd":
        write(folder / f"lib/sidecar-{name}.service", *service("/a.toml"))
    write(folder / "lib/sidecar-e.service", *(line.replace("/usr/bin/sidecar", "/bin/x") for line in service("/a.toml")))
    write(folder / "lib/sidecar-f.service", *service("/a.toml", "DynamicUser=yes"))
    write(folder / "lib/sidecar-g.service", *service("'/a.toml"))
    write(folder / "lib/sidecar-h.service", "x" * (1 << 20), *service("/a.toml"))
    write(folder / "lib/other.service", *service("/a.toml"))
    assert users("/a.toml") == {}


# --- what their users cannot use


@as_root
def test_a_file_that_the_service_cannot_read(folder: Path) -> None:
    """Root can read it, and the next restart would fail."""
    write(folder / "lib/sidecar.service", *service(f"{folder}/s.toml"))
    (folder / "s.toml").touch(mode=0o600)
    write(folder / "d.toml")
    (folder / "state").mkdir()
    os.chown(folder / "state", NOBODY.pw_uid, NOBODY.pw_gid)
    settings = 'listener_domains = "d.toml"\nstate_directory = "state"\n'
    findings, status = checked(folder, settings)
    (text,) = [each["text"] for each in findings]
    assert text == (
        f"User nobody cannot read {folder}/s.toml, so start and every reload would fail. "
        "sidecar.service starts the program as user nobody."
    )
    assert (findings[0]["level"], findings[0]["code"], status) == ("error", "unreadable_by_user", 1)
    (folder / "s.toml").chmod(0o644)
    assert checked(folder, settings) == ([], 0)


@as_root
def test_a_group_of_the_unit(folder: Path) -> None:
    """It can read what the user's own groups cannot."""
    write(folder / "lib/sidecar.service", *service(f"{folder}/s.toml", "SupplementaryGroups=daemon"))
    (folder / "s.toml").touch(mode=0o640)
    os.chown(folder / "s.toml", 0, pwd.getpwnam("daemon").pw_gid)
    (folder / "state").mkdir()
    os.chown(folder / "state", NOBODY.pw_uid, NOBODY.pw_gid)
    assert checked(folder, 'state_directory = "state"\n') == ([], 0)


@as_root
def test_folders_that_the_service_cannot_use(folder: Path) -> None:
    """A journal of root, a lock of root's own start, and a folder that the sandbox makes read-only."""
    write(
        folder / "lib/sidecar.service", *service(f"{folder}/s.toml", "ProtectSystem=strict", f"ReadWritePaths=-{folder}/state")
    )
    for path in (folder / "state", folder / "journal"):
        path.mkdir()
    (folder / "state/lock").touch(mode=0o600)
    os.chown(folder / "state", NOBODY.pw_uid, NOBODY.pw_gid)
    settings = 'state_directory = "state"\n[journal]\ndirectory = "journal"\n'
    findings, status = checked(folder, settings)
    found = [(each["level"], each["line"], each["text"]) for each in findings if each["code"] == "unusable_directory"]
    starts = "sidecar.service starts the program as user nobody."
    assert found == [
        ("error", 3, f"User nobody cannot write into {folder}/journal: Permission denied. {starts}"),
        ("error", 1, f"User nobody cannot use {folder}/state/lock. {starts}"),
        ("error", 3, f"sidecar.service makes {folder}/journal read-only for the program (ProtectSystem=strict)."),
    ]
    assert (
        findings[-1]["fix"] == f"Run systemctl edit sidecar.service, and write ReadWritePaths={folder}/journal below [Service]."
    )
    assert status == 1


@as_root
def test_a_folder_that_systemd_gives_to_the_service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state directory of root, or none yet: systemd gives it and all in it to the user. Afterwards it does not."""
    monkeypatch.setitem(units._MANAGED, "StateDirectory", str(folder))
    write(folder / "lib/sidecar.service", *service(f"{folder}/s.toml", "StateDirectory=state", "ProtectSystem=strict"))
    assert checked(folder, 'state_directory = "state"\n') == ([], 0)
    (folder / "state").mkdir()
    (folder / "state/lock").touch(mode=0o600)
    assert checked(folder, 'state_directory = "state"\n') == ([], 0)
    os.chown(folder / "state", NOBODY.pw_uid, NOBODY.pw_gid)
    (finding,), status = checked(folder, 'state_directory = "state"\n')
    assert (finding["text"].split(". ")[0], status) == (f"User nobody cannot use {folder}/state/lock", 1)


@as_root
@pytest.mark.parametrize("more", [("User=no.such.user",), ("SupplementaryGroups=no.such.group",)])
def test_an_account_that_does_not_exist(folder: Path, more: tuple[str, ...]) -> None:
    """Systemd would not start the program."""
    write(folder / "lib/sidecar.service", *service(f"{folder}/s.toml", *more))
    (finding,), status = checked(folder, 'state_directory = "state"\n')
    assert (finding["code"], finding["level"], status) == ("unknown_account", "error", 1)
    assert "no.such" in finding["text"]


@as_root
def test_another_user_does_not_ask_as_the_service(folder: Path) -> None:
    write(folder / "lib/sidecar.service", *service(f"{folder}/s.toml", user="daemon"))
    findings, status = checked(folder, 'state_directory = "state"\n', user=NOBODY.pw_uid)
    assert status == 0
    assert not any("sidecar.service" in each["text"] for each in findings)
