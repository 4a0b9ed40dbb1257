"""Which segments are deleted, in which order, and which never are."""

import errno
import fcntl
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.settings.values import JournalSettings, RecordSettings
from sidecar.journal.read import Checkpoint, Checkpoints, SegmentMark
from sidecar.journal.read.retention import Retention
from sidecar.journal.write import Journal
from sidecar.machine import free_bytes

DAY = 24 * 3600
NOON = 1_790_000_000.0
# A file needs whole blocks of 4,096 bytes.
BLOCK = 4096


def segment(
    folder: Path, number: int, *, age: float = 0.0, size: int = BLOCK, suffix: str = ".jsonl", mode: int = 0o440
) -> Path:
    """Write a file as finished segments are; `number` is its place in the order of time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"20260921-1200{number:02}.000000{suffix}"
    path.write_bytes(b"x" * size)
    os.utime(path, (NOON - age, NOON - age))
    path.chmod(mode)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def retention(folder: Path, *, free: Callable[[Path], int] = lambda _: 1 << 40, **settings: Any) -> Retention:
    values = {"keep_age": 0, "keep_size": 0, "minimum_free": 0} | settings
    journal = JournalSettings(directory=folder, **values)
    # The last sweep was in time, so ages count.
    (folder.parent / "retention").write_bytes(struct.pack("<dd", NOON, 0.0))
    return at(journal, lambda: NOON, free=free)


def at(journal: JournalSettings, clock: Callable[[], float], **more: Any) -> Retention:
    """Return the retention of a process that starts now."""
    state = journal.directory.parent
    return Retention(
        journal, Checkpoints(state / "checkpoints"), state / "retention", clock=clock, **{"free": free_bytes} | more
    )


def test_by_age(tmp_path: Path) -> None:
    """A segment is deleted when its last line is older than `keep_age`; 0 keeps all."""
    folder = tmp_path / "journal"
    old, young = segment(folder, 1, age=DAY + 1), segment(folder, 2, age=DAY - 1)
    retention(folder).sweep()
    assert old.exists()
    retention(folder, keep_age=DAY).sweep()
    assert not old.exists()
    assert young.exists()


def test_by_size(tmp_path: Path) -> None:
    """The oldest are deleted until all segments have at most `keep_size` bytes on disk; those being written count as well."""
    folder = tmp_path / "journal"
    for number in range(4):
        segment(folder, number)
    segment(folder, 9, mode=0o640)
    retention(folder, keep_size=5 * BLOCK).sweep()
    assert len(names(folder)) == 5
    retention(folder, keep_size=3 * BLOCK).sweep()
    assert names(folder) == [f"20260921-1200{number:02}.000000.jsonl" for number in (2, 3, 9)]


def test_by_free_space(tmp_path: Path) -> None:
    """The oldest are deleted until the file system has `minimum_free` bytes; each gives back what it took."""
    folder = tmp_path / "journal"
    for number in range(4):
        segment(folder, number, size=3 * BLOCK)
    retention(folder, minimum_free=10 * BLOCK, free=lambda _: 10 * BLOCK).sweep()
    assert len(names(folder)) == 4
    retention(folder, minimum_free=10 * BLOCK, free=lambda _: 6 * BLOCK).sweep()
    assert names(folder) == [f"20260921-1200{number:02}.000000.jsonl" for number in (2, 3)]


def test_the_oldest_of_all_folders(tmp_path: Path) -> None:
    """The order is by time, also if the types of records have their own folders and suffixes; all count together."""
    folder, rejections = tmp_path / "journal", tmp_path / "rejections"
    segment(folder, 1)
    segment(rejections, 2, suffix=".rej")
    segment(folder, 3)
    own: dict[str, Any] = {"Rejection": RecordSettings(directory=rejections, suffix=".rej")}
    retention(folder, keep_size=BLOCK, **own).sweep()
    assert (names(folder), names(rejections)) == (["20260921-120003.000000.jsonl"], [])


def test_what_is_never_deleted(tmp_path: Path) -> None:
    """A segment being written, KumoMTA's segments, files of others, links, and folders."""
    folder = tmp_path / "journal"
    segment(folder, 1, age=DAY, mode=0o640)
    segment(folder, 2, age=DAY, suffix="000.jsonl")
    segment(folder, 3, age=DAY, suffix=".old")
    elsewhere = segment(tmp_path / "elsewhere", 4, age=DAY)
    (folder / "20260921-120005.000000.jsonl").symlink_to(elsewhere)
    (folder / "20260921-120006.000000.jsonl").mkdir(mode=0o500)
    before = names(folder)
    retention(folder, keep_age=1, keep_size=1, minimum_free=1 << 50).sweep()
    assert names(folder) == before
    assert elsewhere.exists()


