"""The output of `sidecar diff`: a summary, then what opens, what closes, and the rest."""

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from sidecar.commands.diff import EFFECTS, Effect, Group, Listing, RuleChange, Verdicts
from sidecar.commands.diff.values import Action, Count, Spot
from sidecar.core.disposition import Disposition
from sidecar.core.policy import Because
from sidecar.core.text import counted
from sidecar.output.terminal import console, plain

_HEADINGS: dict[Effect, str] = {"opens": "Opens", "closes": "Closes", "neither": "Neither opens nor closes"}
_DO: dict[Effect, tuple[str, str]] = {
    "opens": ("opens", "open"),
    "closes": ("closes", "close"),
    "neither": ("does neither", "do neither"),
}
_STYLES: dict[Effect, str] = {"opens": "red", "closes": "yellow", "neither": "dim"}
_VERBS: dict[Action, str] = {"added": "added", "removed": "removed", "changed": "changed"}
_ITEMS = 3


def print_difference(listing: Listing, verdicts: Verdicts | None, *, limit: int | None) -> None:
    """Print the differences."""
    screen = console()
    screen.print(Text(_summary(listing, verdicts), style="bold"))
    if listing.dangers:
        danger = f"DANGER: {counted(listing.dangers, 'change permits', 'changes permit')} something to most of the internet."
        screen.print(Text(danger, style="bold red"))
    for effect in EFFECTS:
        if listing.counts[effect]:
            _print_changes(screen, effect, listing)
    if verdicts is not None:
        _print_verdicts(screen, verdicts, limit)


# --- the summary


def _summary(listing: Listing, verdicts: Verdicts | None) -> str:
    rules = sum(listing.rules.values())
    parts = ", ".join(counted(listing.rules[effect], *_DO[effect]) for effect in EFFECTS if listing.rules[effect])
    summary = f"{counted(rules, 'rule changes', 'rules change')}: {parts}" if rules else "No rule changes"
    return f"{summary}." if verdicts is None else f"{summary}; {_verdict_summary(verdicts)}."


def _verdict_summary(verdicts: Verdicts) -> str:
    kinds = (
        (verdicts.newly_accepted, "newly accepted"),
        (verdicts.newly_rejected, "newly rejected"),
        (verdicts.delivery_changed, "relayed instead of dropped, or dropped instead of relayed"),
    )
    parts = ", ".join(f"{count:,} {words}" for count, words in kinds if count)
    of = f"of {counted(verdicts.envelopes, 'recorded envelope')}"
    return (
        f"{of} {verdicts.differ:,} {'has' if verdicts.differ == 1 else 'have'} another decision: {parts}"
        if parts
        else f"{of} none has another decision"
    )


# --- rules


def _print_changes(screen: Console, effect: Effect, listing: Listing) -> None:
    shown = listing.of(effect)
    screen.print()
    screen.print(Text(f"{_HEADINGS[effect]} ({listing.counts[effect]:,})", style=f"bold {_STYLES[effect]}"))
    for change in shown:
        _print_at(screen, 2, plain(_headline(change)))
        danger = Text("DANGER: ", style="bold red") if change.danger else Text()
        _print_at(screen, 6, danger + plain(f"{change.text}." if change.text else "", style=_STYLES[effect]))
    if more := listing.counts[effect] - len(shown):
        _print_at(screen, 2, Text(f"and {more:,} more; --all lists them"))


def _headline(change: RuleChange) -> str:
    """Return `file:line: key: old -> new (was file:line)`."""
    spot = change.new if change.new is not None and change.new.file is not None else change.old or change.new
    place = "" if spot is None or spot.place is None else f"{spot.place}: "
    notes = [f"entry {_VERBS[change.action]}"] if change.kind == "domain" and change.action != "changed" else []
    if change.old is not None and change.old is not spot and change.old.place is not None:
        notes.append(f"was {change.old.place}")
    note = f" ({', '.join(notes)})" if notes else ""
    return f"{place}{change.key}{_what(change)}{note}"


