"""A socket that other machines can reach is refused, unless it is what the operator wants."""

import socket
from pathlib import Path

import pytest

from sidecar.config.sockets import is_remote
from tests.config.helpers import MAIN, load_files, place, settings_of

LOCAL = ["127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]"]
REMOTE = ["0.0.0.0", "[::]", "192.168.1.7", "203.0.113.9", "[2001:db8::9]", "[fe80::1]", "[::ffff:10.0.0.1]"]  # noqa: S104 - refused


def main_file(host: str, *more: str) -> dict[str, str]:
    return {MAIN: "\n".join(["[milter]", f'socket = "inet:{host}:8893"', *more])}


@pytest.mark.parametrize("host", [*LOCAL, "localhost"])
def test_the_loopback_is_nobody_elses(tmp_path: Path, host: str) -> None:
    assert load_files(tmp_path, main_file(host)).problems == ()


@pytest.mark.parametrize("host", REMOTE)
def test_any_other_address_is_an_error_that_says_what_it_means(tmp_path: Path, host: str) -> None:
    (problem,) = load_files(tmp_path, main_file(host)).problems
    assert (problem.level, *place(problem)) == ("error", MAIN, 2, "milter.socket")
    assert problem.text.startswith("Other machines can reach inet:")
    assert problem.text.endswith("a host that reaches the socket can ask what is accepted, and can fill the journal.")
    assert "allow_remote = true below [milter]" in problem.fix


@pytest.mark.parametrize("host", REMOTE)
def test_allow_remote_allows_it(tmp_path: Path, host: str) -> None:
    assert settings_of(tmp_path, main_file(host, "allow_remote = true")).milter.allow_remote


@pytest.mark.parametrize(
    ("addresses", "remote"),
    [
        (["127.0.0.1"], False),
        (["127.0.0.1", "::1"], False),
        (["127.0.0.1", "192.168.1.7"], True),
        (["2001:db8::9"], True),
        (["fe80::1%lo"], True),
        ([], False),
    ],
)
def test_a_name_is_as_remote_as_the_most_remote_of_its_addresses(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], remote: bool
) -> None:
    """One that has none cannot be listened on, and the start says so."""

    def look_up(name: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        assert name == "mx.example"
        if not addresses:
            raise socket.gaierror
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert is_remote("inet:mx.example:8893") is remote


def test_a_path_is_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    assert not is_remote("unix:/run/192.168.1.7:8893")
