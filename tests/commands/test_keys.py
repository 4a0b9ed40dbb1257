"""`sidecar keys` makes, lists and rotates secrets, and shows none; `sidecar sign` signs with the first one."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.config.fleet import policy_key
from sidecar.core.proof.address import check_address
from sidecar.core.proof.secret import read_secret
from sidecar.core.settings.keys import DAY, Keys, Secret
from sidecar.fleet.policy.signature import SigningKey, is_valid, read_private
from tests.core.proof.making import check_trace

NEW, OLD = "secret", "secret.old"


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings with two secrets, both made now."""
    (tmp_path / "sidecar.toml").write_text(f'[verify]\nsecret_files = ["{NEW}", "{OLD}"]\nmaximum_age = {10 * DAY}\n')
    run("keys", "make", tmp_path / NEW, tmp_path / OLD, "--config", tmp_path / "sidecar.toml")
    return tmp_path / "sidecar.toml"


def made_before(folder: Path, **days: float) -> None:
    """Set the ages of the files, in days."""
    for name, age in days.items():
        path = folder / (OLD if name == "old" else NEW)
        os.utime(path, (time.time() - age * DAY,) * 2)


def contents(folder: Path) -> tuple[str, str]:
    return (folder / NEW).read_text(), (folder / OLD).read_text()


def test_make(tmp_path: Path) -> None:
    """Each file has its own secret and is its owner's alone; the output has key ids only."""
    result = run("keys", "make", tmp_path / NEW, tmp_path / OLD, "--config", tmp_path / "missing.toml")
    new, old = contents(tmp_path)
    assert new != old
    for text, name in ((new, NEW), (old, OLD)):
        secret = read_secret(text.encode())
        assert isinstance(secret, Secret)
        assert f"{tmp_path / name}: the secret with the key id {secret.id}." in result.output
        assert text.strip() not in result.output
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("of_folder", "of_settings"), [(4321, 0), (0, 4321), (4321, 1234)])
def test_make_for_a_service(tmp_path: Path, of_folder: int, of_settings: int) -> None:
    """A secret that root makes can be read by the group of its folder, or else of the settings file."""
    config = tmp_path / "sidecar.toml"
    config.write_text("")
    os.chown(config, 0, of_settings)
    os.chown(tmp_path, 0, of_folder)
    run("keys", "make", tmp_path / NEW, "--config", config)
    status = (tmp_path / NEW).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 4321, 0o640)


@pytest.mark.parametrize("what", ["file", "link"])
def test_make_replaces_nothing(tmp_path: Path, what: str) -> None:
    path = tmp_path / NEW
    if what == "file":
        path.write_text("old")
    else:
        path.symlink_to(tmp_path / "elsewhere")
    result = run("keys", "make", path, status=1)
    assert "exists, and is not replaced." in result.output
    assert [one.name for one in tmp_path.iterdir()] == [NEW]


def test_list(config: Path) -> None:
    made_before(config.parent, secret=0, old=40)
    listed = json.loads(run("keys", "list", "--json", "--config", config).stdout)["secrets"]
    assert [(Path(one["file"]).name, one["use"]) for one in listed] == [(NEW, "signs and verifies"), (OLD, "verifies")]
    text = run("keys", "list", "--config", config).output
    for one, secret in zip(listed, contents(config.parent), strict=True):
        assert re.search(rf"{one['key_id']} +{one['use']} +{one['made']}", text)
        assert secret.strip() not in text


def test_rotate(config: Path) -> None:
    """A new secret signs, the one before still verifies, and the rights stay."""
    made_before(config.parent, secret=12, old=400)
    (config.parent / NEW).chmod(0o640)
    before, oldest = contents(config.parent)
    result = run("keys", "rotate", "--config", config)
    new, old = contents(config.parent)
    assert old == before
    assert new not in {before, oldest}
    assert new.strip() not in result.output
    assert ((config.parent / NEW).stat().st_mode & 0o777, (config.parent / OLD).stat().st_mode & 0o777) == (0o640, 0o600)
    # Each file still says when its secret was made.
    assert (config.parent / OLD).stat().st_mtime < time.time() - 11 * DAY
    assert sorted(one.name for one in config.parent.iterdir()) == [NEW, OLD, "sidecar.toml"]
    assert json.loads(run("keys", "list", "--json", "--config", config).stdout)["secrets"][0]["key_id"] in result.output


