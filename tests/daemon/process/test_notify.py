"""Datagrams for systemd."""

import os
import socket
from pathlib import Path

import pytest

from sidecar.daemon.process.systemd import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_all_lines_are_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"@sidecar-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as news:
        news.settimeout(120)
        news.bind("\0" + name[1:] if abstract else name)
        notify("RELOADING=1", "MONOTONIC_USEC=1")
        assert news.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=1"


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "relative"])
def test_without_a_listener_nothing_happens(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The service continues without systemd."""
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    notify("READY=1")
