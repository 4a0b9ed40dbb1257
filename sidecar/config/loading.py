"""Read the settings file and the files that it names into Settings, or into a list of all errors.

Owns the top-level keys of the settings file, and the default of the state directory. Never decides what a setting does.
"""

import gc
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import tomli
from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.domains import Entries, Nodes, merge, read_domains, unchanged
from sidecar.config.files import Document, UnreadableError, named_json, read_document
from sidecar.config.findings import Findings, Kind, position
from sidecar.config.fleet import read_fleet, read_webhooks
from sidecar.config.journal import read_journal
from sidecar.config.places import Place
from sidecar.config.policy import PolicyFile, active_policy, with_policy
from sidecar.config.readers import choice, flag, header_names, network, networks, one_or_more, text, uuid, whole_number
from sidecar.config.rules import IANA, are_costly, iana_rules, note_hidden, read_rules
from sidecar.config.sign import read_sign
from sidecar.config.sockets import read_admin, read_milter
from sidecar.config.suppression import note_rules, read_suppression
from sidecar.config.tables import Table, table_of_file
from sidecar.config.verify import read_verify
from sidecar.config.warnings import note_warnings
from sidecar.config.warnings.listeners import note_engine, note_missing
from sidecar.core.classifier import Classifier, TooLargeError
from sidecar.core.evaluate.spelling import is_json
from sidecar.core.findings import Finding
from sidecar.core.names import normal_listener
from sidecar.core.settings.domain_table import DomainsFile, DomainTable, table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import BounceRule, LimitSettings, LogSettings, NetworkList, Source, Stamp, Where
from sidecar.core.text import quoted

DEFAULT_RELAY_HOSTS: Final = NetworkList(networks=(network("127.0.0.1"), network("::1")), where=None)

USUAL_FILE: Final = Path("/etc/sidecar/sidecar.toml")
"""The settings file of commands that are given none, if it exists."""

SYSTEM_STATE: Final = Path("/var/lib/sidecar")
"""The state directory of the system's sidecar."""

_READERS: Final = {
    "relay_hosts": networks,
    "listener_domains": one_or_more(text("a file"), '["listener_domains.toml"]'),
    "reject_at_connect": flag,
    "decide": choice("early", "end"),
    "report_size_limit": whole_number(1000, 1 << 30, "bytes"),
    "recipient_limit": whole_number(1, 100_000, "recipients"),
    "text_bounces": choice("accept", "reject"),
    "unparsable_reports": choice("reject", "quarantine"),
    "headers": header_names,
    "original_headers": header_names,
    "bounce_classifier": one_or_more(text("a rule file"), f'["{IANA}", "bounces.toml"]'),
    "state_directory": text("a directory"),
    "node_id": uuid,
    "user": text("a user name"),
    "group": text("a group name"),
    "reload_on_change": flag,
    "compat": choice("kumomta"),
}
_LOG_READERS: Final = {"level": choice("debug", "info", "warning", "error"), "format": choice("auto", "console", "json")}

_LIMIT_READERS: Final = {
    "header_size": whole_number(1000, 1 << 27, "bytes"),
    "reports_per_second": whole_number(1, 1_000_000, "reports"),
    "signatures_per_second": whole_number(1, 1_000_000, "signatures"),
    "report_memory": whole_number(1000, 1 << 40, "bytes"),
    "sessions": whole_number(1, 1_000_000, "sessions"),
    "rejection_records_per_second": whole_number(1, 1_000_000, "records"),
    "record_bytes_per_byte": whole_number(0, 1_000_000, "bytes"),
    "record_bytes_burst": whole_number(1000, 1 << 40, "bytes"),
    "quarantine_size": whole_number(1 << 20, 1 << 44, "bytes"),
    "quarantine_age": whole_number(3600, 3650 * 24 * 3600, "seconds"),
    "index_age": whole_number(3600, 3650 * 24 * 3600, "seconds"),
}

# The key in a file that can be broken elsewhere, with a string of TOML or JSON; TOML can read both.
_STATE_DIRECTORY: Final = re.compile(
    r"""(?:^|[{,])[ \t]*(?:state_directory|"state_directory")[ \t]*[=:][ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*')""", re.MULTILINE
)
_NO_FILE: Final = Document(file="", values={}, place=Place(1), repeats=[])
_EXPOSED_LIST: Final = Kind(
    "exposed_list",
    "Every user can read the suppression list at this socket: its mode is {mode}.",
    'Write socket_mode = "0660" and the socket_group that can read it.',
)
_REPEATED_FILE: Final = Kind("repeated_file", "This names the file {first} again{other}.", "Name it once.")


