"""The program's own log: one event a line, for operators and for machines.

Owns levels, line formats and the care that strangers' text takes: every value is bounded, and no character that is not
printable reaches a terminal or a file as it is. Never raises into the caller: a log that cannot be written must not cost mail.
"""

import os
import re
import select
import sys
import traceback
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from io import UnsupportedOperation
from types import TracebackType
from typing import Any, Final, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from sidecar.core.text import printable, printable_json

VALUE_LIMIT: Final = 512
"""Characters of one value. The longest that are not a stranger's whim, an address (RFC 5321: 320) and a domain, fit."""

# An exception is told by its innermost frames and by the few causes behind it; a RecursionError has a thousand frames.
_FRAME_LIMIT = 12
_CAUSE_LIMIT = 4

_NUMBER_BITS = 64

_OWN_KEYS = frozenset({"timestamp", "level", "exception"})

_Plain = str | int | float | bool | None
_Line = dict[str, Any]


def configure(*, level: str = "info", format: str = "auto", stream: TextIO | None = None) -> None:  # noqa: A002 - the setting's name
    """Set the lowest level that is written ("debug", "info", "warning", "error"), the format, and where lines go.

    `format` is "json", "console", or "auto": console on a terminal, JSON elsewhere. `stream` None is standard error, whatever
    that is at the time. Where that is systemd's journal, each line begins with its priority (sd-daemon(3)), which the journal
    takes off. May be called again, and holds for all loggers, those in use too.
    """
    target = sys.stderr if stream is None else stream
    terminal = target is not None and target.isatty()
    _SINK.stream = stream
    # All in place, since every logger holds on to this very class, list and sink. A level is a set of methods, those below it
    # empty: a line that nobody wants costs no more than a call.
    _Logger.__bases__ = (structlog.make_filtering_bound_logger(level),)
    render = _json if format == "json" or (format == "auto" and not terminal) else _console(colours=terminal)
    _PROCESSORS[:] = [_prioritised(render) if _is_journal(target) else render]


def get(name: str) -> FilteringBoundLogger:
    """Return the logger of a component; its lines have `component=name`. May be called before `configure`."""
    return cast(
        "FilteringBoundLogger", structlog.wrap_logger(_SINK, processors=_PROCESSORS, wrapper_class=_Logger).bind(component=name)
    )


# syslog(3). The text after it stays JSON: `journalctl --output=cat` gives it as it was written.
_PRIORITIES = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>", "critical": b"<2>"}


def _is_journal(stream: TextIO | None) -> bool:
    """Tell whether the stream is the one that systemd connected to its journal (JOURNAL_STREAM in systemd.exec(5))."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named or stream is None:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def _prioritised(render: Processor) -> Processor:
    """Give a renderer that puts the priority before each line."""

    def prioritise(logger: object, level: str, event: EventDict) -> bytes:
        lines = cast("bytes", render(logger, level, event)).splitlines(keepends=True)
        return b"".join(_PRIORITIES[level] + line for line in lines)

    return prioritise


class _Sink:
    """Where finished lines go, each in one system call, so that lines of several processes never mix.

    (POSIX promises that for files opened to append, and for pipes up to PIPE_BUF, 4096 bytes on Linux.)
    """

    stream: TextIO | None = None

    def write(self, line: bytes) -> None:
        """Write the line, or lose it: a full disk, or a reader that stalls or went away, is no reason to stop or to wait."""
        stream = sys.stderr if self.stream is None else self.stream
        # ValueError is a closed stream, AttributeError a program started without a standard error.
        with suppress(OSError, ValueError, AttributeError):
            try:
                # Asked anew each time: a number kept after the stream was closed may by now be somebody else's file.
                descriptor = stream.fileno()
            except UnsupportedOperation:  # a stream in memory
                stream.write(line.decode())
            else:
                for start in range(0, len(line), select.PIPE_BUF):
                    if not _takes_more(descriptor):
                        break
                    os.write(descriptor, line[start : start + select.PIPE_BUF])

    debug = info = warning = error = critical = write


def _takes_more(descriptor: int) -> bool:
    """Tell whether a write would not wait: a pipe is ready with room for PIPE_BUF bytes, so no more are given at once."""
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    return bool(ready.poll(0))


def _json(_logger: object, level: str, event: EventDict) -> bytes:
    """Render a line of JSON: timestamp, level, event, what was bound, exception."""
    line = _line(level, event)
    return _encoded(line) + b"\n"


def _console(*, colours: bool) -> Processor:
    """Give a renderer of readable lines; an exception follows on indented lines of its own."""
    colour_of = _COLOURS if colours and not os.environ.get("NO_COLOR") else {}

    def paint(text: str, colour: str) -> str:
        return f"{colour_of[colour]}{text}{_COLOURS['off']}" if colour in colour_of else text

    def render(_logger: object, level: str, event: EventDict) -> bytes:
        line = _line(level, event)
        exceptions = line.pop("exception", [])
        head = (
            paint(line.pop("timestamp"), "dim"),
            paint(f"{line.pop('level'):<8}", level),
            paint(printable(line.pop("event")), "event"),
        )
        values = (f"{paint(printable(f'{key}='), 'dim')}{_bare(value)}" for key, value in line.items())
        return ("\n".join([" ".join((*head, *values)), *map(printable, _told(exceptions))]) + "\n").encode()

    return render


_COLOURS = {
    "off": "\x1b[0m",
    "dim": "\x1b[2m",
    "event": "\x1b[1m",
    "debug": "\x1b[36m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[31;1m",
}


def _line(level: str, event: EventDict) -> _Line:
    """Give the line's values, plain and bounded, in the order in which they are written."""
    exc_info = event.pop("exc_info", None)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    line: _Line = {"timestamp": f"{now}Z", "level": level, "event": _plain(event.pop("event", ""))}
    for name, value in event.items():
        key = f"{name}_" if name in _OWN_KEYS else name
        line[key] = _items(value) if isinstance(value, list | tuple) else _plain(value)
    if exc_info and (error := _exception_of(exc_info)) is not None:
        line["exception"] = [_exception(each) for each in _causes(error)]
    return line


