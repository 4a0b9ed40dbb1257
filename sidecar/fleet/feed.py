"""The records of the journal for one reader that delivers them: each at least once, in the order of its segment.

Owns the checkpoint: it moves only over records that were acknowledged. Never delivers one.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import Struct

from sidecar import log
from sidecar.core.settings.settings import Settings
from sidecar.journal import hold_lock
from sidecar.journal.read import Checkpoint, Checkpoints, Followed, ReaderState, SegmentMark, Skipped, followers

# A crash of the process repeats what was acknowledged since, and a power failure what was since the last one on disk: NATS
# recognises it by its id.
_SAVE_SECONDS: Final = 1.0
_SYNC_SECONDS: Final = 60.0
_OTHER: Final = "other"
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

_LOG = log.get("fleet")


class _Head(Struct, frozen=True):
    type: str = ""
    created: int = 0


_HEAD: Final = msgspec.json.Decoder(_Head)


class FeedBusyError(Exception):
    """Another process has this feed: the one before a reload, which ends soon."""


class Item(Struct, frozen=True, kw_only=True):
    """A record: its segment, its line there from 1, its type as a word, when it was made (seconds since 1970), its JSON."""

    path: str
    segment: str
    line: int
    type: str
    created: int
    text: bytes


class _Progress:
    """One segment: the last line that was read, and those that are not acknowledged."""

    def __init__(self, mark: SegmentMark) -> None:
        self.last, self.finished, self.waiting = mark.lines, mark.done, dict[int, int]()

    @property
    def mark(self) -> SegmentMark:
        lines = next(iter(self.waiting)) - 1 if self.waiting else self.last
        return SegmentMark(lines=lines, done=self.finished and not self.waiting)


class Feed:
    """The records that the reader `name` has not delivered. Use it as a context manager.

    `fault` is why nothing is delivered now, and `kept` how many records were rejected: `sidecar status` shows both.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._name = name
        self._checkpoints_directory = settings.checkpoints_directory
        self._checkpoints = Checkpoints(settings.checkpoints_directory)
        self._directories = settings.journal.directories
        self._progress: dict[str, _Progress] = {}
        self._stack = ExitStack()
        self._saved: tuple[Checkpoint, ReaderState] | None = None
        self._done = set[str]()
        self._save_at = self._sync_at = 0.0
        self.fault, self.kept = "", 0

    def __enter__(self) -> Self:
        """Raise FeedBusyError, JournalError, OSError, and ValueError for a damaged checkpoint."""
        with ExitStack() as stack:
            # Two processes must not save one checkpoint.
            stack.enter_context(hold_lock(self._checkpoints_directory / f"{self._name}.lock", FeedBusyError))
            self._load(stack)
            self._stack = stack.pop_all()
        return self

    def _load(self, stack: ExitStack) -> None:
        loaded = self._checkpoints.load(self._name)
        self._progress = {path: _Progress(mark) for path, mark in loaded.segments.items()}
        # From now on retention waits for this reader.
        self._checkpoints.save(self._name, loaded)
        self._done = {path for path, mark in loaded.segments.items() if mark.done}
        self._followers = stack.enter_context(followers(self._directories))

    def __exit__(self, *_: object) -> None:
        self.save(at_once=True)
        self._stack.close()

    def records(self) -> Iterator[Item]:
        """Yield what the journal has now. Read all before the next call. Raise JournalError."""
        for follower in self._followers:
            for file in follower.look():
                yield from self._new(file)

    def acknowledge(self, item: Item) -> None:
        """Note that a record was delivered, or that it is kept elsewhere."""
        if (progress := self._progress.get(item.path)) is not None:
            progress.waiting.pop(item.line, None)

    @property
    def is_idle(self) -> bool:
        """Whether all that was read is acknowledged."""
        return not any(one.waiting for one in self._progress.values())

    def save(self, *, at_once: bool = False) -> None:
        """Save the checkpoint if it has changed, once a second at most. Raise OSError."""
        now = time.monotonic()
        if now < self._save_at and not at_once:
            return
        self._save_at = now + _SAVE_SECONDS
        if sync := at_once or now >= self._sync_at:
            self._sync_at = now + _SYNC_SECONDS
            for path in [path for path, one in self._progress.items() if one.mark.done and not Path(path).exists()]:
                del self._progress[path]
        checkpoint = Checkpoint(segments={path: one.mark for path, one in self._progress.items()})
        oldest = min((next(iter(one.waiting.values())) for one in self._progress.values() if one.waiting), default=0)
        state = ReaderState(oldest=oldest, fault=self.fault, kept=self.kept)
        if (checkpoint, state) == self._saved and not sync:
            return
        # First the small file, with the segments that are done now: a crash between the two repeats nothing.
        live = {path: mark for path, mark in checkpoint.segments.items() if path not in self._done}
        self._checkpoints.save_live(self._name, Checkpoint(segments=live), state)
        if (done := {path for path, mark in checkpoint.segments.items() if mark.done}) != self._done or sync:
            self._checkpoints.save(self._name, checkpoint)
            self._done = done
        self._saved = checkpoint, state

    def _new(self, file: Followed) -> Iterator[Item]:
        path = str(file.path)
        progress = self._progress.setdefault(path, _Progress(SegmentMark(lines=0)))
        if progress.finished:
            file.skip()
            return
        for line in file.lines():
            # A segment is read again from its beginning after a start, and after it was cut off.
            if line.number <= progress.last:
                continue
            if not isinstance(line, Skipped):
                item = self._item(path, line.number, line.text)
                if item is not None:
                    progress.waiting[line.number] = item.created
                    progress.last = line.number
                    yield item
            elif not line.unfinished:
                self._report(path, line.number, line.why)
            progress.last = line.number
        progress.finished = file.done

    def _item(self, path: str, number: int, text: bytes) -> Item | None:
        try:
            head = _HEAD.decode(text)
        except (ValueError, RecursionError) as error:
            self._report(path, number, f"it is no record: {error}")
            return None
        kind = head.type if _TYPE.fullmatch(head.type) else _OTHER
        return Item(path=path, segment=self._segment(path), line=number, type=kind, created=head.created, text=text)

    def _segment(self, path: str) -> str:
        """Return the path of a segment below the journal's first directory; the whole path if it is elsewhere."""
        return path.removeprefix(f"{self._directories[0]}/")

    def _report(self, path: str, number: int, why: str) -> None:
        """Log a line that cannot be delivered. It stays in the journal."""
        _LOG.error(f"a line of the journal is not shipped: {why}", reader=self._name, file=path, line=number)