class Loaded(Struct, frozen=True, kw_only=True):
    """The result of loading. `settings` is None if some problem is an error. Problems are sorted by file and line.

    `sources` has all files that were read or could not be read: a change of any of them can change the result.
    """

    settings: Settings | None
    problems: tuple[Finding, ...]
    sources: tuple[Source, ...]


class Reading:
    """Read the settings file at `path` and the files that it names; None for the built-in settings.

    With [fleet] policy_keys the policy is that of the active revision, or of `policy` if that is given. With `candidate` it is
    that of the revision that a reload has to try, if there is one. Listener domains files that have not changed since the table
    `known` was made of them are not parsed.

    Without errors `loaded` has no problems yet: warnings take seconds for a million domains, and no reload waits for them.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        environ: Mapping[str, str] = os.environ,
        policy: PolicyFile | None = None,
        candidate: bool = False,
        known: DomainTable | None = None,
    ) -> None:
        self._folder = self._policy_folder = Path("/") if path is None else path.parent.absolute()
        self._policy, self._candidate, self._known = policy, candidate, known
        self._findings = Findings()
        self._sources: list[Source] = []
        settings, problems = None, list[Finding]()
        # The garbage collector takes 40 % of the time, and finds nothing.
        was_on = gc.isenabled()
        gc.disable()
        try:
            document = _NO_FILE if path is None else self._document(path, str(path), None)
            if document is not None:
                self._table = table_of_file(document, self._findings)
                self._read_policy(environ)
                settings = self._settings(environ)
        finally:
            if was_on:
                gc.enable()
        if self._findings.errors:
            # A file that is named twice is read twice, and its errors count once.
            problems = sorted(dict.fromkeys(self._findings.errors + self._findings.warnings()), key=position)
            settings = None
        self.loaded = Loaded(settings=settings, problems=tuple(problems), sources=tuple(self._sources))

    def warnings(self, *, ask_machine: bool = False) -> tuple[Finding, ...]:
        """Return the warnings: the first few of each kind, with the number of the others. Empty if there are errors.

        `ask_machine` adds those about this machine: addresses of listeners, accounts, disk space.
        """
        if self.loaded.settings is None:
            return ()
        note_warnings(self.loaded.settings, self._findings)
        note_engine(self.loaded.settings, self._table)
        if (listed := self.loaded.settings.suppression) is not None:
            classes = tuple(dict.fromkeys(rule.bounce_class for rule in self.loaded.settings.bounce_rules))
            note_rules(listed, classes, self._findings, self.where("suppression"))
        if ask_machine:
            note_missing(self.loaded.settings, self._table)
        return tuple(sorted(dict.fromkeys(self._findings.warnings()), key=position))

    @property
    def place(self) -> Place:
        """The lines of the settings file, if it can be parsed."""
        return self._table.place

    def where(self, *keys: str) -> Where | None:
        """Return the place of a key, by its path of tables; None if it is not set or there is no file."""
        table = self._table
        for key in keys[:-1]:
            table = table.table(key)
        return table.where(keys[-1]) if keys[-1] in table.values else None

    def _document(self, path: Path, file: str, named: Where | None, *, as_json: bool | None = None) -> Document | None:
        """Read a file, or add an error; `named` is the place in the settings that names the file."""
        try:
            return read_document(path, file, self._sources, is_json=as_json)
        except UnreadableError as error:
            if error.line is None:
                self._findings.error("unreadable_file", named, error.text, error.fix)
                return None
            fix = error.fix
            if as_json and not named_json(file):
                fix = f"{fix} A file whose name does not end in .toml is read as JSON: rename it, if it is TOML."
            self._findings.error("syntax_error", Where(file=file, line=error.line, key=""), error.text, fix)
            return None

    def _read_policy(self, environ: Mapping[str, str]) -> None:
        """Replace the policy keys of the settings file by those of the fleet's policy."""
        fleet = self._table.values.get("fleet")
        if self._policy is None and isinstance(fleet, dict) and fleet.get("policy_keys"):
            named = self._table.values.get("state_directory")
            state = self._folder / named if isinstance(named, str) else default_state_directory(reader_environ(environ))
            try:
                self._policy = active_policy(state, self._sources, candidate=self._candidate)
            except UnreadableError as error:
                self._findings.error("unreadable_file", self._table.table("fleet").where("policy_keys"), error.text, error.fix)
        policy = self._policy
        if policy is not None and (document := self._document(policy.path, policy.file, None)) is not None:
            self._policy_folder = policy.path.parent
            self._table = with_policy(self._table, table_of_file(document, self._findings), policy.revision)

    def _named(self, file: str) -> tuple[Path, str]:
        """Return the path of a file that the policy names, and its name in findings."""
        return self._policy_folder / file, file if self._policy is None else f"{self._policy.beside}{file}"

    def _settings(self, environ: Mapping[str, str]) -> Settings:
        table, folder = self._table, self._folder
        values = table.take(_READERS)
        if "group" in values and "user" not in values:
            table.fault("missing_key", "group", "The group is set without a user.", "Write the user too, or remove the group.")
        hosts = values.pop("relay_hosts", None)
        domains = self._domains(values.pop("listener_domains", ()))
        rules = self._bounce_rules(values.pop("bounce_classifier", ()))
        named = values.pop("state_directory", None)
        state_directory = folder / named if named else default_state_directory(environ)
        if values.get("compat") == "kumomta":
            # KumoMTA never rejects at connect. A setting in the file still counts. It reads no bounce in text form.
            values.setdefault("reject_at_connect", False)
            values["text_bounces"] = "reject"
        journal = read_journal(table.table("journal"), folder, state_directory / "journal")
        limits = table.table("limits")
        milter = read_milter(table.table("milter"), folder)
        section, proofs, signing = table.table("admin"), table.table("verify"), table.table("sign")
        verify = read_verify(proofs, folder, self._sources) if "verify" in table.values else None
        suppression, fleet = table.table("suppression"), table.table("fleet")
        revision = None if self._policy is None else self._policy.revision
        settings = Settings(
            relay_hosts=DEFAULT_RELAY_HOSTS if hosts is None else NetworkList(networks=hosts, where=table.where("relay_hosts")),
            listener_relay_hosts=_listener_relay_hosts(table.table("listener", quoted)),
            domains=domains,
            bounce_rules=tuple(rules),
            state_directory=state_directory,
            journal=journal,
            milter=milter,
            admin=read_admin(section, folder, self._sources, milter=milter.socket) if "admin" in table.values else None,
            verify=verify,
            sign=read_sign(signing, table.where("sign"), verify) if "sign" in table.values else None,
            suppression=read_suppression(suppression, folder, state_directory, journal=journal, verifies=verify is not None)
            if "suppression" in table.values
            else None,
            fleet=read_fleet(fleet, table.where("fleet"), folder, self._sources, revision) if "fleet" in table.values else None,
            webhook=read_webhooks(table, folder, self._sources),
            log=LogSettings(**table.table("log").only(_LOG_READERS)),
            limits=LimitSettings(**limits.only(_LIMIT_READERS)),
            **values,
        )
        _check_report_sizes(settings, table, limits)
        _check_socket_mode(settings, section)
        table.close()
        return settings

    def _domains(self, files: Sequence[str]) -> DomainTable:
        each_file = [self._named(file) for file in files]
        if self._known is not None and (same := unchanged(self._known, each_file, self._sources)) is not None:
            return same
        entries: Entries = {}
        nodes: Nodes = {}
        first_names: dict[Stamp | None, str] = {}
        origin, findings = list[DomainsFile](), self._findings.count
        for index, file in enumerate(files):
            named = self._table.where("listener_domains", index)
            path, shown_as = each_file[index]
            if (document := self._document(path, shown_as, named, as_json=is_json(file))) is not None:
                later = read_domains(document, self._findings, nodes)
                stamp, digest = self._sources[-1].stamp, self._sources[-1].digest
                if (first := first_names.get(stamp)) is not None:
                    other = "" if file == first else f", as {quoted(file)}"
                    self._findings.warn(_REPEATED_FILE, named, first=quoted(first), other=other)
                first_names.setdefault(stamp, file)
                origin.append(DomainsFile(shown_as, digest or ""))
                merge(entries, later, self._findings)
        each = [entry for domains in entries.values() for entry in domains.values()]
        # A table says nothing of the findings in its files: these are read again.
        return table_of(each, nodes, origin=origin if self._findings.count == findings else ())

    def _bounce_rules(self, files: Sequence[str]) -> list[BounceRule]:
        key = "bounce_classifier"
        rules: list[BounceRule] = []
        for index, file in enumerate(files):
            if file == IANA:
                # Not one of the sources: an upgrade replaces this file, and must not reload a running program.
                rules += iana_rules()
                continue
            named = self._table.where(key, index)
            if not file.lower().endswith((".toml", ".json")):
                text = f"{quoted(file)} ends neither in .toml nor in .json."
                self._findings.error("unreadable_file", named, text, "Rename it by its format.")
            elif (document := self._document(*self._named(file), named)) is not None:
                rules += read_rules(document, self._findings)
        note_hidden(rules, self._findings)
        if not are_costly(rules, self._findings):
            try:
                Classifier(rules)
            except TooLargeError as error:
                fix = "Write fewer or simpler patterns: counted repetitions such as .{1,200} are the largest."
                text = f"The {len(rules)} patterns together are too large: {error}."
                self._table.fault("patterns_too_large", key, text, fix)
        return rules


