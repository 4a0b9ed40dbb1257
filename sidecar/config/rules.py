"""Read KumoMTA's rule files for bounce classes, and the rules that are part of the program.

Owns the format of these files. Never decides which rule matches a response.
"""

from pathlib import Path
from typing import Final

from sidecar.config.files import Document, read_document
from sidecar.config.patterns import REPETITION_LIMIT, pattern, repetition_size
from sidecar.config.readers import WrongValue, list_of, text
from sidecar.config.tables import Notes, Table
from sidecar.config.warnings.findings import Findings
from sidecar.core.findings import Finding, error, warning
from sidecar.core.settings.values import BounceRule, Where
from sidecar.core.text import quoted, written

IANA: Final = "iana"
"""The name of the program's own rules in the settings: rules for IANA's enhanced status codes."""

SHIPPED: Final = {IANA: Path(__file__).with_name("iana.toml")}

_EXAMPLE: Final = r"['^550 5\.1\.1 ']"
_PATTERNS: Final = list_of(pattern, _EXAMPLE)
_CLASS: Final = text("the name of a class")


def iana_rules() -> tuple[BounceRule, ...]:
    """Return the program's own rules."""
    return tuple(read_rules(read_document(SHIPPED[IANA], IANA), []))


def read_rules(document: Document, problems: list[Finding]) -> list[BounceRule]:
    """Read one rule file, in its order. Add errors to `problems`; return the correct rules."""
    notes = Notes(document.file, problems)
    notes.repeats(document, lambda parts: ".".join(map(written, parts)))
    whole = Table(notes, document.values, document.place)
    rules = whole.table("rules")
    whole.close()
    if "rules" not in whole.values:
        notes.add(
            "missing_key",
            1,
            "rules",
            "The file has no rules.",
            f"Write [rules] and below it lines such as InvalidRecipient = {_EXAMPLE}.",
        )
    return [rule for name in rules.values for rule in _rules(name, rules)]


def note_hidden(rules: list[BounceRule], findings: Findings) -> None:
    """Add a warning for each pattern that an earlier rule has for another class."""
    first: dict[str, BounceRule] = {}
    for rule in rules:
        earlier = first.setdefault(rule.pattern, rule)
        if earlier.bounce_class != rule.bounce_class:
            findings.note(_hidden, rule, earlier)


def _hidden(rule: BounceRule, earlier: BounceRule) -> Finding:
    text = f"The pattern {quoted(rule.pattern)} is already in {earlier.where.key} ({earlier.where}), and the first rule counts."
    return warning("never_matches", rule.where, text, "Keep one of the two.")


def costly(rules: list[BounceRule]) -> Finding | None:
    """Return an error if the counted repetitions of all rules are so large that a hostile response would delay mail."""
    sizes = [repetition_size(rule.pattern) for rule in rules]
    if sum(sizes) <= REPETITION_LIMIT:
        return None
    most, rule = max(zip(sizes, rules, strict=True), key=lambda pair: pair[0])
    return error(
        "patterns_too_large",
        rule.where,
        f"The counted repetitions of all rules take {sum(sizes)} steps, of which {REPETITION_LIMIT} are allowed; "
        f"{quoted(rule.pattern)} takes {most} of them.",
        "Write .* or .+ instead of repetitions such as .{0,300}, or smaller numbers: a counted dot takes about 9.",
    )


def _rules(name: str, rules: Table) -> list[BounceRule]:
    try:
        _CLASS(name)
    except WrongValue as wrong:
        rules.notes.wrong(rules.place.at(name), rules.where(name).key, wrong)
    place, key = rules.place.at(name), rules.where(name).key
    patterns = rules.take({name: _PATTERNS}).get(name, ())
    return [
        BounceRule(pattern=one, bounce_class=name, where=Where(file=rules.notes.file, line=place.at(index).line, key=key))
        for index, one in enumerate(patterns)
    ]
