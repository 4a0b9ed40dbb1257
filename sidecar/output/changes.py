"""The differences of two configurations in words: a summary, then what opens, what closes, and the rest."""

from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from sidecar.config.diff.rules import Listing
from sidecar.config.diff.values import EFFECTS, Effect, Group, RuleChange, Spot, Verdicts
from sidecar.core.text import counted
from sidecar.output.terminal import console, print_text

_HEADINGS: dict[Effect, str] = {"opens": "Opens", "closes": "Closes", "neither": "Neither opens nor closes"}
_DO = {
    "opens": ("opens", "open"),
    "closes": ("closes", "close"),
    "neither": ("neither opens nor closes", "neither open nor close"),
}
_STYLES: dict[Effect, str] = {"opens": "red", "closes": "yellow", "neither": "dim"}
_ITEMS = 3


def print_difference(listing: Listing, verdicts: Verdicts | None, *, limit: int | None) -> None:
    """Print the differences."""
    screen = console()
    print_text(screen, _summary(listing, verdicts), style="bold", indent=0)
    if listing.dangers:
        danger = f"DANGER: {counted(listing.dangers, 'change permits', 'changes permit')} something to most of the internet."
        print_text(screen, danger, style="bold red", indent=0)
    for effect in EFFECTS:
        if listing.counts[effect]:
            _print_changes(screen, effect, listing)
    if verdicts is not None:
        _print_verdicts(screen, verdicts, limit)


def _summary(listing: Listing, verdicts: Verdicts | None) -> str:
    rules = sum(listing.rules.values())
    parts = ", ".join(counted(listing.rules[effect], *_DO[effect]) for effect in EFFECTS if listing.rules[effect])
    summary = f"{counted(rules, 'rule changes', 'rules change')}: {parts}" if rules else "No rule changes"
    if not rules and any(listing.counts.values()):
        summary += ", but some names find other entries"
    if verdicts is None:
        return f"{summary}."
    kinds = (
        (verdicts.newly_accepted, "newly accepted"),
        (verdicts.newly_rejected, "newly rejected"),
        (verdicts.delivery_changed, "relayed instead of dropped, or dropped instead of relayed"),
    )
    parts = ", ".join(f"{count:,} {words}" for count, words in kinds if count)
    differ = f"{verdicts.differ:,} {'has' if verdicts.differ == 1 else 'have'} another decision: {parts}"
    of = f"of {counted(verdicts.envelopes, 'recorded envelope')}"
    return f"{summary}; {of} {differ if parts else 'none has another decision'}."


def _print_changes(screen: Console, effect: Effect, listing: Listing) -> None:
    screen.print()
    screen.print(Text(f"{_HEADINGS[effect]} ({listing.counts[effect]:,})", style=f"bold {_STYLES[effect]}"))
    shown = listing.of(effect)
    for change in shown:
        _print_at(screen, 2, _headline(change))
        danger = "DANGER: " if change.danger else ""
        _print_at(screen, 6, f"{danger}{change.text}.", "bold red" if change.danger else _STYLES[effect])
    if more := listing.counts[effect] - len(shown):
        _print_at(screen, 2, f"and {more:,} more; --all lists them")


def _headline(change: RuleChange) -> str:
    """Return `file:line: key: old -> new (was file:line)`."""
    old, new = change.old, change.new
    spot = new if old is None or (new is not None and new.file is not None) else old
    place = "" if spot is None or spot.place is None else f"{spot.place}: "
    if change.kind == "lookup":
        finds, found = ("nothing" if each is None or each.value is None else str(each.value) for each in (new, old))
        what = f": finds {finds}, found {found} before"
    elif old is not None and new is not None:
        what = f": {_value(old)} -> {_value(new)}"
    else:
        what = "" if spot is None or spot.value == change.key else f": {_value(spot)} {change.action}"
    notes = [f"entry {change.action}"] if change.kind == "domain" and change.action != "changed" else []
    if old is not None and old is not spot and old.place is not None:
        notes.append(f"was {old.place}")
    note = f" ({', '.join(notes)})" if notes else ""
    return f"{place}{change.key}{what}{note}"


def _value(spot: Spot) -> str:
    match spot.value:
        case bool():
            return str(spot.value).lower()
        case None:
            return "none"
        case dict():
            return ", ".join(f"{name} = {item}" for name, item in spot.value.items()) or "none"
        case list():
            items = [str(item) for item in spot.value]
            more = f" and {len(items) - _ITEMS:,} more" if len(items) > _ITEMS else ""
            return f"[{', '.join(items[:_ITEMS])}{more}]"
        case _:
            return str(spot.value)


def _print_verdicts(screen: Console, verdicts: Verdicts, limit: int | None) -> None:
    if verdicts.groups:
        screen.print()
        screen.print(Text("Other decisions", style="bold"))
    for group in verdicts.groups[:limit]:
        _print_group(screen, group)
    if limit is not None and (more := verdicts.groups[limit:]):
        count = sum(group.count for group in more)
        _print_at(screen, 2, f"and {count:,} more by {counted(len(more), 'other rule')}; --all lists them")
    notes = list(_notes(verdicts))
    if notes:
        screen.print()
    for note in notes:
        print_text(screen, note, indent=0)


def _print_group(screen: Console, group: Group) -> None:
    known = [disposition or group.undecided for disposition in (group.old_disposition, group.new_disposition)]
    old, new = ("" if outcome is None else outcome.words for outcome in known)
    _print_at(screen, 2, f"{group.count:,}  {old} -> {new}", _STYLES[group.effect])
    for what, rule in (("now by", group.new_rule), ("before by", group.old_rule)):
        if rule is not None and rule.file is not None:
            _print_at(screen, 6, f"{what} {rule.file}:{rule.line} {rule.key}")
    most = []
    for label, counts in (("peers", group.peers), ("to", group.domains)):
        if counts:
            most.append(f"{label} " + ", ".join(f"{count.name or 'no domain'} ({count.count:,})" for count in counts))
    _print_at(screen, 6, "; ".join(most))
    example = group.example
    why = "" if group.new_rule is None else f": {group.new_rule.text}"
    to = f" to <{example.recipient}>" if example.recipient else ""
    named = f" {example.id}" if example.id else ""
    _print_at(screen, 6, f"such as {example.time}{named}, {example.peer} from <{example.sender}>{to}{why}")


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
        yield f"Not compared, because they did not arrive by SMTP: {types}."
    if verdicts.unreadable:
        yield f"{counted(verdicts.unreadable, 'line is', 'lines are')} no record."


def _print_at(screen: Console, indent: int, text: str, style: str = "") -> None:
    if text:
        print_text(screen, f"{'':{indent}}{text}", style=style, indent=indent)
