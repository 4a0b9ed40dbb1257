"""The quarantine's files, its bounds, and its failures."""

import errno
import fcntl
import math
import os
import stat
import struct
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from sidecar.journal import JournalError
from sidecar.journal.write import Quarantine, QuarantineFullError
from sidecar.journal.write import quarantine as module

NOON = 1_790_000_000.0
DAY = 24 * 3600.0
# A message and its record take a block each.
PAIR = 8192


def name(number: int, network: str = "") -> str:
    return f"20260921-141320-{number:032x}{network and f'-{network}'}"


def quarantine(directory: Path, *, size: int = 100 * PAIR, now: float | None = None) -> Quarantine:
    return Quarantine(directory, size=size, age=int(DAY), clock=lambda: directory.stat().st_mtime if now is None else now)


def keep(it: Quarantine, number: int, message: bytes = b"message", network: str = "") -> None:
    it.keep(name(number, network), message=message, record=b"{}\n")


def messages(directory: Path) -> list[str]:
    """Return the names of the files."""
    return sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))


def test_a_message_and_its_record(tmp_path: Path) -> None:
    """Both are there as they were given, in a folder that is made for them, for the owner and the group only."""
    folder = tmp_path / "new" / "quarantine"
    keep(quarantine(folder), 1)
    assert messages(folder) == [f"{name(1)}.eml", f"{name(1)}.json"]
    assert (folder / f"{name(1)}.eml").read_bytes() == b"message"
    assert (folder / f"{name(1)}.json").read_bytes() == b"{}\n"
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o037 == 0 for path in folder.iterdir())


def test_everything_is_on_disk_on_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message, its record, and their names."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink())))
    keep(quarantine(tmp_path), 1)
    assert synced == [str(tmp_path / f"{name(1)}.json"), str(tmp_path / f"{name(1)}.eml"), str(tmp_path)]


def test_a_name_is_never_used_twice(tmp_path: Path) -> None:
    """An existing file stays as it is."""
    it = quarantine(tmp_path)
    keep(it, 1)
    with pytest.raises(JournalError):
        keep(it, 1, b"another")
    assert (tmp_path / f"{name(1)}.eml").read_bytes() == b"message"


def test_the_size_is_bounded(tmp_path: Path) -> None:
    """What does not fit is refused and leaves nothing; small files count as the blocks they take."""
    it = quarantine(tmp_path, size=3 * PAIR)
    for number in range(3):
        keep(it, number)
    for number in range(3, 6):
        with pytest.raises(QuarantineFullError):
            keep(it, number)
    assert len(messages(tmp_path)) == 6


def test_the_workers_share_the_size(tmp_path: Path) -> None:
    """However many write at once, together they keep to it exactly."""
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        counts = list(pool.map(_fill, [(tmp_path, first) for first in range(0, 400, 100)]))
    assert sum(counts) == 50
    assert len(messages(tmp_path)) == 100


def _fill(arguments: tuple[Path, int]) -> int:
    """Keep messages until there is no room; give how many."""
    folder, first = arguments
    it = quarantine(folder, size=50 * PAIR)
    for number in range(100):
        try:
            keep(it, first + number)
        except QuarantineFullError:
            return number
    return 100


# --- the share of one network

NETWORKS = ("cb007109", "20010db800010002")


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: some tests write thousands of files."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def own(directory: Path, network: str) -> list[str]:
    """Return the names of the messages of a network."""
    return sorted(path.name for path in directory.glob(f"*-{network}.eml"))


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_has_a_quarter(tmp_path: Path, network: str) -> None:
    """Above it the network's own oldest messages go, with their records; the messages of others stay, and find room."""
    it = quarantine(tmp_path, size=64 * PAIR)
    for number in range(8):
        keep(it, 1000 + number, network="cb007108")
    for number in range(200):
        keep(it, number, network=network)
    kept = own(tmp_path, network)
    assert 14 <= len(kept) <= 16
    assert kept == [f"{name(number, network)}.eml" for number in range(200 - len(kept), 200)]
    assert len(own(tmp_path, "cb007108")) == 8
    assert len(messages(tmp_path)) == 2 * (len(kept) + 8)
    for number in range(2000, 2016):
        keep(it, number, network="cb007107")
    assert len(own(tmp_path, "cb007107")) == 16


