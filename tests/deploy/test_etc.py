"""The settings files of the packages: they change nothing, have every setting, and show the defaults."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from sidecar.config import load
from sidecar.config.domains import READERS as DOMAIN_KEYS
from sidecar.config.fleet import READERS as FLEET_KEYS
from sidecar.config.loading import _LIMIT_READERS, _LOG_READERS, _READERS
from sidecar.config.sign import READERS as SIGN_KEYS
from sidecar.config.verify import DOMAIN_READERS as VERIFY_DOMAIN_KEYS
from sidecar.config.verify import READERS as VERIFY_KEYS
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import AdminSettings, DomainEntry, JournalSettings, MilterSettings, RecordSettings, Role
from tests import ROOT

FOLDER = ROOT / "deploy/etc"
MAIN, DOMAINS = FOLDER / "sidecar.toml", FOLDER / "listener_domains.toml"
# As systemd sets it.
ENVIRON = {"STATE_DIRECTORY": "/var/lib/sidecar"}


def uncommented(text: str, *, examples: bool) -> str:
    """Return a file with its settings in force: all of them, or without `examples` those that show a default."""
    return "\n\n".join(
        re.sub("(?m)^#(?=[^ ])", "", part)
        for part in text.split("\n\n")
        if examples or not re.search(r"for\s+#?\s*example", part, re.IGNORECASE)
    )


def settings(text: str, folder: Path) -> Settings:
    (folder / "listener_domains.toml").write_text(uncommented(DOMAINS.read_text(), examples=True))
    (folder / "sidecar.toml").write_text(text)
    (folder / "dkim-keys").mkdir()
    (folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    (folder / "fleet.creds").write_text("SU" + "A" * 56)
    public = Ed25519PrivateKey.generate().public_key()
    (folder / "policy.key.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for name in ("secret", "reader-token", "operator-token"):
        (folder / name).write_text(f"the-{name}-of-the-tests-is-no-secret")
    for name in ("secret", "reader-token", "operator-token", "fleet.creds"):
        (folder / name).chmod(0o600)
    loaded = load(folder / "sidecar.toml", environ=ENVIRON)
    assert loaded.settings is not None, loaded.problems
    return loaded.settings


@pytest.mark.parametrize("path", [MAIN, DOMAINS])
def test_nothing_is_set(path: Path) -> None:
    """But the headings of sections, so that a line that is uncommented is in the right one."""
    assert [line for line in path.read_text().splitlines() if line and not re.fullmatch(r"#.*|\[[a-z]+\]", line)] == []
    assert load(MAIN, environ=ENVIRON).settings == load(None, environ=ENVIRON).settings


def test_the_values_are_the_defaults(tmp_path: Path) -> None:
    text = uncommented(MAIN.read_text(), examples=False)
    assert text.count("\n") > 100
    found, expected = settings(text, tmp_path), load(None, environ=ENVIRON).settings
    assert expected is not None
    assert found.relay_hosts.networks == expected.relay_hosts.networks
    assert replace(found, relay_hosts=expected.relay_hosts) == expected


def keys(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Return the path of each key."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from keys(value, f"{path}{key}.")
        else:
            yield path + key


def test_every_setting_is_there(tmp_path: Path) -> None:
    text = uncommented(MAIN.read_text(), examples=True)
    assert len(settings(text, tmp_path).domains) == 1
    journal = {*JournalSettings.__struct_fields__} - {"Reception", "Rejection", "OOB", "Feedback"}
    assert set(keys(tomli.loads(text))) == {
        *_READERS,
        *(f"limits.{key}" for key in _LIMIT_READERS),
        *(f"log.{key}" for key in _LOG_READERS),
        *(f"verify.{key}" for key in VERIFY_KEYS),
        *(f"verify.domain.bounce.example.com.{key}" for key in VERIFY_DOMAIN_KEYS),
        *(f"sign.{key}" for key in SIGN_KEYS),
        *(f"milter.{key}" for key in MilterSettings.__struct_fields__),
        *(f"admin.{key}" for key in AdminSettings.__struct_fields__ if key != "tokens"),
        *(f"admin.tokens.{role}" for role in get_args(Role)),
        *(f"journal.{key}" for key in journal),
        *(f"journal.OOB.{key}" for key in RecordSettings.__struct_fields__),
        "listener.10.1.1.1:25.relay_hosts",
        *(f"fleet.{key}" for key in FLEET_KEYS),
        "webhook",
        *(f"suppression.{key}" for key in {*SuppressionSettings.__struct_fields__} - {"domain", "places"}),
        "suppression.domain.example.com.check",
    }


def test_every_key_of_a_domain_is_there(tmp_path: Path) -> None:
    """The one entry has each key; those that show a default have it."""
    (entry,) = settings('listener_domains = ["listener_domains.toml"]\n', tmp_path).domains
    assert {*entry.steps} - {""} == {*DOMAIN_KEYS}
    default = DomainEntry(listener="*", domain="", path="", line=0, steps={})
    assert all(getattr(entry, key) == getattr(default, key) for key in ("relay_to", "relay_from", "relay_from_authz"))
