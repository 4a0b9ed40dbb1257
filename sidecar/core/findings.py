"""A finding: one thing that is wrong with settings, the sidecar's own or an MTA's.

Owns the fields of `check --json` and `doctor --json`, and the codes of `check`. Scripts read both: they are permanent.
"""

from typing import Any, Literal

from msgspec import Struct

from sidecar.core.settings.values import Where

Level = Literal["error", "warning"]
"""An error keeps the program from starting, or the MTA from working with it. A warning is a probable mistake."""

WarningCode = Literal[
    "ambiguous_name", "deprecated", "exposed_list", "limited_engine", "low_disk", "missing_package", "never_matches",
    "no_effect", "no_record", "no_tls", "open_relay", "overridden", "policy_block", "repeated_file", "report_loop",
    "report_relay", "shadowed", "short_retention", "single_label", "unknown_account", "unknown_listener", "weak_proof",
    "wide_network", "wide_reports",
]  # fmt: skip

ErrorCode = Literal[
    "conflict", "exposed_secret", "host_bits_set", "invalid_key", "invalid_listener", "invalid_pattern", "invalid_value",
    "limit_too_small", "misplaced_key", "missing_key", "out_of_range", "patterns_too_large", "remote_socket",
    "repeated_domain", "repeated_key", "repeated_listener", "syntax_error", "unknown_key", "unquoted_domain",
    "unreadable_file", "unrecorded_reports", "wrong_type",
]  # fmt: skip

RuntimeCode = Literal[
    "no_list_writer", "port_in_use", "unreadable_by_user", "unreadable_list", "unusable_directory", "unusable_socket"
]
"""What only shows at run time: errors if root asks, otherwise warnings."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `text` says what is wrong, `fix` what to write instead; both are plain sentences.

    `file` is the path as the operator named it, `line` counts from 1, `key` is the path of keys. They are None if the finding
    concerns no line of a file. `more` counts the findings of the same kind that are left out; the text names that number.
    `lines` are new tables for `file`, which `fix` speaks of.
    """

    level: Level
    code: str
    file: str | None = None
    line: int | None = None
    key: str | None = None
    text: str
    fix: str
    more: int = 0
    lines: tuple[str, ...] = ()

    @property
    def place(self) -> str | None:
        """`file:line`, or None."""
        return None if self.file is None else f"{self.file}:{self.line}"


def finding(level: Level, code: ErrorCode | WarningCode | RuntimeCode, where: Where | None, text: str, fix: str) -> Finding:
    """Return a finding about the settings, at its place if it has one."""
    place: dict[str, Any] = {} if where is None else {"file": where.file, "line": where.line, "key": where.key}
    return Finding(level=level, code=code, text=text, fix=fix, **place)
