"""The lines of the log, made and written with structlog.

Owns levels, line formats, and the handling of external text: `_plain` limits every value, and the renderers escape every
character that is not printable. Never raises into the caller: a log that cannot be written must not cost mail.
"""

import os
import re
import select
import sys
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import UnsupportedOperation
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.processors import JSONRenderer
from structlog.typing import EventDict, FilteringBoundLogger

from sidecar.core.text import printable, printable_json
from sidecar.log import VALUE_LIMIT

# A RecursionError has a thousand frames; the innermost ones show the fault.
_FRAME_LIMIT = 12
_CAUSE_LIMIT = 4

_NUMBER_BITS = 64

# One word, which needs no quotes.
_WORD = re.compile(r'[^\s"=\[{]+')

# Syslog's priorities. The text after one stays JSON: `journalctl --output=cat` prints it without the priority.
_PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}

_Plain = str | int | float | bool | None


def configure(*, level: str, format: str, stream: TextIO | None) -> None:  # noqa: A002 - the setting's name
    """Do what `sidecar.log.configure` promises."""
    target = sys.stderr if stream is None else stream
    terminal = target is not None and target.isatty()
    _SINK.stream = stream
    # Changed in place, because every logger refers to this class and list. A method below the level is empty and costs little.
    _Logger.__bases__ = (structlog.make_filtering_bound_logger(level),)
    if format == "json" or (format == "auto" and not terminal):
        _PROCESSORS[:] = _safe, JSONRenderer(serializer=_json), _finish
    else:
        _PROCESSORS[:] = _safe, _exception_lines, _console(colours=terminal and not os.environ.get("NO_COLOR")), _finish
    _SINK.priorities = _PRIORITIES if _is_journal(target) else {}


def logger(component: str) -> FilteringBoundLogger:
    """Return the logger of a component."""
    made = structlog.wrap_logger(_SINK, processors=_PROCESSORS, wrapper_class=_Logger)
    return cast("FilteringBoundLogger", made.bind(component=component))


