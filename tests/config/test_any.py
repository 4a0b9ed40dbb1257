"""KumoMTA's network `any`: every IPv4 and every IPv6 address, written once wherever settings are shown."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.core.evaluate.spelling import set_values
from sidecar.core.networks import EVERY_ADDRESS, containing, parse_network, texts
from sidecar.core.policy import compile_policy
from tests.config.helpers import MAIN, load_files, settings_of

PEERS = ["203.0.113.9", "1.0.0.0", "255.255.255.255", "2001:db8::1", "::"]


@pytest.mark.parametrize("peer", PEERS)
def test_everyone_can_relay(tmp_path: Path, peer: str) -> None:
    """In `relay_from`, for a sender in the domain, and in `relay_hosts`, globally and for a listener."""
    policy = compile_policy(settings_of(tmp_path, {"d.toml": '["a.test"]\nrelay_from = ["any"]\n'}))
    assert policy.at_rcpt(ip_address(peer), "10.1.1.1:25", None, "s@a.test", "x@b.test").relay
    assert not policy.at_rcpt(ip_address(peer), "10.1.1.1:25", None, "s@c.test", "x@b.test").relay
    hosts = settings_of(tmp_path, {MAIN: 'relay_hosts = ["any"]\n'})
    assert not compile_policy(hosts).at_connect(ip_address(peer), "10.1.1.1:25").deferred
    own = compile_policy(settings_of(tmp_path, {MAIN: '[listener."10.1.1.1:25"]\nrelay_hosts = ["any"]\n'}))
    assert own.at_connect(ip_address(peer), "10.1.1.1:25").accept
    assert not own.at_connect(ip_address(peer), "10.1.1.2:25").accept


def test_the_warning_counts_it_once(tmp_path: Path) -> None:
    """An open relay is one warning for each place, with the word of the file."""
    files = {"d.toml": '["a.test"]\nrelay_from = ["any"]\n', MAIN: 'listener_domains = "d.toml"\nrelay_hosts = ["any"]\n'}
    problems = load_files(tmp_path, files).problems
    assert [(problem.code, Path(problem.file or "").name, problem.line) for problem in problems] == [
        ("open_relay", MAIN, 2),
        ("open_relay", "d.toml", 2),
    ]
    assert all('"any" matches every host' in problem.text for problem in problems)


def test_it_is_written_once(tmp_path: Path) -> None:
    """Lines to copy have the word, as the file has."""
    (entry,) = settings_of(tmp_path, {"d.toml": '["a.test"]\nrelay_from = ["10.0.0.0/8", "any"]\n'}).domains
    assert set_values(entry) == {"relay_from": ["10.0.0.0/8", "any"]}


def test_another_name_is_json(tmp_path: Path) -> None:
    """A file whose name does not end in .toml is JSON; the error of a TOML file proposes to rename it."""
    (tmp_path / MAIN).write_text('listener_domains = ["d.conf"]\n', encoding="utf-8")
    (tmp_path / "d.conf").write_text('["a.test"]\nlog_oob = true\n', encoding="utf-8")
    (problem,) = load(tmp_path / MAIN, environ={}).problems
    assert problem.fix.endswith("A file whose name does not end in .toml is read as JSON: rename it, if it is TOML.")


@pytest.mark.parametrize("peer", PEERS)
def test_it_is_removed_as_a_whole(peer: str) -> None:
    """Advice that removes the word removes both of its networks."""
    networks = (*EVERY_ADDRESS, parse_network("10.0.0.0/8"))
    assert containing(networks, ip_address(peer)) == [*EVERY_ADDRESS]
    assert texts(networks) == ["any", "10.0.0.0/8"]