def load(path: Path | None, *, environ: Mapping[str, str] = os.environ, ask_machine: bool = False) -> Loaded:
    """Load the settings file at `path`, or the built-in settings for None. The result has all errors, or else all warnings."""
    reading = Reading(path, environ=environ)
    if reading.loaded.settings is None:
        return reading.loaded
    return replace(reading.loaded, problems=reading.warnings(ask_machine=ask_machine))


def _check_socket_mode(settings: Settings, section: Table) -> None:
    """Each user who can connect to the admin socket can sign (`POST /v1/sign`) and so forge bounces, and can read the list."""
    admin, verify = settings.admin, settings.verify
    if admin is None or not admin.socket.startswith("unix:") or not admin.socket_mode & stat.S_IWOTH:
        return
    mode = f"{admin.socket_mode:04o}"
    if verify is not None and verify.secret_files:
        fault = f"Every user can sign with the secrets of [verify] at this socket: its mode is {mode}."
        section.fault("exposed_secret", "socket_mode", fault, 'Write socket_mode = "0660" and the socket_group that can sign.')
    if settings.suppression is not None:
        section.findings.warn(_EXPOSED_LIST, section.where("socket_mode"), mode=mode)


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
    for spelled in table.values:
        listener = table.table(spelled)
        values = listener.only({"relay_hosts": networks})
        try:
            name = normal_listener(spelled)
        except ValueError:
            fix = 'Write IP:port, such as "127.0.0.1:25" or "[::1]:25".'
            table.fault("invalid_listener", spelled, f"{quoted(spelled)} is not a listener.", fix)
            continue
        if name in lines:
            text = f"This is the same listener as on line {lines[name]}."
            table.fault("repeated_listener", spelled, text, "Keep one of the two.")
        elif "relay_hosts" in values:
            found[name] = NetworkList(networks=values["relay_hosts"], where=listener.where("relay_hosts"))
        lines.setdefault(name, listener.place.line)
    return found