def _what(change: RuleChange) -> str:
    old, new = change.old, change.new
    if change.kind == "lookup":
        return f": finds {_entry(new)}, found {_entry(old)} before"
    if old is not None and new is not None:
        return f": {_value(old)} -> {_value(new)}"
    spot = new if old is None else old
    return "" if spot is None or spot.value == change.key else f": {_value(spot)} {_VERBS[change.action]}"


def _entry(spot: Spot | None) -> str:
    return "nothing" if spot is None or spot.value is None else str(spot.value)


def _value(spot: Spot) -> str:
    match spot.value:
        case bool():
            return str(spot.value).lower()
        case None:
            return "none"
        case list():
            items = [str(item) for item in spot.value]
            more = f" and {len(items) - _ITEMS:,} more" if len(items) > _ITEMS else ""
            return f"[{', '.join(items[:_ITEMS])}{more}]"
        case _:
            return str(spot.value)


# --- verdicts


def _print_verdicts(screen: Console, verdicts: Verdicts, limit: int | None) -> None:
    if verdicts.groups:
        screen.print()
        screen.print(Text("Other decisions", style="bold"))
    for group in verdicts.groups[:limit]:
        _print_group(screen, group)
    if limit is not None and (more := verdicts.groups[limit:]):
        count = sum(group.count for group in more)
        _print_at(screen, 2, Text(f"and {count:,} more by {counted(len(more), 'other rule')}; --all lists them"))
    notes = list(_notes(verdicts))
    if notes:
        screen.print()
    for note in notes:
        screen.print(plain(note))


def _print_group(screen: Console, group: Group) -> None:
    head = Text(
        f"{group.count:,}  {_disposition(group, group.old_disposition)} -> {_disposition(group, group.new_disposition)}",
        style=_STYLES[group.effect],
    )
    _print_at(screen, 2, head)
    for what, rule in (("now by", group.new_rule), ("before by", group.old_rule)):
        if rule is not None and rule.file is not None:
            _print_at(screen, 6, plain(f"{what} {_rule(rule)}"))
    _print_at(screen, 6, plain("; ".join(filter(None, (_most("peers", group.peers), _most("to", group.domains))))))
    example = group.example
    why = "" if group.new_rule is None else f": {group.new_rule.text}"
    to = f" to <{example.recipient}>" if example.recipient else ""
    named = f" {example.id}" if example.id else ""
    _print_at(screen, 6, plain(f"such as {example.time}{named}, {example.peer} from <{example.sender}>{to}{why}"))


def _disposition(group: Group, disposition: Disposition | None) -> str:
    known = disposition or group.undecided
    return "" if known is None else known.words


def _rule(rule: Because) -> str:
    return f"{rule.file}:{rule.line} {rule.key}"


def _most(label: str, counts: Iterable[Count]) -> str:
    names = ", ".join(f"{count.name or 'no domain'} ({count.count:,})" for count in counts)
    return f"{label} {names}" if names else ""


def _notes(verdicts: Verdicts) -> Iterable[str]:
    if verdicts.rejected_elsewhere:
        yield f"{counted(verdicts.rejected_elsewhere, 'more is', 'more are')} rejected as before, at another stage."
    if verdicts.unknown_listener:
        yield (
            f"{counted(verdicts.unknown_listener, 'record has', 'records have')} no listener, and rules depend on it: "
            "the rules for all listeners were used."
        )
    if verdicts.passed_over:
        types = ", ".join(f"{name} ({count:,})" for name, count in sorted(verdicts.passed_over.items()))
        yield f"Not compared, because they have no incoming envelope: {types}."
    if verdicts.unreadable:
        yield f"{counted(verdicts.unreadable, 'line is', 'lines are')} no record."


def _print_at(screen: Console, indent: int, text: Text) -> None:
    if text:
        screen.print(Padding(text, (0, 0, 0, indent), expand=False))
