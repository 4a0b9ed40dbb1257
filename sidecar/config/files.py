"""Read and parse one settings file: its values and their lines, or the error that makes it unreadable.

Never knows what the keys mean.
"""

import ast
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import tomli
from msgspec import Struct

from sidecar.config.alike import alike_tables
from sidecar.config.places import Place, Repeat, TooDeepError, json_places, toml_places
from sidecar.core.settings.values import Source, Stamp
from sidecar.core.text import in_units, printable, shown, written

# A million domains take some 100 MB; a mail server has more memory than this limit.
SIZE_LIMIT: Final = 1 << 30

# Python rejects a number with more digits, and does not report the line.
_HUGE_NUMBER = re.compile(r"[0-9_]{4300}")

# The parser writes the path of a table as Python does: ('limits',).
_DECLARED: Final = re.compile(r"Cannot (?:declare|redefine namespace) (\(.*\))(?: twice)?", re.DOTALL)

_UNENDED: Final = re.compile(r"[ \t]*\[[^\]\n]*$", re.MULTILINE)

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# Text outside comments, strings above all, then one comment. Without its end, a string or a comment reaches to the end of the
# text: the pattern stays linear, and the parser then reports it.
_COMMENT: Final = re.compile(
    r"""((?>(?:[^"/\#]++|"(?>(?:[^"\\]++|\\(?:.|\Z))*)(?:"|\Z)|/(?![/*]))*))(//[^\n]*+|\#[^\n]*+|/\*(?>(?:[^*]++|\*(?!/))*)(?:\*/|\Z))?""",
    re.DOTALL,
)


class Document(Struct, frozen=True, kw_only=True):
    """The values of a file; `repeats` are its repeated JSON keys. Tables with the same body share a dict: do not change it."""

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


def named_json(file: str) -> bool:
    """Return True for a name that ends in .json."""
    return file.lower().endswith(".json")


def read_document(path: Path, file: str, sources: list[Source] | None = None, *, is_json: bool | None = None) -> Document:
    """Read and parse a file as JSON or TOML, by default according to its name. Raise UnreadableError.

    `file` is its path as the operator wrote it. The file becomes one of the `sources` in any case.
    """
    is_json = named_json(file) if is_json is None else is_json
    content = read_content(path, file, [] if sources is None else sources)
    text = _decoded(content, is_json=is_json)
    del content  # some 100 MB for a million domains
    return parsed(text, file, is_json=is_json)


def read_content(path: Path, file: str, sources: list[Source]) -> bytes:
    """Return the bytes of a file, which becomes one of the `sources` in any case. Raise UnreadableError."""
    stamp, digest = stamp_of(path), None
    try:
        content = _content(path, shown(file))
        digest = hashlib.sha256(content).hexdigest()
    finally:
        sources.append(Source(path=path, stamp=stamp, digest=digest))
    return content


def unreadable(sources: Iterable[Source]) -> Iterator[Path]:
    """Yield the files that the program has read and that this user cannot read. Missing files are not among them."""
    return (source.path for source in sources if source.digest is not None and not os.access(source.path, os.R_OK))


def parsed(text: str, file: str, *, is_json: bool) -> Document:
    """Parse the text of a file. JSON can have comments. Raise UnreadableError."""
    try:
        values, place, repeats = _from_json(text) if is_json else _from_toml(text)
    except TooDeepError as error:
        raise UnreadableError(f"{error}.", "Use no more levels than the settings have.", error.lineno) from None
    if values == []:
        values = {}  # the same empty table in Lua, and so in KumoMTA
    if not isinstance(values, dict):
        raise UnreadableError(f"{shown(values)} is not a table.", "Put everything in { }.", line=1)
    return Document(file=file, values=values, place=place, repeats=repeats)


def _from_json(text: str) -> tuple[Any, Place, list[Repeat]]:
    text, values = _json_values(text)
    return values, *json_places(text)


def _from_toml(text: str) -> tuple[Any, Place, list[Repeat]]:
    values, place = alike_tables(text) or (_values(text, is_json=False), toml_places(text))
    return values, place, []


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


def _decoded(data: bytes, *, is_json: bool) -> str:
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if (position := data.find(b"\0")) >= 0:
        raise UnreadableError("The file has a NUL byte.", "Save it as UTF-8 text.", data.count(b"\n", 0, position) + 1)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        # KumoMTA removes comments before it decodes JSON, so they can have any encoding.
        if is_json:
            with suppress(UnicodeDecodeError):
                return without_comments(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape").decode()
        text, line = f"The byte 0x{data[error.start]:02x} is not UTF-8.", data.count(b"\n", 0, error.start) + 1
        raise UnreadableError(text, "Save the file as UTF-8.", line) from None


def without_comments(text: str) -> str:
    """Return JSON with blanks in place of its comments: `//` and `#` to the end of the line, and `/* */`. Lines stay lines."""
    return _COMMENT.sub(lambda found: found[1] + _blanked(found[2] or ""), text)


def _blanked(comment: str) -> str:
    is_open = comment.startswith("/*") and not (len(comment) > 3 and comment.endswith("*/"))  # noqa: PLR2004 - "/*/" has no end
    return comment if is_open else re.sub(r"[^\n]", " ", comment)


def _json_values(text: str) -> tuple[str, Any]:
    """Return a JSON text without its comments, and its values. Most files have no comments, and are parsed as they are."""
    try:
        return text, json.loads(text)
    except (ValueError, RecursionError):
        text = without_comments(text)
    return text, _values(text, is_json=True)


def _repeated(message: str) -> str | None:
    """Return the table or key that TOML permits only once, from the parser's message; None for another message."""
    if (found := _DECLARED.fullmatch(message)) is not None:
        return f"The table [{'.'.join(map(written, ast.literal_eval(found[1])))}]"
    return "This key or table" if message == "Cannot overwrite a value" else None


def _values(text: str, *, is_json: bool) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(text) if is_json else tomli.loads(text)
    except RecursionError:
        # The text is correct as far as it was parsed, so the search for places fails at the same level.
        _ = json_places(text) if is_json else toml_places(text)
        raise TooDeepError(1) from None
    except (tomli.TOMLDecodeError, json.JSONDecodeError) as error:
        if is_json and text.startswith("/*", error.pos):
            raise UnreadableError("This comment has no end.", "Write */ behind it.", error.lineno) from None
        if (repeated := _repeated(error.msg)) is not None:
            # The parser finds that a table is repeated before it looks for the end of its name.
            if _UNENDED.match(text, text.rfind("\n", 0, error.pos) + 1):
                raise UnreadableError("The name of this table has no end.", "Write ] behind it.", error.lineno) from None
            raise UnreadableError(f"{repeated} is in the file twice.", "Keep one of the two.", error.lineno) from None
        # Python's words for some faults end before the position, which follows in its own message.
        reason = printable(error.msg).removesuffix(" at")
        fault = f"This is not {'JSON' if is_json else 'TOML'}: {reason}."
        raise UnreadableError(fault, "Correct the line or the one before it.", error.lineno) from None
    except ValueError:
        found = _HUGE_NUMBER.search(text)
        line = text.count("\n", 0, found.start() if found else 0) + 1
        raise UnreadableError("A number here has thousands of digits.", "Write a smaller one.", line) from None
