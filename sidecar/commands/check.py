"""`sidecar check`: are the settings in order, and if not, what to write instead."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from sidecar.config import Loaded, load
from sidecar.core.settings.values import ANY_LISTENER, Problem, Settings
from sidecar.output.help import Command
from sidecar.output.problems import config_option, problem_line


@click.command(
    "check",
    cls=Command,
    examples=[
        "sidecar check --config /etc/sidecar/sidecar.toml",
        "sidecar check --config sidecar.toml --json | jq -r '.findings[].code'",
    ],
    statuses={0: "the settings are fine, or have no more than warnings", 1: "there are errors"},
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")
def command(config: Path | None, *, as_json: bool) -> None:
    """Check the settings and every file they name.

    Prints each finding with its file, line and key, and what to write instead. An error keeps the program from starting; a
    warning is about what is allowed and yet hardly meant, and of many alike the first few are shown.

    With --json each warning has a "code", such as open-relay, that stays the same from version to version; "more" counts
    those of its kind that are not shown.
    """
    loaded = load(config, ask_machine=True)
    click.echo(_as_json(loaded) if as_json else _as_text(loaded))
    sys.exit(1 if loaded.settings is None else 0)


def _as_json(loaded: Loaded) -> str:
    findings = [_finding(problem) for problem in loaded.problems]
    return json.dumps({"ok": loaded.settings is not None, "findings": findings})


def _finding(problem: Problem) -> dict[str, Any]:
    where = problem.where
    return {
        "severity": problem.severity,
        "code": problem.code,
        "file": where.file if where else None,
        "line": where.line if where else None,
        "key": where.key if where else None,
        "text": problem.text,
        "mend": problem.mend,
        "more": problem.more,
    }


def _as_text(loaded: Loaded) -> str:
    lines = [problem_line(problem) for problem in loaded.problems]
    errors = sum(problem.severity == "error" for problem in loaded.problems)
    warnings = sum(1 + problem.more for problem in loaded.problems) - errors
    if loaded.settings is None:
        lines.append(f"The settings have {_count(errors, 'error')} and {_count(warnings, 'warning')}.")
    else:
        found = f" but for {_count(warnings, 'warning')}" if warnings else ""
        lines.append(f"The settings are fine{found}: {_loaded(loaded.settings)}.")
    return "\n".join(lines)


def _loaded(settings: Settings) -> str:
    listeners = {entry.listener for entry in settings.domains} - {ANY_LISTENER}
    own = sum(entry.listener != ANY_LISTENER for entry in settings.domains)
    apart = f" ({own} of them on {_count(len(listeners), 'listener')} alone)" if own else ""
    lists = (settings.relay_hosts, *settings.listener_relay_hosts.values())
    hosts = sum(len(networks.networks) for networks in lists)
    return f"{_count(len(settings.domains), 'listener domain')}{apart}, {_count(hosts, 'relay host')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
