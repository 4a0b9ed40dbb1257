"""UNIX sockets: their rights if others may write to their folder, and their paths."""

import os
import pwd
import socket
from pathlib import Path

import pytest

from sidecar.core.settings.values import AdminSettings, MilterSettings
from sidecar.daemon.sockets import ListenError, SocketPath, private_path


def settings(path: Path, owner: str | None = None) -> MilterSettings:
    return MilterSettings(socket=f"unix:{path}", socket_mode=0o606, socket_owner=owner)


def bound(private: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(private))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_target_of_a_link_is_never_given_away(tmp_path: Path) -> None:
    """A link put in the socket's place is given away itself. A real socket is given to the user of the settings."""
    victim = tmp_path / "victim"
    victim.touch()
    with private_path(settings(tmp_path / "s", "daemon"), "milter") as private:
        private.symlink_to(victim)
    assert victim.stat().st_uid == 0
    with private_path(settings(tmp_path / "t", "daemon"), "milter") as private:
        bound(private)
    assert (tmp_path / "t").stat().st_uid == pwd.getpwnam("daemon").pw_uid


def test_the_mode_is_that_of_the_settings_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """The path is removed only while it is still this socket's."""
    before = os.umask(0o022)
    os.umask(before)
    bound(tmp_path / "s")
    with private_path(settings(tmp_path / "s"), "milter") as private:
        bound(private)
        assert private.stat().st_mode & 0o777 == 0o606
    path = SocketPath(tmp_path / "s")
    other = SocketPath(tmp_path / "s")
    assert [one.name for one in tmp_path.iterdir()] == ["s"]
    path.remove()
    assert not (tmp_path / "s").exists()
    other.remove()
    assert os.umask(before) == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing/s", "the folder of the socket is missing: create .*/missing, with rights"),
        ("file", "file exists and is no socket: move it away, or choose another path for admin.socket"),
        ("x" * 100, "is too long"),
        ("used", "another sidecar is listening on .*/used: stop it first"),
    ],
)
def test_a_path_that_cannot_be_used_is_a_sentence(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as used:
        used.bind(str(tmp_path / "used"))
        used.listen()
        with pytest.raises(ListenError, match=text), private_path(AdminSettings(socket=f"unix:{tmp_path / name}"), "admin"):
            pytest.fail("it was not checked")


def test_a_socket_that_cannot_be_bound_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ListenError, match=r"cannot set up unix:.*no-such-user"),
        private_path(settings(tmp_path / "s", "no-such-user"), "milter") as private,
    ):
        bound(private)
    assert list(tmp_path.iterdir()) == []
