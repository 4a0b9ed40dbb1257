"""What a report proves, in the shape for commands: the result of each method with its reason, and the level of each recipient.

Scripts read these values: their fields are permanent.
"""

from msgspec import Struct

from sidecar.core.evaluate.delivery import recipient_of
from sidecar.core.policy import Because
from sidecar.core.proof.values import Level, Method, Reporter, Result, Verification
from sidecar.core.proof.verify import reported_recipients, verify
from sidecar.core.reports.values import ReportReading
from sidecar.core.settings.proof import VerifySettings


class MethodPart(Struct, frozen=True, kw_only=True):
    """The result of one method, and a sentence about it."""

    method: Method
    result: Result
    why: str


class ProofPart(Struct, frozen=True, kw_only=True):
    """What was found about a report; `reporter` is None if no trusted host says who sent it."""

    methods: list[MethodPart]
    reporter: Reporter | None


class RecipientProof(Struct, frozen=True, kw_only=True):
    """What is proved about a recipient that a report names; `recipient` is empty if the report names none."""

    recipient: str
    verified: Level
    verified_by: tuple[Method, ...]


class StoredProof(ProofPart, frozen=True, kw_only=True):
    """What a stored report proves. `to` is its envelope recipient, for the address token."""

    to: str
    recipients: list[RecipientProof]


class MessageProof(ProofPart, frozen=True, kw_only=True):
    """What the report of a question proves; `because` has the rules that reject or quarantine it, as it proves nothing."""

    because: list[Because]


def message_proof(verification: Verification, because: list[Because]) -> MessageProof:
    """Return what was found about the report of a question."""
    return MessageProof(methods=_methods(verification), reporter=verification.reporter, because=because)


def prove(reading: ReportReading, message: bytes, settings: VerifySettings, *, to: str | None, now: float) -> StoredProof:
    """Return what a stored report with the envelope recipient `to`, or else the one that it names, proves at a time."""
    to = to or recipient_of(message)
    found = verify(reading, recipients=[to], report=message, keys=settings, now=now)[to]
    reported = reported_recipients(reading)
    proofs = [(one, found.proof(one)) for one in reported] or [("", found.proof())]
    return StoredProof(
        to=to,
        recipients=[RecipientProof(recipient=one, verified=own.verified, verified_by=own.verified_by) for one, own in proofs],
        methods=_methods(found),
        reporter=found.reporter,
    )


def proof_words(part: ProofPart) -> list[str]:
    """Return a line for each method, and one for the reporter, for people. They have text of external hosts."""
    lines = [f"proof by {one.method} is {one.result}: {one.why}" for one in part.methods]
    if (reporter := part.reporter) is not None:
        domains = dict.fromkeys((*reporter.dkim, *filter(None, (reporter.spf,))))
        lines.append(f"reported by {', '.join(domains)}, as {reporter.authserv_id} says")
    return lines


def stored_words(proof: StoredProof | None) -> list[str]:
    """Return the lines for a stored report: the level of each recipient, then those of `proof_words`."""
    if proof is None:
        return []
    levels = [(one.recipient or "(no recipient)", one.verified, ", ".join(one.verified_by)) for one in proof.recipients]
    return [
        f"sent to {proof.to or '(unknown)'}",
        *(f"verified for {name}: {level}{methods and f' ({methods})'}" for name, level, methods in levels),
        *proof_words(proof),
    ]


def _methods(verification: Verification) -> list[MethodPart]:
    return [MethodPart(method=one.method, result=one.result, why=one.why) for one in verification.methods]
