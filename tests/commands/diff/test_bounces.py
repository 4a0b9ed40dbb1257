"""Rules that give bounces their class, compared."""

import pytest

from sidecar.commands.diff.rules import bounce_rule_changes
from sidecar.core.settings.values import BounceRule, Where
from tests.commands.diff.sides import side


def rules(*written: str) -> tuple[BounceRule, ...]:
    """Make a rule of each `Class pattern`, on a line of its own."""
    made = []
    for line, text in enumerate(written, start=1):
        name, pattern = text.split(" ")
        made.append(BounceRule(pattern=pattern, bounce_class=name, where=Where(file="r.toml", line=line, key=f"rules.{name}")))
    return tuple(made)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["Spam a", "Dns b"], ["Spam a", "Dns b"], []),
        (["Spam a"], ["Spam a", "Dns b"], [("added", "rules.Dns", None, "b")]),
        (["Spam a", "Dns b"], ["Dns b"], [("removed", "rules.Spam", "a", None)]),
        (["Spam a"], ["Dns a"], [("added", "rules.Dns", None, "a"), ("removed", "rules.Spam", "a", None)]),
        (["Spam a", "Dns b"], ["Dns b", "Spam a"], [("changed", "rules.Dns", "a", "b")]),
        (["Spam a", "Dns b", "Spam a"], ["Spam a", "Dns b"], []),
    ],
)
def test_rules(old: list[str], new: list[str], expected: list[tuple[str, str, str | None, str | None]]) -> None:
    """A rule that came or went is told, and another order of the same ones, once; none of it opens or closes."""
    changes = list(bounce_rule_changes(side(bounce_rules=rules(*old)), side(bounce_rules=rules(*new))))
    assert [(one.action, one.key, one.old and one.old.value, one.new and one.new.value) for one in changes] == expected
    assert all(change.effect == "neither" for change in changes)
