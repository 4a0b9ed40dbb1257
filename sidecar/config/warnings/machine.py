"""What the settings name and this machine does not have: addresses of listeners, users, groups and disk space.

Only `sidecar check` asks this. Never keeps anything from starting: the MTA can run elsewhere, and accounts can be made later.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from sidecar.config.warnings.findings import Findings
from sidecar.config.warnings.listeners import is_an_end, listeners_of
from sidecar.core.findings import Finding, warning
from sidecar.core.names import IPAddress, split_endpoint
from sidecar.core.settings.values import JournalSettings, Settings, Where
from sidecar.core.text import quoted
from sidecar.machine import AccountKind, free_bytes, has_account, has_address


class NamedAccount(Struct, frozen=True, kw_only=True):
    """A user or a group that the settings name, and where."""

    kind: AccountKind
    name: str
    where: Where


def note_missing(settings: Settings, accounts: Iterable[NamedAccount], findings: Findings) -> None:
    """Note what this machine does not have."""
    for listener, where in listeners_of(settings).items():
        address, _ = split_endpoint(listener)
        if is_an_end(listener) and not has_address(address):
            findings.note(_no_interface, where, address)
    for account in accounts:
        if not has_account(account.kind, account.name):
            findings.note(_no_account, account)


def note_space(journal: JournalSettings, minimum_free: Where | None, findings: Findings) -> None:
    """Note the folders for records with less free space than `journal.minimum_free`, which is set at this place."""
    for directory in journal.directories:
        with suppress(OSError):  # a folder that this user cannot reach
            if (free := free_bytes(directory)) < journal.minimum_free:
                findings.note(_low_disk, minimum_free, directory, free, journal.minimum_free)


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
        f"As far as this machine knows, no interface has the address {address}: an MTA here would have no such listener.",
        "Write the address that peers connect to, unless the MTA runs elsewhere.",
    )


def _no_account(account: NamedAccount) -> Finding:
    return warning(
        "unknown_account",
        account.where,
        f"This machine knows no {account.kind} {quoted(account.name)}.",
        "Create it, or name another.",
    )
