"""A table of a settings file while it is read: the callers read its keys, and each error has its place.

Owns the places of errors, and rejects unknown keys.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sidecar.config.files import Document
from sidecar.config.places import Place
from sidecar.config.readers import Reader, WrongValue
from sidecar.core.findings import ErrorCode, Finding, error
from sidecar.core.settings.values import Where
from sidecar.core.text import nearest, quoted, shown, written


class Notes:
    """The errors so far in one file."""

    def __init__(self, file: str, problems: list[Finding]) -> None:
        self.file = file
        self.problems = problems

    def add(self, code: ErrorCode, line: int, key: str, text: str, fix: str) -> None:
        """Add an error at a line of the file."""
        self.problems.append(error(code, Where(file=self.file, line=line, key=key), text, fix))

    def unknown(self, line: int, key: str, path: str, known: Iterable[str]) -> None:
        """Add an error for an unknown key, with the nearest known one."""
        words = tuple(known)
        guess = nearest(key, words)
        fix = f"Write {guess}, or remove it." if guess else f"Remove it. The known keys here are: {', '.join(words)}."
        self.add("unknown_key", line, path, f"{quoted(key)} is not a known key.", fix)

    def repeats(self, document: Document, path_of: Callable[[Sequence[str]], str]) -> None:
        """Add an error for each repeated JSON key. The TOML parser rejects those itself."""
        for repeat in document.repeats:
            path = path_of([str(part) for part in repeat.path])
            self.add(
                "repeated_key", repeat.second, path, f"This key is on line {repeat.first} already.", "Keep one of the two."
            )

    def wrong(self, place: Place, key: str, wrong: WrongValue) -> None:
        """Add an error for each fault of a value. An item of a list has its own line."""
        for fault in wrong.faults:
            line = place.line if fault.index is None else place.at(fault.index).line
            self.add(fault.code, line, key, fault.text, fault.fix)


class Table:
    """A table while it is read. An error is added and the key left out, so that one run finds all errors."""

    def __init__(
        self, notes: Notes, values: dict[str, Any], place: Place, path: str = "", spell: Callable[[str], str] = written
    ) -> None:
        self.notes = notes
        self.values = values
        self.place = place
        self.path = path
        self.spell = spell
        self._asked: dict[str, None] = {}

    def where(self, key: str) -> Where:
        """Return the place of `key`."""
        return Where(file=self.notes.file, line=self.place.at(key).line, key=self._path_of(key))

    def take(self, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
        """Read these keys. Return those that are set and correct."""
        self._asked |= dict.fromkeys(readers)
        values = {}
        for key, reader in readers.items():
            if key not in self.values:
                continue
            try:
                values[key] = reader(self.values[key])
            except WrongValue as error:
                self.notes.wrong(self.place.at(key), self._path_of(key), error)
        return values

    def only(self, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
        """Read a table that has these keys and no others."""
        values = self.take(readers)
        self.close()
        return values

    def table(self, key: str, spell: Callable[[str], str] = written) -> "Table":
        """Return the table under `key`, an empty one if it is missing or wrong. `spell` writes its keys in key paths."""
        self._asked[key] = None
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            fix = f"Write [{self._path_of(key)}] on a line of its own and the keys below it."
            self.fault("wrong_type", key, f"{shown(value)} is not a table.", fix)
            value = {}
        return Table(self.notes, value, self.place.at(key), self._path_of(key), spell)

    def tables(self) -> Iterator[tuple[str, "Table"]]:
        """Yield every table in this one."""
        return ((key, self.table(key)) for key in self.values)

    def fault(self, code: ErrorCode, key: str, text: str, fix: str) -> None:
        """Add an error for the value of `key`."""
        self.notes.add(code, self.place.at(key).line, self._path_of(key), text, fix)

    def close(self) -> None:
        """Add an error for each key that was not read."""
        for key in self.values:
            if key not in self._asked:
                self.notes.unknown(self.place.at(key).line, key, self._path_of(key), self._asked)

    def _path_of(self, key: str) -> str:
        return f"{self.path}.{self.spell(key)}" if self.path else self.spell(key)
