"""Many records on one page: what became of them by rule, by peer and by recipient domain.

Owns the tables. Never counts anything.
"""

from collections.abc import Callable
from typing import TypeVar

from rich.console import Console

from sidecar.commands.explain.totals import AnswerCount, BoundedTally, RecordTotals
from sidecar.core.text import counted
from sidecar.output.terminal import plain, table

_ROWS = 10
K = TypeVar("K")


def print_totals(totals: RecordTotals, screen: Console) -> None:
    """Print the gist in a sentence, and the three tables."""
    screen.print(plain(_gist(totals), style="bold"))
    _print_table(screen, "By rule", ("disposition", "decided by"), totals.rulings, lambda it: (it.outcome.words, it.rule))
    _print_table(screen, "By peer", ("peer",), totals.peers, lambda peer: (peer,))
    _print_table(screen, "By recipient's domain", ("domain",), totals.domains, lambda domain: (domain or "(none)",))


def _gist(totals: RecordTotals) -> str:
    count = totals.all
    answers = f"{count.accepted:,} accepted, {count.rejected:,} rejected, {count.tempfailed:,} tempfailed"
    parts = [f"{counted(count.total, 'answer')} recorded: {answers}", _comparison(count)]
    if totals.outgoing:
        parts.append(f"{counted(totals.outgoing, 'more record')} tell of mail that went out")
    return "; ".join(parts) + "."


def _comparison(count: AnswerCount) -> str:
    otherwise = f"{count.differ:,}" if count.differ else "none"
    if not count.unknown:
        return f"{otherwise} would be decided otherwise under this configuration"
    why = "(--disagreements says why)"
    compared = count.total - count.unknown
    if not compared:
        return f"none can be compared with this configuration {why}"
    return (
        f"{otherwise} of the {compared:,} that can be compared would be decided otherwise under this configuration, "
        f"{count.unknown:,} cannot be compared {why}"
    )


def _print_table(
    screen: Console, title: str, headings: tuple[str, ...], tally: BoundedTally[K], cells: Callable[[K], tuple[str, ...]]
) -> None:
    if not len(tally):
        return
    made = table(*headings, "accepted#", "rejected#", "tempfailed#", "differ#")
    for key, count in tally.top(_ROWS):
        made.add_row(*(plain(cell) for cell in cells(key)), *_numbers(count))
    screen.print()
    screen.print(plain(title, style="bold"))
    screen.print(made)
    more = len(tally) - _ROWS
    if more > 0 or tally.others:
        rest = f", and rarer ones with {tally.others:,} answers in all" if tally.others else ""
        screen.print(f"and {max(more, 0):,} more{rest}")


def _numbers(count: AnswerCount) -> tuple[str, ...]:
    return tuple(f"{number:,}" for number in (count.accepted, count.rejected, count.tempfailed, count.differ))
