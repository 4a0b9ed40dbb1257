"""What the modules of this room share: settings as an MTA holds them, findings about them, and how both are written.

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


class Finding(Struct, frozen=True, kw_only=True):
    """What is wrong, and the line that repairs it; `text` and `mend` are plain sentences.

    An error is unsafe or refuses mail that the sidecar would take; a warning is neither, and yet hardly meant. `key` is the
    setting in the MTA's own spelling, and `line` where it stands in the text that was read; None where it is left out.
    """

    severity: Literal["error", "warning"]
    key: str
    line: int | None
    text: str
    mend: str


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
