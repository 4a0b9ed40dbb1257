"""Read KumoMTA's listener domains files, in order, into one entry for each domain and listener.

Owns the keys of a domain, the spelling of names in these files, and the merge. Never decides which entry serves a domain.
KumoMTA reads the files into tables of Lua: `null` is nothing there, and there is one kind of empty table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from sidecar.config.files import Document, UnreadableError, read_content
from sidecar.config.findings import Findings, Kind
from sidecar.config.places import Place
from sidecar.config.readers import Reader, T, WrongValue, flag, list_of, log_mode, networks, text, unused_duration
from sidecar.config.tables import Table, table_of_file
from sidecar.core.evaluate.spelling import is_json
from sidecar.core.names import DOMAIN_LIMIT, LABEL_LIMIT, NO_DOMAIN, normal_domain, normal_listener, parents, plain_address
from sidecar.core.settings.domain_table import DomainsFile, DomainTable, renamed
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, Source
from sidecar.core.text import quoted, shown, written

# KumoMTA reserves this name for the tables of single listeners; it is no domain name.
LISTENER: Final = "listener"


def _lua_list(read: Reader[T]) -> Reader[T]:
    """Read a list that was a table of Lua: `null` ends it, and an empty one can be written `{}`."""

    def read_list(value: object) -> T:
        if isinstance(value, list) and None in value:
            value = value[: value.index(None)]
        return read([] if value == {} else value)

    return read_list


READERS: Final = {
    "relay_to": flag,
    "relay_from": _lua_list(networks),
    "relay_from_authz": _lua_list(list_of(text("a user name"), '["daniel"]')),
    "log_oob": log_mode,
    "log_arf": log_mode,
}
REPORT_KEYS: Final = ("log_oob", "log_arf")
UNUSED: Final = "ttl"
_KEYS: Final = (*READERS, UNUSED)

_UNUSED_TTL: Final = Kind("deprecated", "ttl has no effect: a reload reads the domains again.", "Remove it.")
_REPLACED: Final = Kind("overridden", "The table {by.key} on line {by.line} replaces this one.", "Keep one of the two.")
_OVERRIDDEN: Final = Kind(
    "overridden", "This has no effect, because {by.key} ({by}) is later and has another value.", "Keep one of the two."
)

_REPEATED: Final = Kind("overridden", "This has no effect, because line {line} has the same key.", "Keep one of the two.")
_NO_NAME: Final = Kind("never_matches", "No address has the domain {name}, so this entry matches nothing{why}.", "{fix}")
_NO_LISTENER: Final = Kind(
    "never_matches",
    "{listener} is not a listener, so its entries match nothing.",
    'Write IP:port, such as "127.0.0.1:25" or "[::1]:25", or "*" for every listener.',
)

# What to write for the tables of single listeners, in TOML and in JSON.
_LISTENER_TABLES: Final = (
    'Write tables such as [listener."127.0.0.1:25"."example.com"].',
    'Write tables such as "listener": {"127.0.0.1:25": {"example.com": {...}}}.',
)

Entries = dict[str, dict[str, DomainEntry]]
"""By listener, then by domain."""

Nodes = dict[str, set[str]]
"""By listener, the parents of names that match nothing: a walk can end there (policy reference, Lookup)."""


def merge(entries: Entries, later: Entries, findings: Findings) -> None:
    """Merge the entries of a later file into the earlier ones, key by key. An entry keeps its position."""
    for listener, domains in later.items():
        known = entries.setdefault(listener, {})
        for domain, entry in domains.items():
            earlier = known.get(domain)
            known[domain] = entry if earlier is None else _over(earlier, entry, findings)


def unchanged(known: DomainTable, files: Sequence[tuple[Path, str]], sources: list[Source]) -> DomainTable | None:
    """Return a known table if these files have the content that it was made of; they become `sources`.

    `files` are paths and the names in findings.
    """
    if not known.origin or len(known.origin) != len(files):
        return None
    read, origin = list[Source](), list[DomainsFile]()
    for (path, name), before in zip(files, known.origin, strict=True):
        with suppress(UnreadableError):
            read_content(path, name, read)
        if read[-1].digest != before.digest or is_json(name) != is_json(before.name):
            return None
        origin.append(DomainsFile(name, before.digest))
    sources += read
    return renamed(known, origin)


def _over(earlier: DomainEntry, later: DomainEntry, findings: Findings) -> DomainEntry:
    changes = {key: getattr(later, key) for key in later.steps if key}
    for key, value in changes.items():
        if key in earlier.steps and getattr(earlier, key) != value:
            findings.warn(_OVERRIDDEN, earlier.where(key), by=later.where(key))
    trues = tuple(key for key in REPORT_KEYS if key in later.trues or (key in earlier.trues and key not in changes))
    between = earlier.line - later.line
    steps = {key: (file, between + step) for key, (file, step) in earlier.steps.items()}
    steps.update(later.steps)
    return msgspec.structs.replace(earlier, path=later.path, line=later.line, steps=steps, trues=trues, **changes)


def read_domains(document: Document, findings: Findings, nodes: Nodes | None = None) -> Entries:
    """Read one listener domains file. Return the correct entries, and add to `nodes`."""
    found: Entries = {}
    shapes = _Shapes()
    for listener, table, name in _named(document, findings):
        entry = _entry(listener or "", table, name, shapes)
        if listener is None or entry is None:
            continue
        if entry.domain is _UNMATCHED:
            _note_unmatched(table, name)
            if nodes is not None:
                nodes.setdefault(listener, set()).update(_node_above(name))
        elif not _is_double(found, entry, findings):
            found.setdefault(listener, {})[entry.domain] = entry
    return found


def _name(spelled: str) -> str:
    return quoted(spelled, DOMAIN_LIMIT)


def _path_of(keys: Sequence[str]) -> str:
    # The names of listeners and domains are always in quotes.
    names = (1, 2) if keys[0] == LISTENER else (0,)
    return ".".join(_name(key) if index in names else written(key) for index, key in enumerate(keys))


def _named(document: Document, findings: Findings) -> Iterator[tuple[str | None, Table, str]]:
    """Yield each domain: its listener, or None if that can have no connection, and the table that has it under its name.

    Those outside `listener` are last, because in KumoMTA they replace `listener."*"`.
    """
    table = {"what": "a table of domains", "fix": _LISTENER_TABLES[is_json(document.file)]}
    whole = table_of_file(
        document, findings, spell=lambda key: key if key == LISTENER else _name(key), path_of=_path_of, repeated=_REPEATED
    )
    whole.values = _tables(whole.values)
    if whole.values.get(LISTENER) is False:
        del whole.values[LISTENER]  # as nothing, in Lua
    listeners = whole.table(LISTENER, _name, **table)
    listeners.values = _tables(listeners.values)
    for spelled in listeners.values:
        listener = _listener(listeners, spelled)
        domains = listeners.table(spelled, _name, **table)
        domains.values = _tables(domains.values)
        for name in domains.values:
            yield listener, domains, name
    for name in whole.values:
        if name != LISTENER:
            yield ANY_LISTENER, whole, name


def _tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of tables as Lua has it."""
    return {key: {} if value == [] else value for key, value in values.items() if value is not None}


