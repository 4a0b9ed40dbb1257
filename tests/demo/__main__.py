"""`make demo`: see the sidecar at work beside a real Postfix. Exit status 0 when every outcome is as it must be.

Owns what is shown. Never decides what is right.
"""

import json
import os
import shutil
import sys
import time
from itertools import zip_longest

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tests.demo.play import Played, play
from tests.demo.scenes import DOMAINS, RELAY_HOSTS, Scene
from tests.mta.client import Answer
from tests.mta.house import Outcome
from tests.mta.sidecar import Record

COLOURS = {"Reception": "green", "Feedback": "cyan", "OOB": "yellow", "Rejection": "red"}
OK = 250


def main() -> int:
    """Play and show; give the exit status."""
    console = Console(highlight=False)
    if why_not := _missing():
        console.print(why_not)
        return 1
    began = time.monotonic()
    console.print("A real Postfix with the sidecar attached, set up like this:", _configuration())
    with console.status("Sending..."):
        scenes = list(play())
    console.print(_table(scenes))
    faults = [f"{played.scene.title}: {fault}" for played in scenes for fault in played.faults]
    for fault in faults:
        console.print(Text(fault, style="bold red"))
    verdict = f"[bold red]{_count(len(faults))} wrong.[/]" if faults else "[bold green]Every outcome is as it must be.[/]"
    console.print(f"{verdict} All that was started is stopped again, after {time.monotonic() - began:.1f} seconds.")
    return 1 if faults else 0


def _count(outcomes: int) -> str:
    return "1 outcome is" if outcomes == 1 else f"{outcomes} outcomes are"


def _missing() -> str | None:
    if os.geteuid():
        return "The demonstration starts a Postfix of its own, and only root may do that: please run it as root."
    if shutil.which("postfix") is None:
        return "The demonstration needs Debian's package postfix: please install it, or let make demo do so."
    return None


def _configuration() -> RenderableType:
    def shown(name: str, text: str) -> Panel:
        syntax = Syntax(text.rstrip(), "toml", line_numbers=True, background_color="default", theme="ansi_dark")
        return Panel(syntax, title=name, title_align="left", border_style="dim", expand=False)

    return Columns([shown("listener_domains.toml", DOMAINS), shown("sidecar.toml", f"relay_hosts = {json.dumps(RELAY_HOSTS)}")])


def _table(scenes: list[Played]) -> Table:
    table = Table(box=box.ROUNDED, show_lines=True, border_style="dim", header_style="bold", expand=True)
    table.add_column("What was sent, by whom", ratio=45, overflow="fold")
    table.add_column("The answer", width=22, overflow="fold")
    table.add_column("The records, and why", ratio=55, overflow="fold")
    for number, played in enumerate(scenes, start=1):
        outcome = played.outcome
        table.add_row(_sent(number, played.scene), _answers(played.scene, outcome), _records(outcome.records))
    return table


def _sent(number: int, scene: Scene) -> RenderableType:
    text = Text()
    text.append(f"{number}. {scene.title}\n", style="bold")
    text.append(f"{scene.peer.helo} {scene.peer.address}\n", style="dim")
    text.append(f"from <{scene.sender}>", style="blue")
    for recipient in scene.recipients:
        text.append(f"\nto <{recipient}>", style="blue")
    return text


def _answers(scene: Scene, outcome: Outcome) -> Text:
    """Show the answer to each recipient where there are several, the one that decided, and what became of the message."""
    text = Text(_fate(outcome) + "\n", style="bold")
    if outcome.answers is not None and len(scene.recipients) > 1:
        for recipient, answer in zip(scene.recipients, outcome.answers.recipients, strict=True):
            text.append(f"to {recipient.partition('@')[0]}: ", style="not bold dim").append(_answer(answer)).append("\n")
        text.append("in the end: ", style="not bold dim")
    return text.append(_answer(outcome.last))


def _fate(outcome: Outcome) -> str:
    """Say what became of the message."""
    if outcome.last.code != OK:
        return "Refused"
    return f"Relayed to\n{', '.join(outcome.delivered)}" if outcome.delivered else "Taken, logged, dropped"


def _answer(answer: Answer) -> Text:
    """Show an answer; the queue id behind an acceptance is chance."""
    return Text(str(answer).partition(": queued as")[0], style="not bold green" if answer.code == OK else "not bold red")


def _records(records: list[Record]) -> Group:
    """Show the records in order; a reason that two have in common is said once."""
    shown: list[RenderableType] = []
    for record, after in zip_longest(records, records[1:]):
        shown.append(_record(record))
        why = record["meta"]["why"]
        if after is None or after["meta"]["why"] != why:
            shown.append(Padding(Text(why, style="dim"), (0, 0, 0, 2)))
    return Group(*shown)


def _record(record: Record) -> Text:
    """Show a record: its type, its recipient, and the answer or the complaint that it tells of."""
    recipient, response = record["recipient"], record["response"]
    text = Text(record["type"], style=f"bold {COLOURS[record['type']]}")
    text.append(f" {recipient if isinstance(recipient, str) else ', '.join(recipient)}", style="not bold blue")
    if record["type"] in {"OOB", "Rejection"}:
        text.append(f" {response['code']} {response['content']}", style="not bold default")
    if report := record["feedback_report"]:
        text.append(f" {report['feedback_type']}", style="not bold default")
    return text


if __name__ == "__main__":
    sys.exit(main())
