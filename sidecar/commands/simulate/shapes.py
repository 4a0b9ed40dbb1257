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
    from_null: bool
    summary: str

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


# Name, kind, True if it has the null sender, and summary. All providers named here send complaints from their own address.
_ROWS: Sequence[tuple[str, ShapeKind, bool, str]] = (
    ("postfix", "oob", True, "Postfix: unknown user, the whole message returned"),
    ("sendmail", "oob", True, "Sendmail: mailbox full, types in capitals"),
    ("exim", "oob", True, "Exim: unknown user, Action first in its group"),
    ("exchange", "oob", True, "Exchange server: recipient not found, text and HTML in a part of their own"),
    ("microsoft-365", "oob", True, "Microsoft 365: recipient not found, folded diagnostic"),
    ("gmail", "oob", True, "Gmail: a reply of three lines, an image among the parts"),
    ("delayed", "oob", True, "Postfix: delayed, still retried; no bounce"),
    ("delivered", "oob", True, "Postfix: delivered, a notification that the sender requested; no bounce"),
    ("international", "oob", True, "RFC 6533: message/global-delivery-status about an address in UTF-8"),
    ("many-recipients", "oob", True, "Sendmail: four recipients, two failed, one delayed, one delivered"),
    ("sloppy", "oob", True, "a gateway that breaks many rules: no Reporting-MTA, <addr>, Failed, a stray line"),
    ("encoded-status", "oob", True, "an appliance that sends the status part as base64"),
    ("yahoo", "arf", False, "Yahoo's complaint feedback loop: Received-Date, Authentication-Results"),
    ("microsoft-jmrp", "arf", False, "Microsoft's junk mail reporting: the three required fields, and no address"),
    ("validity", "arf", False, "Validity's universal feedback loop: a recipient as a hash, fields of its own"),
    ("aol", "arf", False, "AOL's old form: Version 0.1, redacted addresses"),
    ("auth-failure", "arf", False, "RFC 6591: a message failed DMARC; no complaint"),
    ("not-spam", "arf", False, "a user took a message out of the spam folder; the opposite of a complaint"),
    ("opt-out", "arf", False, "a user wants no more such mail"),
    ("qmail", "oob", True, "qmail's bounce in text form"),
    ("exim-text", "oob", True, "Exim's bounce in text form, as before it spoke RFC 3464"),
    ("sendmail-text", "oob", True, "Sendmail 8.6: a transcript of the session, no status part"),
    ("postfix-text", "oob", True, "a Postfix whose bounce lost its status part in a gateway"),
    ("exchange-text", "oob", True, "Exchange since 2007 without a status part: diagnostic information for administrators"),
    ("domino-text", "oob", True, "HCL Domino: a failure report in text form"),
    ("opensmtpd-text", "oob", True, "OpenSMTPD: its notice without a status part"),
    ("delayed-text", "oob", True, "Exim: a delay warning in text form; no bounce"),
    ("vacation-quoting", "none", True, "an automatic reply that quotes a bounce; no bounce"),
    ("spam", "none", False, "plain spam"),
    ("auto-reply", "none", True, "an out-of-office reply (RFC 3834)"),
    ("dmarc-aggregate", "none", False, "a DMARC aggregate report: XML in a zip"),
    ("read-receipt", "none", True, "a read receipt (RFC 8098): multipart/report of another type"),
    ("truncated", "none", True, "a bounce cut off before its Action"),
    ("forwarded-bounce", "none", False, "a bounce that a person forwarded: the report is inside an attached message"),
    ("disguised-spam", "none", True, "spam dressed as a bounce: multipart/report without a status part"),
    ("no-report-type", "none", False, "a complaint whose report-type is missing"),
)
SHAPES: Sequence[MessageShape] = tuple(
    MessageShape(name=name, kind=kind, from_null=from_null, summary=summary) for name, kind, from_null, summary in _ROWS
)
