"""The listening socket's rights, where others may write to its folder."""

import os
import pwd
import socket
from pathlib import Path

import pytest

from sidecar.daemon.milter.listener import give


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
