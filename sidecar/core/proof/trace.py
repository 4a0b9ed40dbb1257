"""The trace header: MACs in the message itself, over its Message-ID, its envelope sender, and its recipient if it has one only.

`X-Sidecar-Trace: TOKEN.SENDER.RECIPIENT`. The MAC of the token covers the Message-ID and the two MACs after it. So it holds
where addresses were redacted, and no host can remove or exchange one of the two. `CFBL-Feedback-ID` (RFC 9477) has the same
value.
"""

import hmac
import re
from collections.abc import Sequence

from msgspec import Struct

from sidecar.core.proof.address import untagged
from sidecar.core.proof.head import Fields, joined, value_of
from sidecar.core.proof.secret import MAC_SIZE, TOKEN, Label, Token, age_fault, mac, make_token, maker
from sidecar.core.proof.values import Case, Checked, absent, comparable, failed, message_id_of
from sidecar.core.settings.keys import Secret

NAME = "X-Sidecar-Trace"
"""The name of the header field."""
FEEDBACK_ID = "CFBL-Feedback-ID"
"""The field of RFC 9477 that carries the same value."""
NAMES = (NAME.lower().encode(), FEEDBACK_ID.lower().encode())

MESSAGE_ID_LIMIT = 998
"""Octets of a Message-ID: a line (RFC 5322 section 2.1.1)."""
# A message that passed two of our hosts can have two, each in two fields.
_TRACE_LIMIT = 2
# Fields of each name that are read: more than forwarders add.
_TRACES_READ = 20
_VALUE = re.compile(rf"{TOKEN}\.([a-z2-7]{{{MAC_SIZE}}})(?:\.([a-z2-7]{{{MAC_SIZE}}}))?")


def trace(secret: Secret, now: float, *, message_id: str | bytes, sender: str, recipients: Sequence[str]) -> str | None:
    """Return the value of the trace header. None if the message has no Message-ID, or one that is too long.

    `message_id` is the value of its field, in any encoding. Addresses have no angle brackets; a token in `sender` does not
    matter.
    """
    identifier = joined(message_id.encode("utf-8", "replace") if isinstance(message_id, str) else message_id)
    if not 0 < len(identifier) <= MESSAGE_ID_LIMIT:
        return None
    codes = [mac(secret, b"sender", identifier, comparable(untagged(sender)))]
    if len(recipients) == 1:
        codes.append(mac(secret, b"recipient", identifier, comparable(recipients[0])))
    return ".".join((make_token(secret, b"header", now, identifier, *(code.encode() for code in codes)), *codes))


_OTHER_SENDER = failed("header", "the returned message has another envelope sender than the recipient of the report")


class Traces:
    """The trace headers of a returned message. One that holds is enough: no other host can make one.

    `check` them for each recipient of a report: most of the work is done once.
    """

    def __init__(self, fields: Fields, case: Case) -> None:
        self._case = case
        found = _read(fields, case)
        self._valid = [one for one in found if isinstance(one, _Trace)]
        self._fault = next((one for one in found if isinstance(one, Checked)), absent("header", ""))
        self._checked: dict[bytes | None, Checked] = {}

    def check(self, recipient: str | None) -> Checked:
        """Return the result for a recipient of a bounce: the envelope sender of the message. It is None for other reports."""
        if not self._valid:
            return self._fault
        # A report can have a thousand recipients that are one address with other tokens.
        sender = None if recipient is None else comparable(untagged(recipient))
        if (checked := self._checked.get(sender)) is None:
            checked = self._checked[sender] = self._check(sender)
        return checked

    def _check(self, sender: bytes | None) -> Checked:
        for one in self._valid:
            if sender is None or one.matches(b"sender", sender, one.sender):
                return one.checked(self._proved(one))
        return _OTHER_SENDER

    def _proved(self, trace: "_Trace") -> tuple[str, ...]:
        code = trace.recipient
        return tuple(one for one in self._case.reported if code and trace.matches(b"recipient", comparable(one), code))


class _Trace(Struct, frozen=True, kw_only=True):
    """A trace header of ours, for a Message-ID. `sender` and `recipient` are MACs."""

    secret: Secret
    identifier: bytes
    date: str
    sender: str
    recipient: str | None

    def matches(self, label: Label, address: bytes, code: str) -> bool:
        """Return True if a MAC is that of an address in comparable form."""
        return hmac.compare_digest(mac(self.secret, label, self.identifier, address), code)

    def checked(self, proved: tuple[str, ...]) -> Checked:
        """Return the result of a header that holds."""
        return Checked(
            method="header",
            holds=True,
            why=f"the returned message has our {NAME} of {self.date}{', for this recipient' if proved else ''}",
            recipients=proved,
            identity=message_id_of(self.identifier),
        )


def _read(fields: Fields, case: Case) -> list[_Trace | Checked]:
    """Return the trace headers of a message, or why each of them is not valid, or why there are none."""
    if not case.keys.secrets:
        return [absent("header", "there are no secrets")]
    values = list(dict.fromkeys(joined(value_of(raw)) for name in NAMES for raw in fields.get(name, ())[:_TRACES_READ]))
    if not values:
        return [absent("header", f"the returned message has no {NAME}")]
    identifiers = [joined(value_of(raw)) for raw in fields.get(b"message-id", ())[:2]]
    if len(identifiers) != 1 or not 0 < len(identifiers[0]) <= MESSAGE_ID_LIMIT:
        return [failed("header", "the returned message does not have exactly one Message-ID")]
    return [_read_one(value, identifiers[0], case) for value in values[:_TRACE_LIMIT]]


def _read_one(value: bytes, identifier: bytes, case: Case) -> _Trace | Checked:
    found = _VALUE.fullmatch(value.decode("latin-1").lower())
    if found is None:
        return failed("header", f"the {NAME} of the returned message is not readable")
    token = Token(id=found[1], day=found[2], mac=found[3])
    codes = [code.encode() for code in found.groups()[3:] if code is not None]
    secret = maker(token, case.keys.secrets, b"header", identifier, *codes)
    if isinstance(secret, str):
        return failed("header", f"the {NAME} of the returned message is not valid: {secret}")
    if fault := age_fault(token, case.now, case.keys.maximum_age):
        return failed("header", f"the {NAME} of the returned message is not valid: {fault}")
    return _Trace(secret=secret, identifier=identifier, date=token.date, sender=found[4], recipient=found[5])
