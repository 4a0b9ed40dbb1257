"""The signed manifest of a revision: its form in bytes, which is permanent (deploy/docs/fleet.md, The manifest).

Owns what a manifest can say, and who it is for. Never opens a file or a connection.
"""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from sidecar.config.policy import POLICY_FILE
from sidecar.core.settings.fleet import FleetSettings, PolicyKey
from sidecar.core.text import shown
from sidecar.fleet.policy.signature import SigningKey, is_valid

VERSION: Final = 1
"""The version of manifests that this program makes, and the newest that it reads."""

# All files of a revision together: those of a million domains have some 70 MB.
FILE_LIMIT: Final = 256 << 20
FILES_LIMIT: Final = 100
# A hundred files, and a canary of some thousand nodes.
MANIFEST_LIMIT: Final = 512 << 10
# What is signed begins with this, so that a signature over something else never counts.
_CONTEXT: Final = b"sidecar policy\n"
_ALGORITHM: Final = b"ed25519"
# A part that begins with a dot could leave the folder.
_PART: Final = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}")
_LATEST: Final = 10**15 - 1

Number = Annotated[int, Meta(ge=1, le=_LATEST)]


class PolicyError(Exception):
    """A revision that is not taken; the text is one plain sentence without a full stop."""


class IncompleteError(PolicyError):
    """A file of a revision is not in the object store as it was signed: it may be on its way."""


class ManifestFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a revision: its path in the revision, its bytes, and their SHA-256 in hexadecimal."""

    name: Annotated[str, Meta(max_length=255)]
    size: Annotated[int, Meta(ge=0, le=FILE_LIMIT)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Canary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The nodes that take a revision first.

    One of them returns to its earlier revision when more than `hold_at` percent of its messages are tempfailed or fail.
    """

    nodes: tuple[str, ...]
    hold_at: Annotated[float, Meta(gt=0, le=100)] = 5.0


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a revision is. `of` is the revision whose files a promotion or a rollback has; without `canary` it is for all nodes.

    `created` is RFC 3339, `by` is user and host of the publisher: both are only shown.
    """

    version: int = VERSION
    fleet: str
    revision: Number
    action: Literal["publish", "promote", "rollback"]
    of: Number | None = None
    created: str
    by: str = ""
    canary: Canary | None = None
    files: Annotated[tuple[ManifestFile, ...], Meta(min_length=1, max_length=FILES_LIMIT)]

    def is_for(self, node: str) -> bool:
        """Return True if a node has to take it."""
        return self.canary is None or node in self.canary.nodes


class _Versioned(Struct, frozen=True):
    """What all versions have, also later ones."""

    version: int
    revision: int


def name_is_allowed(name: str) -> bool:
    """Return True if a file of a revision can have this path."""
    return _NAME.fullmatch(name) is not None


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of a file, in hexadecimal: the name of its object."""
    return hashlib.sha256(content).hexdigest()


def signed(manifest: Manifest, key: SigningKey) -> bytes:
    """Return the value of the bucket: the manifest in JSON on one line, and its signature on the next."""
    line = msgspec.json.encode(manifest)
    signature = b64encode(key.sign(_CONTEXT + line))
    return b"%s\n%s %s %s\n" % (line, _ALGORITHM, key.id.encode(), signature)


def read_manifest(value: bytes, fleet: FleetSettings, keys: Sequence[PolicyKey], *, key: str) -> Manifest:
    """Return the manifest that is stored as revision `key`, if one of the keys has signed it. Raise PolicyError."""
    line = _signed_line(value, keys)
    try:
        known = msgspec.json.decode(line, type=_Versioned)
        if known.version > VERSION:
            upgrade = "it is kept until this node has a newer program"
            raise PolicyError(f"its manifest has version {known.version}, and this program reads {VERSION}: {upgrade}")
        manifest = msgspec.json.decode(line, type=Manifest)
    except ValueError as error:
        raise PolicyError(f"its manifest is not valid: {error}") from error
    if manifest.fleet != fleet.name:
        raise PolicyError(f"it is of the fleet {shown(manifest.fleet)}, and this is {shown(fleet.name)}")
    if key != str(manifest.revision):
        raise PolicyError(f"it is a copy of revision {manifest.revision}")
    names = [file.name for file in manifest.files]
    if POLICY_FILE not in names or len(set(names)) < len(names) or not all(map(name_is_allowed, names)):
        raise PolicyError("its manifest has file names that are not permitted")
    if (size := sum(file.size for file in manifest.files)) > FILE_LIMIT:
        raise PolicyError(f"its files have {size:,} bytes, and {FILE_LIMIT:,} are allowed")
    return manifest


def _signed_line(value: bytes, keys: Sequence[PolicyKey]) -> bytes:
    if len(value) > MANIFEST_LIMIT:
        raise PolicyError(f"its manifest has {len(value):,} bytes, and {MANIFEST_LIMIT:,} are allowed")
    line, _, rest = value.partition(b"\n")
    match rest.split(b" "):
        case [algorithm, key_id, encoded] if algorithm == _ALGORITHM and encoded.endswith(b"\n"):
            pass
        case _:
            raise PolicyError("its manifest has no Ed25519 signature")
    name = key_id.decode("ascii", "replace")
    try:
        signature = b64decode(encoded[:-1], validate=True)
    except ValueError:
        signature = b""
    if b64encode(signature) != encoded[:-1]:  # a signature has one spelling
        signature = b""
    if name not in {key.id for key in keys}:
        raise PolicyError(f"it is signed with the key {shown(name)}, which is not in policy_keys")
    if not is_valid(keys, name, _CONTEXT + line, signature):
        raise PolicyError(f"its signature with the key {shown(name)} is wrong")
    return line
