"""Read and parse one settings file: its values and their lines, or the error that makes it unreadable.

Never knows what the keys mean.
"""

import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import tomli
from msgspec import Struct

from sidecar.config.places import Place, Repeat, TooDeepError, json_places, toml_places
from sidecar.core.settings.values import Source, Stamp
from sidecar.core.text import in_units, printable, shown

# A million domains take some 100 MB; a mail server has more memory than this limit.
SIZE_LIMIT: Final = 1 << 30

# Python rejects a number with more digits, and does not report the line.
_HUGE_NUMBER = re.compile(r"[0-9_]{4300}")


class Document(Struct, frozen=True, kw_only=True):
    """The values of a file; `repeats` are its repeated JSON keys."""

    file: str
    values: dict[str, Any]
    place: Place
    repeats: list[Repeat]


class UnreadableError(Exception):
    """A file that cannot be read or parsed. `line` is None if the fault is not in its text."""

    def __init__(self, text: str, fix: str, line: int | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.fix = fix
        self.line = line


def read_document(path: Path, file: str, sources: list[Source] | None = None) -> Document:
    """Read and parse a file: JSON if its name ends in .json, otherwise TOML. Raise UnreadableError.

    `file` is its path as the operator wrote it. The file becomes one of the `sources` in any case.
    """
    stamp, digest = stamp_of(path), None
    try:
        content = _content(path, shown(file))
        text, digest = _decoded(content), hashlib.sha256(content).hexdigest()
        del content  # some 100 MB for a million domains
    finally:
        if sources is not None:
            sources.append(Source(path=path, stamp=stamp, digest=digest))
    return parsed(text, file, is_json=path.suffix.lower() == ".json")


def parsed(text: str, file: str, *, is_json: bool) -> Document:
    """Parse the text of a file. Raise UnreadableError."""
    try:
        values = _values(text, is_json=is_json)
        place, repeats = json_places(text) if is_json else (toml_places(text), [])
    except TooDeepError as error:
        raise UnreadableError(f"{error}.", "Use no more levels than the settings have.", error.lineno) from None
    if not isinstance(values, dict):
        raise UnreadableError(f"{shown(values)} is not a table.", "Put everything in { }.", line=1)
    return Document(file=file, values=values, place=place, repeats=repeats)


def stamp_of(path: Path) -> Stamp | None:
    """Return the metadata that changes with a file, or None if it cannot be read."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    # Mode and owner are included: a change of them can make the file readable.
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev, found.st_mode, found.st_uid, found.st_gid)


def _content(path: Path, name: str) -> bytes:
    try:
        # A FIFO must not block the program.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError(f"The file {name} is not a regular file.", "Name a file.")
            if status.st_size > SIZE_LIMIT:
                raise UnreadableError(
                    f"The file {name} has {in_units(status.st_size)}.", f"Keep it below {in_units(SIZE_LIMIT)}."
                )
            return file.read(SIZE_LIMIT)
    except FileNotFoundError:
        raise UnreadableError(f"The file {name} does not exist.", "Create it or name another.") from None
    except IsADirectoryError:
        raise UnreadableError(f"The file {name} is a directory.", "Name a file.") from None
    except PermissionError:
        raise UnreadableError(f"This user has no permission to read {name}.", "Change its owner or its mode.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(f"The file {name} cannot be read: {reason}.", "Name another file.") from None


def _decoded(data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise UnreadableError("The file begins with a byte order mark.", "Save it as UTF-8 without one.", line=1)
    if (position := data.find(b"\0")) >= 0:
        raise UnreadableError("The file has a NUL byte.", "Save it as UTF-8 text.", data.count(b"\n", 0, position) + 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        text, line = f"The byte 0x{data[error.start]:02x} is not UTF-8.", data.count(b"\n", 0, error.start) + 1
        raise UnreadableError(text, "Save the file as UTF-8.", line) from None


def _values(text: str, *, is_json: bool) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(text) if is_json else tomli.loads(text)
    except RecursionError:
        # The text is correct as far as it was parsed, so the search for places fails at the same level.
        _ = json_places(text) if is_json else toml_places(text)
        raise TooDeepError(1) from None
    except (tomli.TOMLDecodeError, json.JSONDecodeError) as error:
        fault = f"This is not {'JSON' if is_json else 'TOML'}: {printable(error.msg)}."
        raise UnreadableError(fault, "Correct the line or the one before it.", error.lineno) from None
    except ValueError:
        found = _HUGE_NUMBER.search(text)
        line = text.count("\n", 0, found.start() if found else 0) + 1
        raise UnreadableError("A number here has thousands of digits.", "Write a smaller one.", line) from None
