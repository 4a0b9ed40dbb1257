"""`sidecar check`: the findings in order, and a summary that is true. Owns how they look on a terminal and in a pipe."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from msgspec.structs import replace

from sidecar.commands.check.advice import Fixer
from sidecar.commands.check.runtime import runtime_findings
from sidecar.config import Reading
from sidecar.core.findings import Finding
from sidecar.core.networks import texts
from sidecar.core.settings.domain_table import table_of
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER
from sidecar.core.text import counted
from sidecar.output.help import Command
from sidecar.output.problems import config_file, config_option, finding_line
from sidecar.output.streams import print_json
from sidecar.output.terminal import console, print_text

_OPEN_RELAY: Final = "open_relay"
_STYLES: Final = ("red", "bold red", "yellow")


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

    Prints each finding with its file, line and key, and what to write instead: first errors, which keep the program from
    starting, then open relays, then other warnings, which are probable mistakes. Of many warnings of one kind, the first five
    are printed. The last line is the summary.

    Also finds what this user cannot use at run time: folders, sockets, ports and accounts. As root, it asks as the user of the
    settings, or as the one of the systemd unit, and such a finding is an error; for another user it is a warning.

    With --json each finding has a "code", such as open_relay, that stays the same from version to version. "more" counts
    the findings of its kind that are not listed.
    """
    reading = Reading(config_file(config))
    settings = reading.loaded.settings
    findings = list(reading.loaded.problems or reading.warnings(ask_machine=True))
    if settings is not None:
        fixer = Fixer(settings)
        findings = [fixer.fix(_as_root(each, settings)) for each in findings]
        findings += runtime_findings(settings, reading.loaded.sources, reading.where)
    findings.sort(key=_rank)
    if as_json:
        print_json({"findings": findings})
    else:
        _print(findings, settings)
    has_errors = any(each.level == "error" for each in findings)
    sys.exit(1 if has_errors or (strict and findings) else 0)


def _as_root(each: Finding, settings: Settings) -> Finding:
    """Return an unknown account as an error if root asks, and the program would need the account."""
    if each.code != "unknown_account" or os.geteuid() != 0:
        return each
    section = {"milter": settings.milter, "admin": settings.admin}.get((each.key or "").partition(".")[0])
    is_used = section is None or section.socket.startswith("unix:")
    return replace(each, level="error") if is_used else each


def _rank(each: Finding) -> int:
    return 0 if each.level == "error" else 1 if each.code == _OPEN_RELAY else 2


def _print(findings: Sequence[Finding], settings: Settings | None) -> None:
    screen = console()
    for each in findings:
        print_text(screen, finding_line(each), indent=4, style=_STYLES[_rank(each)])
        for line in each.lines:
            print_text(screen, f"    {line}")
    print_text(screen, _summary(findings, settings), style="bold")


def _summary(findings: Sequence[Finding], settings: Settings | None) -> str:
    """Return how many findings there are, the worst first. Settings with errors or open relays are never called valid."""
    errors, relays, others = (sum(1 + each.more for each in findings if _rank(each) == rank) for rank in range(3))
    counts = [
        counted(number, what)
        for number, what in ((errors, "error"), (relays, "open relay"), (others, "other warning" if relays else "warning"))
        if number
    ]
    found = f"{', '.join(counts[:-1])} and {counts[-1]}" if len(counts) > 1 else "".join(counts)
    if settings is None:
        return f"The settings have {found}: the program does not start with them."
    if errors:
        starts = all(each.code == "unreadable_list" for each in findings if each.level == "error")
        fact = "The program starts, but cannot check recipients" if starts else "The program does not start on this machine"
        return f"{fact}: {found}."
    loaded = _loaded(settings)
    if relays:
        return f"These settings are an open relay: {found}. They have {loaded}."
    return f"The settings are valid, with {found}: {loaded}." if found else f"The settings are valid: {loaded}."


def _loaded(settings: Settings) -> str:
    by_listener = table_of(settings.domains).listeners
    listeners = [listener for listener, domains in by_listener.items() if domains and listener != ANY_LISTENER]
    own = sum(len(by_listener[listener]) for listener in listeners)
    apart = f" ({own:,} of them for {counted(len(listeners), 'listener')} only)" if own else ""
    lists = (settings.relay_hosts, *settings.listener_relay_hosts.values())
    hosts = sum(len(texts(networks.networks)) for networks in lists)
    return f"{counted(len(settings.domains), 'listener domain')}{apart}, {counted(hosts, 'relay host')}"