def test_the_oldest_goes_first_also_after_a_sweep(tmp_path: Path) -> None:
    """What the ledger knows of each network is counted again from the names."""
    it = quarantine(tmp_path, size=40 * PAIR)
    for number in range(10):
        keep(it, number, network=NETWORKS[0])
    it.sweep()
    (tmp_path / ".bytes").unlink()
    keep(it, 10, network=NETWORKS[0])
    assert own(tmp_path, NETWORKS[0])[-1] == f"{name(10, NETWORKS[0])}.eml"
    assert f"{name(0, NETWORKS[0])}.eml" not in own(tmp_path, NETWORKS[0])
    assert len(own(tmp_path, NETWORKS[0])) <= 10


def test_a_message_bigger_than_the_share(tmp_path: Path) -> None:
    """It is kept in place of all others of its network, where the quarantine has room."""
    it = quarantine(tmp_path, size=40 * PAIR)
    for number in range(10):
        keep(it, number, network=NETWORKS[0])
    keep(it, 10, b"x" * 20 * PAIR, network=NETWORKS[0])
    assert own(tmp_path, NETWORKS[0]) == [f"{name(10, NETWORKS[0])}.eml"]
    keep(it, 11, network=NETWORKS[1])


def test_old_names_have_no_network(tmp_path: Path) -> None:
    """Messages of a former version count as before, and no network loses them."""
    it = quarantine(tmp_path, size=40 * PAIR)
    for number in range(30):
        keep(it, number)
    for number in range(100, 130):
        keep(it, number, network=NETWORKS[0])
    assert len(messages(tmp_path)) == 2 * (30 + len(own(tmp_path, NETWORKS[0])))
    assert 9 <= len(own(tmp_path, NETWORKS[0])) <= 10
    with pytest.raises(QuarantineFullError):
        keep(it, 200, b"x" * 10 * PAIR)


@pytest.mark.usefixtures("quick_disk")
def test_the_workers_share_the_share(tmp_path: Path) -> None:
    """However many write at once, a network has no more than its quarter."""
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        list(pool.map(_flood, [(tmp_path, first) for first in range(0, 400, 100)]))
    quarantine(tmp_path, size=64 * PAIR).sweep()
    # A worker may find what another is still writing; it is one message for each.
    assert 10 <= len(own(tmp_path, NETWORKS[0])) <= 16 + 4


def _flood(arguments: tuple[Path, int]) -> None:
    folder, first = arguments
    it = quarantine(folder, size=64 * PAIR)
    for number in range(100):
        keep(it, first + number, network=NETWORKS[0])


@pytest.mark.usefixtures("quick_disk")
def test_tiny_messages_of_one_network_close_it_to_nobody(tmp_path: Path) -> None:
    """34 kB of them took 2 MiB, and every other network was answered 451."""
    it = quarantine(tmp_path, size=2 << 20)
    for number in range(280):
        keep(it, number, b"x" * 122, network=NETWORKS[0])
    keep(it, 2000, b"x" * 100_000, network=NETWORKS[1])
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < 2 << 20


def test_room_that_an_operator_makes(tmp_path: Path) -> None:
    """After messages were moved away, the next sweep releases their space."""
    it = quarantine(tmp_path, size=PAIR)
    keep(it, 1)
    for path in tmp_path.glob("*.[ej]*"):
        path.unlink()
    with pytest.raises(QuarantineFullError):
        keep(it, 2)
    it.sweep()
    keep(it, 2)


