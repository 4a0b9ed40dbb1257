"""One DKIM-Signature field: what it says, whether it is well-formed, and which header fields it signs.

Owns lists of `tag=value` pairs (RFC 6376 section 3.2), which key records have, too.
"""

import binascii
import re
from typing import NamedTuple

from msgspec import Struct

from sidecar.core.names import normal_domain
from sidecar.core.proof.dkim.canonical import relaxed_field, simple_field, unsigned
from sidecar.core.proof.head import Fields, joined, value_of
from sidecar.core.proof.values import plain

VALUE_LIMIT = 8 * 1024
"""Bytes: with a key of 4096 bits and fifty names some 2,000."""
NAMES_LIMIT = 200
"""Names in `h=`: also those that are signed several times so that no host can add one."""

_REQUIRED = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
_FORMS = frozenset((b"simple", b"relaxed"))
# Most signatures are not ours: the rest of their tags is not read.
_SELECTOR, _DOMAIN = (re.compile(rb";[ \t\n]*+%b[ \t\n]*+=[ \t\n]*+([^; \t\n]++)" % tag) for tag in (b"s", b"d"))
# Only mail software writes times; no more digits, so that numbers stay small.
_NUMBER = re.compile(rb"[0-9]{1,12}")

_BLANKS = b" \t\r\n"
# A signature has some 12 tags, a record 5.
_TAG_LIMIT = 40


class SignedField(NamedTuple):
    """A header field that a signature covers: its name in lower case, and all of it as in `Fields`."""

    name: bytes
    raw: bytes


class Signature(Struct, frozen=True, kw_only=True):
    """A well-formed signature, and its own field as in `Fields`.

    Times are seconds since 1970; `names` are the signed fields in lower case, in their order.
    """

    field: bytes
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


def signer(field: bytes) -> tuple[str, str] | None:
    """Return selector and domain of a DKIM-Signature field, by which its key is found; None if it has none, or is too long."""
    value = b";" + value_of(field)
    if len(value) > VALUE_LIMIT:
        return None
    selector, domain = _SELECTOR.search(value), _DOMAIN.search(value)
    if selector is None or domain is None:
        return None
    normal = normal_domain(domain[1].decode("utf-8", "replace"))
    return None if normal is None else (selector[1].decode("utf-8", "replace").lower(), normal)


def read_signature(field: bytes, selector: str, domain: str) -> Signature | str:
    """Read a field of a signer, as `signer` found it. Return what is wrong if it is not well-formed."""
    tags = read_tags(value_of(field)) or {}
    names = tuple(name.strip(_BLANKS) for name in tags.get(b"h", b"").lower().split(b":"))
    identity = _identity_domain(tags, domain)
    header_form, slash, body_form = tags.get(b"c", b"simple").lower().partition(b"/")
    signature, body_hash = from_base64(tags.get(b"b", b"")), from_base64(tags.get(b"bh", b""))
    if not tags:
        fault = "it is no list of tags, or has one twice"
    elif missing := [tag.decode() for tag in _REQUIRED if not tags.get(tag)]:
        fault = f"it has no {missing[0]}="
    elif tags[b"v"] != b"1":
        fault = f"its v= is {plain(tags[b'v'])}, not 1"
    elif header_form not in _FORMS or (slash and body_form not in _FORMS):
        fault = "its c= has another form than simple and relaxed"
    elif b"from" not in names or len(names) > NAMES_LIMIT:
        fault = "its h= does not have From" if b"from" not in names else f"its h= has more than {NAMES_LIMIT} names"
    elif not all(_NUMBER.fullmatch(tags[tag]) for tag in (b"l", b"t", b"x") if tag in tags):
        fault = "its l=, t= or x= is no number"
    elif identity is None:
        fault = "its i= is not in the domain of its d="
    elif signature is None or body_hash is None:
        fault = "its b= or bh= is not base64"
    else:
        return Signature(
            field=field,
            algorithm=tags[b"a"].lower().decode("utf-8", "replace"),
            selector=selector,
            domain=domain,
            identity_domain=identity,
            names=names,
            relaxed_header=header_form == b"relaxed",
            relaxed_body=body_form == b"relaxed",
            body_hash=body_hash,
            body_length=_number(tags, b"l"),
            signed_at=_number(tags, b"t"),
            expires=_number(tags, b"x"),
            signature=signature,
        )
    return fault


def _identity_domain(tags: dict[bytes, bytes], domain: str) -> str | None:
    """Return the domain of `i=`, or None if it is neither that of `d=` nor below it."""
    if b"i" not in tags:
        return domain
    found = normal_domain(tags[b"i"].rpartition(b"@")[2].decode("utf-8", "replace")) or ""
    return found if found == domain or found.endswith(f".{domain}") else None


def _number(tags: dict[bytes, bytes], tag: bytes) -> int | None:
    return int(tags[tag]) if tag in tags else None


def signed_fields(signature: Signature, fields: Fields) -> list[SignedField]:
    """Return the fields that a signature covers: of a repeated name the last one first (RFC 6376 section 5.4.2)."""
    left = {name: [raw for raw in fields.get(name, ()) if raw is not signature.field] for name in signature.names}
    return [SignedField(name, left[name].pop()) for name in signature.names if left[name]]


def signed_text(signature: Signature, signed: list[SignedField]) -> bytes:
    """Return what is hashed for `b=`."""
    form = relaxed_field if signature.relaxed_header else simple_field
    return b"\r\n".join((*(form(field.raw) for field in signed), form(unsigned(signature.field))))


def read_tags(text: bytes) -> dict[bytes, bytes] | None:
    """Return the tags of a list with their values, which have no white space around them. None if it is no list of tags.

    A tag that stands twice makes the whole list invalid.
    """
    tags: dict[bytes, bytes] = {}
    pairs = text.rstrip(_BLANKS).removesuffix(b";").split(b";", _TAG_LIMIT)
    for pair in pairs:
        name, equals, value = pair.partition(b"=")
        name = name.strip(_BLANKS)
        if not equals or name in tags or not name.replace(b"_", b"").isalnum():
            return None
        tags[name] = value.strip(_BLANKS)
    return tags


def words(value: bytes) -> set[bytes]:
    """Return the words of a list with colons, in lower case."""
    return {word.strip(_BLANKS).lower() for word in value.split(b":")}


def from_base64(value: bytes) -> bytes | None:
    """Return a value without its base64, in which white space can be anywhere; None if it is no base64."""
    try:
        return binascii.a2b_base64(joined(value), strict_mode=True)
    except binascii.Error:
        return None
