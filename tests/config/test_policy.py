"""The policy of a fleet replaces the policy keys of a node's own settings, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sidecar.config import Reading
from sidecar.config.policy import PolicyFile
from sidecar.core.networks import texts
from sidecar.core.settings.fleet import PolicyKey
from tests.config.helpers import place

OWN = """state_directory = "state"
relay_hosts = ["10.0.0.1"]
decide = "end"
[milter]
workers = 7
[verify]
secret_files = ["secret"]
maximum_age = 7200
[suppression]
store = "hashed"
trust = "any"
check = "off"
[fleet]
servers = "nats://127.0.0.1"
policy_keys = ["key.pub"]
"""
POLICY = """listener_domains = ["domains/a.toml"]
bounce_classifier = ["rules.toml"]
relay_hosts = ["10.0.0.2"]
[listener."127.0.0.1:25"]
relay_hosts = ["10.0.0.3"]
[verify]
unverified = "reject"
batv = false
[verify.domain."b.example"]
address = "required"
[[suppression.rule]]
when = ["abuse"]
[suppression]
check = "log"
on_unreadable = "tempfail"
[suppression.domain."c.example"]
check = "reject"
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Settings of a node with an active revision, 7."""
    public = Ed25519PrivateKey.generate().public_key()
    (tmp_path / "key.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "secret").write_text("0123456789abcdef" * 4)
    (tmp_path / "secret").chmod(0o600)
    folder = tmp_path / "state" / "policy" / "7"
    (folder / "domains").mkdir(parents=True)
    (folder / "domains" / "a.toml").write_text('["b.example"]\nlog_oob = true\n')
    (folder / "rules.toml").write_text('[rules]\nX = ["^x"]\n')
    (folder / "policy.toml").write_text(POLICY)
    (tmp_path / "state" / "policy" / "active").write_text("7\n")
    (tmp_path / "sidecar.toml").write_text(OWN)
    return tmp_path


def read(node: Path, **more: Any) -> Reading:
    return Reading(node / "sidecar.toml", environ={}, **more)


def test_what_is_policy(node: Path) -> None:
    """All policy keys are those of the revision, also unset ones; the rest is the node's own, also within a section."""
    reading = read(node)
    settings = reading.loaded.settings
    assert settings is not None, reading.loaded.problems
    assert texts(settings.relay_hosts.networks) == ["10.0.0.2"]
    assert settings.decide == "early"
    assert settings.milter.workers == 7
    assert settings.verify is not None
    assert len(settings.verify.secrets) == 1
    assert (settings.verify.maximum_age, settings.verify.rule.unverified) == (30 * 86400, "reject")
    assert not settings.verify.batv
    assert settings.verify.domains["b.example"].requires_token
    assert settings.suppression is not None
    assert (settings.suppression.store, settings.suppression.trust) == ("hashed", "recipient")
    assert settings.suppression.rule[0].when == ("abuse",)
    assert settings.fleet is not None
    assert settings.fleet.revision == 7
    assert isinstance(settings.fleet.policy_keys[0], PolicyKey)
    (entry,) = settings.domains
    assert str(entry.where("log_oob")) == "policy/7/domains/a.toml:2"
    assert str(settings.verify.domains["b.example"].places["address"]) == "policy/7/policy.toml:10"
    assert settings.suppression.rule[0].where is not None
    assert str(settings.suppression.rule[0].where) == "policy/7/policy.toml:11"
    assert (settings.suppression.check, settings.suppression.on_unreadable) == ("log", "tempfail")
    assert settings.suppression.domain == {"c.example": "reject"}
    assert {name: str(where) for name, where in settings.suppression.places.items()} == {
        "": "policy/7/policy.toml:14",
        "c.example": "policy/7/policy.toml:17",
    }
    assert {source.path.name for source in reading.loaded.sources} >= {"active", "policy.toml", "a.toml", "rules.toml"}


def test_own_keys_without_effect(node: Path) -> None:
    """An operator who edits the wrong file reads why nothing changes."""
    warnings = [one for one in read(node).warnings() if one.code == "no_effect"]
    (warning,) = warnings
    assert place(warning) == ("sidecar.toml", 2, "relay_hosts")
    assert "revision 7: this file has relay_hosts, decide without effect" in warning.text