@pytest.mark.parametrize("ledger", [None, b"", b"many bytes", b"\xff" * 32])
def test_a_ledger_that_says_nothing(tmp_path: Path, ledger: bytes | None) -> None:
    """Lost or damaged, it is made again from the files."""
    it = quarantine(tmp_path, size=2 * PAIR)
    keep(it, 1)
    path = tmp_path / ".bytes"
    path.unlink()
    if ledger is not None:
        path.write_bytes(ledger)
    keep(it, 2)
    with pytest.raises(QuarantineFullError):
        keep(it, 3)


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    """What is older than the age is removed, message and record; what is younger never is, nor any other file."""
    keep(quarantine(tmp_path), 1)
    keep(quarantine(tmp_path), 2)
    (tmp_path / "notes.eml").write_bytes(b"mine")
    for path in (tmp_path / f"{name(1)}.eml", tmp_path / f"{name(1)}.json", tmp_path / "notes.eml"):
        os.utime(path, (NOON - DAY - 1, NOON - DAY - 1))
    for path in tmp_path.glob(f"{name(2)}.*"):
        os.utime(path, (NOON - DAY + 1, NOON - DAY + 1))
    (tmp_path / ".sweep").write_bytes(struct.pack("<dd", NOON, 0.0))
    it = quarantine(tmp_path, size=2 * PAIR, now=NOON)
    it.sweep()
    assert messages(tmp_path) == [f"{name(2)}.eml", f"{name(2)}.json", "notes.eml"]
    keep(it, 3)
    with pytest.raises(QuarantineFullError):
        keep(it, 4)


