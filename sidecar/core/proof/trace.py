"""The trace header: MACs in the message itself, over its Message-ID, its envelope sender, and its recipient if it has one only.

`X-Sidecar-Trace: TOKEN.SENDER.RECIPIENT`. The MAC of the token covers the Message-ID and the two MACs after it. So it holds
where addresses were redacted, and no host can remove or exchange one of the two. `CFBL-Feedback-ID` (RFC 9477) has the same
value.
"""

import hmac
import re
from collections.abc import Sequence

from sidecar.core.proof.address import untagged
from sidecar.core.proof.head import Field, joined
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


def check_trace(fields: list[Field], case: Case) -> Checked:
    """Check the trace headers of a returned message. One that holds is enough: no other host can make one."""
    if not case.keys.secrets:
        return absent("header", "there are no secrets")
    values = list(dict.fromkeys(joined(field.value) for field in fields if field.name in NAMES))
    if not values:
        return absent("header", f"the returned message has no {NAME}")
    identifiers = [joined(field.value) for field in fields if field.name == b"message-id"]
    if len(identifiers) != 1 or not 0 < len(identifiers[0]) <= MESSAGE_ID_LIMIT:
        return failed("header", "the returned message does not have exactly one Message-ID")
    results = [_check(value, identifiers[0], case) for value in values[:_TRACE_LIMIT]]
    return next((one for one in results if one.holds), results[0])


def _check(value: bytes, identifier: bytes, case: Case) -> Checked:
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
    sender = case.recipient
    if sender is not None and not _matches(secret, b"sender", identifier, untagged(sender), found[4]):
        return failed("header", "the returned message has another envelope sender than the recipient of the report")
    proved = tuple(one for one in case.reported if found[5] and _matches(secret, b"recipient", identifier, one, found[5]))
    return Checked(
        method="header",
        holds=True,
        why=f"the returned message has our {NAME} of {token.date}{', for this recipient' if proved else ''}",
        recipients=proved,
        identity=message_id_of(identifier),
    )


def _matches(secret: Secret, label: Label, identifier: bytes, address: str, code: str) -> bool:
    return hmac.compare_digest(mac(secret, label, identifier, comparable(address)), code)
