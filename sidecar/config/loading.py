"""The settings file and the files it names, made into Settings, or into the list of all that is wrong with them.

Owns the keys of the settings file and their defaults. Never decides what a setting does.
"""

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.admin import read_admin
from sidecar.config.domains import Entries, merge, read_domains
from sidecar.config.files import Text, UnreadableError, parsed, read_text, stamp_of
from sidecar.config.journal import read_journal
from sidecar.config.places import Place
from sidecar.config.readers import (
    Reader,
    choice,
    flag,
    header_names,
    list_of,
    milter_socket,
    network,
    one_or_more,
    path_in,
    socket_mode,
    text,
    uuid,
    whole_number,
)
from sidecar.config.remote import is_remote
from sidecar.config.rules import IANA, SHIPPED, costly, note_hidden, read_rules
from sidecar.config.state import default_state_directory
from sidecar.config.tables import Notes, Table
from sidecar.config.warnings import note_warnings
from sidecar.config.warnings.findings import Findings, position
from sidecar.config.warnings.machine import NamedAccount, note_missing, note_space
from sidecar.config.warnings.written import repeated_file
from sidecar.core.classifier import Patterns, TooLargeError
from sidecar.core.findings import Finding
from sidecar.core.names import normal_listener
from sidecar.core.settings.domain_table import DomainTable, table_of
from sidecar.core.settings.values import (
    BounceRule,
    LimitSettings,
    LogSettings,
    MilterSettings,
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

_REMOTE: Final = (
    "The milter protocol knows neither passwords nor encryption: "
    "whoever reaches the socket can ask what passes and fill the journal."
)
_LOCAL: Final = (
    "Listen on 127.0.0.1, [::1] or a UNIX socket; or, where a firewall lets none but the MTA through, "
    "write allow_remote = true below [milter]."
)


class Loaded(Struct, frozen=True, kw_only=True):
    """What came of loading: `settings` is None exactly when some problem is an error. Problems are sorted by file and line.

    `sources` are all files that have a part in it, those that could not be read included: a change of any may change the rest.
    """

    settings: Settings | None
    problems: tuple[Finding, ...]
    sources: tuple[Source, ...]


class Reading:
    """The settings file at `path` and what it names, or the built-in defaults for None, read when this is made.

    Without errors `loaded` has no problems yet: warnings take a look at the whole, seconds where domains are a million, and
    nobody needs to wait for them.
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
            # A file that is named twice is read twice, and is wrong once.
            told = sorted(dict.fromkeys(problems + self._findings.warnings()), key=position)
            self.loaded = Loaded(settings=None, problems=tuple(told), sources=tuple(sources))
        else:
            self.loaded = Loaded(settings=settings, problems=(), sources=tuple(sources))

    def warnings(self, *, ask_machine: bool = False) -> tuple[Finding, ...]:
        """Look settings without errors over; of warnings of one kind give the first few, and how many more there are.

        With `ask_machine` there are also those that are about this machine: listeners' addresses, accounts and disk space that
        it does not have.
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
    """Keep the garbage collector from looking through what is still growing: that is 40 % of the time, and for nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def load(path: Path | None, *, environ: Mapping[str, str] = os.environ, ask_machine: bool = False) -> Loaded:
    """Load the settings file at `path`, or the built-in defaults for None. Every error is in the answer, or every warning."""
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
    """Give the users and groups that settings without errors name."""
    for found in (table, table.table("milter"), table.table("admin")):
        for key in found.values.keys() & _ACCOUNTS.keys():
            yield NamedAccount(kind=_ACCOUNTS[key], name=found.values[key], where=found.where(key))


def _text(path: Path, file: str, sources: list[Source]) -> Text:
    """Read a file and note it as a source, also where it cannot be read. Raises UnreadableError."""
    stamp, digest = stamp_of(path), None
    try:
        read = read_text(path, file)
        digest = read.digest
    finally:
        sources.append(Source(path=path, stamp=stamp, digest=digest))
    return read


def _settings(table: Table, folder: Path, environ: Mapping[str, str], sources: list[Source], findings: Findings) -> Settings:
    directory = path_in(folder, "a directory")
    taken = table.take(
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
    if "group" in taken and "user" not in taken:
        table.fault("missing_key", "group", "There is a group and no user.", "Name the user as well, or take this out.")
    hosts = taken.pop("relay_hosts", None)
    domains = _domains(taken.pop("listener_domains", ()), table, folder, sources, findings)
    rules = _bounce_rules(taken.pop("bounce_classifier", ()), table, folder, sources, findings)
    state_directory = taken.pop("state_directory", None) or default_state_directory(environ)
    if taken.get("compat") == "kumomta":
        # KumoMTA refuses nobody at connect; who writes that it should is heard.
        taken.setdefault("refuse_at_connect", False)
    journal = read_journal(table.table("journal"), folder, state_directory / "journal", findings)
    limits = table.table("limits")
    settings = Settings(
        relay_hosts=DEFAULT_RELAY_HOSTS if hosts is None else NetworkList(networks=hosts, where=table.where("relay_hosts")),
        listener_relay_hosts=_listener_relay_hosts(table.table("listener", spell=quoted)),
        domains=domains,
        bounce_rules=tuple(rules),
        state_directory=state_directory,
        journal=journal,
        milter=(milter := _milter(table.table("milter"), folder)),
        admin=read_admin(table, folder, milter=milter.socket),
        log=LogSettings(**_section(table.table("log"), _LOG_READERS)),
        limits=LimitSettings(**_section(limits, _LIMIT_READERS)),
        **taken,
    )
    _see_that_a_report_fits(settings, table, limits)
    table.close()
    return settings


def _see_that_a_report_fits(settings: Settings, table: Table, limits: Table) -> None:
    """A report that never finds room would be answered 451 until its sender gives up."""
    largest = settings.report_size_limit
    for key in ("report_memory", "quarantine_size"):
        if (room := getattr(settings.limits, key)) < largest:
            text = f"limits.{key} is {room}, less than report_size_limit, {largest}: the largest reports would always get 451."
            fix = f"Write {key} = {largest} or more below [limits], or a smaller report_size_limit."
            if key in limits.values:
                limits.fault("limit_too_small", key, text, fix)
            else:
                table.fault("limit_too_small", "report_size_limit", text, fix)


def _section(table: Table, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
    """Read a table that has these keys and no others."""
    taken = table.take(readers)
    table.close()
    return taken


def _milter(table: Table, folder: Path) -> MilterSettings:
    readers = {
        "socket": milter_socket(folder),
        "socket_mode": socket_mode,
        "socket_owner": text("a user name"),
        "socket_group": text("a group name"),
        "workers": whole_number(1, 64, "processes"),
        "engine": choice("libmilter", "direct"),
        "cpu_affinity": flag,
        "allow_remote": flag,
    }
    milter = MilterSettings(**_section(table, readers))
    if not milter.allow_remote and is_remote(milter.socket):
        table.fault("remote_socket", "socket", f"Other machines can reach {milter.socket}. {_REMOTE}", _LOCAL)
    return milter


def _listener_relay_hosts(table: Table) -> dict[str, NetworkList]:
    found: dict[str, NetworkList] = {}
    lines: dict[str, int] = {}
    for spelled, listener in table.tables():
        taken = _section(listener, {"relay_hosts": _NETWORKS})
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
                f"This is the same listener as the one on line {lines[name]}.",
                "Keep one of the two.",
            )
        elif "relay_hosts" in taken:
            found[name] = NetworkList(networks=taken["relay_hosts"], where=listener.where("relay_hosts"))
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
                findings.note(repeated_file, named, quoted(file), quoted(named_before[stamp]))
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
        fix = "Write fewer or simpler patterns: counted repetitions such as .{1,200} take most."
        table.fault("patterns_too_large", key, f"The {len(rules)} patterns are too many or too large together: {error}.", fix)
    return rules


def _named_text(path: Path, file: str, sources: list[Source]) -> Text:
    if path.suffix.lower() not in {".toml", ".json"}:
        raise UnreadableError(f"{quoted(file)} ends neither in .toml nor in .json.", "Name it after what is in it.")
    return _text(path, file, sources)
