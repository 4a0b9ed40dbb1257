"""Read KumoMTA's listener domains files, in order, into one entry for each domain and listener.

Owns the keys of a domain, the spelling of names in these files, and the merge. Never decides which entry serves a domain.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from sidecar.config.files import Document
from sidecar.config.places import Place
from sidecar.config.readers import WrongValue, flag, list_of, log_mode, network, text, unused_duration
from sidecar.config.tables import Notes
from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, warning
from sidecar.core.names import DOMAIN_LIMIT, normal_domain, normal_listener, plain_address
from sidecar.core.settings.domain_table import Lines
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, Where
from sidecar.core.text import quoted, shown, written

# KumoMTA reserves this name for the tables of single listeners; it is no domain name.
LISTENER: Final = "listener"

READERS: Final = {
    "relay_to": flag,
    "relay_from": list_of(network, '["10.0.0.0/24"]'),
    "relay_from_authz": list_of(text("a user name"), '["daniel"]'),
    "log_oob": log_mode,
    "log_arf": log_mode,
}
REPORT_KEYS: Final = ("log_oob", "log_arf")
UNUSED: Final = "ttl"
_KEYS: Final = (*READERS, UNUSED)

Entries = dict[str, dict[str, DomainEntry]]
"""By listener, then by domain."""


class _Named(Struct, frozen=True, kw_only=True):
    """The table of a domain before it is read, with the file's spelling of its name."""

    listener: str
    name: str
    value: Any
    place: Place
    path: str


def merge(entries: Entries, later: Entries, findings: Findings) -> None:
    """Merge the entries of a later file into the earlier ones, key by key. An entry keeps its position."""
    for listener, domains in later.items():
        known = entries.setdefault(listener, {})
        for domain, entry in domains.items():
            earlier = known.get(domain)
            known[domain] = entry if earlier is None else _over(earlier, entry, findings)


def _over(earlier: DomainEntry, later: DomainEntry, findings: Findings) -> DomainEntry:
    changes = {key: getattr(later, key) for key in later.lines if key}
    for key, value in changes.items():
        if key in earlier.lines and getattr(earlier, key) != value:
            findings.note(_overridden, earlier, later, key)
    trues = tuple(key for key in REPORT_KEYS if key in later.trues or (key in earlier.trues and key not in changes))
    lines = {**earlier.lines, **later.lines}
    return msgspec.structs.replace(earlier, path=later.path, lines=lines, trues=trues, **changes)


def read_domains(document: Document, problems: list[Finding], findings: Findings) -> Entries:
    """Read one listener domains file. Add errors to `problems` and warnings to `findings`; return the correct entries."""
    return _Reading(document, problems, findings).entries()


def _name(spelled: str) -> str:
    return quoted(spelled, DOMAIN_LIMIT)


def _path_of(parts: Sequence[str]) -> str:
    # The names of listeners and domains are always in quotes.
    names = slice(1, 3) if parts[0] == LISTENER else slice(0, 1)
    spelled = [written(part) for part in parts]
    spelled[names] = [_name(part) for part in parts[names]]
    return ".".join(spelled)