def test_a_live_segment_is_kept_until_it_is_finished(tmp_path: Path) -> None:
    """The journal's own segment: its mode says when it is finished."""
    folder = tmp_path / "journal"
    journal = Journal(folder, segment_size=1 << 20, segment_age=3600)
    journal.write(b"{}\n", durable=True)
    retention(folder, keep_size=1).sweep()
    assert len(names(folder)) == 1
    journal.close()
    retention(folder, keep_size=1).sweep()
    assert names(folder) == []


def mark(folder: Path, reader: str, **segments: SegmentMark) -> None:
    paths = {str(folder / f"20260921-1200{name[1:]}.000000.jsonl"): mark for name, mark in segments.items()}
    Checkpoints(folder.parent / "checkpoints").save(reader, Checkpoint(segments=paths))


def test_what_a_reader_has_not_read_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each reader with a checkpoint counts, also one that is not running. The log names them, once a minute."""
    folder = tmp_path / "journal"
    for number in range(4):
        segment(folder, number)
    done, half = SegmentMark(lines=1, done=True), SegmentMark(lines=1)
    mark(folder, "shipper", s00=done, s01=half, s02=done)
    mark(folder, "suppression", s00=done, s01=done)
    times = iter(range(0, 1000, 10))
    retention(folder)
    it = at(JournalSettings(directory=folder, keep_age=0, keep_size=1, minimum_free=0), lambda: NOON + next(times))
    it.sweep()
    it.sweep()
    assert names(folder) == [f"20260921-1200{number:02}.000000.jsonl" for number in (1, 2, 3)]
    log = capfd.readouterr().err
    file = tmp_path / "checkpoints"
    gone = [f"reader {name} saved its checkpoint last at 2" for name in ("shipper", "suppression")]
    assert log.count("3 old segments cannot be deleted, because not all was read: reader shipper") == 1
    assert all(each in log for each in gone)
    assert f"if it is gone for good, remove {file}/shipper.json, and reader suppression" in log
    Checkpoints(tmp_path / "checkpoints").remove("suppression")
    it.sweep()
    assert names(folder) == [f"20260921-1200{number:02}.000000.jsonl" for number in (1, 3)]


def test_a_damaged_checkpoint_keeps_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No one knows what its reader has read."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    mark(folder, "shipper", s01=SegmentMark(lines=1, done=True))
    (tmp_path / "checkpoints" / "shipper.json").write_text('{"segments": 1}', encoding="utf-8")
    retention(folder, keep_size=1).sweep()
    assert len(names(folder)) == 1
    log = capfd.readouterr().err
    assert "old segments could not be deleted" in log
    assert "shipper.json is damaged (" in log
    assert "remove it if its reader is gone for good" in log


def test_only_readers_that_keep_segments_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A removed checkpoint file, as the log says, frees them."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    mark(folder, "shipper")
    mark(folder, "suppression", s01=SegmentMark(lines=1, done=True))
    retention(folder, keep_size=1).sweep()
    log = capfd.readouterr().err
    assert "reader shipper" in log
    assert "suppression" not in log
    (tmp_path / "checkpoints/shipper.json").unlink()
    at(JournalSettings(directory=folder, keep_size=1, minimum_free=0), lambda: NOON + 100).sweep()
    assert names(folder) == []


def test_what_is_known_of_readers(tmp_path: Path) -> None:
    """Files that vanish or cannot be reached are left out."""
    it = Checkpoints(tmp_path / "checkpoints")
    assert it.all_known() == []
    it.save("shipper", Checkpoint(segments={}))
    os.utime(tmp_path / "checkpoints/shipper.json", (NOON, NOON))
    (tmp_path / "checkpoints/gone.json").symlink_to("missing")
    (known,) = it.all_known()
    assert (known.name, known.saved, known.file) == ("shipper", "2026-09-21T14:13:20Z", f"{tmp_path}/checkpoints/shipper.json")


def test_only_one_worker_sweeps(tmp_path: Path) -> None:
    """While another process sweeps the folder, nothing is done."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    it = retention(folder, keep_size=1)
    descriptor = os.open(tmp_path / "retention", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        it.sweep()
        assert len(names(folder)) == 1
    finally:
        os.close(descriptor)
    it.sweep()
    assert names(folder) == []


def test_one_sweep_in_ten_seconds_is_enough(tmp_path: Path) -> None:
    """However many workers there are; a second after a sweep that deleted something."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    journal = JournalSettings(directory=folder, keep_age=0, keep_size=1, minimum_free=0)
    assert at(journal, lambda: NOON).sweep() == 1
    segment(folder, 2)
    assert at(journal, lambda: NOON + 0.25).sweep() == 0.75
    assert len(names(folder)) == 1
    assert at(journal, lambda: NOON + 1).sweep() == 1
    assert at(journal, lambda: NOON + 2).sweep() == 10
    assert names(folder) == []


def test_who_can_read_the_journal_cannot_stop_it(tmp_path: Path) -> None:
    """A lock on the folder, which its group can open, stops no sweep. Only the owner can open the file with the lock."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        retention(folder, keep_size=1).sweep()
    finally:
        os.close(descriptor)
    assert names(folder) == []
    (tmp_path / "retention").unlink()
    at(JournalSettings(directory=folder), lambda: NOON).sweep()
    assert (tmp_path / "retention").stat().st_mode & 0o077 == 0


def test_a_journal_without_a_folder(tmp_path: Path) -> None:
    """There is nothing to delete before the first record."""
    retention(tmp_path / "journal", keep_size=1).sweep()
    assert not (tmp_path / "journal").exists()


def test_all_types_in_folders_of_their_own(tmp_path: Path) -> None:
    """The journal's own folder does not exist then."""
    rejections = tmp_path / "rejections"
    segment(rejections, 1)
    retention(tmp_path / "journal", keep_size=1, Rejection=RecordSettings(directory=rejections)).sweep()
    assert names(rejections) == []


# --- one thing that fails


def test_a_segment_that_cannot_be_deleted_keeps_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The oldest may be immutable (chattr +i)."""
    folder = tmp_path / "journal"
    immutable = segment(folder, 1)
    segment(folder, 2)
    unlink = Path.unlink

    def refuse(path: Path, **more: bool) -> None:
        if path == immutable:
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        unlink(path, **more)

    monkeypatch.setattr(Path, "unlink", refuse)
    retention(folder, keep_size=1).sweep()
    assert names(folder) == [immutable.name]
    assert "some old segments could not be deleted" in capfd.readouterr().err


def test_a_folder_that_cannot_be_read_keeps_no_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "journal"
    segment(folder, 1)
    (tmp_path / "rejections").write_text("no folder", encoding="utf-8")
    retention(folder, keep_size=1, Rejection=RecordSettings(directory=tmp_path / "rejections")).sweep()
    assert names(folder) == []
    assert "some old segments could not be deleted" in capfd.readouterr().err


def test_without_its_file_a_sweep_deletes_for_space_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A full disk has no space for the file. Without it no one knows whether the clock was changed. A link is not followed."""
    folder = tmp_path / "journal"
    segment(folder, 1, age=2 * DAY)
    it = retention(folder, keep_age=DAY)
    (tmp_path / "retention").unlink()
    (tmp_path / "retention").symlink_to(tmp_path / "elsewhere")
    it.sweep()
    assert len(names(folder)) == 1
    assert "no segment is deleted by journal.keep_age" in capfd.readouterr().err
    at(JournalSettings(directory=folder, keep_size=1), lambda: NOON).sweep()
    assert names(folder) == []
    assert not (tmp_path / "elsewhere").exists()


def test_other_files_fill_the_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """All segments are deleted, and the log says that this was not enough."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    retention(folder, minimum_free=10 * BLOCK, free=lambda _: BLOCK).sweep()
    assert names(folder) == []
    assert (
        "no finished segment is left, and a disk still has less free space than journal.minimum_free" in capfd.readouterr().err
    )


# --- a changed clock


@pytest.mark.parametrize("content", [b"", b"damaged", struct.pack("<dd", math.nan, math.nan), None])
def test_a_clock_that_is_set_forward_deletes_nothing_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    """By age nothing is deleted for a day, in which the clock can be corrected; so it is when the last sweep is not known."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    retention(folder)
    jump = 365 * DAY if content is None else 100 * DAY
    if content is not None:
        (tmp_path / "retention").write_bytes(content)
    journal = JournalSettings(directory=folder, minimum_free=0)
    for passed in range(0, DAY, 3600):
        at(journal, lambda passed=passed: NOON + jump + passed).sweep()  # type: ignore[misc]
        assert len(names(folder)) == 1
    log = capfd.readouterr().err
    assert log.count("1 segment will be deleted by journal.keep_age at 20") == 1
    at(journal, lambda: NOON + jump + DAY).sweep()
    assert names(folder) == []


def test_space_counts_also_while_ages_do_not(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    for number in range(3):
        segment(folder, number)
    retention(folder)
    at(JournalSettings(directory=folder, keep_size=BLOCK, minimum_free=0), lambda: NOON + 365 * DAY).sweep()
    assert len(names(folder)) == 1


def test_a_corrected_clock(tmp_path: Path) -> None:
    """Once it is corrected, ages count again a day later, not a year later."""
    folder = tmp_path / "journal"
    segment(folder, 1)
    old = segment(folder, 2, age=89 * DAY)
    retention(folder)
    journal = JournalSettings(directory=folder, minimum_free=0)
    at(journal, lambda: NOON + 365 * DAY).sweep()
    at(journal, lambda: NOON).sweep()
    assert len(names(folder)) == 2
    for passed in range(0, 2 * DAY, 3600):
        at(journal, lambda passed=passed: NOON + passed).sweep()  # type: ignore[misc]
    assert not old.exists()
    assert len(names(folder)) == 1


def test_a_short_age_has_a_short_pause(tmp_path: Path) -> None:
    """No segment is kept twice as long as `keep_age`."""
    folder = tmp_path / "journal"
    segment(folder, 1, age=3600)
    retention(folder)
    journal = JournalSettings(directory=folder, keep_age=60, minimum_free=0)
    at(journal, lambda: NOON + 3600).sweep()
    assert len(names(folder)) == 1
    at(journal, lambda: NOON + 3661).sweep()
    assert names(folder) == []


def test_a_checkpoint_is_as_it_was_saved(tmp_path: Path) -> None:
    """With all marks, for each reader."""
    checkpoints = Checkpoints(tmp_path / "new" / "checkpoints")
    assert checkpoints.readers() == ()
    assert checkpoints.load("shipper") == Checkpoint(segments={})
    saved = Checkpoint(segments={"/j/a": SegmentMark(lines=12), "/j/b": SegmentMark(lines=3, done=True)})
    checkpoints.save("shipper", saved)
    assert checkpoints.load("shipper") == saved
    assert checkpoints.readers() == ("shipper",)
