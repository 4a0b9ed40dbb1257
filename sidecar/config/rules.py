"""Read KumoMTA's rule files for bounce classes, and the rules that are part of the program.

Owns the format of these files. Never decides which rule matches a response.
"""

from pathlib import Path
from typing import Final

from sidecar.config.files import Document, read_document
from sidecar.config.findings import Findings, Kind
from sidecar.config.patterns import REPETITION_LIMIT, pattern, repetition_size
from sidecar.config.readers import WrongValue, list_of, text
from sidecar.config.tables import Table, table_of_file
from sidecar.core.settings.values import BounceRule, Where
from sidecar.core.text import quoted

IANA: Final = "iana"
"""The name of the program's own rules in the settings: rules for IANA's enhanced status codes."""

SHIPPED: Final = {IANA: Path(__file__).with_name("iana.toml")}

_EXAMPLE: Final = r"['^550 5\.1\.1 ']"
_PATTERNS: Final = list_of(pattern, _EXAMPLE)
_CLASS: Final = text("the name of a class")

_HIDDEN: Final = Kind(
    "never_matches",
    "The pattern {pattern} is already in {first.key} ({first}), and the first rule counts.",
    "Keep one of the two.",
)


def iana_rules() -> tuple[BounceRule, ...]:
    """Return the program's own rules."""
    return tuple(read_rules(read_document(SHIPPED[IANA], IANA), Findings()))


def read_rules(document: Document, findings: Findings) -> list[BounceRule]:
    """Read one rule file, in its order. Return the correct rules."""
    whole = table_of_file(document, findings)
    rules = whole.table("rules")
    whole.close()
    if "rules" not in whole.values:
        fix = f"Write [rules] and below it lines such as InvalidRecipient = {_EXAMPLE}."
        findings.error("missing_key", Where(file=document.file, line=1, key="rules"), "The file has no rules.", fix)
    return [rule for name in rules.values for rule in _rules(name, rules)]


def _rules(name: str, rules: Table) -> list[BounceRule]:
    try:
        _CLASS(name)
    except WrongValue as wrong:
        rules.wrong(name, wrong)
    patterns = rules.take({name: _PATTERNS}).get(name, ())
    return [BounceRule(pattern=one, bounce_class=name, where=rules.where(name, index)) for index, one in enumerate(patterns)]


def note_hidden(rules: list[BounceRule], findings: Findings) -> None:
    """Add a warning for each pattern that an earlier rule has for another class."""
    first: dict[str, BounceRule] = {}
    for rule in rules:
        earlier = first.setdefault(rule.pattern, rule)
        if earlier.bounce_class != rule.bounce_class:
            findings.warn(_HIDDEN, rule.where, pattern=quoted(rule.pattern), first=earlier.where)


def are_costly(rules: list[BounceRule], findings: Findings) -> bool:
    """Add an error if the counted repetitions of all rules are so large that a hostile response would delay mail."""
    sizes = [repetition_size(rule.pattern) for rule in rules]
    if sum(sizes) <= REPETITION_LIMIT:
        return False
    most, rule = max(zip(sizes, rules, strict=True), key=lambda pair: pair[0])
    findings.error(
        "patterns_too_large",
        rule.where,
        f"The counted repetitions of all rules take {sum(sizes)} steps, of which {REPETITION_LIMIT} are allowed; "
        f"{quoted(rule.pattern)} takes {most} of them.",
        "Write .* or .+ instead of repetitions such as .{0,300}, or smaller numbers: a counted dot takes about 9.",
    )
    return True
