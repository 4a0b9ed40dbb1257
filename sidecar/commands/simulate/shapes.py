"""The catalogue: what real MTAs and mailbox providers send to addresses that accept reports, and what else arrives there.

Each template is our own text in the form of the named sender's reports: the fields, their order, spelling and encoding, and the
nesting of the parts. Its names are those that RFC 2606 reserves for examples.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.resources import files
from string import Template
from typing import Literal

from msgspec import Struct

ShapeKind = Literal["oob", "arf", "none"]
"""The kind of a message in `sidecar parse`."""

_RETRIED_FOR = timedelta(days=5)
_TRAVELLED_FOR = timedelta(hours=1)


class MessageShape(Struct, frozen=True, kw_only=True):
    """One message of the catalogue. With `from_null` it has the null sender, like reports of RFC 3464 and RFC 8098."""

    name: str
    kind: ShapeKind
    summary: str
    from_null: bool = True

    def filled(self, *, to: str, mark: str, now: float) -> bytes:
        """Return the message with CRLF line ends: for `to`, marked with `mark`, dated `now` (seconds since 1970)."""
        made = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
        text = (files(__package__) / "catalogue" / f"{self.name}.eml").read_text(encoding="utf-8")
        filled = Template(text).substitute(
            to=to,
            mark=mark,
            date=format_datetime(made),
            earlier=format_datetime(made - _TRAVELLED_FOR),
            later=format_datetime(made + _RETRIED_FOR),
        )
        return filled.replace("\n", "\r\n").encode()


def _bounce(name: str, summary: str) -> MessageShape:
    return MessageShape(name=name, kind="oob", summary=summary)


def _complaint(name: str, summary: str) -> MessageShape:
    # All providers named here send complaints from their own address.
    return MessageShape(name=name, kind="arf", summary=summary, from_null=False)


def _other(name: str, summary: str, *, from_null: bool = True) -> MessageShape:
    return MessageShape(name=name, kind="none", summary=summary, from_null=from_null)


SHAPES: Sequence[MessageShape] = (
    _bounce("postfix", "Postfix: unknown user, the whole message returned"),
    _bounce("sendmail", "Sendmail: mailbox full, types in capitals"),
    _bounce("exim", "Exim: unknown user, Action first in its group"),
    _bounce("exchange", "Exchange server: recipient not found, text and HTML in a part of their own"),
    _bounce("microsoft-365", "Microsoft 365: recipient not found, folded diagnostic"),
    _bounce("gmail", "Gmail: a reply of three lines, an image among the parts"),
    _bounce("delayed", "Postfix: delayed, still retried; no bounce"),
    _bounce("delivered", "Postfix: delivered, a notification that the sender requested; no bounce"),
    _bounce("international", "RFC 6533: message/global-delivery-status about an address in UTF-8"),
    _bounce("many-recipients", "Sendmail: four recipients, two failed, one delayed, one delivered"),
    _bounce("sloppy", "a gateway that breaks many rules: no Reporting-MTA, <addr>, Failed, a stray line"),
    _bounce("encoded-status", "an appliance that sends the status part as base64"),
    _complaint("yahoo", "Yahoo's complaint feedback loop: Received-Date, Authentication-Results"),
    _complaint("microsoft-jmrp", "Microsoft's junk mail reporting: the three required fields, and no address"),
    _complaint("validity", "Validity's universal feedback loop: a recipient as a hash, fields of its own"),
    _complaint("aol", "AOL's old form: Version 0.1, redacted addresses"),
    _complaint("auth-failure", "RFC 6591: a message failed DMARC; no complaint"),
    _complaint("not-spam", "a user took a message out of the spam folder; the opposite of a complaint"),
    _complaint("opt-out", "a user wants no more such mail"),
    _other("qmail", "qmail's bounce in plain text: no RFC 3464"),
    _other("exim-text", "Exim's bounce in plain text, before it spoke RFC 3464"),
    _other("spam", "plain spam", from_null=False),
    _other("auto-reply", "an out-of-office reply (RFC 3834)"),
    _other("dmarc-aggregate", "a DMARC aggregate report: XML in a zip", from_null=False),
    _other("read-receipt", "a read receipt (RFC 8098): multipart/report of another type"),
    _other("truncated", "a bounce cut off before its Action"),
    _other("forwarded-bounce", "a bounce that a person forwarded: the report is inside an attached message", from_null=False),
    _other("disguised-spam", "spam dressed as a bounce: multipart/report without a status part"),
    _other("no-report-type", "a complaint whose report-type is missing", from_null=False),
)
