"""KumoMTA's listener domains files, one after the other: one entry for each domain on each listener.

Owns the keys of a domain, the spelling of names in these files, and the merging. Never decides which entry serves a domain.
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
from sidecar.config.warnings.written import overridden, replaced, unused_ttl
from sidecar.core.findings import Finding
from sidecar.core.names import DOMAIN_LIMIT, normal_domain, normal_listener, plain_address
from sidecar.core.settings.domain_layout import Lines
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, Where
from sidecar.core.text import quoted, shown, written

# KumoMTA keeps this name for the tables of single listeners; no domain can have it.
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
    """A domain's table before it is read: on which listener, and how the file spells it."""

    listener: str
    name: str
    value: Any
    place: Place
    path: str


def merge(entries: Entries, later: Entries, findings: Findings) -> None:
    """Put the entries of a later file over those before it, key by key. An entry keeps its position."""
    for listener, domains in later.items():
        known = entries.setdefault(listener, {})
        for domain, entry in domains.items():
            earlier = known.get(domain)
            known[domain] = entry if earlier is None else _over(earlier, entry, findings)


def _over(earlier: DomainEntry, later: DomainEntry, findings: Findings) -> DomainEntry:
    changes = {key: getattr(later, key) for key in later.lines if key}
    for key, value in changes.items():
        if key in earlier.lines and getattr(earlier, key) != value:
            findings.note(overridden, earlier, later, key)
    trues = tuple(key for key in REPORT_KEYS if key in later.trues or (key in earlier.trues and key not in changes))
    lines = {**earlier.lines, **later.lines}
    return msgspec.structs.replace(earlier, path=later.path, lines=lines, trues=trues, **changes)


def read_domains(document: Document, problems: list[Finding], findings: Findings) -> Entries:
    """Read one listener domains file. Errors go to `problems`, warnings to `findings`; the result has all that is right."""
    return _Reading(document, problems, findings).entries()


def _name(spelled: str) -> str:
    """Write the name of a listener or a domain: in quotes always, and whole where it can be one."""
    return quoted(spelled, DOMAIN_LIMIT)


def _path_of(parts: Sequence[str]) -> str:
    """Write a key path of these files: the names of listeners and domains in quotes, always."""
    names = slice(1, 3) if parts[0] == LISTENER else slice(0, 1)
    spelled = [written(part) for part in parts]
    spelled[names] = [_name(part) for part in parts[names]]
    return ".".join(spelled)


class _Reading:
    """One file in reading."""

    def __init__(self, document: Document, problems: list[Finding], findings: Findings) -> None:
        self.document = document
        self.notes = Notes(document.file, problems)
        self.findings = findings
        self.shapes: dict[tuple[tuple[str, int], ...], dict[str, int]] = {}

    def entries(self) -> Entries:
        found: Entries = {}
        self.notes.repeats(self.document, _path_of)
        for named in self.named():
            entry = self.entry(named)
            if entry is not None and not self.is_double(found, entry):
                found.setdefault(entry.listener, {})[entry.domain] = entry
        return found

    def named(self) -> Iterator[_Named]:
        """Give every domain's table; those outside `listener` last, since KumoMTA puts them over `listener."*"`."""
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
        self.notes.add("wrong_type", place.line, path, f"{shown(value)} stands where a table of domains should.", fix)
        return {}

    def listener(self, spelled: str, place: Place, path: str) -> str:
        """Give the listener's normal form; a bad one is noted, and stands quoted for itself, so that its domains are read."""
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
            meant = _meant(named.name)
            fix = f"Write {_name(meant)}." if meant else 'Write a name such as "example.com", "*.example.com" or "*".'
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
                    self.findings.note(unused_ttl, self.where(named.place.at(key).line, f"{named.path}.{key}"))
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
            shared = self.shapes[steps] = dict(steps)
        return Lines(self.document.file, first, shared)

    def is_double(self, found: Entries, entry: DomainEntry) -> bool:
        """Whether the file has this domain already; that is an error, but for `listener."*"`, which KumoMTA replaces."""
        first = found.get(entry.listener, {}).get(entry.domain)
        if first is None:
            return False
        earlier, here = first.where(""), entry.where("")
        if first.path.startswith(f"{LISTENER}.") and not entry.path.startswith(f"{LISTENER}."):
            self.findings.note(replaced, first, entry)
            return False
        text = f"This is the same domain as {earlier.key} on line {earlier.line}."
        self.notes.add("repeated_domain", here.line, here.key, text, "Keep one of the two.")
        return True

    def note_no_table(self, named: _Named) -> None:
        line, value = named.place.line, shown(named.value)
        if named.name in _KEYS:
            text = f"{written(named.name)} = {value} stands outside of any domain's table."
            self.notes.add("misplaced_key", line, named.path, text, 'Write it below a line such as ["example.com"].')
        else:
            fix = f"Write [{named.path}] on a line of its own, and below it keys such as relay_to = true."
            self.notes.add("wrong_type", line, named.path, f"{value} stands where a domain's table should.", fix)

    def note_unknown(self, named: _Named, key: str, value: object) -> None:
        line, path = named.place.at(key).line, f"{named.path}.{written(key)}"
        if isinstance(value, dict) and key not in _KEYS:
            # TOML reads [example.com] as a table `com` in a table `example`.
            whole = quoted(".".join([named.name, key, *_names_inside(value)]))
            self.notes.add(
                "unquoted_domain",
                line,
                path,
                f"A table stands inside the domain {quoted(named.name)}.",
                f"Write {whole} in quotes.",
            )
        else:
            self.notes.unknown(line, key, path, _KEYS)

    def where(self, line: int, key: str) -> Where:
        return Where(file=self.document.file, line=line, key=key)


def _meant(name: str) -> str | None:
    """Guess the domain in what is none: a mail address, a URL, a bare IPv6 address, or a leading dot for what is below."""
    try:
        plain_address(name)
        meant = f"[IPv6:{name}]"
    except ValueError:
        host = name.rpartition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].strip()
        meant = f"*{host}" if host.startswith(".") else host
    return meant if normal_domain(meant) is not None else None


def _names_inside(table: dict[str, object]) -> Iterator[str]:
    """Give the rest of an unquoted name: table in table, down to the one that holds keys."""
    inner: object = table
    while isinstance(inner, dict) and len(inner) == 1 and not inner.keys() & _KEYS:
        name, inner = next(iter(inner.items()))
        if isinstance(inner, dict):
            yield name
