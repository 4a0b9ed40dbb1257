"""The messages of an mbox are found wherever it is cut, and only they."""

import os
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.commands.replay import mbox

MARK = b"From s@x.example  Sun Nov 22 19:34:47 2026\n"
LINES = st.lists(
    st.sampled_from([b"", b"x", b"From me to you", b">From here", b">>From here", b"From: a@b", MARK[:-1], b"long" * 50, b" "]),
    max_size=8,
)


def written(messages: list[bytes]) -> bytes:
    """Write an mbox as an MTA does that quotes like mboxrd."""
    return b"".join(MARK + re.sub(rb"(?m)^(>*From )", rb">\1", message) + b"\n" for message in messages)


def found(path: Path, cuts: list[int]) -> list[bytes]:
    """Read an mbox in ranges that are cut where it is said."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = path.stat().st_size
        bounds = sorted({0, size, *(cut for cut in cuts if cut < size)})
        found = [place for start, end in pairwise(bounds) for place in mbox.places(descriptor, start, end)]
        raw = [os.pread(descriptor, end - begin, begin) for begin, end in found]
    finally:
        os.close(descriptor)
    marks = [mbox.from_line(message) for message in raw]
    return [mbox.unquoted(message[mark.end() :]) for message, mark in zip(raw, marks, strict=True) if mark]


@settings(deadline=None)  # the disk may be busy
@given(
    st.lists(LINES.map(lambda lines: b"".join(line + b"\n" for line in lines)), max_size=6),
    st.lists(st.integers(1, 2000)),
    st.integers(6, 40),
)
def test_every_message_once(
    tmp_path_factory: pytest.TempPathFactory, messages: list[bytes], cuts: list[int], block: int
) -> None:
    """What was written is read, each message once and as it was, wherever ranges and blocks end."""
    path = tmp_path_factory.getbasetemp() / "property.mbox"
    path.write_bytes(written(messages))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mbox, "BLOCK", block)
        assert found(path, cuts) == messages


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        (b"From s@x.example Sun Nov 22 19:34:47 2026\n", b"s@x.example"),
        (b"From MAILER-DAEMON  Sun Nov 22 19:34:47 2026\r\n", b"MAILER-DAEMON"),
        (b"From - Sun Nov 22 19:34:47 2026\n", b"-"),
        (b'From "a b"@x.example Sun Nov 22 19:34:47 2026\n', b'"a b"@x.example'),
        (b"From s@x.example Sun, 22 Nov 2026 19:34:47 +0100\n", b"s@x.example"),
        (b"From s@x.example Sun Nov 22 19:34 2026", b"s@x.example"),
        (b"From " + b"s" * 1000 + b" Sun Nov 22 19:34:47 2026\n", b"s" * 1000),
        (b"From now on we meet on Sun\n", None),
        (b"From: s@x.example Sun Nov 22 19:34:47 2026\n", None),
        (b">From s@x.example Sun Nov 22 19:34:47 2026\n", None),
        (b"From \nSun Nov 22 19:34:47 2026\n", None),
    ],
)
def test_postmark(line: bytes, sender: bytes | None) -> None:
    """A line that begins a message has a date; text that only begins with the word has none."""
    mark = mbox.from_line(line)
    assert (None if mark is None else mark[1].strip()) == sender


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (b"a\n\n", b"a\n"),
        (b"a\r\n\r\n", b"a\r\n"),
        (b"a\n", b"a\n"),
        (b"a\n>From b\n>>From c\n> From d\n>Fromage\n\n", b"a\nFrom b\n>From c\n> From d\n>Fromage\n"),
    ],
)
def test_unquoted(stored: bytes, plain: bytes) -> None:
    """What the mbox added is taken away again, and nothing else."""
    assert mbox.unquoted(stored) == plain


@pytest.mark.parametrize(
    "piece", [b"\nFrom ", b"\nFrom Sun", b"\nFrom " + b"Sun" * 300, b"\n", b"From ", b"\nFrom " + b" " * 1000]
)
def test_hostile(tmp_path: Path, piece: bytes) -> None:
    """A megabyte of what nearly begins a message is read in linear time, and begins none."""
    path = tmp_path / "mbox"
    path.write_bytes(MARK + piece * (1_000_000 // len(piece)))
    began = time.process_time()
    assert len(found(path, [500_000])) == 1
    assert time.process_time() - began < 3
