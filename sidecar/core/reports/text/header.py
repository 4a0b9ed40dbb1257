"""The header section of a message -> whether an automatic mailer wrote it, and whether it is a reply.

Owns the fields in which a mailer differs from a person. Never reads a body.
"""

import re

from sidecar.core.reports import mime
from sidecar.core.reports.fields import unstructured

# A field is read up to here. `X-Failed-Recipients` of Exim names up to 50 recipients in a field.
_VALUE_LIMIT = 4 * 1024
_FAILED = b"x-failed-recipients"

_MAILER = re.compile(
    r"mailer[-_ ]?daemon|\bpost_?master\b|mail[. ]deliver|delivery[. ]sub?system|mdaemon|interscan|\bimss@|<>\s*$|^\s*$"
    r"|system administrator|antivirus_for_smtp|smtp_mail_service|\bmail system\b|\bno-reply@\S+\.dion\.ne\.jp|mmsc ndr",
    re.IGNORECASE,
)
# Each alternative has one of these; the first is that of encoded words.
_MAILER_WORDS = (
    b"=?", b"<>", b"daemon", b"master", b"deliver", b"interscan", b"imss@", b"system", b"antivirus", b"smtp", b"dion", b"mmsc",
)  # fmt: skip
# A person's From has a name. Programs have none, or one that says what they do.
_ROLE = re.compile(
    r"mail|smtp|server|gateway|system|admin|reply|bounce|notif|daemon|service|robot|auto|deliver|abuse|virus|spam|filter"
    r"|zustell|support|master|ndr\b|mta\b|error",
    re.IGNORECASE,
)
# Of these, the ones that only a mail system has: a help desk that quotes a bounce can use the null sender, too.
_MAIL_SYSTEM = re.compile(
    r"deliver|bounce|daemon|ndr\b|mta\b|mailer|smtp|gateway|zustell|master|error|no-?reply", re.IGNORECASE
)
_FAILURE_SUBJECT = re.compile(
    r"\s*(?:failure (?:notice|delivery)|failed delivery|undeliver(?:able|ed)\b|returned (?:mail|to sender)|non[- ]delivery"
    r"|(?:permanent )?(?:mail |message )?delivery (?:failed|failure|has failed|status|problem|notification|error)"
    r"|mail (?:delivery|could not be delivered|not delivered|system error|failed|error)|message (?:status|delivery)|failed mail"
    r"|\[postmaster\] email delivery|there was an error sending your mail|warning(?:: |--)(?:message|could not send)"
    r"|bounce (?:of|notif)|delayed mail|mail delivery warning|unzustellbar|non remis|no se puede entregar"
    r"|impossibile recapitare|onbestelbaar|email bounce)",
    re.IGNORECASE,
)
_PROGRAM = re.compile(
    r"<SMTP32|Internet Mail Service|Exchange Server Internet Mail Connector|m-FILTER|GroupWise Internet Agent|SpamLion|XWall"
    r"|Amazon WorkMail",
    re.IGNORECASE,
)
_LIST_MANAGER = re.compile(r"\bfml\b", re.IGNORECASE)
_ADDRESSES = re.compile(rb"[^\s<>()\[\]:;,\"'@]{1,64}@[^\s<>()\[\]:;,\"'@]{1,255}")
_PROOFS = {b"from": _MAILER, b"x-mailer": _PROGRAM, b"x-mlserver": _LIST_MANAGER, _FAILED: re.compile("@")}

_REPLY_SUBJECT = re.compile(
    r"\s*(?:\[[^\]]{1,60}\]\s*)?(?:(?:re|fwd?|aw|wg|tr|rv|sv|antw?|ref|enc)\s*(?:\[\d+\])?:|\[?(?:auto(?:mati[ck]\w*)?|autom)\b"
    r"|out of (?:the )?office"
    r"|abwesen|vacation|.{0,60}\bauto[- ]?(?:reply|respon))",
    re.IGNORECASE,
)
_AUTO_REPLY_FIELDS = (
    *(b"x-autoreply", b"x-autorespond", b"x-autoresponder", b"x-autoreply-from", b"x-mail-autoreply", b"x-vacation"),
    b"in-reply-to-autoreply",
)
# Of a message that a list distributes; the notices of list managers have none.
_LIST_FIELDS = (b"list-id", b"x-mail-count")