def _is_journal(stream: TextIO | None) -> bool:
    """Return True if systemd connected the stream to its journal (JOURNAL_STREAM in systemd.exec(5))."""
    with suppress(OSError, ValueError, AttributeError):  # closed, in memory, or None
        status = os.fstat(cast("TextIO", stream).fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False


class _Sink:
    """The output. Each line is one system call, so that lines of several processes never mix.

    (POSIX promises that for files opened to append, and for pipes up to PIPE_BUF, 4096 bytes on Linux.)
    """

    stream: TextIO | None = None
    priorities: dict[str, str] = {}  # noqa: RUF012 - replaced, never changed

    def write(self, line: bytes) -> None:
        """Write the line, or lose it: neither a full disk nor a reader that stalls or is gone stops the program."""
        stream = sys.stderr if self.stream is None else self.stream
        # ValueError is a closed stream, AttributeError a program started without a standard error.
        with suppress(OSError, ValueError, AttributeError):
            try:
                # Asked each time: after the stream was closed, the same number can be another file.
                descriptor = stream.fileno()
            except UnsupportedOperation:  # a stream in memory
                stream.write(line.decode())
                return
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            # A pipe is ready if it has space for PIPE_BUF bytes. More could block.
            for start in range(0, len(line), select.PIPE_BUF):
                if not ready.poll(0):
                    break
                os.write(descriptor, line[start : start + select.PIPE_BUF])

    debug = info = warning = error = critical = write


def _safe(_logger: object, level: str, event: EventDict) -> EventDict:
    """Return the fields of a line in the order in which they are written, each of them plain and bounded."""
    exc_info = event.pop("exc_info", None)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    line: EventDict = {"timestamp": f"{now}Z", "level": level, "event": _plain(event.pop("event", ""))}
    for name, value in event.items():
        key = f"{name}_" if name in line or name == "exception" else str(_plain(name))
        line[key] = _items(value) if isinstance(value, list | tuple) else _plain(value)
    # An exception, a tuple of `sys.exc_info`, or True for the exception that is being handled.
    error = exc_info[1] if isinstance(exc_info, tuple) else sys.exc_info()[1] if exc_info is True else exc_info
    if isinstance(error, BaseException):
        line["exception"] = [_exception(each) for each in _causes(error)]
    return line


def _plain(value: object) -> _Plain:
    """Return a value that JSON can hold, of at most `VALUE_LIMIT` characters; lone surrogates are spelled out."""
    # Exact types: a subclass can have its own representation. msgspec writes numbers of at most 64 bits.
    if value is None or type(value) is bool or type(value) is float:
        return value
    if type(value) is int and value.bit_length() < _NUMBER_BITS:
        return value
    try:
        text = value[: VALUE_LIMIT + 1].decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value)
    except Exception:  # noqa: BLE001 - __str__ can raise anything
        text = f"<{type(value).__name__} that cannot be shown>"
    if len(text) > VALUE_LIMIT:
        text = text[: VALUE_LIMIT - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _items(values: Iterable[object]) -> list[_Plain]:
    """Return the first of the values, `VALUE_LIMIT` characters in total; an ellipsis replaces the rest."""
    shown: list[_Plain] = []
    free = VALUE_LIMIT
    for value in values:
        item = _plain(value)
        free -= len(str(item)) + 1
        if free < 0:
            return [*shown, "…"]
        shown.append(item)
    return shown


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return the exception and its causes, the outermost first. A chain of causes can be a circle."""
    cause: BaseException | None = error
    for _ in range(_CAUSE_LIMIT):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _exception(error: BaseException) -> dict[str, Any]:
    innermost = deque(traceback.walk_tb(error.__traceback__), maxlen=_FRAME_LIMIT)
    frames = [_plain(f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}") for frame, line in innermost]
    return {"type": type(error).__name__, "text": _plain(error), "frames": frames}


def _json(value: object, **_settings: object) -> str:
    """Return a value as JSON in which every character is visible."""
    return printable_json(msgspec.json.encode(value)).decode()


def _exception_lines(_logger: object, _level: str, line: EventDict) -> EventDict:
    """Replace the exceptions of a line with indented text, as the console shows them."""
    if exceptions := line.pop("exception", None):
        lines = []
        for each in exceptions:
            lines += [f"    {each['type']}: {each['text']}", *(f"        {frame}" for frame in each["frames"])]
        line["exception"] = "\n".join(map(printable, lines))
    return line


def _console(*, colours: bool) -> ConsoleRenderer:
    styles = ConsoleRenderer.get_default_column_styles(colours)
    level_styles = ConsoleRenderer.get_default_level_styles(colours)

    def value_of(style: str) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, style, styles.reset, lambda value: printable(str(value)))

    def pair(key: str, value: object) -> str:
        # A value of several words is quoted, so that it cannot look like two fields.
        shown = printable(value) if isinstance(value, str) and _WORD.fullmatch(value) else _json(value)
        return f"{styles.kv_key}{printable(key)}{styles.reset}={styles.kv_value}{shown}{styles.reset}"

    columns = [
        Column("timestamp", value_of(styles.timestamp)),
        Column("level", lambda _key, level: f"{level_styles[str(level)]}{level:<8}{styles.reset}"),
        Column("event", value_of(styles.bright)),
        Column("", pair),
    ]
    return ConsoleRenderer(columns=columns, sort_keys=False)


def _finish(_logger: object, level: str, text: str) -> bytes:
    priority = _SINK.priorities.get(level, "")
    return "".join(f"{priority}{line}\n" for line in text.split("\n")).encode()


_SINK = _Sink()
_PROCESSORS: list[Any] = []
_Logger = type("_Logger", (structlog.make_filtering_bound_logger("warning"),), {})

configure(level="warning", format="auto", stream=None)
