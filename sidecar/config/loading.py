"""Read the settings file and the files that it names into Settings, or into a list of all errors.

Owns the top-level keys of the settings file. Never decides what a setting does.
"""

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.domains import Entries, merge, read_domains
from sidecar.config.files import Text, UnreadableError, parsed, read_text, stamp_of
from sidecar.config.journal import read_journal
from sidecar.config.places import Place
from sidecar.config.readers import (
    choice,
    flag,
    header_names,
    list_of,
    network,
    one_or_more,
    path_in,
    text,
    uuid,
    whole_number,
)
from sidecar.config.rules import IANA, SHIPPED, costly, note_hidden, read_rules
from sidecar.config.sockets import read_admin, read_milter
from sidecar.config.state import default_state_directory
from sidecar.config.tables import Notes, Table
from sidecar.config.warnings import note_warnings
from sidecar.config.warnings.findings import Findings, position
from sidecar.config.warnings.listeners import NamedAccount, note_missing, note_space
from sidecar.core.classifier import Patterns, TooLargeError
from sidecar.core.findings import Finding, warning
from sidecar.core.names import normal_listener
from sidecar.core.settings.domain_table import DomainTable, table_of
from sidecar.core.settings.values import (
    BounceRule,
    LimitSettings,
    LogSettings,
    NetworkList,
    Settings,
    Source,
    Stamp,
    Where,
)
from sidecar.core.text import quoted, written
from sidecar.machine import AccountKind

DEFAULT_RELAY_HOSTS: Final = NetworkList(networks=(network("127.0.0.1"), network("::1")), where=None)

_NETWORKS: Final = list_of(network, '["127.0.0.1", "192.168.1.0/24"]')
_LOG_READERS: Final = {
    "level": choice("debug", "info", "warning", "error"),
    "format": choice("auto", "console", "json"),
}

_LIMIT_READERS: Final = {
    "header_size": whole_number(1000, 1 << 27, "bytes"),
    "reports_per_second": whole_number(1, 1_000_000, "reports"),
    "report_memory": whole_number(1000, 1 << 40, "bytes"),
    "sessions": whole_number(1, 1_000_000, "sessions"),
    "rejection_records_per_second": whole_number(1, 1_000_000, "records"),
    "record_bytes_per_byte": whole_number(0, 1_000_000, "bytes"),
    "record_bytes_burst": whole_number(1000, 1 << 40, "bytes"),
    "quarantine_size": whole_number(1 << 20, 1 << 44, "bytes"),
    "quarantine_age": whole_number(3600, 3650 * 24 * 3600, "seconds"),
}

_ACCOUNTS: Final[Mapping[str, AccountKind]] = {
    "user": "user",
    "socket_owner": "user",
    "group": "group",
    "socket_group": "group",
}


class Loaded(Struct, frozen=True, kw_only=True):
    """The result of loading. `settings` is None if some problem is an error. Problems are sorted by file and line.

    `sources` has all files that were read or could not be read: a change of any of them can change the result.
    """

    settings: Settings | None
    problems: tuple[Finding, ...]
    sources: tuple[Source, ...]


class Reading:
    """Read the settings file at `path` and the files that it names; None for the built-in defaults.

    Without errors `loaded` has no problems yet: warnings take seconds for a million domains, and no reload waits for them.
    """

    def __init__(self, path: Path | None, *, environ: Mapping[str, str] = os.environ) -> None:
        problems: list[Finding] = []
        sources: list[Source] = []
        self._findings = Findings()
        with _collector_off():
            self._table = _table(path, problems, sources)
            folder = Path("/") if path is None else path.parent.absolute()
            settings = None if self._table is None else _settings(self._table, folder, environ, sources, self._findings)
        if any(problem.level == "error" for problem in problems):
            # A file that is named twice is read twice, and its errors count once.
            found = sorted(dict.fromkeys(problems + self._findings.warnings()), key=position)
            self.loaded = Loaded(settings=None, problems=tuple(found), sources=tuple(sources))
        else:
            self.loaded = Loaded(settings=settings, problems=(), sources=tuple(sources))

    def warnings(self, *, ask_machine: bool = False) -> tuple[Finding, ...]:
        """Return the warnings: the first few of each kind, with the number of the others. Empty if there are errors.

        `ask_machine` adds those about this machine: addresses of listeners, accounts, disk space.
        """
        if self.loaded.settings is None or self._table is None:
            return ()
        note_warnings(self.loaded.settings, self._findings)
        if ask_machine:
            note_missing(self.loaded.settings, _accounts(self._table), self._findings)
            journal, key = self._table.table("journal"), "minimum_free"
            note_space(self.loaded.settings.journal, journal.where(key) if key in journal.values else None, self._findings)
        return tuple(sorted(dict.fromkeys(self._findings.warnings()), key=position))


