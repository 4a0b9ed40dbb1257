"""The program's own log: one event a line, readable by people and machines, and harmless for any external text."""

import errno
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import log

LOG = log.get("test")  # as the modules do: at import, before `configure`


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    log.configure(level="warning")


def written(*, format: str = "json", event: str = "happened", **values: Any) -> str:  # noqa: A002 - the setting's name
    """Return the line of one event."""
    stream = StringIO()
    log.configure(level="debug", format=format, stream=stream)
    LOG.info(event, **values)
    return stream.getvalue()


def fields(**values: Any) -> dict[str, Any]:
    """Return the fields of one event, as a reader of the JSON sees them."""
    line: dict[str, Any] = json.loads(written(**values))
    return line


def test_json_line() -> None:
    """A line begins with the time (UTC, milliseconds), the level and the event; then the bound values, in their order."""
    line = written(peer="203.0.113.9", count=3, nothing=None, yes=True, ratio=0.5)
    assert re.fullmatch(
        r'\{"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","level":"info","event":"happened","component":"test",'
        r'"peer":"203.0.113.9","count":3,"nothing":null,"yes":true,"ratio":0.5\}\n',
        line,
    )


def test_console_line() -> None:
    """On the console a value of several words is quoted, so that it cannot look like two."""
    line = written(format="console", why="it may", peer="::1", forged='x" level=error', codes=[1, "a b"])
    assert re.fullmatch(
        r"\S+Z info     happened component=test "
        r'why="it may" peer=::1 forged="x\\" level=error" codes=\[1,"a b"\]\n',
        line,
    )


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_levels(level: str) -> None:
    """Lines below the level are not written; a later `configure` holds for loggers in use, bound ones too."""
    bound = LOG.bind(a=1)
    for chosen in ("error", level):
        stream = StringIO()
        log.configure(level=chosen, format="json", stream=stream)
        for logger in (LOG, bound):
            for name in ("debug", "info", "warning", "error"):
                getattr(logger, name)("x")
    found = [json.loads(line)["level"] for line in stream.getvalue().splitlines()]
    levels = ["debug", "info", "warning", "error"]
    assert found == levels[levels.index(level) :] * 2


HOSTILE = [
    "\x00", "\x07", "\n", "\r\n", "\x1b[2J", "\x7f", "\x85", "\x9b31m", "\u202e", "\u2066", "\u200f", "\u2028", "\ufeff",
    "\U000e0001", "\ud800", "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text(format: str, text: str) -> None:  # noqa: A002 - the setting's name
    """Controls, bidirectional overrides, separators and lone surrogates are never written as they are."""
    line = written(format=format, event=f"e{text}", value=f"a{text}b", items=[text], error=ValueError(text))
    assert line.removesuffix("\n").isprintable()
    assert line.count("\n") == 1


@given(text=st.text(st.characters(), max_size=log.VALUE_LIMIT))
def test_json_keeps_text(text: str) -> None:
    """Escaped is not lost: a reader of the JSON gets the text as it was, except lone surrogates, which are spelled out."""
    line = written(value=text)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in line.removesuffix("\n"))
    assert json.loads(line)["value"] == text.encode("utf-8", "backslashreplace").decode()


class Unshowable:
    """A value that cannot be turned into text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 512, "x" * 512),
        ("x" * 513, "x" * 511 + "…"),
        ("x" * 10_000_000, "x" * 511 + "…"),
        (b"\xffab", "\\xffab"),
        (b"x" * 513, "x" * 511 + "…"),
        (2**64, "18446744073709551616"),
        pytest.param(10**5000, "<int that cannot be shown>", id="huge"),
        (float("inf"), None),
        (Path("/a/b"), "/a/b"),
        (("a", 1, None), ["a", 1, None]),
        (["x" * 200] * 1000, ["x" * 200] * 2 + ["…"]),
        ({"a": [1]}, "{'a': [1]}"),
        (Unshowable(), "<Unshowable that cannot be shown>"),
    ],
)
def test_values(value: object, shown: object) -> None:
    """Every kind of value is written, each bounded."""
    assert fields(value=value)["value"] == shown


@pytest.mark.parametrize("format", ["json", "console"])
def test_unusual_keys(format: str) -> None:  # noqa: A002 - the setting's name
    """No bound value takes the place of the line's own, and no key spoils the line."""
    values: dict[str, Any] = {"timestamp": 1, "level": "x", "exception": "y", "\x1b\udcff": "z"}
    line = written(format=format, **values)
    assert line.removesuffix("\n").isprintable()
    for shown in ("timestamp_", "level_", "exception_", "\\u001b"):
        assert shown in line
    assert "happened" in line


def _fail(depth: int) -> None:
    if depth:
        _fail(depth - 1)
    raise ValueError("bad\nvalue")


