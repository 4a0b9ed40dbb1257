"""Counts of dispositions and their reasons, of one task or of all, in bounded memory. Owns which reasons are the same."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.disposition import Disposition
from sidecar.core.policy import Because
from sidecar.core.policy.address import domain_of

if TYPE_CHECKING:
    from sidecar.commands.replay.replayer import Judged

# An operator can have 200,000 rules, and external hosts write into reasons. Further reasons are counted together.
REASONS_LIMIT = 1000
_OTHERS = Because(text="for other reasons")
# The content decides, so the rule is not the complete reason.
_FOR_CONTENT = {Disposition.REJECTED_AT_END, Disposition.TEMPFAILED, Disposition.QUARANTINED}
# The number of unreadable files that are named.
NAMED_LIMIT = 5


class Reason(NamedTuple):
    """What makes two reasons the same: outcome and rule, and the words if there is no rule or it is not the complete reason."""

    outcome: str
    partly: bool
    file: str | None = None
    line: int | None = None
    key: str | None = None
    words: str = _OTHERS.text


@dataclass(kw_only=True)
class ReasonGroup:
    """Messages with one outcome for one reason. `example` is the first one's; `varied`: others differ in a name."""

    count: int
    example: Because
    varied: bool = False


@dataclass(kw_only=True)
class ReplayTally:
    """Counts of messages. `size` is in bytes; `guessed` counts envelopes, `reports` the accepted ones by kind.

    `unreadable` names the first files that cannot be read, each with the reason.
    """

    messages: int = 0
    size: int = 0
    guessed: int = 0
    reports: Counter[str] = field(default_factory=Counter)
    groups: dict[Reason, ReasonGroup] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Return the number of messages with this outcome."""
        return sum(group.count for reason, group in self.groups.items() if reason.outcome == outcome)

    def add(self, judged: "Judged") -> None:
        """Count one message, or a file that cannot be read."""
        self.size += judged.size
        self._group(_reason(judged), ReasonGroup(count=1, example=judged.reason))
        if judged.not_judged == "unreadable":
            self._name(f"{judged.file}: {judged.reason.text}")
            return
        self.messages += 1
        self.guessed += judged.guessed
        if judged.message is not None and judged.message.report is not None:
            self.reports[judged.message.report] += 1

    def merge(self, later: "ReplayTally") -> None:
        """Add the counts of the mail that follows."""
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
            reason, more = Reason(reason.outcome, reason.partly), ReasonGroup(count=more.count, example=_OTHERS)
            group = self.groups.get(reason)
        if group is None:
            self.groups[reason] = more
            return
        group.count += more.count
        group.varied |= more.varied or more.example.text != group.example.text

    def _name(self, line: str) -> None:
        if len(self.unreadable) < NAMED_LIMIT:
            self.unreadable.append(line)


def _reason(judged: "Judged") -> Reason:
    """Return the same value for one rule, whatever domains it decided on, and for words that differ only in the domain."""
    rule, outcome = judged.reason, judged.disposition or judged.not_judged
    assert outcome is not None  # noqa: S101 - it has one of the two
    words = "" if rule.file is not None and judged.disposition not in _FOR_CONTENT else rule.text
    if words and judged.to:
        words = words.removesuffix(domain_of(judged.to[0]))
    return Reason(outcome, judged.partly, rule.file, rule.line, rule.key, words)
