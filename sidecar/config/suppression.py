"""The section [suppression]: the suppression list, its rules, and the check of recipients.

Owns its keys, and the warnings of rules that never match or that punish an address for what it has not done.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sidecar.config.findings import Findings, Kind
from sidecar.config.readers import choice, list_of, path_in, text, whole_number, wrong
from sidecar.config.tables import Table, domain_tables
from sidecar.core.records.record import UNCATEGORIZED
from sidecar.core.settings.suppression import IGNORED_TYPES, SuppressionRule, SuppressionSettings
from sidecar.core.settings.values import JournalSettings, Where
from sidecar.core.text import counted, in_time, nearest, quoted

COMPLAINTS: Final = ("abuse", "fraud", "virus", "other", "opt-out", "opt-out-list", "miscategorized")
"""Feedback types that a rule can have (RFC 5965 section 7.3, and what providers send besides)."""

# KumoMTA's names of classes that are about the message, the sender or the network, and not about the mailbox.
_NOT_ABOUT_MAILBOX: Final = frozenset({
    "AuthenticationFailed", "BadConfiguration", "BadConnection", "ContentRelated", "DNSFailure", "InvalidSender",
    "MessageExpired", "NoAnswerFromHost", "PolicyRelated", "ProhibitedAttachment", "ProtocolErrors", "RelayDenied",
    "RoutingErrors", "SpamBlock", "SpamContent", "TransientFailure", UNCATEGORIZED, "VirusDetected",
})  # fmt: skip
_DAY: Final = 86400
_CHECK: Final = choice("off", "log", "reject")
_LONGEST: Final = 100 * 365 * _DAY

_NO_CLASSES: Final = Kind(
    "never_matches",
    "Without bounce_classifier no bounce has a class: only complaints reach the suppression list.",
    'Write bounce_classifier = ["iana"] above the first section, unless you want that.',
)
_UNKNOWN: Final = Kind("never_matches", "{word} is no feedback type, and no class of bounce_classifier.", "{fix}")
_IGNORED: Final = Kind("never_matches", "Reports of the type {word} are no complaints: they never count.", "Remove it.")
_REPEATED: Final = Kind(
    "never_matches", "{word} is in an earlier rule already ({first}), and the first rule counts.", "Keep one of the two."
)
_TOO_SHORT: Final = Kind(
    "never_matches", "{within} never touch {days} days: the rule never matches.", "Write a larger within, or fewer days."
)
_POLICY: Final = Kind(
    "policy_block",
    "{word} is not about the mailbox: the rule suppresses addresses that can receive mail.",
    "Remove {word}, and fix what these bounces are about.",
)
_UNUSED: Final = Kind(
    "no_effect", "With count = 1 the first report suppresses the address: within has no effect.", "Remove it."
)
_NOT_CHECKED: Final = Kind(
    "no_effect",
    "No recipient is checked, because check is off for all sender domains: on_unreadable has no effect.",
    'Write check = "log" or check = "reject" below [suppression], or remove this.',
)
_NOT_VERIFIED: Final = Kind(
    "never_matches",
    "Without a section [verify] no report has the proof that trust asks for: none reaches the suppression list.",
    'Add [verify] with your keys, or write trust = "any".',
)
_NO_PROOF: Final = Kind(
    "never_matches",
    "journal.meta leaves out verified: no report has the proof that trust asks for.",
    'Add "verified" to meta below [journal].',
)
_NO_IDS: Final = Kind(
    "weak_proof",
    "journal.meta leaves out verified_ids: a true report that is sent again counts again.",
    'Add "verified_ids" to meta below [journal].',
)


def read_suppression(
    table: Table, folder: Path, state: Path, *, journal: JournalSettings, verifies: bool
) -> SuppressionSettings:
    """Read the section. Paths are relative to `folder`; the default of the database is in the folder `state`.

    If the sidecar `verifies` reports, the default of trust is "recipient".
    """
    readers = {
        "database": path_in(folder, "a file"),
        "trust": choice("any", "message", "recipient"),
        "store": choice("plain", "hashed"),
        "check": _CHECK,
        "on_unreadable": choice("accept", "tempfail"),
    }
    usual = {"database": state / "suppression.db", "trust": "recipient" if verifies else "any"}
    values: dict[str, Any] = usual | table.take(readers)
    rules = [_rule(own) for own in table.tables("rule")]
    if "rule" in table.values:
        values["rule"] = tuple(rule for rule in rules if rule is not None)
    domains = {name: (own, own.only({"check": _CHECK})) for name, own, _ in domain_tables(table.table("domain", quoted))}
    table.close()
    places = {name: own.where("check") for name, (own, _) in domains.items() if "check" in own.values}
    settings = SuppressionSettings(
        **values,
        domain={name: own["check"] for name, (_, own) in domains.items() if "check" in own},
        places=places | ({"": table.where("check")} if "check" in table.values else {}),
    )
    if "on_unreadable" in values and not settings.checks:
        table.findings.warn(_NOT_CHECKED, table.where("on_unreadable"))
    if settings.trust != "any" and not verifies:
        table.findings.warn(_NOT_VERIFIED, table.where("trust"))
    kept = journal.meta
    if settings.trust != "any" and kept is not None:
        for name, kind in (("verified", _NO_PROOF), ("verified_ids", _NO_IDS)):
            if not _keeps(kept, name):
                table.findings.warn(kind, table.where("trust"))
    return settings


def _keeps(names: Sequence[str], name: str) -> bool:
    return any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in names)


def _rule(table: Table) -> SuppressionRule | None:
    readers = {
        "when": _words,
        "count": whole_number(1, 100, "reports"),
        "days": whole_number(1, 100, "days"),
        "within": whole_number(3600, _LONGEST, "seconds"),
        "expire": whole_number(0, _LONGEST, "seconds"),
    }
    values = table.only(readers)
    where = Where(file=table.file, line=table.place.line, key=table.path)
    if "when" not in table.values:
        fix = 'Write bounce classes and feedback types, such as when = ["InvalidRecipient", "abuse"].'
        table.findings.error("missing_key", where, "The rule has no when.", fix)
    if "when" not in values:
        return None
    rule = SuppressionRule(where=where, **values)
    if rule.days > rule.count:
        fact = f"{counted(rule.count, 'report')} cannot be of {rule.days} days."
        table.fault("conflict", "days", fact, f"Write a count of {rule.days} or more, or fewer days.")
    if rule.days > -(-rule.within // _DAY) + 1:
        table.findings.warn(_TOO_SHORT, table.where("within"), within=in_time(rule.within), days=rule.days)
    if rule.count == 1 and "within" in values:
        table.findings.warn(_UNUSED, table.where("within"))
    return rule


def _words(value: object) -> tuple[str, ...]:
    words = list_of(text("a bounce class or a feedback type"), '["InvalidRecipient", "abuse"]')(value)
    if not words:
        raise wrong("The list is empty.", 'Write classes and types, such as ["InvalidRecipient", "abuse"].')
    return words


def note_rules(settings: SuppressionSettings, classes: Sequence[str], findings: Findings, section: Where | None) -> None:
    """Add the warnings of the rules. `classes` are those of `bounce_classifier`, and `section` the place of the section."""
    if not classes:
        findings.warn(_NO_CLASSES, section)
    first: dict[str, SuppressionRule] = {}
    known = (*dict.fromkeys((*COMPLAINTS, *(classes or _NOT_ABOUT_MAILBOX), UNCATEGORIZED)),)
    for rule in (one for one in settings.rule if one.where is not None):
        for word in rule.when:
            earlier = first.setdefault(word, rule)
            if word in IGNORED_TYPES:
                findings.warn(_IGNORED, rule.where, word=quoted(word))
            elif earlier is not rule:
                findings.warn(_REPEATED, rule.where, word=quoted(word), first=earlier.where)
            elif word in _NOT_ABOUT_MAILBOX:
                findings.warn(_POLICY, rule.where, word=quoted(word))
            elif word not in known and (classes or word.lower() in known):
                guess = nearest(word, known)
                fix = f"Write {quoted(guess)}." if guess else f"The known words are: {', '.join(known)}."
                findings.warn(_UNKNOWN, rule.where, word=quoted(word), fix=fix)
