"""The operator's side of a policy: the files of a revision, the history of the fleet, and new revisions.

Each change is a new revision with a higher number, which is signed: a promotion and a rollback have the files of another one.
"""

import getpass
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from sidecar.config.files import UnreadableError, read_content, read_document
from sidecar.config.policy import POLICY_FILE
from sidecar.config.rules import IANA
from sidecar.core.settings.fleet import FleetSettings, PolicyKey
from sidecar.core.text import quoted, rfc3339
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.manifest import (
    Canary,
    Manifest,
    ManifestFile,
    PolicyError,
    digest_of,
    name_is_allowed,
    read_manifest,
    signed,
)
from sidecar.fleet.policy.signature import SigningKey


class Invalid(Struct, frozen=True, kw_only=True):
    """A value of the bucket that no node takes, and why."""

    key: str
    why: str


class History(Struct, frozen=True, kw_only=True):
    """All revisions of a fleet, the oldest first, and what is none."""

    revisions: tuple[Manifest, ...]
    invalid: tuple[Invalid, ...]

    @property
    def latest(self) -> Manifest | None:
        """The newest revision, also a canary."""
        return self.revisions[-1] if self.revisions else None

    @property
    def current(self) -> Manifest | None:
        """The newest revision for all nodes."""
        return next((one for one in reversed(self.revisions) if one.canary is None), None)

    def before(self, revision: int) -> Manifest | None:
        """Return the newest revision for all nodes before this one that has other files; None if there is none."""
        files = self.get(revision).files
        earlier = (one for one in reversed(self.revisions) if one.revision < revision)
        return next((one for one in earlier if one.canary is None and one.files != files), None)

    def get(self, revision: int) -> Manifest:
        """Return a revision. Raise PolicyError."""
        found = next((one for one in self.revisions if one.revision == revision), None)
        if found is None:
            raise PolicyError(f"there is no revision {revision}; `sidecar fleet history` lists all")
        return found

    @property
    def next(self) -> int:
        """The number of the next revision: no value of the bucket has it, also none without a valid signature."""
        taken = {one.key for one in self.invalid}
        number = self.latest.revision + 1 if self.latest is not None else 1
        while str(number) in taken:
            number += 1
        return number


async def read_history(buckets: Buckets, fleet: FleetSettings, keys: Sequence[PolicyKey]) -> History:
    """Return the revisions that one of the keys has signed. Raise FleetError."""
    revisions, invalid = list[Manifest](), list[Invalid]()
    async for _, key, value in buckets.manifests():
        try:
            revisions.append(read_manifest(value, fleet, keys, key=key))
        except PolicyError as error:
            invalid.append(Invalid(key=key, why=str(error)))
    return History(revisions=tuple(sorted(revisions, key=lambda one: one.revision)), invalid=tuple(invalid))


def collect(policy: Path) -> dict[str, bytes]:
    """Return the files of a policy by their paths in the revision: `policy`, and those that it names. Raise PolicyError."""
    try:
        values = read_document(policy, str(policy), is_json=False).values
        found = {POLICY_FILE: read_content(policy, str(policy), [])}
        for name in _named(values):
            if not name_is_allowed(name) or name == POLICY_FILE:
                place = f"its path must be below the folder of {policy}"
                rule = f"{place}, without a part that begins with a dot, and not {POLICY_FILE}"
                raise PolicyError(f"a revision cannot have the file {quoted(name)}: {rule}")
            found[name] = read_content(policy.parent / name, name, [])
    except UnreadableError as error:
        raise PolicyError(f"{error.text} {error.fix}".removesuffix(".")) from error
    return found


def _named(values: Mapping[str, object]) -> list[str]:
    """Return the files that a policy names. What has another type is an error of its check."""
    names = list[object]()
    for key in ("listener_domains", "bounce_classifier"):
        value = values.get(key, [])
        names += value if isinstance(value, list) else [value]
    return [name for name in dict.fromkeys(names) if isinstance(name, str) and name != IANA]


def write_copy(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write the files of a revision into an empty folder. Return the path of its policy. Raise OSError."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / POLICY_FILE


async def fetch(buckets: Buckets, manifest: Manifest) -> dict[str, bytes]:
    """Return the files of a revision. Raise PolicyError and FleetError."""
    return {file.name: await buckets.file(file) for file in manifest.files}


def manifest_files(files: Mapping[str, bytes]) -> tuple[ManifestFile, ...]:
    """Return the files as a manifest has them, in the order of their names."""
    each = sorted(files.items())
    return tuple(ManifestFile(name=name, size=len(content), sha256=digest_of(content)) for name, content in each)


def new_revision(  # noqa: PLR0913 - each is a field of it
    fleet: FleetSettings,
    history: History,
    files: tuple[ManifestFile, ...],
    *,
    action: Literal["publish", "promote", "rollback"],
    of: int | None = None,
    canary: Canary | None = None,
) -> Manifest:
    """Return the manifest of the next revision."""
    return Manifest(
        fleet=fleet.name,
        revision=history.next,
        action=action,
        of=of,
        created=rfc3339(int(time.time())),
        by=f"{_user()}@{os.uname().nodename}",
        canary=canary,
        files=files,
    )


async def store_revision(buckets: Buckets, manifest: Manifest, files: Mapping[str, bytes], key: SigningKey) -> None:
    """Store the files, and then the signed manifest: no node sees a revision without its files. Raise FleetError."""
    for content in files.values():
        await buckets.put_file(content)
    await buckets.put_manifest(manifest.revision, signed(manifest, key))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name
        return str(os.getuid())
