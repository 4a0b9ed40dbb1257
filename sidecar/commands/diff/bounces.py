"""What changes in the rules that give bounces their class. They decide about no mail, so nothing here opens or closes.

Owns the comparison of these lists. Never classifies anything.
"""

from collections.abc import Iterator

from sidecar.commands.diff.values import Action, RuleChange, Side, Spot
from sidecar.core.settings.values import BounceRule


def bounce_rule_changes(old: Side, new: Side) -> Iterator[RuleChange]:
    """Give the rules that were added and taken out; or, where these are the same, that they are tried in another order."""
    before, after = old.settings.bounce_rules, new.settings.bounce_rules
    known, kept = set(map(_said, before)), set(map(_said, after))
    for rule in after:
        if _said(rule) not in known:
            yield _change(rule, None, _spot(rule, new))
    for rule in before:
        if _said(rule) not in kept:
            yield _change(rule, _spot(rule, old), None)
    if known == kept:
        moved = next((pair for pair in zip(before, after, strict=False) if _said(pair[0]) != _said(pair[1])), None)
        if moved is not None:
            yield _change(moved[1], _spot(moved[0], old), _spot(moved[1], new))


def _said(rule: BounceRule) -> tuple[str, str]:
    return rule.bounce_class, rule.pattern


def _spot(rule: BounceRule, side: Side) -> Spot:
    return side.spot(rule.pattern, rule.where)


def _change(rule: BounceRule, old: Spot | None, new: Spot | None) -> RuleChange:
    text = f"what this pattern fits is a {rule.bounce_class}"
    if old is None or new is None:
        text += ", unless an earlier one fits" if old is None else " no more, but for what other patterns fit"
    else:
        text = "the rules are tried in another order, and the first that fits gives the class"
    action: Action = "added" if old is None else "removed" if new is None else "changed"
    return RuleChange(kind="setting", action=action, effect="neither", key=rule.where.key, old=old, new=new, text=text)
