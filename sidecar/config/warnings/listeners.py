"""Listeners that no connection can have, and what this machine does not have: addresses, accounts, packages, disk space.

Only `sidecar check` asks this machine. These findings never prevent a start: the MTA can run elsewhere, and accounts can be
created later.
"""

from contextlib import suppress
from typing import Final

from sidecar.config.findings import Findings, Kind
from sidecar.config.tables import Table
from sidecar.core.names import HIGHEST_PORT, split_endpoint
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER, Where
from sidecar.core.text import in_units, quoted
from sidecar.machine import AccountKind, free_bytes, has_account, has_address, has_package

_ACCOUNTS: Final[dict[str, AccountKind]] = {"user": "user", "socket_owner": "user", "group": "group", "socket_group": "group"}

_IMPOSSIBLE: Final = Kind(
    "never_matches",
    "No connection ends at {listener}, so the settings of this listener have no effect.",
    'Write the address and port that peers connect to, such as "203.0.113.1:25", or set it for every listener.',
)
_LOW_DISK: Final = Kind(
    "low_disk",
    "{directory} has {free} free, less than journal.minimum_free, {minimum}: old records would be deleted.",
    "Free some space there, or write a smaller minimum_free below [journal].",
)
_NO_INTERFACE: Final = Kind(
    "unknown_listener",
    "No interface of this machine has the address {address}: an MTA here cannot have this listener.",
    "Write the address that peers connect to, unless the MTA runs elsewhere.",
)
_NO_ACCOUNT: Final = Kind("unknown_account", "This machine has no {account} {name}.", "Create it, or name another.")
_LIBMILTER: Final = Kind(
    "limited_engine",
    "libmilter trusts its client: an odd list of macros can end a worker, and after QUIT_NC a peer has the rights of another.",
    'Write engine = "direct", unless only Postfix or Sendmail can connect.',
)
_NO_LIBRARY: Final = Kind(
    "missing_package",
    "[{section}] needs the Python package {package}, which is not installed: nothing would be shipped.",
    "Install the extra sidecar[fleet].",
)
_LIBRARIES: Final = {"fleet": "nats", "webhook": "httpx"}
_NO_PYMILTER: Final = Kind(
    "missing_package",
    "This engine needs pymilter, which is not installed: the program would not start.",
    'Write engine = "direct", or install the extra sidecar[libmilter] (with gcc, python3-dev, libmilter-dev).',
)


def note_listeners(settings: Settings, findings: Findings) -> None:
    """Add a warning for each listener that cannot be the MTA's end of a connection."""
    for listener, where in _listeners(settings).items():
        if not _is_possible(listener):
            findings.warn(_IMPOSSIBLE, where, listener=listener)


def note_engine(settings: Settings, table: Table) -> None:
    """Add a warning for an engine that has faults which the program cannot repair. `table` is the settings file."""
    if settings.milter.engine == "libmilter":
        table.findings.warn(_LIBMILTER, table.table("milter").where("engine"))


def note_missing(settings: Settings, table: Table) -> None:
    """Add a warning for each listener address, account, package and free byte that this machine does not have.

    `table` is the settings file.
    """
    findings = table.findings
    for listener, where in _listeners(settings).items():
        address, _ = split_endpoint(listener)
        if _is_possible(listener) and not has_address(address):
            findings.warn(_NO_INTERFACE, where, address=address)
    for section in (table, table.table("milter"), table.table("admin")):
        for key in section.values.keys() & _ACCOUNTS:
            account, name = _ACCOUNTS[key], section.values[key]
            if not has_account(account, name):
                findings.warn(_NO_ACCOUNT, section.where(key), account=account, name=quoted(name))
    _note_missing_packages(settings, table)
    section, minimum = table.table("journal"), settings.journal.minimum_free
    place = section.where("minimum_free") if "minimum_free" in section.values else None
    for directory in settings.journal.directories:
        with suppress(OSError):  # a directory that this user cannot reach
            if (free := free_bytes(directory)) < minimum:
                findings.warn(_LOW_DISK, place, directory=directory, free=in_units(free), minimum=in_units(minimum))


def _note_missing_packages(settings: Settings, table: Table) -> None:
    if settings.milter.engine == "libmilter" and not has_package("milter"):
        table.findings.warn(_NO_PYMILTER, table.table("milter").where("engine"))
    for key, package in _LIBRARIES.items():
        if key in table.values and not has_package(package):
            table.findings.warn(_NO_LIBRARY, table.where(key), section=key, package=package)


def _listeners(settings: Settings) -> dict[str, Where | None]:
    """Return each listener that has settings of its own, and one place where they are."""
    places = {listener: hosts.where for listener, hosts in settings.listener_relay_hosts.items()}
    for listener, domains in table_of(settings.domains).listeners.items():
        if listener not in places and listener != ANY_LISTENER and (first := next(iter(domains.values()), None)):
            places[listener] = first.where("")
    return places


def _is_possible(listener: str) -> bool:
    # A socket can listen on 0.0.0.0, but the MTA passes the address that the peer connected to.
    address, port = split_endpoint(listener)
    return not (address.is_unspecified or address.is_multicast) and port in range(1, HIGHEST_PORT + 1)
