"""The revisions on a node's disk: below `policy/` in the state directory, each in a folder that is written as a whole.

Owns which one is active, which one a reload has to try, what the agent remembers, and the removal of old ones. Never checks a
signature.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from sidecar.config.files import UnreadableError
from sidecar.config.policy import active_file, active_policy, candidate_file, candidate_of, policy_folder
from sidecar.fleet.policy.manifest import Manifest, ManifestFile, digest_of
from sidecar.journal import sync_directory

_MANIFEST: Final = "manifest"
_STATE: Final = "state.json"


class Trial(Struct, frozen=True, kw_only=True):
    """A canary revision on this node: since when it serves (seconds since 1970), and the revision to return to."""

    revision: int
    hold_at: float
    earlier: int
    since: float = 0.0


class AgentState(Struct, frozen=True, kw_only=True):
    """What the agent remembers.

    `highest` is the highest revision that this node had to take, and `digest` the SHA-256 of its manifest: a lower one is never
    taken. `held` is the canary revision that this node has left, and `why`.
    """

    highest: int = 0
    digest: str = ""
    trial: Trial | None = None
    held: int = 0
    why: str = ""


class PolicyStore:
    """The folder of revisions. All methods raise OSError."""

    def __init__(self, state_directory: Path) -> None:
        self._state_directory = state_directory
        self._folder = policy_folder(state_directory)

    def active(self) -> int:
        """Return the active revision; 0 if there is none."""
        try:
            found = active_policy(self._state_directory, [])
        except UnreadableError:
            return 0
        return 0 if found is None or found.revision is None else found.revision

    def candidate(self) -> int | None:
        """Return the revision that a reload has to try (0: the node's own settings), or None. A damaged number is removed."""
        try:
            return candidate_of(self._state_directory)
        except UnreadableError:
            self.drop()
            return None

    def folder_of(self, revision: int) -> Path:
        """Return the folder of a revision."""
        return self._folder / str(revision)

    def write(self, manifest: Manifest, value: bytes, files: Iterable[tuple[ManifestFile, bytes]]) -> None:
        """Write a revision with the value of its manifest. Its folder appears as a whole.

        A revision that is on the disk as it was signed stays untouched: a process may be reading it.
        """
        draft, folder = self._folder / ".new", self.folder_of(manifest.revision)
        if all(_is_intact(folder / file.name, file) for file in manifest.files) and folder.joinpath(_MANIFEST).is_file():
            return
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o750)
        for file, content in files:
            path = draft / file.name
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            _write(path, content)
        _write(draft / _MANIFEST, value)
        sync_directory(draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
        sync_directory(self._folder)

    def file(self, wanted: ManifestFile) -> bytes | None:
        """Return a file that a revision on this disk has, too; None if there is none."""
        for folder in self._revisions():
            if _is_intact(path := folder / wanted.name, wanted):
                return path.read_bytes()
        return None

    def propose(self, revision: int) -> None:
        """Let the next reload try a revision; 0 is the node's own settings. A start still takes the active one."""
        self._replace(candidate_file(self._state_directory), f"{revision}\n".encode())

    def drop(self) -> None:
        """Propose nothing any more."""
        candidate_file(self._state_directory).unlink(missing_ok=True)

    def activate(self, revision: int) -> None:
        """Make a revision that serves the active one, and remove those that are neither active nor the one before.

        With 0 none is active: the node has its own settings.
        """
        before, path = self.active(), active_file(self._state_directory)
        if revision:
            self._replace(path, f"{revision}\n".encode())
        else:
            path.unlink(missing_ok=True)
        self.drop()
        sync_directory(path.parent)
        for folder in self._revisions():
            if folder.name not in {str(revision), str(before)}:
                shutil.rmtree(folder, ignore_errors=True)

    def load(self) -> AgentState:
        """Return what the agent remembers. A damaged file is as none: `highest` is then the active revision."""
        try:
            return msgspec.json.decode((self._folder / _STATE).read_bytes(), type=AgentState)
        except (FileNotFoundError, ValueError):
            return AgentState(highest=self.active())

    def save(self, state: AgentState) -> None:
        """Remember this, on disk."""
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._replace(self._folder / _STATE, msgspec.json.encode(state))

    def _replace(self, path: Path, content: bytes) -> None:
        draft = path.with_name(f".{path.name}.new")
        _write(draft, content)
        draft.rename(path)
        sync_directory(path.parent)

    def _revisions(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            yield from [folder for folder in self._folder.iterdir() if folder.name.isdigit()]


def _is_intact(path: Path, file: ManifestFile) -> bool:
    try:
        return path.stat().st_size == file.size and digest_of(path.read_bytes()) == file.sha256
    except OSError:
        return False


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o640)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
