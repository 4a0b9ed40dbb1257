"""Rules that give bounces their class, compared."""

import pytest

from sidecar.config.diff.rules import bounce_rule_changes
from sidecar.core.settings.values import BounceRule, Where
from tests.config.diff.sides import side


def rules(*written: str, file: str = "r.toml") -> tuple[BounceRule, ...]:
    """Make a rule of each `Class pattern`, on a line of its own."""
    made = []
    for line, text in enumerate(written, start=1):
        name, pattern = text.split(" ")
        made.append(BounceRule(pattern=pattern, bounce_class=name, where=Where(file=file, line=line, key=f"rules.{name}")))
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
        ([], ["Spam a"], [("added", "rules.Spam", None, "a")]),
    ],
)
def test_rules(old: list[str], new: list[str], expected: list[tuple[str, str, str | None, str | None]]) -> None:
    """A rule that was added or removed is listed, and another order of the same rules, once; none of it opens or closes."""
    changes = list(bounce_rule_changes(side(bounce_rules=rules(*old)), side(bounce_rules=rules(*new))))
    assert [(one.action, one.key, one.old and one.old.value, one.new and one.new.value) for one in changes] == expected
    assert all(change.effect == "neither" for change in changes)


def test_a_file_of_rules() -> None:
    """A rule set that only one side uses is one change, whatever it contains; rules in another file are the same rules."""
    own, set_of_rules = rules("Spam a"), rules(*(f"Dns {number}" for number in range(99)), file="iana")
    for old, new, action, text in (
        (own + set_of_rules, own, "removed", "the 99 rules of iana are no longer used"),
        (own, own + set_of_rules, "added", "the 99 rules of iana give bounces their class, unless an earlier one matches"),
    ):
        [change] = bounce_rule_changes(side(bounce_rules=old), side(bounce_rules=new))
        assert (change.action, change.key, change.text) == (action, "bounce_classifier", text)
        assert [spot and spot.value for spot in (change.old, change.new)].count("iana") == 1
    moved = rules("Spam a", "Dns b", file="moved.toml")
    assert not list(bounce_rule_changes(side(bounce_rules=rules("Spam a", "Dns b")), side(bounce_rules=moved)))
