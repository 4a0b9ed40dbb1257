"""The tables that fix a finding about a name, proved with the changed configuration.

Owns which tables are proposed, and for which findings. Never proposes a table that changes the mail of a name that the finding
does not concern.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from sidecar.config.warnings.names import literal_meant, missed_names
from sidecar.core.evaluate.changes import TABLES_LIMIT, Draft, Moved, UnprovedError, grants
from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.spelling import PERMISSIONS, Value, is_json, table_lines, values_of
from sidecar.core.findings import Finding
from sidecar.core.names import normal_domain, normal_listener, parents
from sidecar.core.open_domains import pattern_of
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry

# To leave out an entry, all others are read again: 0.5 s for so many.
_ENTRIES_LIMIT: Final = 100_000
_CODES: Final = frozenset({"never_matches", "shadowed", "single_label"})
_UNPROVED: Final = "No table is proved to do only that: compare your own change with `sidecar diff`."


class Fixer:
    """Adds tables to the findings about one configuration, in the order of the findings."""

    def __init__(self, settings: Settings) -> None:
        # Bounce rules decide on no mail, and each changed configuration would compile them.
        self._evaluator = Evaluator(replace(settings, domains=table_of(settings.domains), bounce_rules=()))
        self._listeners = table_of(settings.domains).listeners
        # The tables of all findings together must not name a domain twice.
        self._proposed: dict[tuple[str, str], Finding] = {}

    def fix(self, finding: Finding) -> Finding:
        """Return the finding with the tables that fix it, or with the advice to compare an own change."""
        entry = self._entry_of(finding) if finding.code in _CODES else None
        if entry is None:
            return finding
        if finding.code == "shadowed":
            return self._for_missed(finding, entry)
        if (name := self._name_meant(finding, entry)) is not None:
            return self._for_renamed(finding, entry, name)
        return finding

    def _entry_of(self, finding: Finding) -> DomainEntry | None:
        """Return the listener domain at the place of a finding."""
        try:
            listener, domain = _names(tomllib.loads(f"{finding.key} = 0"))
        except ValueError:
            return None  # a key of something else
        if listener not in self._listeners or domain is None:
            return None
        entry = self._listeners[listener].get(domain)
        return entry if entry is not None and entry.where("").key == finding.key else None

    # --- names that a wildcard does not match

    def _for_missed(self, finding: Finding, entry: DomainEntry) -> Finding:
        """Propose tables for names that a wildcard misses because of `entry`, and for those below them."""
        own = self._listeners[entry.listener]
        missed = self._missed_by_star(entry) if entry.domain == "*" else _missed_above(entry.domain, own)
        wanted = {domain: wildcard for domain, wildcard in missed if domain not in own}
        if not wanted:
            return finding
        new = {domain: found for domain, found in wanted.items() if (entry.listener, domain) not in self._proposed}
        if not new:
            first = self._proposed[entry.listener, next(iter(wanted))]
            return replace(finding, fix=f"The tables for {first.place} are also for these names.")
        draft = Draft(self._evaluator)
        if self._has_shared(entry.listener, new) or not _set_all(draft, entry, new):
            return _unproved(finding)
        permits = {pattern_of(domain): grants(wildcard) for domain, wildcard in new.items()}
        if any(_now(draft, move) != permits.get(move.names) for move in draft.moved()):
            return _unproved(finding)
        self._proposed |= dict.fromkeys([(entry.listener, domain) for domain in new], finding)
        fix = "If they should match, add these tables. They give them what the wildcard permits, and change no other name:"
        return _with_tables(finding, draft, fix)

    def _missed_by_star(self, star: DomainEntry) -> Iterator[tuple[str, DomainEntry]]:
        """Yield the wildcards that the `*` of a listener needs beside it, for the names below its other top labels."""
        own = self._listeners[star.listener]
        tops = {top for domain in own if (top := _top(domain)) not in {"", "*"} and f"*.{top}" not in own}
        yield from ((f"*.{top}", star) for top in sorted(tops))
        wildcards = {domain[2:]: one for domain, one in own.items() if domain.startswith("*.")} | dict.fromkeys(tops, star)
        for domain in own:
            for name, wildcard in missed_names(domain, own, wildcards).items() if _top(domain) in tops else ():
                if wildcard is star:
                    yield from ((name, star), (f"*.{name}", star))

    def _has_shared(self, listener: str, domains: Iterable[str]) -> bool:
        """Return True if names that enter the map of a listener have entries for every listener, which would not count then."""
        shared = self._listeners[ANY_LISTENER]
        return listener != ANY_LISTENER and any(shared.is_node(pattern_of(domain).name) for domain in domains)

    # --- a name that means another one

    def _name_meant(self, finding: Finding, entry: DomainEntry) -> str | None:
        if finding.code == "single_label":
            return f"{entry.domain}.example.com"
        if entry.domain == "default":
            return "*"
        literal = literal_meant(entry.domain)
        return None if literal is None else literal.lower()

    def _for_renamed(self, finding: Finding, entry: DomainEntry, name: str) -> Finding:
        """Replace the table by one for the name that it means, unless the old name opens by that, or another name changes."""
        own, is_example = self._listeners[entry.listener], finding.code == "single_label"
        # A wildcard makes the effect of a new name depend on the name, which only the operator knows.
        patterns = "*." if entry.listener == ANY_LISTENER else "*"
        depends = is_example and any(domain.startswith(patterns) for domain in own)
        if name in own or depends or len(self._evaluator.settings.domains) > _ENTRIES_LIMIT:
            return _unproved(finding)
        draft = Draft(self._evaluator)
        if not _set_all(draft, entry, {name: entry}) or draft.added.keys() != {(entry.listener, name)}:
            return _unproved(finding)
        draft.remove(entry.listener, entry.domain)
        for move in draft.moved():
            is_new, is_old = (move.names == pattern_of(domain) for domain in (name, entry.domain))
            # The new name is the one that the operator means, but an entry for every domain must not open all of them.
            if not (is_new and (name != "*" or not move.opens)) and not (is_old and not move.opens):
                return _unproved(finding)
        example = f", with your domain in place of {name}" if is_example else ""
        otherwise = ", or leave it if your addresses are that short" if is_example else ""
        return _with_tables(finding, draft, f"Replace this table by the following one{example}{otherwise}:")


def _names(table: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return listener and domain of a key path in TOML. Raise ValueError if it names something else."""
    match table:
        case {"listener": dict(listeners)}:
            ((listener, domains),) = listeners.items()
            ((domain, value),) = domains.items()
            listener = listener if listener == ANY_LISTENER else normal_listener(listener)
        case _:
            ((domain, value),) = table.items()
            listener = ANY_LISTENER
    if value != 0:
        raise ValueError("a key of an entry")
    return listener, normal_domain(domain)


