"""What the modules of this package share: settings as an MTA holds them, the codes of findings, and how both are written.

Owns shapes. Never decides what is a finding.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from sidecar.core.text import printable

_SHOWN = 3

Files = Mapping[str, str | None]
"""The text of the files that an MTA's settings name; None for those that cannot be read."""


class Setting(Struct, frozen=True, kw_only=True):
    """A value, and the line on which it begins."""

    value: str
    line: int


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
"""What a finding of the doctor is about. Scripts read these words: they are permanent.

An error is unsafe, or rejects mail that the sidecar accepts. `key` is the setting in the MTA's own spelling.
"""


def some(names: Sequence[str]) -> str:
    """Write the first of many names, and how many more there are."""
    more = len(names) - _SHOWN
    return printable(", ".join(names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def seconds(value: str) -> int | None:
    """Read a time such as `30s` or `5m` (postconf(5)); without a unit it is seconds. None when it is none."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", value, re.ASCII)
    if match is None:
        return None
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]]