def _plain(value: object) -> _Plain:
    """Give a value that JSON can hold, of at most `VALUE_LIMIT` characters."""
    # Exact types: what a subclass makes of itself is its own affair. 64 bits are the most that msgspec writes as a number.
    if value is None or type(value) is bool or type(value) is float:
        return value
    if type(value) is int and value.bit_length() < _NUMBER_BITS:
        return value
    text = value if type(value) is str else _text(value)
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


def _text(value: object) -> str:
    try:
        if isinstance(value, bytes):
            return value[: VALUE_LIMIT + 1].decode("ascii", "backslashreplace")
        return str(value)
    except Exception:  # noqa: BLE001 - whatever a value's __str__ does, the line is written
        return f"<{type(value).__name__} that cannot be shown>"


def _items(values: Iterable[object]) -> list[_Plain]:
    """Give the first of the values, `VALUE_LIMIT` characters in all; an ellipsis stands for the rest."""
    shown: list[_Plain] = []
    room = VALUE_LIMIT
    for value in values:
        item = _plain(value)
        room -= len(str(item)) + 1
        if room < 0:
            return [*shown, "…"]
        shown.append(item)
    return shown


_ENCODER = msgspec.json.Encoder()


def _encoded(value: object) -> bytes:
    """Return a value as JSON in which every character is seen."""
    try:
        return printable_json(_ENCODER.encode(value))
    except UnicodeEncodeError:
        return printable_json(_ENCODER.encode(_without_surrogates(value)))


def _without_surrogates(value: object) -> object:
    r"""Spell lone surrogates out, which no UTF-8 has: `\udcff`. Depth is bounded, since `_line` builds what comes here."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case list():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case _:
            return value


_WORD = re.compile(r'[^\s"=\[{]+')


def _bare(value: object) -> str:
    """Return a value for the console: as it is where that is one word, as JSON otherwise, so that none passes for two."""
    return printable(value) if isinstance(value, str) and _WORD.fullmatch(value) else _encoded(value).decode()


def _exception_of(exc_info: object) -> BaseException | None:
    """Read what the caller gave as `exc_info`: an exception, a tuple of `sys.exc_info`, or true for the current one."""
    if isinstance(exc_info, BaseException):
        return exc_info
    return exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1]


def _causes(error: BaseException) -> Iterable[BaseException]:
    """Give the exception and those behind it, the outermost first."""
    cause: BaseException | None = error
    for _ in range(_CAUSE_LIMIT):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _exception(error: BaseException) -> _Line:
    return {"type": type(error).__name__, "text": _plain(error), "frames": _frames(error.__traceback__)}


def _frames(trace: TracebackType | None) -> list[str]:
    innermost = deque(traceback.walk_tb(trace), maxlen=_FRAME_LIMIT)
    return [f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}" for frame, line in innermost]


def _told(exceptions: list[_Line]) -> Iterable[str]:
    """Give the console lines of an exception and its causes."""
    for exception in exceptions:
        yield f"    {exception['type']}: {exception['text']}"
        yield from (f"        {frame}" for frame in exception["frames"])


_SINK = _Sink()
_PROCESSORS: list[Processor] = []
_Logger = type("_Logger", (structlog.make_filtering_bound_logger("warning"),), {})

# Until the settings are known, what matters goes to standard error.
configure(level="warning")
