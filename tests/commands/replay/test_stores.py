"""Where mail is found: files, mboxes, Maildirs and folders of them, and nothing else."""

import os
from itertools import chain
from pathlib import Path

import pytest

from sidecar.commands.replay import mbox, stores
from sidecar.commands.replay.stores import RANGE_SIZE, Piece, tasks, total_size

MARK = b"From s@x.example  Sun Nov 22 19:34:47 2026\n"


def make(top: Path, *names: str) -> None:
    """Make files, and folders (names that end in a slash)."""
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(b"x")


def found(*paths: Path) -> list[str]:
    return [piece.path for piece in chain.from_iterable(tasks(map(str, paths)))]


def test_folders(tmp_path: Path) -> None:
    """A folder stands for the files in it and below; of a Maildir only what is in cur and new counts, its folders included."""
    mail = [
        "m/cur/1:2,S",
        "m/new/2",
        "m/.Sent/cur/3",
        "m/.Sent/new/4",
        "m/Old/2024/cur/5",
        "m/Old/2024/new/6",
        "f/a.eml",
        "f/g/b",
    ]
    rest = ["m/tmp/7", "m/dovecot.index", "m/Old/notes", "m/cur/.nfs1", "f/.mh_sequences", "f/.imap/index", "f/g/.lock"]
    make(tmp_path, *mail, *rest, "m/.Sent/tmp/", "f/empty/", "f/.Trash/cur/", "f/.Trash/new/")
    make(tmp_path, "f/.Trash/new/8")
    assert sorted(found(tmp_path)) == sorted(str(tmp_path / name) for name in [*mail, "f/.Trash/new/8"])


def test_order(tmp_path: Path) -> None:
    """What is named comes in the order in which it is named, even hidden, even twice, and even if it is not there."""
    make(tmp_path, "b", ".a", "c/x")
    named = [tmp_path / "b", tmp_path / ".a", tmp_path / "missing", tmp_path / "c", tmp_path / "b", Path("-")]
    assert found(*named) == [*map(str, named[:3]), str(tmp_path / "c" / "x"), str(tmp_path / "b"), "-"]


def test_links(tmp_path: Path) -> None:
    """Links to folders below a folder are not followed, so there is no circle. Named links and links to files are followed."""
    make(tmp_path, "real/a", "other/b")
    (tmp_path / "real" / "circle").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "out").symlink_to(tmp_path / "other")
    (tmp_path / "real" / "file").symlink_to(tmp_path / "other" / "b")
    (tmp_path / "real" / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "named").symlink_to(tmp_path / "real")
    assert sorted(found(tmp_path / "named")) == [str(tmp_path / "named" / "a"), str(tmp_path / "named" / "file")]


def test_no_files(tmp_path: Path) -> None:
    """A FIFO in a folder is passed over: to open it would be to wait."""
    os.mkfifo(tmp_path / "fifo")
    assert found(tmp_path) == []


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the result itself, so that opening it shows why; the others are read all the same."""
    make(tmp_path, "a/1", "b/2", "m/cur/", "m/new/3")

    def reject(path: str) -> object:
        if path in {str(tmp_path / "a"), str(tmp_path / "m" / "cur")}:
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", reject)
    assert found(tmp_path) == [str(tmp_path / name) for name in ("a", "b/2", "m/cur", "m/new/3")]


def test_depth(tmp_path: Path) -> None:
    """Folders in folders are no recursion."""
    folders = [tmp_path]
    for _ in range(1200):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    deepest = folders[-1] / "x"
    deepest.write_bytes(b"x")
    try:
        assert found(tmp_path) == [str(deepest)]
    finally:
        # Others would have to clean up, and do so by recursion.
        deepest.unlink()
        for folder in reversed(folders[1:]):
            folder.rmdir()


@pytest.mark.parametrize(
    ("content", "ranges"),
    [
        (
            MARK + b"x" * (2 * RANGE_SIZE),
            [(0, RANGE_SIZE), (RANGE_SIZE, 2 * RANGE_SIZE), (2 * RANGE_SIZE, 2 * RANGE_SIZE + len(MARK))],
        ),
        (MARK + b"x" * RANGE_SIZE, [(0, RANGE_SIZE), (RANGE_SIZE, RANGE_SIZE + len(MARK))]),
        (MARK + b"x", [(0, None)]),
        (b"Subject: x\n" + b"x" * RANGE_SIZE, [(0, None)]),
    ],
    ids=["big", "just above", "small", "no mbox"],
)
def test_ranges(tmp_path: Path, content: bytes, ranges: list[tuple[int, int | None]]) -> None:
    """A big mbox is cut into ranges that lie one beside the other, each a task of its own or the last of one."""
    path = tmp_path / "file"
    path.write_bytes(content)
    assert [(piece.start, piece.end) for piece in chain.from_iterable(tasks([str(path)]))] == ranges
    assert len(list(tasks([str(path)]))) == len(ranges)
    assert total_size([str(path), "missing", "-"]) == len(content)


def test_tasks_are_small(tmp_path: Path) -> None:
    """A task is small, however long the names are, and no file is lost between two."""
    names = [f"{number:03}" + "n" * 240 for number in range(200)]
    make(tmp_path, *names)
    made = list(tasks([str(tmp_path)]))
    assert max(sum(len(piece.path) for piece in task) for task in made) <= stores._NAMES_LIMIT
    assert max(map(len, made)) <= stores._FILES_LIMIT
    assert sorted(piece.path for task in made for piece in task) == sorted(str(tmp_path / name) for name in names)
    assert total_size([str(tmp_path)]) == 200


def test_a_piece_is_small() -> None:
    """A range costs a task some bytes, not its content."""
    assert mbox.BLOCK >= RANGE_SIZE >= 2**20
    assert Piece(path="x") == Piece(path="x", start=0, end=None)