def _top(domain: str) -> str:
    return "" if domain.startswith("[") else domain.rpartition(".")[2]


def _missed_above(domain: str, own: Mapping[str, DomainEntry]) -> Iterator[tuple[str, DomainEntry]]:
    """Yield the names above a domain that a wildcard misses, and the names below each, with the wildcard."""
    wildcards = {parent: own[f"*.{parent}"] for parent in parents(domain) if f"*.{parent}" in own}
    for name, wildcard in missed_names(domain, own, wildcards).items():
        yield from ((name, wildcard), (f"*.{name}", wildcard))


def _set_all(draft: Draft, entry: DomainEntry, domains: Mapping[str, DomainEntry]) -> bool:
    """Add tables to the file and the listener of `entry`, which permit what others do. Return False if they are too many."""
    if len(domains) > TABLES_LIMIT:
        return False
    try:
        for domain, other in domains.items():
            values = {key: getattr(other, key) for key in PERMISSIONS}
            draft.set(entry.listener, domain, values, file=entry.where("").file)
    except UnprovedError:
        return False
    return len(draft.added) <= TABLES_LIMIT


def _now(draft: Draft, move: Moved) -> tuple[object, ...]:
    return grants(draft.after.policy.lookup(move.listener, move.names.probe))


def _unproved(finding: Finding) -> Finding:
    return replace(finding, fix=f"{finding.fix} {_UNPROVED}")


def _with_tables(finding: Finding, draft: Draft, fix: str) -> Finding:
    """Return the finding with the new entries of a draft as lines of its file."""
    tables = {entry.domain: _values(entry) for entry in draft.added.values()}
    (listener,) = {entry.listener for entry in draft.added.values()}
    if listener != ANY_LISTENER and is_json(finding.file):
        return _unproved(finding)  # the key "listener" is in the file already
    return replace(finding, fix=fix, lines=table_lines(finding.file, tables, listener))


def _values(entry: DomainEntry) -> dict[str, Value]:
    """Return what an entry permits; one that permits nothing has one key."""
    values = values_of(entry, PERMISSIONS)
    return {key: value for key, value in values.items() if value} or {"relay_to": False}
