"""`make demo`: show the sidecar beside a real Postfix. The exit status is 0 if all results are as expected.

Owns the output. Never decides which result is right.
"""

import json
import os
import shutil
import sys
import time
from itertools import zip_longest

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
    """Send the messages, print the results, and return the exit status."""
    console = Console(highlight=False)
    if why_not := missing():
        console.print(why_not)
        return 1
    began = time.monotonic()
    console.print("A private Postfix on loopback asks the sidecar about each message. The settings:", _configuration())
    with console.status("Sending..."):
        scenes = list(play())
    for number, played in enumerate(scenes, start=1):
        console.print(_shown(number, played))
    faults = [f"{played.scene.title}: {fault}" for played in scenes for fault in played.faults]
    for fault in faults:
        console.print(Text(fault, style="bold red"))
    summary = f"[bold red]{_count(len(faults))} wrong.[/]" if faults else "[bold green]All results are as expected.[/]"
    console.print(f"\n{summary} The demonstration took {time.monotonic() - began:.1f} seconds, and has stopped both Postfixes.")
    console.print("The console shows these records in a browser: make demo-console")
    return 1 if faults else 0


def _count(results: int) -> str:
    return "1 result is" if results == 1 else f"{results} results are"


def missing() -> str | None:
    """Return what the demonstration lacks on this machine."""
    if os.geteuid():
        return "The demonstration starts a private Postfix, which needs root. Run it as root."
    if shutil.which("postfix") is None:
        return "The demonstration needs the Debian package postfix. Run make demo, which installs it."
    return None


def _configuration() -> RenderableType:
    def shown(name: str, text: str) -> Panel:
        syntax = Syntax(text.rstrip(), "toml", line_numbers=True, background_color="default", theme="ansi_dark")
        return Panel(syntax, title=name, title_align="left", border_style="dim", expand=False)

    return Group(shown("sidecar.toml", f"relay_hosts = {json.dumps(RELAY_HOSTS)}"), shown("listener_domains.toml", DOMAINS))


def _shown(number: int, played: Played) -> RenderableType:
    """Return a scene as lines of a name and a value: at 80 columns a value has room for every name and address."""
    scene, outcome = played.scene, played.outcome
    lines = Table.grid(padding=(0, 2), pad_edge=False)
    lines.add_column(style="dim")
    lines.add_column()
    lines.add_row("peer", f"{scene.peer.address} ({scene.peer.helo})")
    lines.add_row("from", Text(f"<{scene.sender}>", style="blue"))
    lines.add_row("to", Text("\n".join(f"<{recipient}>" for recipient in scene.recipients), style="blue"))
    lines.add_row("answer", _answers(scene, outcome))
    lines.add_row("result", Text(_result(outcome), style="bold"))
    lines.add_row("records", _records(outcome.records))
    return Group(Text(f"\n{number}. {scene.title}", style="bold"), Padding(lines, (0, 0, 0, 3), expand=False))


def _answers(scene: Scene, outcome: Outcome) -> Text:
    """Return the answer to each recipient if there are several, and the answer that decides."""
    if outcome.answers is None or len(scene.recipients) == 1:
        return _answer(outcome.last)
    text = Text()
    for recipient, answer in zip(scene.recipients, outcome.answers.recipients, strict=True):
        text.append(_answer(answer)).append(f" for {recipient}\n" if answer.code == OK else "\n", style="dim")
    return text.append(_answer(outcome.last)).append(" for the message", style="dim")


def _result(outcome: Outcome) -> str:
    if outcome.last.code != OK:
        return "rejected"
    return f"relayed to {', '.join(outcome.delivered)}" if outcome.delivered else "recorded and dropped"


def _answer(answer: Answer) -> Text:
    """Return an answer without the queue id, which differs each time."""
    return Text(str(answer).partition(": queued as")[0], style="not bold green" if answer.code == OK else "not bold red")


def _records(records: list[Record]) -> Group:
    """Return the records in order; two records with the same reason share its line."""
    shown: list[RenderableType] = []
    for record, after in zip_longest(records, records[1:]):
        shown.append(_record(record))
        why = record["meta"]["why"]
        if after is None or after["meta"]["why"] != why:
            shown.append(Padding(Text(why, style="dim"), (0, 0, 0, 2)))
    return Group(*shown)


def _record(record: Record) -> Text:
    """Return a record in one line: its type, its recipient, and the answer or the type of the complaint."""
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
