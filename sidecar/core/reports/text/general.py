"""A notice in no known layout -> the recipients that it says have failed, if an automatic mailer wrote it.

Owns the words of such notices. It prefers to find nothing: a program, a failure and a labelled address must come together.
"""

import re

from sidecar.core.reports.text.delays import DELAYS
from sidecar.core.reports.text.header import MailerHeader
from sidecar.core.reports.text.notice import BounceText
from sidecar.core.reports.text.phrases import Phrases
from sidecar.core.reports.text.replies import find_reply

# A notice of one failure is short. What follows is not read.
_SIZE = 6 * 1024
_RECIPIENT_LIMIT = 20

_FAILING = Phrases(
    *(b"wasn't delivered to", b"failed to deliver to"),
    *(b"couldn't be delivered", b"not be delivered", b"was not delivered"),
    *(b"has not been delivered", b"not delivered to", b"unable to deliver", b"delivery failed", b"delivery has failed"),
    *(b"undeliverable", b"did not receive this message", b"has been returned because", b"failed recipient"),
    *(b"could not deliver", b"failed addresses", b"delivery problems", b"not a valid user", b"permanent failure"),
    *(b"permanent error", b"did not exactly match an", b"mail you sent was rejected", b"your message was rejected"),
    *(b"has been failed", b"pas pu etre delivre", b"delivery failure", b"could not be sent", b"konnte nicht zugestellt"),
    *(b"konnten nicht zugestellt", b"nicht zugestellt werden", b"no se pudo entregar", b"no ha podido ser entregado"),
    *(b"no pudo ser entregado", b"n'a pas pu ", b"impossible de remettre", b"impossible de livrer"),
    *(b"impossibile recapitare", b"non e stato possibile", b"kon niet worden", b"niet worden bezorgd"),
    *(b"nao pode ser entregue", "não pode ser entregue".encode(), "não pôde ser entregue".encode(), b"not be sent to"),
    *(b"no longer valid", "non è stato possibile".encode(), b"impossibile consegnare", "nie mogła zostać".encode()),
    *("nie można dostarczyć".encode(), "无法投递".encode(), "尚未投递".encode(), "投递失败".encode(), "退信".encode()),
    *("не может быть доставлено".encode(), "配信できませんでした".encode(), "送信できませんでした".encode()),
)
# These count only with a Subject of bounces: statistics have them too.
_WEAK = Phrases(
    *(b"user unknown", b"unknown user", b"user not known", b"no such user", b"mailbox is full", b"over quota"),
    *(b"recipient address rejected", b"not valid user", b"error-code:", b"error type: smtp", b"delivery error"),
)
_FAILURE = re.compile(
    r"(?:not|n't) (?:be )?deliver|undeliver|\bfail|return|reject|zustell|distribu|entrega|delivery", re.IGNORECASE
)
# What other automatic mail says: challenges, quarantines, virus notices, receipts, moderation.
_OTHER = Phrases(
    *(b"click", b"log in", b"login", b"sign in", b"password", b"confirm", b"verification", b"verify", b"quarantine"),
    *(b"virus", b"infected", b"moderat", b"digest", b"vacation", b"out of office", b"out of the office"),
    *(b"successfully delivered", b"delivered successfully", b"was delivered to", b"has been delivered", b"released"),
    *("répondez à ce".encode(), b"responda a est", b"risponda a quest", b"antworten sie auf", b"antwoord"),
    *(b"odpowiedz na", "ответите на".encode(), "返信してください".encode(), "请回复".encode()),
    *(b"unsubscribe", b"whitelist", b"white list", b"approved", b"received your"),
)
_ADDRESS = rb"([^\s<>()\[\]:;,\"'|@]{1,64}@[^\s<>()\[\]:;,\"'@]{1,255})"
_LABEL = re.compile(
    rb"\b(?:(?:recipients?|address(?:ed)?|users?|mailbox|account|rcpt|deliver\w{0,8}|message|mail|error-for|failed|to|for|reach"
    rb"|delivre a|is full|empf[^\x00-\x7f]{1,2}nger|destinat\w{1,8})\b[^\w\n]{0,12}){1,3}(?:\[?smtp:)?" + _ADDRESS,
    re.IGNORECASE,
)
_LINE = re.compile(
    rb"^[ \t]{0,20}(?:[*>-]{1,2}[ \t]{1,4})?[\"'<\[]{0,2}" + _ADDRESS + rb"(?=[>\])\"':;,. \t\r]*(?:$| ))", re.MULTILINE
)
# Addresses for questions. Only if there is no other address, one of the second ones can be the recipient.
_OF_STAFF = re.compile(rb"(?:postmaster|mailer-daemon|abuse|no-?reply)@", re.IGNORECASE)
_OF_HELPERS = re.compile(rb"(?:support|help|helpdesk|admin|administrator)@", re.IGNORECASE)


def general_recipients(header: MailerHeader, text: BounceText, *, null_sender: bool) -> list[tuple[bytes, int, int]]:
    """Return the addresses that a notice says have failed, each with the place of its address."""
    if header.has_reply_subject or not (header.from_mailer or (null_sender and header.is_failure)):
        return []
    failing = (_FAILING, DELAYS, _WEAK) if header.is_failure else (_FAILING, DELAYS)
    if not any(phrases.are_in(text) for phrases in failing) or _OTHER.are_in(text):
        return []
    end = min(text.end, _SIZE)
    if not (header.is_failure or _FAILURE.search(header.subject) or find_reply(text.text, 0, end)):
        return []
    found = list(_LABEL.finditer(text.text, 0, end)) or list(_LINE.finditer(text.text, 0, end))
    own = header.own
    entries: dict[bytes, tuple[bytes, int, int]] = {}
    for match in found:
        address = match[1].rstrip(b".")
        if _OF_STAFF.match(address) is None and address.lower() not in own:
            entries.setdefault(address.lower(), (address, match.start(1), match.end(1)))
    if len(entries) > _RECIPIENT_LIMIT:
        return []
    return [entry for name, entry in entries.items() if not _OF_HELPERS.match(name)] or list(entries.values())