def _caught(depth: int = 0) -> BaseException:
    try:
        try:
            _fail(depth)
        except ValueError as error:
            raise OSError(errno.EIO, "no disk") from error
    except OSError as error:
        return error
    raise AssertionError


def test_exception_in_json() -> None:
    """An exception and its causes stay on the line, each with its innermost frames."""
    outer, inner = fields(exc_info=_caught(depth=50))["exception"]
    assert (outer["type"], outer["text"]) == ("OSError", "[Errno 5] no disk")
    assert (inner["type"], inner["text"]) == ("ValueError", "bad\nvalue")
    assert len(inner["frames"]) == 12
    assert re.fullmatch(re.escape(__file__) + r":\d+ _fail", inner["frames"][-1])


def test_exception_on_the_console() -> None:
    """On the console an exception follows on indented lines, and cannot forge another event."""
    first, *rest = written(format="console", exc_info=_caught()).splitlines()
    assert first.endswith("happened component=test")
    assert rest[0] == "    OSError: [Errno 5] no disk"
    assert "    ValueError: bad\\u000avalue" in rest
    assert all(line.startswith("    ") for line in rest)


def test_logging_an_exception_in_hand() -> None:
    """`exception` takes the exception being handled; without one, no exception is logged."""
    stream = StringIO()
    log.configure(format="json", stream=stream)
    LOG.exception("quiet")  # noqa: LOG004 - the slip that must be harmless
    try:
        _fail(0)
    except ValueError:
        LOG.exception("loud")
        LOG.warning("tuple", exc_info=sys.exc_info())
    quiet, loud, given_tuple = map(json.loads, stream.getvalue().splitlines())
    assert "exception" not in quiet
    assert (loud["level"], loud["exception"][0]["type"]) == ("error", "ValueError")
    assert given_tuple["exception"] == loud["exception"]


def test_endless_causes() -> None:
    """A circle of causes ends after a few."""
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    assert [each["text"] for each in fields(exc_info=one)["exception"]] == ["1", "2", "1", "2"]


def test_full_log_disk() -> None:
    """A log that cannot be written raises nothing into the caller."""
    with Path("/dev/full").open("w") as stream:
        log.configure(format="json", stream=stream)
        LOG.error("lost")


def test_reader_that_went_away() -> None:
    """A pipe whose reader is gone raises nothing into the caller."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        log.configure(format="json", stream=stream)
        os.close(reader)
        LOG.error("lost")


def test_closed_stream(tmp_path: Path) -> None:
    """A stream that was closed raises nothing, and its descriptor's next owner gets none of the log."""
    with (tmp_path / "log").open("w") as stream:
        log.configure(format="json", stream=stream)
        descriptor = stream.fileno()
    with (tmp_path / "other").open("w") as other:
        assert other.fileno() == descriptor
        LOG.error("lost")
    assert (tmp_path / "other").read_text() == ""


def test_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was started without a standard error can log all the same."""
    monkeypatch.setattr(sys, "stderr", None)
    log.configure(format="auto")
    LOG.error("lost")


def test_one_system_call_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is one write, so that the lines of several processes never mix."""
    with (tmp_path / "log").open("w") as stream:
        log.configure(format="json", stream=stream)
        calls: list[bytes] = []
        monkeypatch.setattr(os, "write", lambda _descriptor, data: calls.append(data))
        LOG.error("1")
        LOG.error("2", exc_info=_caught())
    assert [json.loads(call)["event"] for call in calls] == ["1", "2"]
    assert all(call.endswith(b"}\n") for call in calls)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)],
)
def test_auto_on_a_terminal(environment: dict[str, str], coloured: bool) -> None:
    """On a terminal lines are readable, with colours without NO_COLOR; escapes in values stay harmless."""
    main, other = pty.openpty()
    program = "from sidecar import log; log.configure(); log.get('x').error('seen', value='\\x1b[2J')"
    kept = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    subprocess.run([sys.executable, "-c", program], stderr=other, env=kept | environment, check=True)
    line = os.read(main, 4096).decode()
    os.close(main)
    os.close(other)
    assert "seen" in line
    assert "\\u001b[2J" in line
    assert ("\x1b[31m" in line) is coloured
    assert "\x1b[2J" not in line


def test_auto_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal, lines are JSON, and standard output is left to the command's answer."""
    log.configure()
    LOG.info("happened")
    out, err = capfd.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "happened"


def test_before_the_settings_are_known() -> None:
    """An unconfigured program logs warnings and errors to standard error, and nothing else."""
    program = "from sidecar import log; l = log.get('x'); l.info('small'); l.warning('grave')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout == ""
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["grave"]


def test_a_reader_that_stalls_stops_nobody() -> None:
    """A full pipe without a reader loses lines; the writer never waits."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "w") as stream:
        log.configure(level="info", format="json", stream=stream)
        for _ in range(2000):
            log.get("test").info("x" * 100)
            log.get("test").info("long", **{f"value{number}": "\U000e0041" * 500 for number in range(4)})
