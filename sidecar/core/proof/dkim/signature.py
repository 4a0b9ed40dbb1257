"""One DKIM-Signature field: what it says, whether it is well-formed, and which header fields it signs."""

import binascii
import re
from collections import defaultdict

from msgspec import Struct

from sidecar.core.names import normal_domain
from sidecar.core.proof.dkim.canonical import relaxed_field, simple_field, unsigned
from sidecar.core.proof.dkim.tags import read_tags
from sidecar.core.proof.head import Field, joined
from sidecar.core.proof.values import plain

VALUE_LIMIT = 8 * 1024
"""Bytes: with a key of 4096 bits and fifty names some 2,000."""
NAMES_LIMIT = 200
"""Names in `h=`: also those that are signed several times so that nobody can add one."""

_REQUIRED = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
_FORMS = {b"simple": simple_field, b"relaxed": relaxed_field}
# Only mail software writes times; no more digits, so that numbers stay small.
_NUMBER = re.compile(rb"[0-9]{1,12}")


class Signature(Struct, frozen=True, kw_only=True):
    """A well-formed signature. Times are seconds since 1970; `names` are the signed fields in lower case, in their order."""

    field: Field
    algorithm: str
    selector: str
    domain: str
    identity_domain: str
    names: tuple[bytes, ...]
    relaxed_header: bool
    relaxed_body: bool
    body_hash: bytes
    body_length: int | None
    signed_at: int | None
    expires: int | None
    signature: bytes


def signer(tags: dict[bytes, bytes]) -> tuple[str, str] | None:
    """Return selector and domain of a signature, by which its key is found; None if they cannot be read."""
    domain = normal_domain(tags.get(b"d", b"").decode("utf-8", "replace"))
    return None if domain is None else (tags.get(b"s", b"").decode("utf-8", "replace").lower(), domain)


def tags_of(field: Field) -> dict[bytes, bytes]:
    """Return the tags of a DKIM-Signature field; none if it is malformed or too long."""
    return {} if len(field.raw) > VALUE_LIMIT else read_tags(field.value) or {}


def read_signature(field: Field, tags: dict[bytes, bytes]) -> Signature | str:
    """Read the tags of a field whose signer is known. Return what is wrong if it is not well-formed."""
    if fault := _fault(tags):
        return fault
    selector, domain = signer(tags) or ("", "")
    identity = normal_domain(tags.get(b"i", tags[b"d"]).rpartition(b"@")[2].decode("utf-8", "replace")) or ""
    if identity != domain and not identity.endswith(f".{domain}"):
        return "its i= is not in the domain of its d="
    signature, body_hash = _base64(tags[b"b"]), _base64(tags[b"bh"])
    if signature is None or body_hash is None:
        return "its b= or bh= is not base64"
    header_form, _, body_form = _forms(tags)
    return Signature(
        field=field,
        algorithm=tags[b"a"].lower().decode("utf-8", "replace"),
        selector=selector,
        domain=domain,
        identity_domain=identity,
        names=_names(tags),
        relaxed_header=header_form == b"relaxed",
        relaxed_body=body_form == b"relaxed",
        body_hash=body_hash,
        body_length=_number(tags, b"l"),
        signed_at=_number(tags, b"t"),
        expires=_number(tags, b"x"),
        signature=signature,
    )


def _fault(tags: dict[bytes, bytes]) -> str | None:
    for tag in _REQUIRED:
        if not tags.get(tag):
            return f"it has no {tag.decode()}="
    names = _names(tags)
    header_form, slash, body_form = _forms(tags)
    faults = {
        f"its v= is {plain(tags[b'v'])}, not 1": tags[b"v"] != b"1",
        "its c= has another form than simple and relaxed": header_form not in _FORMS
        or (body_form if slash else b"simple") not in _FORMS,
        "its h= does not have From": b"from" not in names,
        f"its h= has more than {NAMES_LIMIT} names": len(names) > NAMES_LIMIT,
        "its l=, t= or x= is no number": not all(_NUMBER.fullmatch(tags.get(tag, b"0")) for tag in (b"l", b"t", b"x")),
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def _forms(tags: dict[bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    return tags.get(b"c", b"simple").lower().partition(b"/")


def _names(tags: dict[bytes, bytes]) -> tuple[bytes, ...]:
    return tuple(name.strip(b" \t\r\n").lower() for name in tags[b"h"].split(b":"))


def _number(tags: dict[bytes, bytes], tag: bytes) -> int | None:
    return int(tags[tag]) if tag in tags else None


def signed_fields(signature: Signature, fields: list[Field]) -> list[Field]:
    """Return the fields that a signature covers: of a repeated name the last one first (RFC 6376 section 5.4.2)."""
    left: defaultdict[bytes, list[Field]] = defaultdict(list)
    wanted = frozenset(signature.names)
    for field in fields:
        if field.name in wanted and field is not signature.field:
            left[field.name].append(field)
    return [left[name].pop() for name in signature.names if left[name]]


def signed_text(signature: Signature, signed: list[Field]) -> bytes:
    """Return what is hashed for `b=`."""
    form = relaxed_field if signature.relaxed_header else simple_field
    return b"\r\n".join((*(form(field.raw) for field in signed), form(unsigned(signature.field.raw))))


def _base64(text: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(joined(text), strict_mode=True)
    except binascii.Error:
        return None
