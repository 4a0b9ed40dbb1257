"""What the checks of both MTAs share: the shape of settings and findings, and how values are written."""

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal

from msgspec import Struct

from sidecar.core.findings import Level
from sidecar.core.text import printable

ReadFile = Callable[[str], str | None]
"""Returns the text of a file that an MTA's settings name, or None if it cannot be read."""

DoctorCode = Literal[
    "address_probing",
    "before_queue_filter",
    "closed_domain",
    "default_networks",
    "local_mail",
    "milter_bypassed",
    "milter_missing",
    "old_milter_protocol",
    "open_relay",
    "recipient_copied",
    "rejected_before_sidecar",
    "rejects_with_4xx",
    "relays_beyond_policy",
    "short_timeout",
    "slow_after_drops",
    "smtp_smuggling",
    "socket_permissions",
    "socket_unreachable",
    "unknown_restriction",
    "unreadable_table",
    "unsafe_default_action",
    "verdict_bypassed",
    "wildcard_open_domain",
]
"""The kinds of findings. Scripts read these words: they are permanent."""

Found = tuple[Level, DoctorCode, str, str, str]
"""Level, code, the setting in the MTA's own spelling, what is wrong, and what to write instead.

An error is unsafe, or rejects mail that the sidecar accepts.
"""

PATIENCE: Final = 10
"""Seconds that an MTA must wait for an answer. It usually takes milliseconds, with a busy disk some seconds."""

_LISTED = 3
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Setting(Struct, frozen=True, kw_only=True):
    """A value, and the line on which it begins."""

    value: str
    line: int


def some(names: Sequence[str]) -> str:
    """Write the first few names, and the number of the others."""
    more = len(names) - _LISTED
    return printable(", ".join(names[:_LISTED])) + (f" and {more:,} more" if more > 0 else "")


def seconds(value: str) -> int | None:
    """Return a time such as `30s` or `5m` (postconf(5)) in seconds, None if it is not a time. The default unit is seconds."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", value, re.ASCII)
    return None if match is None else int(match[1]) * _UNITS[match[2]]
