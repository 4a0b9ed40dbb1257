"""`sidecar suppression simulate`: what rules would have done with recorded reports, and what other rules change."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from sidecar.core.records.reading import decode
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.suppressed import ShownEntry
from sidecar.core.text import counted, printable, rfc3339
from sidecar.journal.read import Skipped, read, stored_size
from sidecar.output.help import Command
from sidecar.output.problems import ExistingPath, config_option, reader_settings_or_exit
from sidecar.output.streams import print_json
from sidecar.output.terminal import progress
from sidecar.suppression.listing import shown
from sidecar.suppression.reading import MemoryList, Reader

# On a terminal; `--json` has all.
_SHOWN = 20


class EntryChange(Struct, frozen=True, kw_only=True):
    """An address whose entry two lists have differently. None is an address that is not on the list."""

    address: str
    old: ShownEntry | None
    new: ShownEntry | None


@click.command(
    "simulate",
    cls=Command,
    short_help="Show which addresses the rules would suppress.",
    examples=[
        "sidecar suppression simulate --records /var/lib/sidecar/journal",
        "sidecar suppression simulate --records journal --compare new.toml --json",
    ],
    statuses={0: "success", 1: "the settings have errors, or the records cannot be read"},
)
@config_option
@click.option(
    "--records",
    required=True,
    metavar="PATH",
    type=ExistingPath(exists=True, allow_dash=True, path_type=Path),
    help="Records: a file, a folder of segments, or - for standard input.",
)
@click.option(
    "--compare", metavar="FILE", type=click.Path(path_type=Path), help="Other settings: show what their rules change."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all addresses.")
def simulate(config: Path | None, records: Path, compare: Path | None, *, as_json: bool) -> None:
    """Show which addresses the rules would have suppressed, at the time of the newest record.

    Nothing is changed. Settings without [suppression] have the built-in rules. Records can be the sidecar's or KumoMTA's.
    """
    sets = [_memory(reader_settings_or_exit(config))]
    if compare is not None:
        sets.append(_memory(reader_settings_or_exit(compare)))
    _read(records, sets)
    now = max(one.newest for one in sets)
    lists = [{address: shown(address, entry) for address, entry in sorted(one.entries(now).items())} for one in sets]
    changes = None if compare is None else list(differences(*lists))
    if as_json:
        print_json(_as_json(sets[-1], lists[-1], changes, now))
        return
    for one, entries, name in zip(sets, lists, ("Now: ", f"With {compare}: "), strict=False):
        _print(one, entries, now, "" if compare is None else name)
    if changes is not None:
        _print_changes(changes)


def _memory(settings: Settings) -> MemoryList:
    own = settings.suppression or SuppressionSettings(database=Path())
    return MemoryList(Reader(own.rule, trust=own.trust))


def _read(records: Path, sets: Sequence[MemoryList]) -> None:
    with progress("records", stored_size(records)) as bar:
        for line in read(records, progress=bar.read):
            bar.one_more()
            if isinstance(line, Skipped):
                continue
            try:
                record = decode(line.text)
            except ValueError:
                continue
            for one in sets:
                one.add(record)


def differences(old: Mapping[str, ShownEntry], new: Mapping[str, ShownEntry]) -> Iterator[EntryChange]:
    """Yield what changes from one list to another, by address."""
    for address in sorted(old.keys() | new.keys()):
        if old.get(address) != new.get(address):
            yield EntryChange(address=address, old=old.get(address), new=new.get(address))


def _reasons(entries: Mapping[str, ShownEntry]) -> dict[str, int]:
    reasons = Counter(entry.reason if entry.source == "reports" else entry.source for entry in entries.values())
    return dict(reasons.most_common())


def _as_json(
    memory: MemoryList, entries: Mapping[str, ShownEntry], changes: Sequence[EntryChange] | None, now: int
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "at": rfc3339(now),
        "reports": memory.reports,
        "uncounted": {why.value: count for why, count in sorted(memory.uncounted.items())},
        "by_reason": _reasons(entries),
        "entries": list(entries.values()),
    }
    return found if changes is None else {**found, "changes": changes}


def _print(memory: MemoryList, entries: Mapping[str, ShownEntry], now: int, name: str) -> None:
    uncounted = ", ".join(f"{count:,} {why.value}" for why, count in sorted(memory.uncounted.items())) or "none"
    click.echo(printable(f"{name}{counted(memory.reports, 'report')} counted; not counted: {uncounted}."))
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in _reasons(entries).items()) or "none"
    at = rfc3339(now) if now else "any time"
    click.echo(printable(f"{name}{counted(len(entries), 'address', 'addresses')} suppressed at {at}: {reasons}."))


def _print_changes(changes: Sequence[EntryChange]) -> None:
    click.echo(f"{counted(len(changes), 'address', 'addresses')} would change.")
    for one in changes[:_SHOWN]:
        click.echo(printable(f"  {one.address}: {_words(one.old)} -> {_words(one.new)}"))
    if len(changes) > _SHOWN:
        click.echo(f"  and {len(changes) - _SHOWN:,} more; --json prints all.")


def _words(entry: ShownEntry | None) -> str:
    return "not suppressed" if entry is None else f"{entry.reason} until {entry.expires or 'removed'}"
