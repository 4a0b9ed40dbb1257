"""The settings file and the files it names, made into Settings, or into the list of all that is wrong with them.

Owns the keys of the settings file and their defaults. Never decides what a setting does.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from sidecar.settings.domains import Entries, merge, read_domains
from sidecar.settings.files import Document, UnreadableError, read_document
from sidecar.settings.names import normal_listener
from sidecar.settings.places import Place
from sidecar.settings.readers import (
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
from sidecar.settings.tables import Notes, Table
from sidecar.settings.values import (
    JournalSettings,
    LogSettings,
    MilterSettings,
    NetworkList,
    Problem,
    Settings,
    Where,
)
from sidecar.settings.warnings import warnings
from sidecar.settings.wording import quoted, written

DEFAULT_RELAY_HOSTS: Final = NetworkList(networks=(network("127.0.0.1"), network("::1")), where=None)

_NETWORKS: Final = list_of(network, '["127.0.0.1", "192.168.1.0/24"]')
_LOG_READERS: Final = {
    "level": choice("debug", "info", "warning", "error"),
    "format": choice("auto", "console", "json"),
}


class Loaded(Struct, frozen=True, kw_only=True):
    """What came of loading: `settings` is None exactly when some problem is an error. Problems are sorted by file and line."""

    settings: Settings | None
    problems: tuple[Problem, ...]


def load(path: Path | None, *, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Load the settings file at `path`, or the built-in defaults for None. Whatever is wrong is in the answer, all of it."""
    problems: list[Problem] = []
    settings = _load(path, environ, problems)
    if any(problem.severity == "error" for problem in problems):
        settings = None
    if settings is not None:
        problems += warnings(settings)
    return Loaded(settings=settings, problems=tuple(sorted(problems, key=_position)))


def _position(problem: Problem) -> tuple[str, int]:
    return (problem.where.file, problem.where.line) if problem.where else ("", 0)


def _load(path: Path | None, environ: Mapping[str, str], problems: list[Problem]) -> Settings | None:
    if path is None:
        return _settings(Table(Notes("", problems), {}, Place(1)), Path("/"), environ)
    try:
        document = read_document(path, str(path))
    except UnreadableError as error:
        problems.append(error.problem(str(path), None))
        return None
    notes = Notes(document.file, problems)
    notes.repeats(document, lambda parts: ".".join(map(written, parts)))
    return _settings(Table(notes, document.values, document.place), path.parent.absolute(), environ)


def _settings(table: Table, folder: Path, environ: Mapping[str, str]) -> Settings:
    directory = path_in(folder, "a directory")
    taken = table.take(
        {
            "relay_hosts": _NETWORKS,
            "listener_domains": one_or_more(text("a file"), '["listener_domains.toml"]'),
            "refuse_at_connect": flag,
            "report_size_limit": whole_number(1000, 1 << 30, "bytes"),
            "recipient_limit": whole_number(1, 100_000, "recipients"),
            "headers": header_names,
            "state_directory": directory,
            "node_id": uuid,
        }
    )
    hosts = taken.pop("relay_hosts", None)
    domains = _domains(taken.pop("listener_domains", ()), table, folder)
    state_directory = taken.pop("state_directory", None) or _state_directory(environ)
    journal: dict[str, Any] = {"directory": state_directory / "journal"} | _section(
        table.table("journal"),
        {
            "directory": directory,
            "segment_size": whole_number(4096, 1 << 34, "bytes"),
            "segment_age": whole_number(1, 31 * 24 * 3600, "seconds"),
        },
    )
    settings = Settings(
        relay_hosts=DEFAULT_RELAY_HOSTS if hosts is None else NetworkList(networks=hosts, where=table.where("relay_hosts")),
        listener_relay_hosts=_listener_relay_hosts(table.table("listener", spell=quoted)),
        domains=tuple(entry for entries in domains.values() for entry in entries.values()),
        state_directory=state_directory,
        journal=JournalSettings(**journal),
        milter=MilterSettings(**_section(table.table("milter"), _milter_readers(folder))),
        log=LogSettings(**_section(table.table("log"), _LOG_READERS)),
        **taken,
    )
    table.close()
    return settings


def _section(table: Table, readers: Mapping[str, Reader[Any]]) -> dict[str, Any]:
    """Read a table that has these keys and no others."""
    taken = table.take(readers)
    table.close()
    return taken


def _milter_readers(folder: Path) -> dict[str, Reader[Any]]:
    return {
        "socket": milter_socket(folder),
        "socket_mode": socket_mode,
        "socket_owner": text("a user name"),
        "socket_group": text("a group name"),
        "workers": whole_number(1, 64, "processes"),
    }


def _listener_relay_hosts(table: Table) -> dict[str, NetworkList]:
    found: dict[str, NetworkList] = {}
    lines: dict[str, int] = {}
    for spelled, listener in table.tables():
        taken = _section(listener, {"relay_hosts": _NETWORKS})
        try:
            name = normal_listener(spelled)
        except ValueError:
            mend = 'Write IP:port, such as "127.0.0.1:25" or "[::1]:25".'
            table.fault(spelled, f"{quoted(spelled)} is not a listener.", mend)
            continue
        if name in lines:
            table.fault(spelled, f"This is the same listener as the one on line {lines[name]}.", "Keep one of the two.")
        elif "relay_hosts" in taken:
            found[name] = NetworkList(networks=taken["relay_hosts"], where=listener.where("relay_hosts"))
        lines.setdefault(name, listener.place.line)
    return found


def _domains(files: Sequence[str], table: Table, folder: Path) -> Entries:
    entries: Entries = {}
    place = table.place.at("listener_domains")
    for index, file in enumerate(files):
        named = Where(file=table.notes.file, line=place.at(index).line, key="listener_domains")
        try:
            document = _domains_document(folder / file, file)
        except UnreadableError as error:
            table.notes.problems.append(error.problem(file, named))
        else:
            merge(entries, read_domains(document, table.notes.problems))
    return entries


def _domains_document(path: Path, file: str) -> Document:
    if path.suffix.lower() not in {".toml", ".json"}:
        raise UnreadableError(f"{quoted(file)} ends neither in .toml nor in .json.", "Name it after what is in it.")
    return read_document(path, file)


def _state_directory(environ: Mapping[str, str]) -> Path:
    """The directory systemd made for the program (systemd.exec(5)), else root's or the user's (XDG Base Directory)."""
    if made := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(made)
    state_home, home = Path(environ.get("XDG_STATE_HOME", "")), environ.get("HOME")
    if os.geteuid() == 0 or not (state_home.is_absolute() or home):
        return Path("/var/lib/sidecar")
    # The XDG specification wants a relative path there ignored.
    return (state_home if state_home.is_absolute() else Path(f"{home}/.local/state")) / "sidecar"