def test_rotating_too_early_drops_no_valid_token(config: Path) -> None:
    """The last secret signed until the one before it was made; its tokens are valid for maximum_age and a day more."""
    for age in (0, 10.9):
        made_before(config.parent, secret=age, old=400)
        before = contents(config.parent)
        assert "can have tokens that are valid until" in run("keys", "rotate", "--config", config, status=1).output
        assert contents(config.parent) == before
    run("keys", "rotate", "--config", config, "--force")
    assert contents(config.parent)[1] == before[0]
    made_before(config.parent, secret=11.1, old=400)
    run("keys", "rotate", "--config", config)


def test_one_secret_cannot_rotate(config: Path) -> None:
    config.write_text(f'[verify]\nsecret_files = "{NEW}"\n')
    assert "is the only secret file" in run("keys", "rotate", "--config", config, status=1).output


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "rotate"], ["sign", "news@example.com"]])
def test_no_secrets(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "sidecar.toml").write_text("")
    assert "The settings have no secret" in run(*command, "--config", tmp_path / "sidecar.toml", status=1).output


def test_sign(config: Path) -> None:
    """The address and the trace header hold; only one recipient is proved."""
    secret = read_secret(contents(config.parent)[0].encode())
    assert isinstance(secret, Secret)
    keys, now = Keys(secrets=(secret,)), time.time()
    (address,) = run("sign", "news@example.com", "--config", config).output.split()
    assert check_address(address, keys, now).holds
    message = ["--message-id", "<1@example.com>", "--to", "jo@remote.example"]
    first, second = run("sign", "news@example.com", "--config", config, *message).output.splitlines()
    assert first == address
    head, reported = f"Message-ID: <1@example.com>\n{second}", ("jo@remote.example",)
    assert check_trace(head, address, reported, keys, now).recipients == reported
    as_json = json.loads(run("sign", "", "--config", config, *message, "--json").stdout)
    assert (as_json["sender"], as_json["why"], as_json["trace"] is None) == ("", "it is the null sender", False)


def test_sign_gives_a_reason(config: Path) -> None:
    long = f"{'x' * 41}@example.com"
    assert f"'{long}' gets no token: its local part has 41 octets" in run("sign", long, "--config", config, status=1).output


def test_policy_keys(tmp_path: Path) -> None:
    """The private key is its owner's alone, and signs what the public one verifies; files are never replaced."""
    private, public = tmp_path / "policy.key", tmp_path / "policy.key.pub"
    result = run("keys", "policy", private)
    assert (private.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    key, known = read_private(private), policy_key(public.read_bytes())
    assert isinstance(key, SigningKey)
    assert known is not None
    assert (key.id, is_valid([known], key.id, b"a", key.sign(b"a"))) == (known.id, True)
    assert not is_valid([known], key.id, b"b", key.sign(b"a"))
    assert known.id in result.output
    before = private.read_bytes(), public.read_bytes()
    assert "policy.key exists" in run("keys", "policy", private, status=1).output
    private.unlink()
    assert "policy.key.pub exists" in run("keys", "policy", private, status=1).output
    assert (private.exists(), public.read_bytes()) == (False, before[1])


def test_policy_keys_of_openssl(tmp_path: Path) -> None:
    """Any tool can make the keys: they are PEM files of RFC 8410. Other keys are named."""
    for arguments in ("-algorithm ed25519", "-algorithm rsa -pkeyopt rsa_keygen_bits:1024"):
        subprocess.run(["openssl", "genpkey", *arguments.split(), "-out", tmp_path / "key"], check=True, capture_output=True)
        pub = subprocess.run(["openssl", "pkey", "-in", tmp_path / "key", "-pubout"], check=True, capture_output=True).stdout
        key, known = read_private(tmp_path / "key"), policy_key(pub)
        if "rsa" in arguments:
            assert (key, known) == ("it is no Ed25519 key", None)
        else:
            assert isinstance(key, SigningKey)
            assert known is not None
            assert key.id == known.id
    (tmp_path / "key").write_bytes(b"x")
    assert read_private(tmp_path / "key") == "it is no private key in PEM form"
