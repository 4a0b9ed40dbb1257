"""The section [verify]: keys from files with their rights, rules of domains, and an error with its place for each fault."""

from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.core.settings.proof import VerifyRule, VerifySettings
from tests.config.helpers import MAIN, load_files, place
from tests.core.proof.making import ed_key, pem

SECRET = "the-secret-of-the-tests-is-no-secret"  # noqa: S105 - of tests
OTHER = "another-secret-of-the-tests-is-none-too"
NAME = "s1._domainkey.sender.example.pem"


def write_keys(folder: Path) -> None:
    """Write two secrets and a public key."""
    for name, content in (("secret", f"{SECRET}\n"), ("old", OTHER), (f"keys/{NAME}", pem(ed_key()).decode())):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(0o600)


def verify_of(folder: Path, text: str) -> VerifySettings:
    """Load a section that has no errors."""
    loaded = load_files(folder, {MAIN: f"[verify]\n{text}"})
    assert loaded.settings is not None, loaded.problems
    assert loaded.settings.verify is not None
    return loaded.settings.verify


def test_every_key(tmp_path: Path) -> None:
    """The first secret signs; names are normal; a domain has the value of [verify] where it sets none."""
    write_keys(tmp_path)
    found = verify_of(
        tmp_path,
        """\
secret_files = ["secret", "old"]
dkim_keys = "keys"
maximum_age = 7200
batv = false
authserv_ids = ["MX.Example.com", "mx.example.com"]
unverified = "quarantine"
[verify.domain."Bounce.Example.COM."]
address = "required"
[verify.domain."*.münch.example"]
unverified = "reject"
address = "optional"
""",
    )
    assert [secret.key.decode() for secret in found.secrets] == [SECRET, OTHER]
    assert [*found.dkim] == [("s1", "sender.example")]
    assert (found.maximum_age, found.authserv_ids, found.rule.unverified) == (7200, ("mx.example.com",), "quarantine")
    assert found.secret_files == (tmp_path / "secret", tmp_path / "old")
    rules = {name: (rule.unverified, rule.requires_token) for name, rule in found.domains.items()}
    assert rules == {"bounce.example.com": ("quarantine", True), "*.xn--mnch-0ra.example": ("reject", False)}
    assert found.domains["bounce.example.com"].places["address"].line == 9
    assert found.domains["bounce.example.com"].places["unverified"].line == 7
    assert (found.batv, verify_of(tmp_path, 'secret_files = "secret"').batv) == (False, True)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("a.test", "accept"),
        ("x.a.test", "reject"),
        ("deep.x.a.test", "reject"),
        ("b.a.test", "quarantine"),
        ("x.b.a.test", "reject"),
        ("other.test", "accept"),
        ("", "accept"),
        ("[192.0.2.1]", "accept"),
    ],
)
def test_rule_of(domain: str, expected: str) -> None:
    """A wildcard stands for all names below; the own table of a name counts first."""
    rules = {"*.a.test": VerifyRule(unverified="reject"), "b.a.test": VerifyRule(unverified="quarantine")}
    assert VerifySettings(domains=rules).rule_of(domain).unverified == expected


def test_missing_secret(tmp_path: Path) -> None:
    """The fix of a file that does not exist is the command that makes it."""
    (problem,) = load_files(tmp_path, {MAIN: '[verify]\nsecret_files = "none"\n'}).problems
    assert problem.fix == f"Make it with `sidecar keys make {tmp_path / 'none'}`, or name another."


