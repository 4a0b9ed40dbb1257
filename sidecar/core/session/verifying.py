"""What a report proves for each recipient of a message, and what their domains require (policy reference, Unverified reports).

Never decides what a proof is: `core/proof` does. Never counts signatures: the quota does.
"""

from collections.abc import Callable, Mapping

from sidecar.core.policy import MessageAnswer, RecipientAnswer
from sidecar.core.policy.address import without_route
from sidecar.core.policy.answers import requiring_proof, requiring_token
from sidecar.core.proof.address import check_address
from sidecar.core.proof.values import Verification
from sidecar.core.proof.verify import verify
from sidecar.core.reports.values import ReportReading
from sidecar.core.session.rules import World
from sidecar.core.settings.proof import VerifySettings

Admits = Callable[[], bool]
"""Returns False if the rate of signatures is exhausted."""


def check_token(answer: RecipientAnswer, settings: VerifySettings, now: float) -> RecipientAnswer:
    """Return the answer to a recipient; a rejection if its domain requires an address token and it has none that is valid."""
    if not (rule := settings.rule_of(answer.domain)).requires_token:
        return answer
    checked = check_address(without_route(answer.address), settings, now)
    return answer if checked.holds else requiring_token(answer, checked.why, rule)


def verify_report(  # noqa: PLR0913 - the report, and what it is verified with
    answer: MessageAnswer, reading: ReportReading, report: bytes, *, settings: VerifySettings, world: World, admits: Admits
) -> dict[str, Verification]:
    """Return what a report proves, by the address of each recipient that logs it."""
    logging = [one.recipient.address for one in answer.results if one.logged_as is not None]
    mailboxes = [*map(without_route, logging)]
    found = verify(reading, recipients=mailboxes, report=report, keys=settings, now=world.clock(), admits=admits)
    return {address: found[mailbox] for address, mailbox in zip(logging, mailboxes, strict=True)}


def judge_proofs(answer: MessageAnswer, found: Mapping[str, Verification], settings: VerifySettings) -> MessageAnswer:
    """Return the decision on a report, by the rule of each recipient for which it proves nothing."""
    unproved = {
        one.recipient.address: settings.rule_of(one.recipient.domain)
        for one in answer.results
        if (own := found.get(one.recipient.address)) is not None and not own.holds
    }
    return requiring_proof(answer, unproved)
