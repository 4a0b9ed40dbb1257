"""A table of a settings file while it is read: the callers read its keys, and each error has its place.

Owns the places of errors, and rejects unknown keys.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.files import Document, UnreadableError, read_content
from sidecar.config.findings import Findings, Kind
from sidecar.config.places import Place
from sidecar.config.readers import Reader, WrongValue
from sidecar.core.findings import ErrorCode
from sidecar.core.names import BELOW, normal_domain
from sidecar.core.settings.values import Source, Where
from sidecar.core.text import nearest, quoted, shown, written


class Table(Struct):
    """A table while it is read. An error is added and the key left out, so that one run finds all errors.

    `path` is the path of its key, empty for a whole file; `spell` writes the keys in it, and `asked` has those that were read,
    true for a value and false for a section, and `top` those of the whole file. `others` has the keys of a second file, each
    with its table there, and `parts` the sections that have keys of two files.
    """

    findings: Findings
    file: str
    values: dict[str, Any]
    place: Place
    path: str = ""
    spell: Callable[[str], str] = written
    asked: dict[str, bool] = {}
    top: dict[str, bool] | None = None
    others: dict[str, "Table"] = {}
    parts: dict[str, "Table"] = {}

    def where(self, key: str, index: int | None = None) -> Where:
        """Return the place of `key`, or of an item of its list."""
        if key in self.others:
            return self.others[key].where(key, index)
        place = self.place.at(key)
        line = place.line if index is None else place.at(index).line
        return Where(file=self.file, line=line, key=self.path_of(key))

    def path_of(self, key: str) -> str:
        """Return the path of `key`."""
        return f"{self.path}.{self.spell(key)}" if self.path else self.spell(key)

    def take(self, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
        """Read these keys. Return those that are set and correct."""
        self.asked |= dict.fromkeys(readers, True)
        values = {}
        for key, reader in readers.items():
            if key in self.values:
                try:
                    values[key] = reader(self.values[key])
                except WrongValue as error:
                    self.wrong(key, error)
        return values

    def content(self, key: str, path: Path, file: str, sources: list[Source], index: int | None = None) -> bytes | None:
        """Return the content of a file that the value of `key` names; add an error if it cannot be read.

        The file becomes one of the `sources`.
        """
        try:
            return read_content(path, file, sources)
        except UnreadableError as error:
            self.findings.error("unreadable_file", self.where(key, index), error.text, error.fix)
            return None

    def only(self, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
        """Read a table that has these keys and no others."""
        values = self.take(readers)
        self.close()
        return values

    def table(
        self, key: str, spell: Callable[[str], str] = written, *, what: str = "a table", fix: str | None = None
    ) -> "Table":
        """Return the table under `key`, an empty one if it is missing or wrong; `what` names it in the error."""
        self.asked[key] = False
        if key in self.parts:
            return self.parts[key]
        if key in self.others:
            return self.others[key].table(key, spell, what=what, fix=fix)
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            fix = fix or f"Write [{self.path_of(key)}] on a line of its own and the keys below it."
            self.fault("wrong_type", key, f"{shown(value)} is not {what}.", fix)
            value = {}
        top = self.asked if self.top is None else self.top
        return Table(self.findings, self.file, value, self.place.at(key), self.path_of(key), spell, top=top)

    def tables(self, key: str) -> list["Table"]:
        """Return the tables of an array under `key`, those that are tables."""
        self.asked[key] = False
        if key in self.others:
            return self.others[key].tables(key)
        value = self.values.get(key, [])
        fix = f"Write [[{self.path_of(key)}]] on a line of its own and the keys below it."
        if not isinstance(value, list):
            self.fault("wrong_type", key, f"{shown(value)} is not a list of tables.", fix)
            return []
        place, found = self.place.at(key), list[Table]()
        for index, one in enumerate(value):
            if isinstance(one, dict):
                found.append(Table(self.findings, self.file, one, place.at(index), self.path_of(key), top=self.top))
            else:
                where = self.where(key, index)
                self.findings.error("wrong_type", where, f"{shown(one)} is not a table.", fix)
        return found

    def fault(self, code: ErrorCode, key: str, text: str, fix: str) -> None:
        """Add an error for the value of `key`."""
        self.findings.error(code, self.where(key), text, fix)

    def wrong(self, key: str, wrong: WrongValue) -> None:
        """Add an error for each fault of the value of `key`. An item of a list has its own line."""
        for fault in wrong.faults:
            self.findings.error(fault.code, self.where(key, fault.index), fault.text, fault.fix)

    def unknown(self, key: str, known: Sequence[str]) -> None:
        """Add an error for an unknown key, with its right place or the nearest known one."""
        guess = nearest(key, tuple(known))
        if (self.top or {}).get(key) and not isinstance(self.values[key], dict):
            fix = f"Move it above the first [section]: below [{self.path}], it belongs to that section."
        else:
            fix = f"Write {guess}, or remove it." if guess else f"Remove it. The known keys here are: {', '.join(known)}."
        self.fault("unknown_key", key, f"{quoted(key)} is not a known key.", fix)

    def close(self) -> None:
        """Add an error for each key that was not read."""
        for key in self.values:
            if key not in self.asked:
                self.unknown(key, tuple(self.asked))


def domain_tables(table: Table) -> Iterator[tuple[str, Table, Where]]:
    """Yield the tables of domains in a table: the domain in normal form, its table, and its place.

    The name is a domain, or `*.` and a domain for all names below it. Add an error for each other one.
    """
    lines: dict[str, int] = {}
    for spelled in table.values:
        own = table.table(spelled)
        below = BELOW if spelled.startswith(BELOW) else ""
        domain = normal_domain(spelled.removeprefix(below))
        if not domain or "*" in domain:
            section = table.path.rpartition(".")[0]
            fix = f"Write a domain, or *. and a domain for all names below it. The keys for all domains are below [{section}]."
            table.fault("invalid_value", spelled, f"{quoted(spelled)} is not a domain.", fix)
            continue
        name = below + domain
        if name in lines:
            fault = f"This is the same domain as on line {lines[name]}."
            table.fault("repeated_domain", spelled, fault, "Keep one of the two.")
        lines.setdefault(name, own.place.line)
        yield name, own, table.where(spelled)


def table_of_file(
    document: Document,
    findings: Findings,
    *,
    spell: Callable[[str], str] = written,
    path_of: Callable[[Sequence[str]], str] = lambda keys: ".".join(map(written, keys)),
    repeated: Kind | None = None,
) -> Table:
    """Return the table of a whole file.

    Add a warning of the kind `repeated`, or an error, for each repeated JSON key. tomli rejects those itself.
    """
    for repeat in document.repeats:
        where = Where(file=document.file, line=repeat.second, key=path_of([str(part) for part in repeat.path]))
        if repeated is not None:
            findings.warn(repeated, replace(where, line=repeat.first), line=repeat.second)
            continue
        findings.error("repeated_key", where, f"This key is on line {repeat.first} already.", "Keep one of the two.")
    return Table(findings, document.file, document.values, document.place, spell=spell)
