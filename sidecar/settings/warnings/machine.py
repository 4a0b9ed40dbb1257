"""What the settings name and this machine does not have: addresses of listeners, users and groups.

Owns the questions to the operating system; only `sidecar check` asks them. Never keeps anything from starting: the MTA may run
elsewhere, and the accounts may be made later.
"""

import errno
import grp
import pwd
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from msgspec import Struct

from sidecar.core.names import IPAddress, split_endpoint
from sidecar.core.settings.values import Problem, Settings, Where
from sidecar.core.text import quoted
from sidecar.settings.warnings.findings import Findings, warning
from sidecar.settings.warnings.listeners import is_an_end, listeners_of

# No interface has it (bind(2)); or the kernel has no IPv6 at all. Anything else says nothing about the address.
_NOT_HERE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


AccountKind = Literal["user", "group"]


class Account(Struct, frozen=True, kw_only=True):
    """A user or a group that the settings name, and where."""

    kind: AccountKind
    name: str
    where: Where


def note_missing(settings: Settings, accounts: Iterable[Account], findings: Findings) -> None:
    """Note what this machine does not have."""
    for listener, where in listeners_of(settings).items():
        address, _ = split_endpoint(listener)
        if is_an_end(listener) and not _is_here(address):
            findings.note(_no_interface, where, address)
    for account in accounts:
        if not _exists(account):
            findings.note(_no_account, account)


def _is_here(address: IPAddress) -> bool:
    """Tell whether an interface of this machine has the address: a UDP socket can be bound to it, and disturbs nobody."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in _NOT_HERE
    return True


def _exists(account: Account) -> bool:
    ask: Callable[[str], Any] = pwd.getpwnam if account.kind == "user" else grp.getgrnam
    try:
        ask(account.name)
    except KeyError:
        return False
    return True


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
