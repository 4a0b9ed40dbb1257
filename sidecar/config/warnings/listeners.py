"""Listeners that no connection can have, and what this machine does not have: addresses, accounts, disk space.

Only `sidecar check` asks this machine. These findings never prevent a start: the MTA can run elsewhere, and accounts can be
created later.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, warning
from sidecar.core.names import HIGHEST_PORT, IPAddress, split_endpoint
from sidecar.core.settings.values import ANY_LISTENER, JournalSettings, Settings, Where
from sidecar.core.text import quoted
from sidecar.machine import AccountKind, free_bytes, has_account, has_address


class NamedAccount(Struct, frozen=True, kw_only=True):
    """A user or a group that the settings name, and the place."""

    kind: AccountKind
    name: str
    where: Where


def note_listeners(settings: Settings, findings: Findings) -> None:
    """Add a warning for each listener that cannot be the MTA's end of a connection."""
    for listener, where in _listeners(settings).items():
        if not _is_possible(listener):
            findings.note(_impossible, where, listener)


def note_missing(settings: Settings, accounts: Iterable[NamedAccount], findings: Findings) -> None:
    """Add a warning for each listener address and account that this machine does not have."""
    for listener, where in _listeners(settings).items():
        address, _ = split_endpoint(listener)
        if _is_possible(listener) and not has_address(address):
            findings.note(_no_interface, where, address)
    for account in accounts:
        if not has_account(account.kind, account.name):
            findings.note(_no_account, account)


def note_space(journal: JournalSettings, minimum_free: Where | None, findings: Findings) -> None:
    """Add a warning for each journal directory with less free space than `journal.minimum_free`, which is set at this place."""
    for directory in journal.directories:
        with suppress(OSError):  # a directory that this user cannot reach
            if (free := free_bytes(directory)) < journal.minimum_free:
                findings.note(_low_disk, minimum_free, directory, free, journal.minimum_free)


def _listeners(settings: Settings) -> dict[str, Where | None]:
    """Return each listener that has settings of its own, and one place where they are."""
    places = {listener: hosts.where for listener, hosts in settings.listener_relay_hosts.items()}
    for entry in settings.domains:
        if entry.listener not in places and entry.listener != ANY_LISTENER:
            places[entry.listener] = entry.where("")
    return places


def _is_possible(listener: str) -> bool:
    # A socket can listen on 0.0.0.0, but the MTA passes the address that the peer connected to.
    address, port = split_endpoint(listener)
    return not (address.is_unspecified or address.is_multicast) and port in range(1, HIGHEST_PORT + 1)


def _impossible(where: Where | None, listener: str) -> Finding:
    return warning(
        "never_matches",
        where,
        f"No connection ends at {listener}, so the settings of this listener have no effect.",
        'Write the address and port that peers connect to, such as "203.0.113.1:25", or set it for every listener.',
    )


def _low_disk(where: Where | None, directory: Path, free: int, minimum: int) -> Finding:
    return warning(
        "low_disk",
        where,
        f"{directory} has {free} bytes free, less than journal.minimum_free, {minimum}: the program would be degraded at once.",
        "Free some space there, or write a smaller minimum_free below [journal].",
    )


def _no_interface(where: Where | None, address: IPAddress) -> Finding:
    return warning(
        "unknown_listener",
        where,
        f"No interface of this machine has the address {address}: an MTA here cannot have this listener.",
        "Write the address that peers connect to, unless the MTA runs elsewhere.",
    )


def _no_account(account: NamedAccount) -> Finding:
    return warning(
        "unknown_account",
        account.where,
        f"This machine has no {account.kind} {quoted(account.name)}.",
        "Create it, or name another.",
    )
