"""`sidecar check`: errors and probable mistakes in the settings."""

import sys
from pathlib import Path

import click

from sidecar.config import Loaded, load
from sidecar.core.settings.values import ANY_LISTENER, Settings
from sidecar.core.text import counted
from sidecar.output.help import Command
from sidecar.output.problems import config_file, config_option, finding_line
from sidecar.output.streams import print_json, print_lines


@click.command(
    "check",
    cls=Command,
    examples=[
        "sidecar check --config /etc/sidecar/sidecar.toml",
        "sidecar check --config sidecar.toml --json | jq -r '.findings[].code'",
    ],
    statuses={0: "there are no errors, and with --strict no warnings", 1: "there are errors, or warnings with --strict"},
)
@config_option
@click.option("--strict", is_flag=True, help="Exit with status 1 also if there are only warnings.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(config: Path | None, *, strict: bool, as_json: bool) -> None:
    """Check the settings and all files that they name.

    Prints each finding with its file, line and key, and what to write instead. An error keeps the program from starting. A
    warning is a probable mistake. Of many warnings of one kind, the first five are printed.

    With --json each finding has a "code", such as open_relay, that stays the same from version to version. "more" counts
    the findings of its kind that are not listed.
    """
    loaded = load(config_file(config), ask_machine=True)
    if as_json:
        print_json({"findings": loaded.problems})
    else:
        print_lines(_as_lines(loaded))
    sys.exit(1 if loaded.settings is None or (strict and loaded.problems) else 0)


def _as_lines(loaded: Loaded) -> list[str]:
    lines = [finding_line(problem) for problem in loaded.problems]
    errors = sum(problem.level == "error" for problem in loaded.problems)
    warnings = sum(1 + problem.more for problem in loaded.problems) - errors
    if loaded.settings is None:
        lines.append(f"The settings have {counted(errors, 'error')} and {counted(warnings, 'warning')}.")
    else:
        found = f", with {counted(warnings, 'warning')}" if warnings else ""
        lines.append(f"The settings are valid{found}: {_loaded(loaded.settings)}.")
    return lines


def _loaded(settings: Settings) -> str:
    listeners = {entry.listener for entry in settings.domains} - {ANY_LISTENER}
    own = sum(entry.listener != ANY_LISTENER for entry in settings.domains)
    apart = f" ({own:,} of them for {counted(len(listeners), 'listener')} only)" if own else ""
    lists = (settings.relay_hosts, *settings.listener_relay_hosts.values())
    hosts = sum(len(networks.networks) for networks in lists)
    return f"{counted(len(settings.domains), 'listener domain')}{apart}, {counted(hosts, 'relay host')}"