def is_from_mailer(head: bytes) -> bool:
    """Return True if a header section proves an automatic mailer. Of a repeated field the first counts, as in `read_text`.

    Without such a proof and without the null sender, `read_text` finds no bounce.
    """
    lowered = head.lower()
    fields = ((name, mime.header(head, name)) for name in _PROOFS if name in lowered)
    return any(_proves_mailer(name, value) for name, value in fields if value is not None)


def _proves_mailer(name: bytes, value: bytes) -> bool:
    """Return True if a field of `_PROOFS` proves that an automatic mailer wrote the message."""
    if name == b"from" and _is_surely_personal(value):
        return False
    return _PROOFS[name].search(_decoded(value)) is not None


def _is_surely_personal(sender: bytes) -> bool:
    """Return True for a From with no word of a mailer: most are. The patterns take fifteen times as long."""
    lowered = sender[:_VALUE_LIMIT].strip().lower()
    return lowered.isascii() and lowered != b"" and not any(map(lowered.__contains__, _MAILER_WORDS))


def answers_automatically(head: bytes) -> bool:
    """Return True for the marks of an automatic reply."""
    submitted, precedence = ((mime.header(head, name) or b"").strip().lower() for name in (b"auto-submitted", b"precedence"))
    is_marked = submitted.startswith(b"auto-replied") or precedence in {b"auto_reply", b"auto-reply"}
    return is_marked or _has_any(head, _AUTO_REPLY_FIELDS)


def _has_any(head: bytes, names: tuple[bytes, ...]) -> bool:
    lowered = head.lower()
    return any(name in lowered and mime.header(head, name) is not None for name in names)


class MailerHeader:
    """What the reader needs to know from one header section.

    `from_mailer`: its From is an automatic mailer's. `is_failure`: its Subject is one that bounces have. `is_automatic`: any
    field proves an automatic mailer. `has_reply_subject`: its Subject is that of a reply. `is_reply`: a person or an
    autoresponder writes, or a list forwards. `program` is the X-Mailer and the X-MLServer, and `sender` the From in lower case,
    `domain` the domain of From, `failed` the addresses of X-Failed-Recipients, `own` those of To and From in lower case.
    """

    def __init__(self, head: bytes) -> None:
        sender = _value(head, b"from")
        self.subject = _value(head, b"subject") or ""
        mailer, list_manager = _value(head, b"x-mailer") or "", _value(head, b"x-mlserver") or ""
        self.program = f"{mailer} {list_manager}".lower()
        failed = _value(head, _FAILED) or ""
        self.failed = [address for address in (text.strip() for text in failed.split(",")) if "@" in address]
        self.from_mailer = sender is None or _MAILER.search(sender) is not None
        self.has_reply_subject = _REPLY_SUBJECT.match(self.subject) is not None
        self.is_failure = _FAILURE_SUBJECT.match(self.subject) is not None
        is_program = _PROGRAM.search(mailer) is not None or _LIST_MANAGER.search(list_manager) is not None
        self.is_automatic = (sender is not None and self.from_mailer) or bool(self.failed) or is_program
        self.sender = (sender or "").lower()
        self.domain = (sender or "").rpartition("@")[2].strip("<> \t").partition(" ")[0].rstrip(">").lower()
        own = b" ".join((mime.header(head, name) or b"")[:_VALUE_LIMIT] for name in (b"to", b"from"))
        self.own = frozenset(map(bytes.lower, _ADDRESSES.findall(own)))
        is_named = _has_name(self.sender) and _ROLE.search(self.sender) is None
        is_likely = self.is_failure or self.is_automatic or _MAIL_SYSTEM.search(self.sender) is not None
        is_person = is_named or not is_likely or self.has_reply_subject
        self.is_reply = not (self.from_mailer or self.failed) and (
            is_person or answers_automatically(head) or _has_any(head, _LIST_FIELDS)
        )


def _has_name(sender: str) -> bool:
    """Return True for `Anna Berg <anna@sender.example>` and `anna@sender.example (Anna Berg)`."""
    name, bracket, _ = sender.partition("<")
    return any(map(str.isalpha, name if bracket else sender.partition("(")[2]))


def _value(head: bytes, name: bytes) -> str | None:
    value = mime.header(head, name)
    return None if value is None else _decoded(value)


def _decoded(value: bytes) -> str:
    return unstructured(value[:_VALUE_LIMIT], _VALUE_LIMIT)