def state_directory(path: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the state directory in the settings file at `path`, whatever else is wrong there, or the default of a reader.

    `sidecar status` uses it: the file can be broken after the program started.
    """
    try:
        # A pipe would wait for a writer.
        text = "" if path is None or not path.is_file() else path.read_text("utf-8", "replace")
        found = _STATE_DIRECTORY.search(text)
        named = tomli.loads(f"named = {found[1]}")["named"] if found else None
    except (OSError, ValueError):
        named = None
    if named is None or path is None:
        return default_state_directory(reader_environ(environ))
    return path.parent.absolute() / str(named)


def reader_environ(environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return an environment in which a command finds the state of the sidecar that runs, also if another user started it.

    That is the user's own state directory if there is one, otherwise the system's.
    """
    # Not Path.exists, which raises an error for a home that this user may not enter.
    if environ.get("STATE_DIRECTORY") or os.access(default_state_directory(environ), os.F_OK):
        return environ
    return {**environ, "STATE_DIRECTORY": str(SYSTEM_STATE)}


def default_state_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory that systemd created (systemd.exec(5)), or root's, or the user's (XDG Base Directory)."""
    if made := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(made)
    state_home, home = Path(environ.get("XDG_STATE_HOME", "")), environ.get("HOME")
    if os.geteuid() == 0 or not (state_home.is_absolute() or home):
        return SYSTEM_STATE
    # The XDG specification: ignore a relative path.
    return (state_home if state_home.is_absolute() else Path(f"{home}/.local/state")) / "sidecar"
