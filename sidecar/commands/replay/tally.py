"""Counts of dispositions and their reasons: of one task or of all, in memory that does not grow with the mail.

Owns what counts as the same reason. Never keeps a message.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.commands.replay.judge import Judged, NotJudged
from sidecar.core.disposition import Disposition
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of

# An operator can have 200,000 rules, and strangers write into reasons; what comes after so many is counted together.
REASONS_LIMIT = 1000
_OTHERS = Because(text="for other reasons")
# The content decides, and so the rule is not all of the reason.
_FOR_CONTENT = {Disposition.REJECTED_AT_END, Disposition.TEMPFAILED, Disposition.QUARANTINED}
# So many files that could not be read are named.
NAMED_LIMIT = 5


class Reason(NamedTuple):
    """What makes two reasons the same: outcome and rule, and the words where there is no rule, or where it is not all."""

    outcome: Disposition | NotJudged
    partly: bool
    file: str | None
    line: int | None
    key: str | None
    words: str


@dataclass(kw_only=True)
class ReasonGroup:
    """Messages with one outcome for one reason; `example` is the first one's; `varied`: others differ in a name."""

    count: int
    example: Because
    varied: bool = False


@dataclass(kw_only=True)
class ReplayTally:
    """What came of some messages. `size` is in bytes; `guessed` counts envelopes, `reports` those that were taken, by kind.

    `unreadable` names the first files that could not be read, each with the reason.
    """

    messages: int = 0
    size: int = 0
    guessed: int = 0
    reports: Counter[str] = field(default_factory=Counter)
    groups: dict[Reason, ReasonGroup] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def count(self, outcome: Disposition | NotJudged) -> int:
        """Return the number of messages with this outcome."""
        return sum(group.count for reason, group in self.groups.items() if reason.outcome == outcome)

    def add(self, judged: Judged) -> None:
        """Count one message, or a file that could not be read."""
        self.size += judged.size
        self._group(_same(judged), ReasonGroup(count=1, example=judged.reason))
        if judged.not_judged == "unreadable":
            self._name(f"{judged.file}: {judged.reason.text}")
            return
        self.messages += 1
        self.guessed += judged.guessed
        if judged.message is not None and judged.message.report is not None:
            self.reports[judged.message.report] += 1

    def merge(self, later: "ReplayTally") -> None:
        """Count what comes after this in the order of the mail."""
        self.messages += later.messages
        self.size += later.size
        self.guessed += later.guessed
        self.reports += later.reports
        for reason, group in later.groups.items():
            self._group(reason, group)
        for line in later.unreadable:
            self._name(line)

    def _group(self, reason: Reason, more: ReasonGroup) -> None:
        group = self.groups.get(reason)
        if group is None and len(self.groups) >= REASONS_LIMIT:
            reason = Reason(outcome=reason.outcome, partly=reason.partly, file=None, line=None, key=None, words=_OTHERS.text)
            more = ReasonGroup(count=more.count, example=_OTHERS)
            group = self.groups.get(reason)
        if group is None:
            self.groups[reason] = more
            return
        group.count += more.count
        group.varied |= more.varied or more.example.text != group.example.text

    def _name(self, line: str) -> None:
        if len(self.unreadable) < NAMED_LIMIT:
            self.unreadable.append(line)


def _same(judged: Judged) -> Reason:
    """Say which reasons are the same: one rule is, whatever domains it was applied to; and so are words but for the domain."""
    rule, outcome = judged.reason, judged.disposition or judged.not_judged
    assert outcome is not None  # noqa: S101 - it has one of the two
    ruled = rule.file is not None and judged.disposition not in _FOR_CONTENT
    words = "" if ruled else rule.text
    if words and judged.to:
        words = words.removesuffix(domain_of(judged.to[0]))
    return Reason(outcome=outcome, partly=judged.partly, file=rule.file, line=rule.line, key=rule.key, words=words)
