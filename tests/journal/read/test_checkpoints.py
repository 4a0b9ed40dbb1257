"""Checkpoints: what is saved often and what rarely, and what a reader says of itself."""

import os
from pathlib import Path

import pytest

from sidecar.journal.read import Checkpoint, Checkpoints, ReaderState, SegmentMark


def mark(lines: int, *, done: bool = False) -> SegmentMark:
    return SegmentMark(lines=lines, done=done)


def test_the_later_mark_counts(tmp_path: Path) -> None:
    """The two files are saved at different times; a segment that is done stays done."""
    made = Checkpoints(tmp_path)
    made.save("a", Checkpoint(segments={"old": mark(9, done=True), "live": mark(1), "ended": mark(7)}))
    state = ReaderState(oldest=5, fault="no answer", kept=2)
    made.save_live("a", Checkpoint(segments={"live": mark(4), "new": mark(2), "ended": mark(7)}), state)
    known = made.known("a")
    assert (known.oldest, known.fault, known.kept) == (5, "no answer", 2)
    assert made.load("a").segments == {"old": mark(9, done=True), "live": mark(4), "new": mark(2), "ended": mark(7)}
    made.save("a", Checkpoint(segments={"ended": mark(8, done=True), "live": mark(5)}))
    assert made.load("a").segments == {"ended": mark(8, done=True), "live": mark(5), "new": mark(2)}


def test_readers_that_are_forgotten(tmp_path: Path) -> None:
    """All of one name, with both files, and no others."""
    made = Checkpoints(tmp_path)
    for name in ("hook", "hook-a", "hook-b", "hooks"):
        made.save(name, Checkpoint(segments={}))
        made.save_live(name, Checkpoint(segments={}), ReaderState())
    made.remove_all("hook", but=("hook-b",))
    assert made.readers() == ("hook-b", "hooks")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hook-b.json", "hook-b.live", "hooks.json", "hooks.live"]


def test_what_is_saved_often_needs_no_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fsync would delay those of the journal, which MTAs wait for."""
    made, synced, fsync = Checkpoints(tmp_path), list[int](), os.fsync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    made.save("a", Checkpoint(segments={}))
    assert len(synced) == 2, "the file and its directory"
    made.save_live("a", Checkpoint(segments={"live": mark(4)}), ReaderState())
    assert len(synced) == 2


def test_a_power_failure(tmp_path: Path) -> None:
    """It can leave nothing, or half, of what is saved without fsync. The reader continues from what is on disk."""
    made = Checkpoints(tmp_path)
    made.save("a", Checkpoint(segments={"live": mark(1)}))
    for rest in ("", '{"segments": {"li'):
        (tmp_path / "a.live").write_text(rest)
        assert made.load("a").segments == {"live": mark(1)}


def test_a_damaged_file(tmp_path: Path) -> None:
    """The reader must know; whoever looks only at the list of readers need not."""
    made = Checkpoints(tmp_path)
    made.save("a", Checkpoint(segments={}))
    (tmp_path / "a.json").write_text("{")
    assert made.all_known()[0].fault == ""
    with pytest.raises(ValueError, match="is damaged"):
        made.load("a")