def _listener(listeners: Table, spelled: str) -> str | None:
    """Return the normal form of a listener. None for another name: its domains are read all the same, for their errors."""
    if spelled == ANY_LISTENER:
        return ANY_LISTENER
    try:
        return normal_listener(spelled)
    except ValueError:
        listeners.findings.warn(_NO_LISTENER, listeners.where(spelled), listener=quoted(spelled))
        return None


# The domain of an entry whose name no address has.
_UNMATCHED: Final = "\0"


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What entries of the same text share, see `DomainEntry`."""

    steps: Mapping[str, tuple[str, int]]
    trues: tuple[str, ...]
    fields: Mapping[str, Any]


class _Shapes(msgspec.Struct):
    """The shapes of tables by the places that they share, and the steps of all tables, which need less memory together."""

    by_body: dict[Place, _Shape] = {}
    steps: dict[tuple[tuple[str, int], ...], dict[str, tuple[str, int]]] = {}

    def of(self, table: Table, name: str) -> _Shape:
        """Return the shape of the table of a domain. Tables of the same text without a finding have the same one."""
        body, before = table.place.body, table.findings.count
        fields = _fields(table, name)
        first = table.place.line
        steps = (("", 0), *[(key, table.place.at(key).line - first) for key in fields])
        if (shared := self.steps.get(steps)) is None:
            shared = self.steps[steps] = {key: (table.file, step) for key, step in steps}
        trues = tuple([key for key in REPORT_KEYS if table.values.get(key) is True])
        shape = _Shape(steps=shared, trues=trues, fields=fields)
        if body is not None and table.findings.count == before:
            self.by_body[body] = shape
        return shape


def _entry(listener: str, domains: Table, name: str, shapes: _Shapes) -> DomainEntry | None:
    values = domains.values[name]
    if not isinstance(values, dict):
        _note_no_table(domains, name, shown(values))
        return None
    place, path = domains.place.at(name), domains.path_of(name)
    shape = None if place.body is None else shapes.by_body.get(place.body)
    if shape is None:
        shape = shapes.of(Table(domains.findings, domains.file, values, place, path), name)
    return DomainEntry(
        listener=listener,
        domain=_domain(name),
        path=path,
        line=place.line,
        steps=shape.steps,
        trues=shape.trues,
        **shape.fields,
    )


def _domain(name: str) -> str:
    """Return the domain of an entry; `_UNMATCHED` for a name that no address has."""
    if not name:
        return NO_DOMAIN
    normal = normal_domain(name)
    # With a dot at its end, in any script, the entry for every other domain would be wider than its author meant.
    return _UNMATCHED if normal is None or (normal == "*" and name != "*") else normal


def _fields(table: Table, name: str) -> dict[str, Any]:
    fields = {}
    for key, value in table.values.items():
        if value is None:
            continue
        try:
            if (reader := READERS.get(key)) is not None:
                fields[key] = reader(value)
            elif key == UNUSED:
                unused_duration(value)
                table.findings.warn(_UNUSED_TTL, table.where(key))
            elif isinstance(value, dict):
                # TOML reads [example.com] as a table `com` in a table `example`.
                whole = quoted(".".join([name, key, *_names_inside(value)]))
                fix = f"Write {whole} in quotes."
                table.fault("unquoted_domain", key, f"The domain {quoted(name)} has a table inside.", fix)
            else:
                table.unknown(key, _KEYS)
        except WrongValue as error:
            table.wrong(key, error)
    return fields


def _is_double(found: Entries, entry: DomainEntry, findings: Findings) -> bool:
    """Return True if the file already has this domain: an error, except for a table that KumoMTA replaces."""
    first = found.get(entry.listener, {}).get(entry.domain)
    if first is None:
        return False
    earlier, here = first.where(""), entry.where("")
    if first.path.startswith(f"{LISTENER}.") and not entry.path.startswith(f"{LISTENER}."):
        findings.warn(_REPLACED, earlier, by=here)
        return False
    text = f"This is the same domain as {earlier.key} on line {earlier.line}."
    findings.error("repeated_domain", here, text, "Keep one of the two.")
    return True


def _note_no_table(domains: Table, name: str, value: str) -> None:
    in_json = is_json(domains.file)
    if name in _KEYS:
        text = f"{written(name)} = {value} is outside the table of a domain."
        example = 'in a table such as {"example.com": {...}}' if in_json else 'below a line such as ["example.com"]'
        domains.fault("misplaced_key", name, text, f"Write it {example}.")
    else:
        toml = f"[{domains.path_of(name)}] on a line of its own, and below it keys such as relay_to = true"
        fix = f'Write {_name(name)}: {{...}} with keys such as "relay_to": true in the braces.' if in_json else f"Write {toml}."
        domains.fault("wrong_type", name, f"{value} is not the table of a domain.", fix)


def _note_unmatched(domains: Table, name: str) -> None:
    guess = _guess(name)
    fix = f"Write {_name(guess)}." if guess else 'Write a name such as "example.com", "*.example.com" or "*".'
    is_long = any(len(label) > LABEL_LIMIT for label in name.split("."))
    why = f": a part between dots has {LABEL_LIMIT} characters at most" if is_long else ""
    domains.findings.warn(_NO_NAME, domains.where(name), name=quoted(name), why=why, fix=fix)


def _node_above(name: str) -> Iterable[str]:
    """Return the longest parent of a name that an address can have, in a list; none for `u@example`."""
    tail = name[-DOMAIN_LIMIT - 1 :]  # a longer parent is no name
    return [*islice(filter(None, map(normal_domain, parents(tail))), 1)]


def _guess(name: str) -> str | None:
    """Return the domain in a mail address, a URL, a bare IPv6 address or a name with a leading dot; otherwise None."""
    try:
        plain_address(name)
        guess = f"[IPv6:{name}]"
    except ValueError:
        host = name.rpartition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0].strip()
        guess = f"*{host}" if host.startswith(".") else host
    return guess if normal_domain(guess) is not None else None


def _names_inside(table: Mapping[str, object]) -> Iterator[str]:
    """Yield the other labels of an unquoted name: table in table, down to the one with keys."""
    inner: object = table
    while isinstance(inner, dict) and len(inner) == 1 and not inner.keys() & _KEYS:
        name, inner = next(iter(inner.items()))
        if isinstance(inner, dict):
            yield name
