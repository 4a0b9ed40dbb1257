"""What the checks of both MTAs share: how they run, the shape of their findings, and how values are written."""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.findings import Finding, Level
from sidecar.core.text import printable

ReadFile = Callable[[str], str | None]
"""Returns the text of a file that an MTA's settings name, or None if it cannot be read."""

DoctorCode = Literal[
    "address_probing",
    "asked_twice",
    "before_queue_filter",
    "closed_domain",
    "default_networks",
    "invalid_milter",
    "local_mail",
    "milter_bypassed",
    "milter_missing",
    "old_milter_protocol",
    "open_relay",
    "proxy_trusted",
    "recipient_copied",
    "rejected_before_sidecar",
    "rejects_with_4xx",
    "relays_beyond_policy",
    "short_timeout",
    "signed_too_late",
    "slow_after_drops",
    "smtp_smuggling",
    "socket_permissions",
    "socket_unreachable",
    "unknown_restriction",
    "unlisted_recipients",
    "unreadable_table",
    "unsafe_default_action",
    "unverified_recipients",
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

COMPARE: Final = (
    "If these domains have mailboxes, add listener domains, and compare them with `sidecar diff` before you use them."
)
"""In place of lines that are not proved to open only these domains."""

_LISTED = 3
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Service(Struct, frozen=True, kw_only=True):
    """The settings of one service of an MTA. `lines` has the line of each setting; `overridden` are those set in master.cf."""

    name: str = ""
    overridden: frozenset[str] = frozenset()
    lines: Mapping[str, int]


S = TypeVar("S", bound=Service)
Check = Callable[[S], Iterator[Found]]


def run_checks(checks: Iterable[Check[S]], services: Sequence[S]) -> list[Finding]:
    """Return the findings of all checks for all services, errors first. A finding about some services only names them."""
    found: dict[Finding, list[str]] = {}
    for service in services:
        # A service can have the same fault twice: in two milters.
        for finding in dict.fromkeys(_finding(each, service) for check in checks for each in check(service)):
            found.setdefault(finding, []).append(service.name)
    findings = [
        finding if len(names) == len(services) else replace(finding, text=f"Of {some(names)} in master.cf: {finding.text}")
        for finding, names in found.items()
    ]
    return sorted(findings, key=lambda finding: finding.level != "error")


def _finding(found: Found, service: Service) -> Finding:
    level, code, key, text, fix = found
    if key in service.overridden and not fix.startswith("In master.cf"):
        fix = f"In master.cf, remove -o {key} from {printable(service.name)}. {fix}"
    return Finding(level=level, code=code, key=key, line=service.lines.get(key), text=text, fix=fix)


def some(names: Sequence[str]) -> str:
    """Write the first few names, and the number of the others."""
    more = len(names) - _LISTED
    return printable(", ".join(names[:_LISTED])) + (f" and {more:,} more" if more > 0 else "")


def export_command(mta: str, config: Path | None, output: str) -> str:
    """Return the command that writes the list of domains for the MTA's relay control, with the settings that are checked."""
    settings = "" if config is None else f" --config {shlex.quote(str(config))}"
    return f"sidecar export {mta}{settings} --output {output}"


def logical_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Return numbered lines; a line that begins with white space continues the one before it."""
    start, parts = 0, [""]
    for number, line in lines:
        if not line[:1].isspace():
            yield start, " ".join(parts)
            start, parts = number, []
        parts.append(line.strip())
    yield start, " ".join(parts)


def seconds(value: str) -> int | None:
    """Return a time such as `30s` or `5m` (postconf(5)) in seconds, None if it is not a time. The default unit is seconds."""
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", value, re.ASCII)
    return None if match is None else int(match[1]) * _UNITS[match[2]]
