"""The man pages: `python -m tests.deploy.manual` writes them.

Those of the commands are made from their help, those of the settings files from the documents about them. Owns the layout of a
man page, and no description.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from inspect import cleandoc

import click

from sidecar.cli import COMMANDS, EXAMPLES, GROUPS, STATUSES, main
from sidecar.output.help import Command
from tests import ROOT
from tests.deploy.documents import FOLDER as DOCUMENTS
from tests.deploy.documents import Document
from tests.deploy.roff import escape, folded, from_markdown

FOLDER = ROOT / "deploy/man"
FILES_FOLDER = ROOT / "deploy/man5"

SETTINGS_FILES = {
    "sidecar.toml": "settings of the sidecar",
    "listener_domains.toml": "domains that accept mail of external hosts",
}

_FILES = {
    "/etc/sidecar/sidecar.toml": "The settings file without --config. If it does not exist, the built-in settings are used.",
    "/var/lib/sidecar": "The default state directory, with the journal. A sidecar that another user than root "
    "starts uses ~/.local/state/sidecar. `status`, `tail` and `stats` use the user's own if it exists.",
}
_ENVIRONMENT = {
    "NO_COLOR": "If it is set and not empty, output has no colours.",
    "FORCE_COLOR": "If it is set and not empty, output has colours in a pipe too.",
    "COLUMNS": "The width of the output. Default: the width of the terminal.",
    "STATE_DIRECTORY": "The state directory, if the settings do not name one. systemd sets it.",
}


def pages() -> Iterator[tuple[str, str]]:
    """Return each page with its name, such as `sidecar-run`."""
    root = click.Context(main, info_name="sidecar", **main.context_settings)
    yield "sidecar", "\n".join(_program(root)) + "\n"
    for name, summary in COMMANDS.items():
        command = main.get_command(root, name)
        assert isinstance(command, Command)
        context = click.Context(command, info_name=name, parent=root)
        yield f"sidecar-{name}", "\n".join(_command(context, command, summary)) + "\n"


def file_pages() -> Iterator[tuple[str, str]]:
    """Return the page of each settings file with its name."""
    for name, summary in SETTINGS_FILES.items():
        others = [other for other in SETTINGS_FILES if other != name]
        lines = (
            *_beginning(name, summary, section=5),
            ".SH DESCRIPTION",
            *from_markdown(Document(DOCUMENTS / f"{name}.md").tokens),
            *_listed("FILES", {f"/etc/sidecar/{name}": "The file of the Debian package."}),
            *_see_also(["sidecar", "sidecar-check", "sidecar-run"], others),
        )
        yield name, "\n".join(lines) + "\n"


def _program(context: click.Context) -> Iterator[str]:
    yield from _beginning("sidecar", "KumoMTA's listener policy as a milter")
    yield from (".SH SYNOPSIS", r".B sidecar", r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGS\fR]")
    yield from (".SH DESCRIPTION", *_description(main))
    for heading, commands in GROUPS.items():
        yield f".SH {escape(heading).upper()}"
        for name, summary in commands.items():
            yield from (".TP", rf"\fBsidecar\-{name}\fR(1)", escape(summary))
    yield from (".SH OPTIONS", *_options(context, main))
    yield from _examples(EXAMPLES)
    yield from _listed("EXIT STATUS", STATUSES)
    yield from _listed("ENVIRONMENT", _ENVIRONMENT)
    yield from _listed("FILES", _FILES)
    yield from _see_also(f"sidecar-{name}" for name in COMMANDS)


def _command(context: click.Context, command: Command, summary: str) -> Iterator[str]:
    # Without a capital and a full stop (man-pages(7)).
    yield from _beginning(f"sidecar-{command.name}", summary[:1].lower() + summary[1:])
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", rf".B sidecar {escape(command.name or '')}", escape(pieces))
    yield from (".SH DESCRIPTION", *_description(command))
    yield from (".SH OPTIONS", *_options(context, command))
    for leaf in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _part(context, leaf)
    yield from _examples(command.examples)
    yield from _listed("EXIT STATUS", command.statuses)
    yield from _listed("ENVIRONMENT", _ENVIRONMENT)
    yield from _listed("FILES", _FILES)
    group = next(commands for commands in GROUPS.values() if command.name in commands)
    yield from _see_also(["sidecar", *(f"sidecar-{name}" for name in group if name != command.name)])


def _part(context: click.Context, command: click.Command) -> Iterator[str]:
    """Return the section of a command of a group."""
    own = click.Context(command, info_name=command.name, parent=context)
    name = escape(f"{context.info_name} {command.name}")
    yield f".SH {name.upper()}"
    yield from (rf".B sidecar {name}", escape(" ".join(command.collect_usage_pieces(own))))
    yield from (".PP", *_description(command), *_options(own, command))
    assert isinstance(command, Command)
    yield from (".SS Examples", *_shown(command.examples))
    yield from (".SS Exit status", *_entries(command.statuses))


def _beginning(name: str, summary: str, *, section: int = 1) -> Iterator[str]:
    """Return the head, without date and version: a page changes only when its command changes."""
    yield r".\" Made by: python -m tests.deploy.manual"
    yield f'.TH {escape(name.upper())} {section} "" "sidecar" "sidecar manual"'
    yield from (".SH NAME", rf"{escape(name)} \- {escape(summary.rstrip('.'))}")


def _description(command: click.Command) -> Iterator[str]:
    paragraphs = cleandoc(command.help or "").split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        if number:
            yield ".PP"
        yield from folded(paragraph)


def _options(context: click.Context, command: click.Command) -> Iterator[str]:
    # An argument has no text of its own: the synopsis names it, and the description explains it.
    for parameter in (one for one in command.get_params(context) if isinstance(one, click.Option)):
        if (record := parameter.get_help_record(context)) is not None:
            names, text = record
            yield from (".TP", re.sub(r"(?<!\S)((?:\\-)+[^\s,]+)", r"\\fB\1\\fR", escape(names)))
            yield from folded(text)


def _examples(examples: tuple[str, ...]) -> Iterator[str]:
    yield from (".SH EXAMPLES", *_shown(examples))


def _shown(examples: tuple[str, ...]) -> Iterator[str]:
    for number, example in enumerate(examples):
        yield from (".PP",) if number else ()
        yield from (".RS 4", ".nf")
        yield from map(escape, example.splitlines())
        yield from (".fi", ".RE")


def _listed(heading: str, entries: Mapping[str, str] | Mapping[int, str]) -> Iterator[str]:
    yield from (f".SH {heading}", *_entries(entries))


def _entries(entries: Mapping[str, str] | Mapping[int, str]) -> Iterator[str]:
    for name, text in entries.items():
        yield from (".TP", rf"\fB{escape(str(name))}\fR")
        yield from folded(text)


def _see_also(names: Iterable[str], files: Iterable[str] = SETTINGS_FILES) -> Iterator[str]:
    pages = [(name, 1) for name in names] + [(name, 5) for name in files]
    yield from (".SH SEE ALSO", ",\n".join(rf"\fB{escape(name)}\fR({section})" for name, section in pages))


if __name__ == "__main__":
    for page, text in pages():
        (FOLDER / f"{page}.1").write_text(text)
    for page, text in file_pages():
        (FILES_FOLDER / f"{page}.5").write_text(text)
