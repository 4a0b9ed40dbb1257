"""One message, from MAIL to its end or an abort.

Owns the envelope and the buffer of a message that can be a report. Never decides anything.
"""

from collections.abc import Callable, Mapping
from io import BytesIO

from sidecar.core.policy import RecipientAnswer
from sidecar.core.proof.values import Verification
from sidecar.core.records.headers import RecordedHeaders
from sidecar.core.reports.reading import may_be_report
from sidecar.core.reports.text import is_from_mailer
from sidecar.core.session.events import Mail
from sidecar.core.session.quota import Quota
from sidecar.core.session.replies import HEADER_FIELD_LIMIT, Bound
from sidecar.core.session.signing import Signing, signing_of
from sidecar.core.session.suppressing import SenderCheck
from sidecar.core.session.verdicts import Outcome, Suppressed
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import LogMode

_TYPE = b"content-type"

# Reading a large report and writing its record needs up to four times its size (measured with text of four bytes a character,
# and with much to escape).
_LARGE = 256 * 1024
_NEED = 4

# Bytes that are taken from the quota in advance: a usual report then needs it twice, not for each header field.
_AHEAD = 4 * 1024


class Message:
    """The state of one message. `message_id` is 32 hex digits, `created` seconds since 1970.

    `at_end` makes a verdict that is certain before the body, and waits for the end of the message. `whole`: it is complete.
    `decided` is "data" if the verdict was given there. `claims_report`: its Content-Type is that of a report. `accepts_text`: a
    recipient logs bounces in text form; `may_be_text`: by its envelope sender or header section it can be one. `proofs` has
    what a report proves, by the address of each recipient that logs it. `signing` has the proofs that the message gets at its
    end, from `end_envelope` on. `check` is that of recipients in the suppression list, `unlisted` the newest address that is
    not there, and `suppressed` has the entries of those that are.
    The content is kept only while it can be a report, within the bounds of the settings and of the `quota`: other messages of
    any size cost nothing. `exceeded` is the first bound that was exceeded; from then on nothing is kept. Call `release` at the
    end of the message, in any case.
    """

    def __init__(self, mail: Mail, *, message_id: str, created: float, settings: Settings, quota: Quota) -> None:
        self.mail = mail
        self.message_id = message_id
        self.created = created
        self.queue_id = mail.queue_id
        self.recipients: list[RecipientAnswer] = []
        self.headers = RecordedHeaders(settings.headers)
        self.at_end: Callable[[], Outcome] | None = None
        self.decided: str | None = None
        self.whole = False
        self.claims_report = False
        self.accepts_text = False
        self.may_be_text = False
        self.exceeded: Bound | None = None
        self.needed = 0
        self.proofs: Mapping[str, Verification] = {}
        self.check: SenderCheck | None = None
        self.unlisted: str | None = None
        self.suppressed: dict[str, Suppressed] = {}
        self.signing: Signing | None = None
        self._settings = settings
        self._quota = quota
        self._kept = False
        self._held = 0
        self._granted = 0
        self.seen = 0
        self._in_headers = True
        self._is_typed = False
        self._fields = 0
        # Not a list: a million pieces of a few bytes each would need fifteen times their size.
        self._content = BytesIO()

    def id_of(self, number: int) -> str:
        """Return the id of a recipient's records, 32 hex digits. The first one's is the message's own; the others follow it."""
        return f"{(int(self.message_id, 16) + number) % (1 << 128):032x}" if number else self.message_id

    @property
    def verification(self) -> Verification | None:
        """What a report proves for the first recipient that logs it: others differ only by the token of their address."""
        return next(iter(self.proofs.values()), None)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the recipients."""
        return tuple(recipient.address for recipient in self.recipients)

    @property
    def accepts_reports(self) -> bool:
        """Whether the decision for a recipient depends on the kind of message."""
        return any(recipient.accepts_reports for recipient in self.recipients)

    @property
    def may_be_report(self) -> bool:
        """Whether the body can make a report of the message."""
        return self.claims_report or self.may_be_text

    @property
    def is_relayed_unread(self) -> bool:
        """Whether it is too large to be read as a bounce in text form, and relayed to a recipient as any other message."""
        return self.exceeded is not None and not self.claims_report and any(one.relay for one in self.recipients)

    @property
    def size(self) -> int:
        """The size in bytes: as seen, or as the peer declared it if the verdict is given before the body."""
        return self.seen if self.whole else max(self.seen, self.mail.declared_size or 0)

    @property
    def kept(self) -> int:
        """The bytes of the content that are kept for the end of the message."""
        return self.seen if self._kept else 0

    @property
    def content(self) -> bytes:
        """The message, as far as it was kept."""
        return self._content.getvalue()

    @property
    def is_from_person(self) -> bool:
        """Whether neither its envelope sender nor its header section is that of an automatic mailer, where this matters."""
        return self.accepts_text and self.exceeded is None and not self.may_be_report

    def end_envelope(self) -> None:
        """Decide whether the message is signed: the recipients are complete."""
        if self.recipients[0].outbound:
            self.signing = signing_of(self._settings, self.mail.sender)

    def begin_content(self) -> None:
        """Begin to keep the content if a recipient accepts reports."""
        self._kept = self.accepts_reports
        logs_bounces = any(one.log_oob is not LogMode.IGNORE for one in self.recipients)
        self.accepts_text = logs_bounces and self._settings.accepts_text
        self.may_be_text = self.accepts_text and not self.mail.sender

    def add_fields(self, fields: list[tuple[bytes, bytes]], size: int) -> bool:
        """Keep header fields, record those of the settings, and check whether this claims to be a report.

        `size` is their size in the message in bytes, with those that were left out. Return True if of the following fields only
        a Content-Type matters.
        """
        recorded = fields[: max(0, HEADER_FIELD_LIMIT - self._fields)] if self._settings.headers else ()
        self._fields += len(fields)
        if self._kept:
            if self._fields > HEADER_FIELD_LIMIT:
                self.exceeded = Bound.HEADER_FIELDS
                self.release()
            self._keep(b"".join([b"%b: %b\r\n" % field for field in fields]), size)
        else:
            self.seen += size
        # Only the first one counts, also for the report reader.
        if not self._is_typed:
            self._find_type(fields)
        for name, value in recorded:
            self.headers.add(name, value)
        if self.signing is not None:
            self.signing.add(fields)
            return False
        return self._fields > HEADER_FIELD_LIMIT or not (self._kept or self._settings.headers)

    def _find_type(self, fields: list[tuple[bytes, bytes]]) -> None:
        for name, value in fields:
            # RFC 5322 section 4.5 allows a blank before the colon, and so does the report reader.
            if len(name) >= len(_TYPE) and name.rstrip().lower() == _TYPE:
                self._is_typed = True
                self.claims_report = may_be_report(value)
                return

    def end_headers(self) -> None:
        """End the header section; release the content of a message that cannot be a report."""
        self._keep(b"\r\n", len(b"\r\n"))
        self._in_headers = False
        if self.accepts_text and self._kept and not self.may_be_report:
            self.may_be_text = is_from_mailer(self.content)
        if not self.may_be_report:
            self.release()

    def add_body(self, chunk: bytes) -> None:
        """Keep a piece of the body."""
        self._keep(chunk, len(chunk))

    def begin_reading(self) -> None:
        """Take the quota for reading a large report; `end_reading` frees it."""
        need = self.seen * _NEED if self._kept and self.seen > _LARGE else 0
        if need and not self._quota.begin_reading(need):
            self.exceeded = Bound.MEMORY
            self.release()
        elif need:
            self.needed = need

    def end_reading(self) -> None:
        """Free the quota of reading and writing. May be called again."""
        if self.needed:
            self._quota.end_reading(self.needed)
            self.needed = 0

    def release(self) -> None:
        """Release the content and its part of the quota. May be called again."""
        self._kept = False
        if self._held:
            self._content = BytesIO()
            self._quota.release(self._held)
            self._held = self._granted = 0

    def _keep(self, piece: bytes, size: int) -> None:
        self.seen += size
        if not self._kept:
            return
        if self.seen > self._granted:
            self.exceeded = self._extend()
        if self.exceeded is None:
            self._content.write(piece)
        else:
            self.release()

    def _extend(self) -> Bound | None:
        """Take the quota for what was seen and, if possible, for some more. Return the bound that was exceeded."""
        limit = self._settings.report_size_limit
        if self.seen > limit:
            return Bound.REPORT_SIZE
        if self._in_headers:
            limit = min(limit, self._settings.limits.header_size)
        if self.seen > limit:
            return Bound.HEADER_SIZE
        lacking = self.seen - self._held
        if lacking > 0 and not (self._hold(lacking + _AHEAD) or self._hold(lacking)):
            return Bound.MEMORY
        self._granted = min(self._held, limit)
        return None

    def _hold(self, size: int) -> bool:
        free = self._quota.hold(size)
        self._held += size if free else 0
        return free
