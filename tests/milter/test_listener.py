"""The listening socket: its rights where others may write to its folder, and its descriptor."""

import os
import pwd
import socket
from pathlib import Path

import pytest

from sidecar.core.settings.values import MilterSettings
from sidecar.daemon.milter.listener import give, listen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_a_link_points_to_is_never_given_away(tmp_path: Path) -> None:
    """A link put in the socket's place is given away itself, and what it points to stays whose it was."""
    victim, link, name = tmp_path / "victim", tmp_path / "link", str(tmp_path / "s")
    victim.touch()
    link.symlink_to(victim)
    give(link, "nobody", None)
    assert victim.stat().st_uid == 0
    with socket.socket(socket.AF_UNIX) as real:
        real.bind(name)
        give(Path(name), "nobody", None)
    assert Path(name).stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_a_socket_is_told_from_another_one_with_its_port() -> None:
    """By the descriptor: libmilter counts connections by the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.listen()
        port = other.getsockname()[1]
        listener = listen(MilterSettings(socket=f"inet:127.0.0.1:{port}"))
        try:
            with socket.socket(fileno=os.dup(listener.fileno())) as opened:
                assert opened.getsockname() == ("127.0.0.1", port)
        finally:
            listener.close()
