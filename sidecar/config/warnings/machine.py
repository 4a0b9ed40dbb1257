"""What the settings name and this machine does not have: addresses of listeners, users and groups.

Only `sidecar check` asks this. Never keeps anything from starting: the MTA can run elsewhere, and accounts can be made later.
"""

from collections.abc import Iterable

from msgspec import Struct

from sidecar.config.warnings.findings import Findings, warning
from sidecar.config.warnings.listeners import is_an_end, listeners_of
from sidecar.core.names import IPAddress, split_endpoint
from sidecar.core.settings.values import Problem, Settings, Where
from sidecar.core.text import quoted
from sidecar.machine import AccountKind, has_account, has_address


class Account(Struct, frozen=True, kw_only=True):
    """A user or a group that the settings name, and where."""

    kind: AccountKind
    name: str
    where: Where


def note_missing(settings: Settings, accounts: Iterable[Account], findings: Findings) -> None:
    """Note what this machine does not have."""
    for listener, where in listeners_of(settings).items():
        address, _ = split_endpoint(listener)
        if is_an_end(listener) and not has_address(address):
            findings.note(_no_interface, where, address)
    for account in accounts:
        if not has_account(account.kind, account.name):
            findings.note(_no_account, account)


def _no_interface(where: Where | None, address: IPAddress) -> Problem:
    return warning(
        "unknown-listener",
        where,
        f"As far as this machine knows, no interface has the address {address}: an MTA here would have no such listener.",
        "Write the address that peers connect to, unless the MTA runs elsewhere.",
    )


def _no_account(account: Account) -> Problem:
    return warning(
        "unknown-account",
        account.where,
        f"This machine knows no {account.kind} {quoted(account.name)}.",
        "Create it, or name another.",
    )