@pytest.mark.parametrize(
    ("text", "code", "where", "words"),
    [
        ('secret_files = "none"', "unreadable_file", (MAIN, 2, "verify.secret_files"), "does not exist"),
        ('secret_files = "short"', "invalid_key", ("short", 1, ""), "a secret has at least 32"),
        ('secret_files = "open"', "exposed_secret", (MAIN, 2, "verify.secret_files"), "its mode is 0644"),
        ('secret_files = ["secret",\n"writable"]', "exposed_secret", (MAIN, 3, "verify.secret_files"), "its mode is 0620"),
        ('dkim_keys = "none"', "unreadable_file", (MAIN, 2, "verify.dkim_keys"), "No such file"),
        ('dkim_keys = "bad"', "invalid_key", ("s1.pem", 1, ""), "SELECTOR._domainkey.DOMAIN"),
        ('dkim_keys = "twice"', "repeated_key", (NAME, 1, ""), "has the same selector and domain"),
        ('dkim_keys = "private"', "invalid_key", (NAME, 1, ""), "it is a private key"),
        ("maximum_age = 1", "out_of_range", (MAIN, 2, "verify.maximum_age"), "out of range"),
        ('batv = "no"', "wrong_type", (MAIN, 2, "verify.batv"), "is neither true nor false"),
        ('unverified = "drop"', "invalid_value", (MAIN, 2, "verify.unverified"), '"drop" is not one of'),
        ('unverified = "reject"', "missing_key", (MAIN, 2, "verify.unverified"), "Without keys"),
        (
            'dkim_keys = "keys"\n[verify.domain."a.test"]\naddress = "required"',
            "missing_key",
            (MAIN, 4, 'verify.domain."a.test".address'),
            "No address token",
        ),
        ('[verify.domain."*"]', "invalid_value", (MAIN, 2, 'verify.domain."*"'), "is not a domain"),
        ('[verify.domain."a.test"]\nx = 1', "unknown_key", (MAIN, 3, 'verify.domain."a.test".x'), "not a known key"),
        (
            '[verify.domain."a.test"]\n[verify.domain."A.test."]',
            "repeated_domain",
            (MAIN, 3, 'verify.domain."A.test."'),
            "line 2",
        ),
        ('secret_file = "secret"', "unknown_key", (MAIN, 2, "verify.secret_file"), "not a known key"),
    ],
)
def test_faults(tmp_path: Path, text: str, code: str, where: tuple[str, int, str], words: str) -> None:
    """Each fault is an error with file and line, and no error shows a secret."""
    write_keys(tmp_path)
    for name, content, mode in (
        ("short", "abc", 0o600),
        ("open", SECRET, 0o644),
        ("writable", SECRET, 0o620),
        ("bad/s1.pem", pem(ed_key()).decode(), 0o644),
        (f"twice/{NAME}", pem(ed_key()).decode(), 0o644),
        (f"twice/{NAME.removesuffix('.pem')}", pem(ed_key()).decode(), 0o644),
        (f"private/{NAME}", "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n", 0o600),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
    loaded = load_files(tmp_path, {MAIN: f"[verify]\n{text}\n"})
    assert loaded.settings is None
    assert [(problem.code, place(problem)) for problem in loaded.problems] == [(code, where)]
    assert words in loaded.problems[0].text
    assert SECRET not in str(loaded.problems)


def test_no_keys(tmp_path: Path) -> None:
    """A section without keys verifies nothing, and is a warning."""
    loaded = load_files(tmp_path, {MAIN: "[verify]\n"})
    assert [(problem.code, place(problem)) for problem in loaded.problems] == [("no_effect", (MAIN, 1, "verify"))]


@pytest.mark.parametrize(
    ("admin", "exposed"),
    [
        ('socket = "unix:admin.sock"\nsocket_mode = "0666"', True),
        ('socket = "unix:admin.sock"\nsocket_mode = "0662"', True),
        ('socket = "unix:admin.sock"\nsocket_mode = "0664"', False),
        ('socket = "unix:admin.sock"', False),
        # No user can sign at a port.
        ('socket = "inet:127.0.0.1:8894"', False),
    ],
)
def test_admin_socket(tmp_path: Path, admin: str, exposed: bool) -> None:
    """With secrets, other users must not reach the socket of the service that signs; without them, they can."""
    write_keys(tmp_path)
    loaded = load_files(tmp_path, {MAIN: f'[verify]\nsecret_files = "secret"\n[admin]\n{admin}\n'})
    found = [(problem.code, place(problem)) for problem in loaded.problems]
    assert found == ([("exposed_secret", (MAIN, 5, "admin.socket_mode"))] if exposed else [])
    assert load_files(tmp_path, {MAIN: f'[verify]\ndkim_keys = "keys"\n[admin]\n{admin}\n'}).settings is not None


def test_sources(tmp_path: Path) -> None:
    """A reload notices a changed secret and a new key: the files and the folder are sources of the settings."""
    write_keys(tmp_path)
    (tmp_path / "keys" / ".hidden").write_text("no key")
    text = '[verify]\nsecret_files = "secret"\ndkim_keys = "keys"\n'
    before = load_files(tmp_path, {MAIN: text})
    assert [source.path.name for source in before.sources] == [MAIN, "secret", "keys", NAME]
    assert None not in {source.digest for source in before.sources}
    (tmp_path / "secret").write_text(OTHER)
    (tmp_path / "keys" / "s2._domainkey.sender.example").write_bytes(pem(ed_key()))
    after = load(tmp_path / MAIN, environ={})
    assert after.settings is not None
    assert after.settings.verify is not None
    assert sorted(after.settings.verify.dkim) == [("s1", "sender.example"), ("s2", "sender.example")]
    assert [source.path.name for source in before.sources if source not in after.sources] == ["secret", "keys"]
    assert OTHER not in repr(after)


@pytest.mark.parametrize(
    ("name", "domains", "warned"),
    [
        ("bounce.example", '["bounce.example"]\nlog_oob = true', False),
        ("bounce.exampel", '["bounce.example"]\nlog_oob = true', True),
        ("a.bounce.example", '["*.bounce.example"]\nlog_oob = true', False),
        ("*.bounce.example", '["*.bounce.example"]\nlog_oob = true', False),
        ("*.bounce.example", '["a.bounce.example"]\nlog_oob = true', False),
        ("*.bounce.example", '["bounce.exampel"]\nlog_oob = true', True),
        ("any.example", '["*"]\nlog_oob = true', False),
        ("own.example", '[listener."10.1.1.1:25"."own.example"]\nlog_oob = true', False),
        ("own.example", "", True),
    ],
)
def test_a_domain_that_nothing_matches(tmp_path: Path, name: str, domains: str, warned: bool) -> None:
    """A rule for a domain without an entry is a probable mistake."""
    write_keys(tmp_path)
    rule = f'[verify]\nsecret_files = "secret"\n[verify.domain."{name}"]\naddress = "required"\n'
    loaded = load_files(tmp_path, {MAIN: f'listener_domains = "d.toml"\n{rule}', "d.toml": domains})
    found = [place(problem) for problem in loaded.problems if "No listener domain" in problem.text]
    assert found == ([(MAIN, 4, f'verify.domain."{name}"')] if warned else [])


@pytest.mark.parametrize(
    ("batv", "address", "warned"),
    [
        ("", "required", True),
        ("batv = true\n", "required", True),
        ("batv = false\n", "required", False),
        ("", "optional", False),
    ],
)
def test_required_tokens_that_can_be_guessed(tmp_path: Path, batv: str, address: str, warned: bool) -> None:
    """A domain that relies on tokens must not accept short ones without a warning."""
    write_keys(tmp_path)
    rule = f'[verify]\nsecret_files = "secret"\n{batv}[verify.domain."own.example"]\naddress = "{address}"\n'
    domains = '["own.example"]\nlog_oob = "LogThenDrop"\n'
    loaded = load_files(tmp_path, {MAIN: f'listener_domains = "d.toml"\n{rule}', "d.toml": domains})
    line = 5 + bool(batv)
    expected = [("weak_proof", (MAIN, line, 'verify.domain."own.example".address'))] if warned else []
    assert [(one.code, place(one)) for one in loaded.problems] == expected
    assert all("2^23 tries" in one.text and "batv = false" in one.fix for one in loaded.problems)
