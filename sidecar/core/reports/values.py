"""The content of a report.

Field names and their order are the JSON shape of KumoMTA's log records and of `sidecar parse --json`: they are permanent.
Dates are RFC 3339 in UTC with a `Z` (`2026-07-02T18:55:38Z`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from msgspec import UNSET, Struct, UnsetType

if TYPE_CHECKING:
    Original = str | bytes
else:
    # In JSON, for which msgspec makes schemas, bytes are an array of numbers.
    Original = str | list[int]
"""A returned message with LF line ends: text, or bytes that are not UTF-8."""

Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]
ACTIONS: dict[str, Action] = {action: action for action in get_args(Action)}
OtherKind = Literal["mdn", "tls_report", "dmarc_report", "auto_reply", "other_report"]
"""A well-formed message of another kind: RFC 8098, RFC 8460, RFC 7489, RFC 3834; a report of another type of RFC 6522."""


class MtaName(Struct, frozen=True, kw_only=True):
    """`Reporting-MTA: dns; mx.example.com` (RFC 3464 section 2.1.2)."""

    mta_type: str
    name: str


class ReportedRecipient(Struct, frozen=True, kw_only=True):
    """`Final-Recipient: rfc822; user@example.com`; the address without angle brackets."""

    recipient_type: str
    recipient: str


class DsnStatus(Struct, frozen=True, kw_only=True, rename={"class_": "class"}):
    """An enhanced status code (RFC 3463), with the text that followed it."""

    class_: int
    subject: int
    detail: int
    comment: str | None = None


class DiagnosticCode(Struct, frozen=True, kw_only=True):
    """`Diagnostic-Code: smtp; 550 5.1.1 no such user` (RFC 3464 section 2.3.6)."""

    diagnostic_type: str
    diagnostic: str


class PerMessage(Struct, frozen=True, kw_only=True):
    """The fields of the whole message (RFC 3464 section 2.2)."""

    original_envelope_id: str | None = None
    reporting_mta: MtaName | None = None
    dsn_gateway: MtaName | None = None
    received_from_mta: MtaName | None = None
    arrival_date: str | None = None
    extensions: Mapping[str, list[str]]


class PerRecipient(Struct, frozen=True, kw_only=True):
    """The fields of one recipient (RFC 3464 section 2.3).

    `derived` names what was not reported but worked out, as in `meta.derived`; it is not set if nothing was.
    """

    final_recipient: ReportedRecipient | None
    action: Action
    status: DsnStatus | None = None
    original_recipient: ReportedRecipient | None = None
    remote_mta: MtaName | None = None
    diagnostic_code: DiagnosticCode | None = None
    last_attempt_date: str | None = None
    final_log_id: str | None = None
    will_retry_until: str | None = None
    extensions: Mapping[str, list[str]]
    derived: tuple[str, ...] | UnsetType = UNSET


class OobReport(Struct, frozen=True, kw_only=True):
    """A bounce report: a delivery status notification (RFC 3464, RFC 6533)."""

    per_message: PerMessage
    per_recipient: list[PerRecipient]
    original_message: Original | None = None


class ArfReport(Struct, frozen=True, kw_only=True):
    """A spam complaint: a feedback report (RFC 5965). `original_rcpto_to` is KumoMTA's spelling."""

    feedback_type: str
    user_agent: str | None
    version: str | None
    arrival_date: str | None = None
    incidents: int | None = None
    original_envelope_id: str | None = None
    original_mail_from: str | None = None
    reporting_mta: MtaName | None = None
    source_ip: str | None = None
    authentication_results: list[str]
    original_rcpto_to: list[str]
    reported_domain: list[str]
    reported_uri: list[str]
    extensions: Mapping[str, list[str]]
    original_message: Original | None = None
    supplemental_trace: Any = None


class ReportReading(Struct, frozen=True, kw_only=True):
    """What one message is; it can be both. `why` is one short sentence.

    `read_as` is `rfc3464`, `rfc5965` or `text:FORMAT`, that of the feedback report if it is both. `derived` names the values of
    the feedback report that were worked out; each recipient of a bounce report has its own. Both are empty in strict readings.
    `other` is the kind of a message that is neither. It is no unparsable report then, whatever its Content-Type says.
    """

    arf: ArfReport | None = None
    oob: OobReport | None = None
    other: OtherKind | None = None
    why: str
    read_as: str = ""
    derived: tuple[str, ...] = ()

    @property
    def is_report(self) -> bool:
        """Whether the message is a report of either kind."""
        return self.arf is not None or self.oob is not None
