"""Recipients of relay hosts that are on the suppression list (policy reference, Suppressed recipients).

Owns which recipients are looked up, and what follows. Never reads the list: the World of the session does.
"""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from sidecar.core.policy import RecipientAnswer
from sidecar.core.policy.address import domain_of
from sidecar.core.policy.answers import because, suppressing
from sidecar.core.session import replies
from sidecar.core.session.verdicts import CheckResult, Reject, Suppressed, Tempfail
from sidecar.core.settings.suppression import Check, SuppressionSettings
from sidecar.core.settings.values import Where
from sidecar.core.text import printable, rfc3339


class UnreadableListError(Exception):
    """The suppression list cannot be read; the text is one sentence for the operator, without a full stop."""


class SuppressionList(Protocol):
    """The list of some settings, as sessions ask it; from any thread."""

    def may_have(self, settings: SuppressionSettings, address: str) -> bool:
        """Return False if an address is not on the list. This waits for nothing, and True can be wrong."""

    def find(self, settings: SuppressionSettings, address: str, now: int) -> Suppressed | None:
        """Return the entry of an address at a time. This can wait for the disk. Raise UnreadableListError."""


class JudgedRecipient(Struct, frozen=True, kw_only=True):
    """The decision on a recipient. `rejected` is None if it is accepted, and otherwise the verdict with its reason.

    `answer` is the policy's; a rejection without it is not of the policy. `checked` and `entry` are of the suppression list.
    """

    answer: RecipientAnswer | None = None
    rejected: tuple[Reject | Tempfail, str] | None = None
    checked: CheckResult | None = None
    entry: Suppressed | None = None


class SenderCheck(Struct, frozen=True, kw_only=True):
    """The check of the recipients of one message, and the place of the setting that asks for it."""

    settings: SuppressionSettings
    check: Check
    where: Where | None
    known: SuppressionList

    def may_have(self, address: str) -> bool:
        """Return False if an address is not on the list. This waits for nothing."""
        return self.known.may_have(self.settings, address)

    def look_up(self, answer: RecipientAnswer, now: float) -> JudgedRecipient:
        """Look up an accepted recipient. This can wait for the disk."""
        try:
            entry = self.known.find(self.settings, answer.address, int(now))
        except UnreadableListError as error:
            return self._unreadable(answer, str(error))
        if entry is None:
            return JudgedRecipient(answer=answer, checked="not_listed")
        rejects = self.check == "reject"
        reason = because(_sentence(answer.address, entry), self.where, self.check)
        found = suppressing(answer, reason, rejects=rejects)
        if not rejects:
            return JudgedRecipient(answer=found, checked="logged", entry=entry)
        reply = replies.suppressed(answer.address, entry)
        return JudgedRecipient(answer=found, rejected=(Reject(reply=reply), str(reason)), checked="rejected", entry=entry)

    def _unreadable(self, answer: RecipientAnswer, why: str) -> JudgedRecipient:
        then = self.settings.on_unreadable
        text = f'the suppression list cannot be read, and on_unreadable is "{then}": {why}'
        found = suppressing(answer, because(text, None, then), rejects=then == "tempfail")
        rejected = (Tempfail(reply=replies.LIST_UNREADABLE), text) if then == "tempfail" else None
        return JudgedRecipient(answer=found, rejected=rejected, checked="unreadable")


def sender_check(settings: SuppressionSettings | None, known: SuppressionList | None, sender: str) -> SenderCheck | None:
    """Return the check of a relay host's message; None if its recipients are not looked up.

    Bounces (the null sender) are not looked up: they answer mail that the recipient has sent.
    """
    if settings is None or known is None or not sender or not settings.checks:
        return None
    check, where = settings.check_of(domain_of(sender))
    return None if check == "off" else SenderCheck(settings=settings, check=check, where=where, known=known)


def meta_of(entry: Suppressed) -> Mapping[str, str | None]:
    """Return what records say of an entry, in the words of `sidecar suppression show --json`."""
    expires = rfc3339(entry.expires) if entry.expires else None
    return {"reason": entry.reason, "source": entry.source, "since": rfc3339(entry.since), "expires": expires}


def _sentence(address: str, entry: Suppressed) -> str:
    until = f", until {replies.day(entry.expires)}" if entry.expires else ""
    return f"{printable(address)} is on the suppression list: {printable(entry.reason)} since {replies.day(entry.since)}{until}"