def test_a_full_quarantine_removes_nothing(tmp_path: Path) -> None:
    """An operator never loses what is younger than the age."""
    it = quarantine(tmp_path, size=PAIR)
    keep(it, 1)
    with pytest.raises(QuarantineFullError):
        keep(it, 2)
    it.sweep()
    assert messages(tmp_path) == [f"{name(1)}.eml", f"{name(1)}.json"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that could not be written whole is not there at all, and the fault is a plain sentence."""
    it = quarantine(tmp_path, size=2 * PAIR)
    real, calls = os.fsync, iter(range(10))

    def fsync(descriptor: int) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(JournalError, match=r"^a message could not be put into the quarantine in .*: No space left on device"):
        keep(it, 1)
    assert messages(tmp_path) == []
    it.sweep()
    keep(it, 2)
    keep(it, 3)


def test_a_sweep_without_a_quarantine(tmp_path: Path) -> None:
    """It makes no folder before the first message."""
    quarantine(tmp_path / "none", now=NOON).sweep()
    assert not (tmp_path / "none").exists()


def test_a_sweep_that_cannot_be_done(tmp_path: Path) -> None:
    """It is a line in the log, and no exception."""
    (tmp_path / ".bytes").mkdir()
    quarantine(tmp_path).sweep()


def test_a_removed_message_frees_its_space(tmp_path: Path) -> None:
    """An operator removes a message, and the next one fits at once, in the whole and in the share of its network."""
    it = quarantine(tmp_path, size=4 * PAIR)
    keep(it, 1, network="cb007109")
    for number in (2, 3, 4):
        keep(it, number, network=f"cb00710{number}")
    with pytest.raises(QuarantineFullError):
        keep(it, 5, network="cb007105")
    assert it.remove(name(2, "cb007102")) == PAIR
    keep(it, 5, network="cb007102")
    assert [message.id for message in it.messages()] == [f"{number:032x}" for number in (1, 3, 4, 5)]
    assert it.remove(name(2, "cb007102")) == 0


def test_removing_makes_no_ledger(tmp_path: Path) -> None:
    """A ledger that root makes is closed to the workers."""
    keep(quarantine(tmp_path), 1)
    (tmp_path / ".bytes").unlink()
    assert quarantine(tmp_path).remove(name(1)) == PAIR
    assert list(tmp_path.iterdir()) == []


def test_who_can_read_the_quarantine_cannot_stop_it(tmp_path: Path) -> None:
    """Only the owner can open the ledger, and so lock it; also one that an earlier version made for the group too."""
    keep(quarantine(tmp_path), 1)
    ledger = tmp_path / ".bytes"
    assert ledger.stat().st_mode & 0o777 == 0o600
    ledger.chmod(0o640)
    keep(quarantine(tmp_path), 2)
    assert ledger.stat().st_mode & 0o777 == 0o600


def test_only_what_a_worker_writes_is_read(tmp_path: Path) -> None:
    """No link, pipe or folder, and no more bytes than the caller has memory for."""
    it = quarantine(tmp_path)
    keep(it, 1)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        it.read("link", limit=8)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(9))
    (tmp_path / "folder").mkdir()
    files = (("pipe", "not a regular file"), ("folder", "not a regular file"), ("large", "it has more than 8 bytes"))
    for file, why in files:
        with pytest.raises(OSError, match=why):
            it.read(file, limit=8)
    (tmp_path / "whole").write_bytes(bytes(8))
    assert it.read("whole", limit=8) == bytes(8)


@pytest.mark.parametrize("kind", ["link", "dangling link", "other name", "pipe"])
def test_a_ledger_that_is_no_file_of_its_own(tmp_path: Path, kind: str) -> None:
    """Nothing is written through it, and the error names the file and what to do."""
    folder = tmp_path / "quarantine"
    it = quarantine(folder)
    keep(it, 1)
    outside, ledger = tmp_path / "outside", folder / ".bytes"
    content = ledger.read_bytes()
    ledger.unlink()
    if kind != "dangling link":
        outside.write_bytes(content)
    if kind == "pipe":
        os.mkfifo(ledger)
    elif kind == "other name":
        ledger.hardlink_to(outside)
    else:
        ledger.symlink_to(outside)
    for work in (partial(keep, it, 2), partial(it.remove, name(1))):
        with pytest.raises((JournalError, OSError), match=r"\.bytes is .*: remove it, and the sidecar makes a new one"):
            work()
    assert outside.exists() == (kind != "dangling link")
    assert kind == "dangling link" or outside.read_bytes() == content
    assert len(messages(folder)) == 2


def test_a_lock_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A stopped process must not stop the workers: a message is an error after some seconds, a sweep is given up."""
    monkeypatch.setattr(module, "LOCK_WITHIN", 0.05)
    it = quarantine(tmp_path)
    keep(it, 1)
    with (tmp_path / ".bytes").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(JournalError, match=r"another process keeps \.bytes locked, and `lsof .*\.bytes` shows which one"):
            keep(it, 2)
        with pytest.raises(TimeoutError):
            it.remove(name(1))
        it.sweep()
    assert "could not be swept" in capfd.readouterr().err
    keep(it, 3)
    assert len(messages(tmp_path)) == 4


# --- a changed clock


@pytest.mark.parametrize("content", [None, b"", b"damaged", struct.pack("<dd", math.nan, math.nan)])
def test_a_clock_that_is_set_forward_deletes_nothing_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    """By age nothing is deleted for a day, in which the clock can be corrected; so it is when the last sweep is not known."""
    keep(quarantine(tmp_path), 1)
    now = (tmp_path / f"{name(1)}.eml").stat().st_mtime
    quarantine(tmp_path, now=now).sweep()
    if content is not None:
        (tmp_path / ".sweep").write_bytes(content)
    now += 365 * DAY
    for passed in range(0, int(DAY), 3600):
        quarantine(tmp_path, now=now + passed).sweep()
        assert len(messages(tmp_path)) == 2
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "set forward" in line]
    assert "2 files will be deleted by limits.quarantine_age at " in warning
    quarantine(tmp_path, now=now + DAY).sweep()
    assert messages(tmp_path) == []


def test_a_clock_that_was_corrected(tmp_path: Path) -> None:
    """The pause of the wrong time ends with it."""
    keep(quarantine(tmp_path), 1)
    now = (tmp_path / f"{name(1)}.eml").stat().st_mtime
    for moment in (now, now + 365 * DAY, now + 60):
        quarantine(tmp_path, now=moment).sweep()
    for passed in range(3600, 26 * 3600, 3600):
        quarantine(tmp_path, now=now + passed).sweep()
    assert messages(tmp_path) == []


def test_one_worker_sweeps(tmp_path: Path) -> None:
    """The others do not wait for it."""
    keep(quarantine(tmp_path), 1)
    now = (tmp_path / f"{name(1)}.eml").stat().st_mtime
    quarantine(tmp_path, now=now).sweep()
    (tmp_path / ".bytes").write_bytes(b"damaged")
    with (tmp_path / ".sweep").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        quarantine(tmp_path, now=now).sweep()
        assert (tmp_path / ".bytes").read_bytes() == b"damaged"
    quarantine(tmp_path, now=now).sweep()
    assert (tmp_path / ".bytes").read_bytes() != b"damaged"
