"""All differences between the rules of two configurations, the dangerous ones first."""

from collections.abc import Iterator, Sequence
from typing import Literal

from sidecar.config.diff.domains import domain_changes
from sidecar.config.diff.hosts import host_changes
from sidecar.config.diff.plain import plain_changes
from sidecar.config.diff.values import CONSEQUENCES, EFFECTS, Effect, RuleChange, Side, Spot
from sidecar.config.diff.verification import verify_changes
from sidecar.core.evaluate.changes import EXTERNAL
from sidecar.core.policy import ConnectAnswer
from sidecar.core.settings.values import ANY_LISTENER, BounceRule
from sidecar.core.text import counted


def changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield every difference, in the order of the settings."""
    for compare in (host_changes, plain_changes, verify_changes, bounce_rule_changes, domain_changes, connect_changes):
        yield from compare(old, new)


class Listing:
    """The changes by effect, the dangerous ones first. All are counted, and at most `limit` of each effect are kept."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._dangers: list[RuleChange] = []
        self._kept: dict[Effect, list[RuleChange]] = {effect: [] for effect in EFFECTS}
        self.counts: dict[Effect, int] = dict.fromkeys(EFFECTS, 0)
        self.rules: dict[Effect, int] = dict.fromkeys(EFFECTS, 0)
        self.dangers = 0

    def add(self, change: RuleChange) -> None:
        """Count a change, and keep it up to the limit."""
        self.counts[change.effect] += 1
        self.rules[change.effect] += change.kind not in CONSEQUENCES
        self.dangers += change.danger
        kept = self._dangers if change.danger else self._kept[change.effect]
        if self._limit is None or len(kept) < self._limit:
            kept.append(change)

    def of(self, effect: Effect) -> list[RuleChange]:
        """Return the changes of this effect. A dangerous change always opens."""
        return (self._dangers * (effect == "opens") + self._kept[effect])[: self._limit]


def bounce_rule_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the bounce rules that were added or removed, or that their order changed. They decide on no mail.

    A file that only one side has is one change.
    """
    before, after = old.evaluator.settings.bounce_rules, new.evaluator.settings.bounce_rules
    yield from _one_sided(new, after, before, action="added")
    yield from _one_sided(old, before, after, action="removed")
    if set(map(_identity, before)) == set(map(_identity, after)):
        text = "the order of the rules changed, and the first match gives the class"
        for was, now in zip(before, after, strict=False):
            if _identity(was) != _identity(now):
                first, second = old.spot(was.pattern, was.where), new.spot(now.pattern, now.where)
                yield RuleChange(kind="setting", action="changed", key=now.where.key, old=first, new=second, text=text)
                break


def _one_sided(
    side: Side, rules: Sequence[BounceRule], others: Sequence[BounceRule], *, action: Literal["added", "removed"]
) -> Iterator[RuleChange]:
    """Yield the rules of one side that the other does not have."""
    is_added = action == "added"
    effect = ", unless an earlier one matches" if is_added else " no longer, except through other patterns"
    files: dict[str, list[BounceRule]] = {}
    for rule in rules:
        files.setdefault(rule.where.file, []).append(rule)
    known_files, known = {rule.where.file for rule in others}, set(map(_identity, others))
    for file, own in files.items():
        if len(own) > 1 and file not in known_files and known.isdisjoint(map(_identity, own)):
            verb = "give bounces their class, unless an earlier one matches" if is_added else "are no longer used"
            # The line is that of the setting, because the file did not change.
            spot = side.spot_of(file, "bounce_classifier")
            yield _change(action, "bounce_classifier", spot, f"the {counted(len(own), 'rule')} of {file} {verb}")
            continue
        for rule in (rule for rule in own if _identity(rule) not in known):
            text = f"this pattern gives the class {rule.bounce_class}{effect}"
            yield _change(action, rule.where.key, side.spot(rule.pattern, rule.where), text)


def _change(action: Literal["added", "removed"], key: str, spot: Spot, text: str) -> RuleChange:
    """Return a change with the place on the side that has the rules."""
    old, new = (None, spot) if action == "added" else (spot, None)
    return RuleChange(kind="setting", action=action, key=key, old=old, new=new, text=text)


def _identity(rule: BounceRule) -> tuple[str, str]:
    return rule.bounce_class, rule.pattern


def connect_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Yield the listeners where one side rejects external hosts at connect. One entry that permits something changes it."""
    everywhere = _connect_change(ANY_LISTENER, old, new)
    if everywhere is not None:
        yield everywhere
    for listener in dict.fromkeys(entry.listener for side in (old, new) for entry in side.evaluator.settings.domains):
        change = None if listener == ANY_LISTENER else _connect_change(listener, old, new)
        if change is not None and (everywhere is None or change.text != everywhere.text):
            yield change


def _connect_change(listener: str, old: Side, new: Side) -> RuleChange | None:
    for peer in EXTERNAL:
        answers = [side.evaluator.policy.at_connect(peer, listener) for side in (old, new)]
        if all(answer.deferred or not answer.accept for answer in answers):
            break
    else:
        return None
    before, after = map(_spot, answers, (old, new))
    if before.value == after.value:
        return None
    text = "external hosts are rejected at connect; no listener domain permitted them anything"
    if after.value == "continue":
        text = "external hosts are rejected at RCPT at the earliest; that alone permits nothing"
    where = None if listener == ANY_LISTENER else listener
    return RuleChange(kind="connect", action="changed", listener=where, key="CONNECT", old=before, new=after, text=text)


def _spot(answer: ConnectAnswer, side: Side) -> Spot:
    """Return the answer to an external host, with the rule behind it."""
    if not answer.accept and side.evaluator.settings.reject_at_connect:
        return Spot(value="reject")
    rule = side.because(answer.because[-1])
    return Spot(value="continue", file=rule.file, line=rule.line) if answer.deferred else Spot(value="continue")
