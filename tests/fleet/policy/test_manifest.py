"""The form of a manifest, which other programs can make, and what is no manifest."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from sidecar.core.fleet_view import CanaryHealth
from sidecar.core.settings.fleet import FleetSettings
from sidecar.fleet.policy.manifest import (
    FILE_LIMIT,
    MANIFEST_LIMIT,
    Manifest,
    ManifestFile,
    PolicyError,
    digest_of,
    read_manifest,
    signed,
)
from sidecar.fleet.policy.signature import SigningKey, public_of
from tests import ROOT

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = SigningKey(id=public_of(PRIVATE).id, private=PRIVATE)
CONTENT = b'relay_hosts = ["192.0.2.1"]\n'
FILE = ManifestFile(name="policy.toml", size=len(CONTENT), sha256=digest_of(CONTENT))
MADE = Manifest(fleet="sidecar", revision=1, action="publish", created="2026-11-30T12:00:00Z", by="op@mx", files=(FILE,))
FLEET = FleetSettings(servers=(), node="mx1")


def read(value: bytes, key: str = "1") -> Manifest:
    return read_manifest(value, FLEET, [public_of(PRIVATE)], key=key)


def test_the_vector() -> None:
    """The guide has the bytes of this manifest and of its signature."""
    value = signed(MADE, KEY)
    assert value.decode() in (ROOT / "deploy/docs/fleet.md").read_text()
    PRIVATE.public_key().verify(
        PRIVATE.sign(b"sidecar policy\n" + value.split(b"\n")[0]), b"sidecar policy\n" + value.split(b"\n")[0]
    )
    assert read(value) == MADE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"files": ()}, "its manifest is not valid"),
        ({"revision": 0}, "its manifest is not valid"),
        ({"revision": 10**15}, "its manifest is not valid"),
        ({"files": (FILE, FILE)}, "file names that are not permitted"),
        ({"files": (replace(FILE, name="/policy.toml"),)}, "file names that are not permitted"),
        ({"files": (FILE, replace(FILE, name="a/../b"))}, "file names that are not permitted"),
        ({"files": (FILE, replace(FILE, name="a/.b"))}, "file names that are not permitted"),
        ({"files": (FILE, replace(FILE, name="a\n"))}, "file names that are not permitted"),
        ({"files": (FILE, replace(FILE, name="a", sha256="x"))}, "its manifest is not valid"),
        ({"files": (FILE, replace(FILE, name="a", size=FILE_LIMIT))}, "its files have 268,435,484 bytes"),
        ({"by": "x" * MANIFEST_LIMIT}, "its manifest has 524,"),
    ],
)
def test_what_is_signed_and_not_taken(change: dict[str, object], why: str) -> None:
    """A key that signs nonsense does no harm."""
    made = replace(MADE, **change)
    with pytest.raises(PolicyError, match=why):
        read(signed(made, KEY), key=str(made.revision))


@pytest.mark.parametrize("at", range(0, 378, 6))
def test_each_changed_byte_is_noticed(at: int) -> None:
    """Whatever byte of the value is changed, the manifest is not taken."""
    value = bytearray(signed(MADE, KEY))
    value[at % len(value)] ^= 1
    with pytest.raises(PolicyError):
        read(bytes(value))


def test_when_a_canary_is_held() -> None:
    """Few messages say nothing; the bound itself is allowed."""
    assert CanaryHealth(messages=19, tempfailed=19).exceeds(5) is None
    assert CanaryHealth(messages=20, tempfailed=1).exceeds(5) is None
    assert CanaryHealth(messages=20, tempfailed=2).exceeds(5)
    assert CanaryHealth(messages=20, tempfailed=1, restarts=1).exceeds(5)
    assert CanaryHealth(faults=20).exceeds(99)
    assert CanaryHealth(messages=1000, restarts=2).exceeds(5) is None
    assert CanaryHealth(restarts=3).exceeds(100)
