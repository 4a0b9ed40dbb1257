r"""Read KumoMTA's rule files for bounce classes, and the rules that are part of the program.

Owns the format of these files, and their patterns: regular expressions in KumoMTA's syntax (Rust's regex crate), compiled by
RE2. RE2 reads each byte of a hostile text once, whatever the pattern. Its syntax is the same, except for what `pattern`
rejects, and `\d`, `\w`, `\s` and `\b` mean ASCII here. Never decides which rule matches a response.
"""

import re
from pathlib import Path
from typing import Final

import re2  # type: ignore[import-untyped]  # the package ships no annotations

from sidecar.config.files import Document, read_document
from sidecar.config.findings import Findings, Kind
from sidecar.config.readers import WrongValue, list_of, text, wrong
from sidecar.config.tables import Table, table_of_file
from sidecar.core.classifier import re2_options
from sidecar.core.settings.values import BounceRule, Where
from sidecar.core.text import printable, quoted, shown

IANA: Final = "iana"
"""The name of the program's own rules in the settings: rules for IANA's enhanced status codes."""

IANA_FILE: Final = Path(__file__).with_name("iana.toml")

_EXAMPLE: Final = r"['^550 5\.1\.1 ']"
_CLASS: Final = text("the name of a class")

_HIDDEN: Final = Kind(
    "never_matches",
    "The pattern {pattern} is already in {first.key} ({first}), and the first rule counts.",
    "Keep one of the two.",
)

# RE2 instructions of counted repetitions, over all patterns: `.{0,40}` has 350, `[ab]{40}` has 40. A hostile line of 2,048
# characters takes 10 ms with `[ab]*a[ab]{400}`, and a report can have a thousand such lines. KumoMTA's files have none.
REPETITION_LIMIT: Final = 400

# What RE2 reads in another way than Rust's crate: word edges (`\<`, `\b{start}`), a brace that begins no repetition (Rust
# rejects it), and combined classes.
_TOKEN = re.compile(
    r"""(?P<edge>\\[<>]|\\b\{)
      | \\[pPx]\{[^{}]*\} | \\[\s\S]
      | \[\^?\]?(?P<inside>(?>(?:\\[\s\S]|\[:\^?[a-z]+:\]|[^\]\\])*))\]?
      | \{[0-9]+(?:,[0-9]*)?\}
      | (?P<brace>\{)
    """,
    re.VERBOSE,
)
_PLAIN_IN_CLASS = re.compile(r"\\[\s\S]|\[:\^?[a-z]+:\]")
_COMBINED = re.compile(r"\[|&&|--|~~")

# A pattern for RE2's error, and the fix. The first match counts; the last always matches.
_ADVICE: Final = (
    (r"perl operator: \(\?<?[=!]", "Look-around is not supported, here and in KumoMTA. Put exceptions into an earlier rule."),
    (r"escape sequence: \\[1-9]|operator: \(\?P", "Back-references are not supported, here and in KumoMTA."),
    (r"perl operator", "Supported are (?i), (?m), (?s), (?U), (?:...) and (?P<name>...)."),
    (r"repetition size", "Repeat up to 1000 times, with the smaller number first, as in {2,10}."),
    (r"bad repetition", "Write one repetition, such as + or *. ++ and ** are not supported."),
    (r"too large", "Write a shorter pattern: counted repetitions such as .{1,500} are the largest."),
    (r"class range", r"Write the lower character first, as in [a-z]. Write Unicode classes by short name: \pL or \p{Greek}."),
    (r"", "Write a backslash before a literal special character. In TOML, write the pattern in single quotes."),
)


def iana_rules() -> tuple[BounceRule, ...]:
    """Return the program's own rules."""
    return tuple(read_rules(read_document(IANA_FILE, IANA), Findings()))


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
    except WrongValue as error:
        rules.wrong(name, error)
    patterns = rules.take({name: list_of(pattern, _EXAMPLE)}).get(name, ())
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


def pattern(value: object) -> str:
    """Read a regular expression. An error has RE2's own message."""
    if not isinstance(value, str):
        fix = r"Write it in single quotes, such as '^550 5\.1\.1 '."
        raise wrong(f"{shown(value)} is not a regular expression.", fix, "wrong_type")
    try:
        re2.compile(value, re2_options())
    except UnicodeEncodeError:
        raise wrong(f"{quoted(value)} has half a surrogate pair.", "Write the character itself.", "invalid_pattern") from None
    except re2.error as error:
        raise _rejected(value, error.args[0].decode("utf-8", "replace")) from None
    for token in _TOKEN.finditer(value):
        _check_same_meaning(value, token)
    return value


def repetition_size(value: str) -> int:
    """Return the number of RE2 instructions that the counted repetitions of a pattern add."""
    uncounted = _TOKEN.sub(lambda token: "" if token[0].startswith("{") else token[0], value)
    return 0 if uncounted == value else max(0, _size(value) - _size(uncounted))


def _size(value: str) -> int:
    return int(re2.compile(value, re2_options()).programsize)


def _rejected(value: str, complaint: str) -> WrongValue:
    fix = next(fix for known, fix in _ADVICE if re.search(known, complaint))
    # RE2 quotes the faulty piece, which can be the whole rest.
    what, _, piece = complaint.partition(": ")
    detail = f"{what} {quoted(piece)}" if piece else printable(what)
    return wrong(f"{quoted(value)} is not a regular expression: {detail}.", fix, "invalid_pattern")


def _check_same_meaning(value: str, token: re.Match[str]) -> None:
    """Reject what KumoMTA reads in another way. Raise WrongValue."""
    if token["edge"] is not None:
        text = f"has {token['edge']}, which is a word edge in KumoMTA, and not here."
        fix = r"Write \b for a word edge, or the character without a backslash."
    elif token["brace"] is not None:
        text = "has a { that begins no repetition, which KumoMTA rejects."
        fix = r"Write \{ for the character itself, or a repetition in full, such as {0,3}."
    elif token["inside"] is not None and _COMBINED.search(_PLAIN_IN_CLASS.sub("", token["inside"])):
        text = "combines character classes with [, &&, -- or ~~ inside [ ], which is not supported."
        fix = "Write one class, with a backslash before each literal character of these."
    else:
        return
    raise wrong(f"{quoted(value)} {text}", fix, "invalid_pattern")