class _Reading:
    """One file, while it is read."""

    def __init__(self, document: Document, problems: list[Finding], findings: Findings) -> None:
        self.document = document
        self.notes = Notes(document.file, problems)
        self.findings = findings
        self.shapes: dict[tuple[tuple[str, int], ...], dict[str, tuple[str, int]]] = {}

    def entries(self) -> Entries:
        found: Entries = {}
        self.notes.repeats(self.document, _path_of)
        for named in self.named():
            entry = self.entry(named)
            if entry is not None and not self.is_double(found, entry):
                found.setdefault(entry.listener, {})[entry.domain] = entry
        return found

    def named(self) -> Iterator[_Named]:
        """Yield the table of each domain. Those outside `listener` are last, because in KumoMTA they replace `listener."*"`."""
        values, place = self.document.values, self.document.place
        listeners = self.as_table(values.get(LISTENER, {}), place.at(LISTENER), LISTENER)
        for spelled, domains in listeners.items():
            at, path = place.at(LISTENER).at(spelled), _path_of([LISTENER, spelled])
            listener = self.listener(spelled, at, path)
            for name, value in self.as_table(domains, at, path).items():
                yield _Named(listener=listener, name=name, value=value, place=at.at(name), path=f"{path}.{_name(name)}")
        for name, value in values.items():
            if name != LISTENER:
                yield _Named(listener=ANY_LISTENER, name=name, value=value, place=place.at(name), path=_name(name))

    def as_table(self, value: object, place: Place, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        fix = 'Write tables such as [listener."127.0.0.1:25"."example.com"].'
        self.notes.add("wrong_type", place.line, path, f"{shown(value)} is not a table of domains.", fix)
        return {}

    def listener(self, spelled: str, place: Place, path: str) -> str:
        """Return the normal form of a listener. A wrong one is an error, and its domains are read all the same."""
        if spelled == ANY_LISTENER:
            return ANY_LISTENER
        try:
            return normal_listener(spelled)
        except ValueError:
            fix = 'Write IP:port, such as "127.0.0.1:25" or "[::1]:25", or "*" for every listener.'
            self.notes.add("invalid_listener", place.line, path, f"{quoted(spelled)} is not a listener.", fix)
            return quoted(spelled)

    def entry(self, named: _Named) -> DomainEntry | None:
        if not isinstance(named.value, dict):
            self.note_no_table(named)
            return None
        fields = self.fields(named)
        domain = normal_domain(named.name)
        if domain is None:
            guess = _guess(named.name)
            fix = f"Write {_name(guess)}." if guess else 'Write a name such as "example.com", "*.example.com" or "*".'
            self.notes.add("invalid_domain", named.place.line, named.path, f"{quoted(named.name)} is not a domain name.", fix)
            return None
        trues = tuple(key for key in REPORT_KEYS if named.value.get(key) is True)
        lines = self.lines(named.place, fields)
        return DomainEntry(listener=named.listener, domain=domain, path=named.path, lines=lines, trues=trues, **fields)

    def fields(self, named: _Named) -> dict[str, Any]:
        fields = {}
        for key, value in named.value.items():
            try:
                if (reader := READERS.get(key)) is not None:
                    fields[key] = reader(value)
                elif key == UNUSED:
                    unused_duration(value)
                    self.findings.note(_unused_ttl, self.where(named.place.at(key).line, f"{named.path}.{key}"))
                else:
                    self.note_unknown(named, key, value)
            except WrongValue as error:
                self.notes.wrong(named.place.at(key), f"{named.path}.{key}", error)
        return fields

    def lines(self, place: Place, fields: Mapping[str, Any]) -> Lines:
        first = place.line
        steps = (("", 0), *[(key, place.at(key).line - first) for key in fields])
        shared = self.shapes.get(steps)
        if shared is None:
            shared = self.shapes[steps] = {key: (self.document.file, step) for key, step in steps}
        return Lines(first, shared)

    def is_double(self, found: Entries, entry: DomainEntry) -> bool:
        """Return True if the file already has this domain: an error, except for a table that KumoMTA replaces."""
        first = found.get(entry.listener, {}).get(entry.domain)
        if first is None:
            return False
        earlier, here = first.where(""), entry.where("")
        if first.path.startswith(f"{LISTENER}.") and not entry.path.startswith(f"{LISTENER}."):
            self.findings.note(_replaced, first, entry)
            return False
        text = f"This is the same domain as {earlier.key} on line {earlier.line}."
        self.notes.add("repeated_domain", here.line, here.key, text, "Keep one of the two.")
        return True

    def note_no_table(self, named: _Named) -> None:
        line, value = named.place.line, shown(named.value)
        if named.name in _KEYS:
            text = f"{written(named.name)} = {value} is outside the table of a domain."
            self.notes.add("misplaced_key", line, named.path, text, 'Write it below a line such as ["example.com"].')
        else:
            fix = f"Write [{named.path}] on a line of its own, and below it keys such as relay_to = true."
            self.notes.add("wrong_type", line, named.path, f"{value} is not the table of a domain.", fix)

    def note_unknown(self, named: _Named, key: str, value: object) -> None:
        line, path = named.place.at(key).line, f"{named.path}.{written(key)}"
        if isinstance(value, dict) and key not in _KEYS:
            # TOML reads [example.com] as a table `com` in a table `example`.
            whole = quoted(".".join([named.name, key, *_names_inside(value)]))
            self.notes.add(
                "unquoted_domain",
                line,
                path,
                f"The domain {quoted(named.name)} has a table inside.",
                f"Write {whole} in quotes.",
            )
        else:
            self.notes.unknown(line, key, path, _KEYS)

    def where(self, line: int, key: str) -> Where:
        return Where(file=self.document.file, line=line, key=key)


def _guess(name: str) -> str | None:
    """Return the domain in a mail address, a URL, a bare IPv6 address or a name with a leading dot; otherwise None."""
    try:
        plain_address(name)
        guess = f"[IPv6:{name}]"
    except ValueError:
        host = name.rpartition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].strip()
        guess = f"*{host}" if host.startswith(".") else host
    return guess if normal_domain(guess) is not None else None


def _names_inside(table: dict[str, object]) -> Iterator[str]:
    """Yield the other labels of an unquoted name: table in table, down to the one with keys."""
    inner: object = table
    while isinstance(inner, dict) and len(inner) == 1 and not inner.keys() & _KEYS:
        name, inner = next(iter(inner.items()))
        if isinstance(inner, dict):
            yield name


def _unused_ttl(where: Where) -> Finding:
    return warning("deprecated", where, "ttl has no effect: a reload reads the domains again.", "Remove it.")


def _replaced(first: DomainEntry, second: DomainEntry) -> Finding:
    here = second.where("")
    return warning(
        "overridden", first.where(""), f"The table {here.key} on line {here.line} replaces this one.", "Keep one of the two."
    )


def _overridden(earlier: DomainEntry, later: DomainEntry, key: str) -> Finding:
    where = later.where(key)
    return warning(
        "overridden",
        earlier.where(key),
        f"This has no effect, because {where.key} ({where}) is later and has another value.",
        "Keep one of the two.",
    )
