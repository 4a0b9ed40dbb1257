"""Whether a returned message has a valid DKIM signature of ours, and which recipients it proves."""

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import datetime

from sidecar.core.proof.dkim.canonical import relaxed_body, simple_body
from sidecar.core.proof.dkim.signature import Signature, SignedField, read_signature, signed_fields, signed_text, signer
from sidecar.core.proof.head import Returned, body_of, joined, value_of
from sidecar.core.proof.values import (
    SIGNATURE_LIMIT,
    TOLERANCE,
    Body,
    Case,
    Checked,
    absent,
    comparable,
    failed,
    message_id_of,
)
from sidecar.core.reports.addresses import without_comments
from sidecar.core.reports.dates import read_date
from sidecar.core.settings.keys import PublicKey
from sidecar.core.text import in_time, rfc3339

FIELD = b"dkim-signature"
READ_LIMIT = 5
"""DKIM-Signature fields that are read, from the last one on: the sender's own is below those of forwarders."""
BODY_LIMIT = 1024 * 1024
"""Characters of a body that is hashed. It proves nothing more about the recipient."""

_QUOTED = re.compile(r'"(?>(?:[^"\\]++|\\.)*)"?', re.DOTALL)
# A group has a name and a colon in front of its members (RFC 5322 section 3.4).
_GROUP = re.compile(r"\A[^<>@,;:]*:")
# No signed mail has more: MTAs accept about a thousand recipients.
_ADDRESSES_LIMIT = 1000


def check_dkim(returned: Returned, case: Case) -> Checked:
    """Check the DKIM signatures of a returned message, or header section, with our public keys.

    The last valid signature that proves a reported recipient counts, or else the last valid one. Two are never combined.
    """
    if not case.keys.dkim:
        return absent("dkim", "there are no public keys")
    if not (written := returned.fields.get(FIELD, [])):
        return absent("dkim", "the returned message has no DKIM signature")
    results: list[Checked] = []
    for field in written[: -READ_LIMIT - 1 : -1]:
        found = signer(field)
        key = None if found is None else case.keys.dkim.get(found)
        if key is None:
            continue
        if len(results) >= SIGNATURE_LIMIT:
            why = f"it has more than {SIGNATURE_LIMIT} signatures of keys of ours; no other is checked"
            results.append(failed("dkim", why))
            break
        results.append(_check(returned, read_signature(field, key.selector, key.domain), key, case))
        if results[-1].recipients or results[-1].deferred:
            return results[-1]
    if not results:
        return absent("dkim", "no DKIM signature of the returned message is of a key of ours")
    return next((one for one in results if one.holds), results[0])


def _check(returned: Returned, signature: Signature | str, key: PublicKey, case: Case) -> Checked:
    name = f"the signature of {key.selector}._domainkey.{key.domain}"
    if isinstance(signature, str):
        return failed("dkim", f"{name} is malformed: {signature}")
    signed = signed_fields(signature, returned.fields)
    fault = _key_fault(signature, key) or _time_fault(signature, signed, case.keys.maximum_age, case.now)
    if fault is not None:
        return failed("dkim", f"{name} does not count: {fault}")
    if not case.admits():
        return Checked(method="dkim", holds=False, deferred=True, why=f"{name} is not checked: there were too many before it")
    text = signed_text(signature, signed)
    if not _verifies(key, signature.signature, text):
        return failed("dkim", f"{name} does not match the header section of the returned message")
    addressees = _addressees(signed)
    proved = tuple(one for one in case.reported if comparable(one) in addressees)
    identifiers = [value_of(one.raw) for one in signed if one.name == b"message-id"]
    body = _body(signature, returned.message)
    return Checked(
        method="dkim",
        holds=True,
        why=f"{name} is valid{', and its To or Cc has this recipient' if proved else ''}; {_BODIES[body]}",
        recipients=proved,
        identity=message_id_of(joined(identifiers[0] if len(identifiers) == 1 else text)),
        domain=signature.domain,
        body=body,
    )


def _verifies(key: PublicKey, signature: bytes, text: bytes) -> bool:
    from sidecar.core.proof.dkim.crypto import verifies  # noqa: PLC0415 - large, and needed only where there are keys

    return verifies(key.der, signature, text)


def _key_fault(signature: Signature, key: PublicKey) -> str | None:
    if signature.algorithm != key.algorithm:
        return f"its a= is not {key.algorithm}"
    if key.strict and signature.identity_domain != key.domain:
        return "the key allows no subdomain in its i="
    return None


def _time_fault(signature: Signature, signed: list[SignedField], maximum_age: int, now: float) -> str | None:
    made = signature.signed_at
    if made is None:
        made = _date(signed)
    if made is None:
        return "it has no t=, and no Date is signed"
    if made > now + TOLERANCE:
        return "it is of the future"
    if made + maximum_age + TOLERANCE < now:
        return f"it is of {rfc3339(made)}, and older than {in_time(maximum_age)}"
    if signature.expires is not None and signature.expires + TOLERANCE < now:
        return "it has expired (x=)"
    return None


def _date(signed: list[SignedField]) -> int | None:
    texts = [value_of(one.raw).decode("utf-8", "replace") for one in signed if one.name == b"date"]
    dates = [read_date(text.replace("\n", "")) for text in texts]
    if len(dates) != 1 or dates[0] is None:
        return None
    return int(datetime.fromisoformat(dates[0]).timestamp())


def _addressees(signed: list[SignedField]) -> set[bytes]:
    """Return the addresses in the signed To and Cc, in comparable form. Names beside them, in quotes or not, do not count."""
    found: set[bytes] = set()
    for field in signed:
        if field.name in {b"to", b"cc"}:
            value = value_of(field.raw).decode("utf-8", "replace").replace("\n", "")
            text = without_comments(_QUOTED.sub('""', value))
            for one in text.replace(";", ",").split(",", _ADDRESSES_LIMIT)[:_ADDRESSES_LIMIT]:
                before, bracket, rest = _GROUP.sub("", one).partition("<")
                address, closing, after = rest.partition(">")
                is_plain = not bracket or (bool(closing) and not after.strip() and "<" not in address)
                found.add(comparable((address if bracket else before).strip()) if is_plain else b"")
    return found - {b""}


_BODIES: dict[Body, str] = {
    "whole": "its body is the signed one",
    "part": "the signed beginning of its body is unchanged",
    "differs": "its body is not the signed one, or not all of it",
    "absent": "it has no body",
    "unchecked": "its body is too large to be checked",
}


def _body(signature: Signature, message: str | bytes) -> Body:
    body = body_of(message, BODY_LIMIT)
    if body is None:
        return "unchecked"
    form: Callable[[bytes], bytes] = relaxed_body if signature.relaxed_body else simple_body
    text, length = form(body), signature.body_length
    hashed = text if length is None else text[:length]
    if (length is None or length <= len(text)) and hmac.compare_digest(hashlib.sha256(hashed).digest(), signature.body_hash):
        return "whole" if len(hashed) == len(text) else "part"
    return "differs" if body.strip() else "absent"