@contextmanager
def _collector_off() -> Iterator[None]:
    """Turn the garbage collector off: it takes 40 % of the time, and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load(path: Path | None, *, environ: Mapping[str, str] = os.environ, ask_machine: bool = False) -> Loaded:
    """Load the settings file at `path`, or the built-in defaults for None. The result has all errors, or else all warnings."""
    reading = Reading(path, environ=environ)
    if reading.loaded.settings is None:
        return reading.loaded
    return replace(reading.loaded, problems=reading.warnings(ask_machine=ask_machine))


def _table(path: Path | None, problems: list[Finding], sources: list[Source]) -> Table | None:
    if path is None:
        return Table(Notes("", problems), {}, Place(1))
    try:
        document = parsed(_text(path, str(path), sources))
    except UnreadableError as error:
        problems.append(error.finding(str(path), None))
        return None
    notes = Notes(document.file, problems)
    notes.repeats(document, lambda parts: ".".join(map(written, parts)))
    return Table(notes, document.values, document.place)


def _accounts(table: Table) -> Iterator[NamedAccount]:
    """Yield the users and groups that the settings name."""
    for found in (table, table.table("milter"), table.table("admin")):
        for key in found.values.keys() & _ACCOUNTS.keys():
            yield NamedAccount(kind=_ACCOUNTS[key], name=found.values[key], where=found.where(key))


def _text(path: Path, file: str, sources: list[Source]) -> Text:
    """Read a file, and add it to the sources even if it cannot be read. Raise UnreadableError."""
    stamp, digest = stamp_of(path), None
    try:
        read = read_text(path, file)
        digest = read.digest
    finally:
        sources.append(Source(path=path, stamp=stamp, digest=digest))
    return read


def _settings(table: Table, folder: Path, environ: Mapping[str, str], sources: list[Source], findings: Findings) -> Settings:
    directory = path_in(folder, "a directory")
    values = table.take(
        {
            "relay_hosts": _NETWORKS,
            "listener_domains": one_or_more(text("a file"), '["listener_domains.toml"]'),
            "refuse_at_connect": flag,
            "report_size_limit": whole_number(1000, 1 << 30, "bytes"),
            "recipient_limit": whole_number(1, 100_000, "recipients"),
            "unreadable_reports": choice("refuse", "quarantine"),
            "headers": header_names,
            "bounce_classifier": one_or_more(text("a rule file"), f'["{IANA}", "bounces.toml"]'),
            "state_directory": directory,
            "node_id": uuid,
            "user": text("a user name"),
            "group": text("a group name"),
            "reload_on_change": flag,
            "compat": choice("kumomta"),
        }
    )
    if "group" in values and "user" not in values:
        table.fault("missing_key", "group", "The group is set without a user.", "Write the user too, or remove the group.")
    hosts = values.pop("relay_hosts", None)
    domains = _domains(values.pop("listener_domains", ()), table, folder, sources, findings)
    rules = _bounce_rules(values.pop("bounce_classifier", ()), table, folder, sources, findings)
    state_directory = values.pop("state_directory", None) or default_state_directory(environ)
    if values.get("compat") == "kumomta":
        # KumoMTA never rejects at connect. A setting in the file still counts.
        values.setdefault("refuse_at_connect", False)
    journal = read_journal(table.table("journal"), folder, state_directory / "journal", findings)
    limits = table.table("limits")
    milter = read_milter(table.table("milter"), folder)
    section = table.table("admin")
    admin = read_admin(section, folder, milter=milter.socket) if "admin" in table.values else None
    settings = Settings(
        relay_hosts=DEFAULT_RELAY_HOSTS if hosts is None else NetworkList(networks=hosts, where=table.where("relay_hosts")),
        listener_relay_hosts=_listener_relay_hosts(table.table("listener", spell=quoted)),
        domains=domains,
        bounce_rules=tuple(rules),
        state_directory=state_directory,
        journal=journal,
        milter=milter,
        admin=admin,
        log=LogSettings(**table.table("log").only(_LOG_READERS)),
        limits=LimitSettings(**limits.only(_LIMIT_READERS)),
        **values,
    )
    _check_report_sizes(settings, table, limits)
    table.close()
    return settings


def _check_report_sizes(settings: Settings, table: Table, limits: Table) -> None:
    """A report that never fits would get 451 until its sender gives up."""
    largest = settings.report_size_limit
    for key in ("report_memory", "quarantine_size"):
        if (room := getattr(settings.limits, key)) < largest:
            text = f"limits.{key} is {room}, less than report_size_limit, {largest}: the largest reports would always get 451."
            fix = f"Write {key} = {largest} or more below [limits], or a smaller report_size_limit."
            if key in limits.values:
                limits.fault("limit_too_small", key, text, fix)
            else:
                table.fault("limit_too_small", "report_size_limit", text, fix)


def _listener_relay_hosts(table: Table) -> dict[str, NetworkList]:
    found: dict[str, NetworkList] = {}
    lines: dict[str, int] = {}
    for spelled, listener in table.tables():
        values = listener.only({"relay_hosts": _NETWORKS})
        try:
            name = normal_listener(spelled)
        except ValueError:
            fix = 'Write IP:port, such as "127.0.0.1:25" or "[::1]:25".'
            table.fault("invalid_listener", spelled, f"{quoted(spelled)} is not a listener.", fix)
            continue
        if name in lines:
            table.fault(
                "repeated_listener",
                spelled,
                f"This is the same listener as on line {lines[name]}.",
                "Keep one of the two.",
            )
        elif "relay_hosts" in values:
            found[name] = NetworkList(networks=values["relay_hosts"], where=listener.where("relay_hosts"))
        lines.setdefault(name, listener.place.line)
    return found


def _domains(files: Sequence[str], table: Table, folder: Path, sources: list[Source], findings: Findings) -> DomainTable:
    entries: Entries = {}
    named_before: dict[Stamp | None, str] = {}
    place = table.place.at("listener_domains")
    for index, file in enumerate(files):
        named = Where(file=table.notes.file, line=place.at(index).line, key="listener_domains")
        try:
            later = read_domains(parsed(_named_text(folder / file, file, sources)), table.notes.problems, findings)
        except UnreadableError as error:
            table.notes.problems.append(error.finding(file, named))
        else:
            stamp = sources[-1].stamp
            if stamp in named_before:
                findings.note(_repeated_file, named, quoted(file), quoted(named_before[stamp]))
            named_before.setdefault(stamp, file)
            merge(entries, later, findings)
    return table_of([entry for domains in entries.values() for entry in domains.values()])


def _bounce_rules(
    files: Sequence[str], table: Table, folder: Path, sources: list[Source], findings: Findings
) -> list[BounceRule]:
    key = "bounce_classifier"
    rules: list[BounceRule] = []
    place = table.place.at(key)
    for index, file in enumerate(files):
        try:
            document = parsed(_named_text(SHIPPED.get(file, folder / file), file, sources))
        except UnreadableError as error:
            table.notes.problems.append(error.finding(file, Where(file=table.notes.file, line=place.at(index).line, key=key)))
        else:
            rules += read_rules(document, table.notes.problems)
    note_hidden(rules, findings)
    if (problem := costly(rules)) is not None:
        table.notes.problems.append(problem)
        return rules
    try:
        Patterns([rule.pattern for rule in rules])
    except TooLargeError as error:
        fix = "Write fewer or simpler patterns: counted repetitions such as .{1,200} are the largest."
        table.fault("patterns_too_large", key, f"The {len(rules)} patterns together are too large: {error}.", fix)
    return rules


def _named_text(path: Path, file: str, sources: list[Source]) -> Text:
    if path.suffix.lower() not in {".toml", ".json"}:
        raise UnreadableError(f"{quoted(file)} ends neither in .toml nor in .json.", "Rename it by its format.")
    return _text(path, file, sources)


def _repeated_file(where: Where, name: str, first: str) -> Finding:
    other = "" if name == first else f", as {name}"
    return warning("repeated_file", where, f"This names the file {first} again{other}.", "Name it once.")
