"""Folders that root enters: whose links it follows, and where it writes nothing."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.daemon.process.privileges import (
    Identity,
    SetupError,
    UntrustedError,
    check_only_root_writes,
    create_for,
    entered,
)
from tests.daemon.process.test_privileges import enterable
from tests.daemon.process.test_running import refused_start

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders to others")

DAEMON = pwd.getpwnam("daemon")
IDENTITY = Identity(user="daemon", uid=DAEMON.pw_uid, gid=DAEMON.pw_gid)


def owned(path: Path, *, mode: int = 0o755) -> Path:
    """Make a folder of user daemon."""
    path.mkdir()
    path.chmod(mode)
    os.chown(path, DAEMON.pw_uid, DAEMON.pw_gid)
    return path


def link(path: Path, target: object, uid: int = 0) -> Path:
    """Make a link of a user."""
    path.symlink_to(str(target))
    os.lchown(path, uid, uid)
    return path


def inode(path: Path) -> int:
    with entered(path) as descriptor:
        return os.fstat(descriptor).st_ino


def test_roots_own_links_are_followed_absolute_relative_and_through_others(tmp_path: Path) -> None:
    """As /var/run is one on most systems."""
    there = tmp_path / "a" / "there"
    there.mkdir(parents=True)
    link(tmp_path / "absolute", tmp_path / "a")
    link(tmp_path / "relative", "a/../a/./there")
    link(tmp_path / "again", "absolute/../relative")
    for name in ("a/there", "absolute/there", "relative", "again", "a/../again", "absolute/../a/there"):
        assert inode(tmp_path / name) == there.stat().st_ino, name


def test_links_that_lead_nowhere_are_errors(tmp_path: Path) -> None:
    link(tmp_path / "circle", "circle")
    with pytest.raises(UntrustedError, match="circle is a symbolic link"):
        inode(tmp_path / "circle")
    link(tmp_path / "gone", "missing")
    with pytest.raises(FileNotFoundError):
        inode(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        inode(tmp_path / "file")


def of_another(folder: Path) -> Path:
    return link(folder / "link", folder / "there", DAEMON.pw_uid)


def in_anothers_folder(folder: Path) -> Path:
    return link(owned(folder / "own") / "link", folder / "there")


def in_a_folder_of_all(folder: Path) -> Path:
    (folder / "all").mkdir()
    (folder / "all").chmod(0o1777)
    return link(folder / "all" / "link", folder / "there")


def in_a_folder_of_a_group(folder: Path) -> Path:
    (folder / "group").mkdir()
    os.chown(folder / "group", 0, DAEMON.pw_gid)
    (folder / "group").chmod(0o775)
    return link(folder / "group" / "link", folder / "there")


@pytest.mark.parametrize("plant", [of_another, in_anothers_folder, in_a_folder_of_all, in_a_folder_of_a_group])
@pytest.mark.parametrize("rest", ["", "state", "new/state"])
def test_no_folder_is_made_or_given_away_behind_anothers_link(tmp_path: Path, plant: Callable[[Path], Path], rest: str) -> None:
    """Above the last component too: the sentence names the link, and what is behind it stays as it was."""
    (tmp_path / "there" / "state").mkdir(parents=True)
    planted = plant(tmp_path)
    with pytest.raises(SetupError, match=f"{planted} is a symbolic link that another user than root may have made; name"):
        create_for(IDENTITY, planted / rest)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["state"]
    assert (tmp_path / "there" / "state").stat().st_uid == 0


def test_a_folder_behind_roots_link_is_made_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link(tmp_path / "link", "there")
    create_for(IDENTITY, tmp_path / "link" / "new" / "state")
    made = tmp_path / "there" / "new"
    assert (made.stat().st_uid, (made / "state").stat().st_uid) == (0, DAEMON.pw_uid)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own", "own belongs to user daemon"),
        ("own/below", "own belongs to user daemon"),
        ("own/missing", "own belongs to user daemon"),
        ("all", "other users than root may write to .*/all"),
        ("all/missing", None),
        ("missing/state", None),
        ("group", "other users than root may write to .*/group"),
        ("group/missing", "other users than root may write to .*/group"),
        ("roots-group", None),
        ("link", "link is a symbolic link"),
        ("", None),
    ],
)
def test_root_writes_only_where_no_other_user_can_create_anything(tmp_path: Path, name: str, said: str | None) -> None:
    (owned(tmp_path / "own") / "below").mkdir()
    in_a_folder_of_all(tmp_path)
    in_a_folder_of_a_group(tmp_path)
    (tmp_path / "roots-group").mkdir()
    (tmp_path / "roots-group").chmod(0o775)
    link(tmp_path / "link", tmp_path, DAEMON.pw_uid)
    if said is None:
        check_only_root_writes(tmp_path / name)
        return
    with pytest.raises(SetupError, match=f"root does not write into .*: .*{said}.*; name that user with user ="):
        check_only_root_writes(tmp_path / name)


@pytest.mark.parametrize("name", ["state", "state/journal", "state/quarantine"])
def test_as_root_it_does_not_start_with_a_folder_of_another_user(name: str) -> None:
    """There that user could let it write into any file of the system."""
    with enterable() as program:
        folder = program.directory / name
        folder.parent.mkdir(exist_ok=True)
        owned(folder)
        assert f"{folder} belongs to user daemon; name that user with user =" in refused_start(program)
        assert not list(folder.iterdir())