def test_before_the_first_revision(node: Path) -> None:
    """The node has its own keys, as it has without policy_keys."""
    (node / "state" / "policy" / "active").unlink()
    first = read(node).loaded.settings
    (node / "state" / "policy" / "active").write_text("7\n")
    (node / "sidecar.toml").write_text(OWN.replace('policy_keys = ["key.pub"]', ""))
    second = read(node).loaded.settings
    for settings in (first, second):
        assert settings is not None
        assert (texts(settings.relay_hosts.networks), settings.decide) == (["10.0.0.1"], "end")


def test_a_revision_that_is_proposed(node: Path) -> None:
    """Only a reload tries it. It is no source: that would want a second reload as soon as it is the active one."""
    policy = node / "state" / "policy"
    (policy / "8").mkdir()
    (policy / "8" / "policy.toml").write_text("relay_hosts = ['10.0.0.8']\n")
    (policy / "candidate").write_text("8\n")
    hosts = []
    for candidate in (False, True):
        loaded = read(node, candidate=candidate).loaded
        assert loaded.settings is not None
        hosts += texts(loaded.settings.relay_hosts.networks)
        assert ({"active", "candidate"} & {source.path.name for source in loaded.sources} == {"active"}) is not candidate
    assert hosts == ["10.0.0.2", "10.0.0.8"]
    (policy / "candidate").write_text("0\n")
    settings = read(node, candidate=True).loaded.settings
    assert settings is not None
    assert texts(settings.relay_hosts.networks) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("file", "content", "code", "at"),
    [
        ("policy.toml", "node_id = 'x'\n", "misplaced_key", ("policy.toml", 1, "node_id")),
        ("policy.toml", "\n[milter]\nworkers = 1\n", "misplaced_key", ("policy.toml", 2, "milter")),
        ("policy.toml", "[verify]\nsecret_files = ['a']\n", "misplaced_key", ("policy.toml", 2, "verify.secret_files")),
        ("policy.toml", "[verify.domain.a]\nx = 1\n", "unknown_key", ("policy.toml", 2, 'verify.domain."a".x')),
        ("policy.toml", "\n[admin]\ntokens = {}\n", "misplaced_key", ("policy.toml", 2, "admin")),
        ("policy.toml", "[suppression]\ndatabase = 'x'\n", "misplaced_key", ("policy.toml", 2, "suppression.database")),
        ("policy.toml", "[suppression]\ncheck = 1\n", "invalid_value", ("policy.toml", 2, "suppression.check")),
        ("policy.toml", "[verify]\nrelay_hosts = []\n", "misplaced_key", ("policy.toml", 2, "verify.relay_hosts")),
        ("policy.toml", "decide = 1\n", "invalid_value", ("policy.toml", 1, "decide")),
        ("policy.toml", "listener_domains = ['no']\n", "unreadable_file", ("policy.toml", 1, "listener_domains")),
        ("domains/a.toml", "[a]\nrelay_to = 1\n", "wrong_type", ("a.toml", 2, '"a".relay_to')),
        ("../active", "x\n", "unreadable_file", ("sidecar.toml", 15, "fleet.policy_keys")),
        ("../../../key.pub", "x\n", "invalid_key", ("sidecar.toml", 15, "fleet.policy_keys")),
    ],
)
def test_errors(node: Path, file: str, content: str, code: str, at: tuple[str, int, str]) -> None:
    """An error names the file of the revision, and the line as its operator wrote it."""
    (node / "state" / "policy" / "7" / file).write_text(content)
    (problem,) = (one for one in read(node).loaded.problems if one.level == "error")
    assert (problem.code, place(problem)) == (code, at)


def test_a_policy_before_it_is_published(node: Path) -> None:
    """It is read with the settings of the node, and nothing is said about its own keys."""
    (node / "new.toml").write_text("decide = 'end'\n")
    reading = read(node, policy=PolicyFile(path=node / "new.toml", file="new.toml"))
    assert reading.loaded.settings is not None
    assert reading.loaded.settings.decide == "end"
    assert texts(reading.loaded.settings.relay_hosts.networks) == ["127.0.0.1", "::1"]
    assert not [one for one in reading.warnings() if one.code == "no_effect" and "revision" in one.text]
