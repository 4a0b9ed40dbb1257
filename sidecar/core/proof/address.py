"""The address token: a MAC in the local part of the envelope sender, which comes back as the recipient of a bounce.

`bounce@example.com` becomes `bounce+KKDDDDDMMMMMMMMMMMMMMMM@example.com`. The MAC covers the day and the whole address in
lower case. BATV's form is in `batv.py`.
"""

import re

from sidecar.core.names import NO_DOMAIN
from sidecar.core.policy.address import domain_of
from sidecar.core.proof import batv
from sidecar.core.proof.secret import TOKEN, TOKEN_SIZE, Token, age_fault, make_token, maker
from sidecar.core.proof.values import Checked, Reported, absent, comparable, failed, token_id_of
from sidecar.core.settings.keys import Keys, Secret

LOCAL_PART_LIMIT = 64
"""Octets (RFC 5321 section 4.5.3.1.1): MTAs need not accept more."""
UNTAGGED_LIMIT = LOCAL_PART_LIMIT - TOKEN_SIZE - len("+")
"""Octets of a local part that has place for a token."""

_NONE_REPORTED: Reported = {}
# A domain of 255 octets beside it.
_ADDRESS_LIMIT = 320
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_TAGGED = re.compile(rf"([^@\"]+)\+{TOKEN}", re.IGNORECASE | re.ASCII)
# Sender Rewriting Scheme: its own MAC covers all that follows.
_SRS = re.compile(r"SRS[01][=+-]", re.IGNORECASE)


def obstacle(address: str) -> str | None:
    """Return why an envelope sender gets no token; None if it gets one."""
    local_part, _, _ = address.rpartition("@")
    if not address:
        return "it is the null sender"
    if len(address) > _ADDRESS_LIMIT or domain_of(address) == NO_DOMAIN or not _DOT_ATOM.fullmatch(local_part):
        return "it is not a plain ASCII local part and a domain"
    if _TAGGED.fullmatch(local_part) or batv.split(local_part) is not None:
        return "it has a token"
    if _SRS.match(local_part):
        return "it is an SRS address"
    if len(local_part) > UNTAGGED_LIMIT:
        return f"its local part has {len(local_part)} octets; with more than {UNTAGGED_LIMIT} there is no place for a token"
    return None


def tagged(address: str, secret: Secret, now: float) -> str:
    """Return an envelope sender with a token; unchanged if `obstacle` has a reason."""
    if obstacle(address) is not None:
        return address
    local_part, _, domain = address.rpartition("@")
    return f"{local_part}+{make_token(secret, b'address', now, comparable(address))}@{domain}"


def untagged(address: str) -> str:
    """Return an address without its token of either form, whether the token is valid or not."""
    local_part, at, domain = address[:_ADDRESS_LIMIT].rpartition("@")
    if found := _TAGGED.fullmatch(local_part):
        return f"{found[1]}{at}{domain}"
    tag = batv.split(local_part)
    return address if tag is None else f"{tag.local_part}{at}{domain}"


def check_address(address: str, keys: Keys, now: float, reported: Reported = _NONE_REPORTED) -> Checked:
    """Check the token in the recipient of a report; `address` has no angle brackets.

    It proves that we sent mail from this address. It proves a reported recipient if the address has the VERP form
    `NAME+user=domain`, and the token is not BATV's.
    """
    if not keys.secrets:
        return absent("address", "there are no secrets")
    local_part, at, domain = address.rpartition("@")
    if not at or len(address) > _ADDRESS_LIMIT:
        return absent("address", "the recipient of the report has no token")
    found = _TAGGED.fullmatch(local_part)
    if found is None:
        return batv.check(local_part, domain, keys, now)
    base, *parts = found.groups()
    identifier, day, code = (part.lower() for part in parts)
    token, signed = Token(id=identifier, day=day, mac=code), comparable(f"{base}@{domain}")
    made = maker(token, keys.secrets, b"address", signed)
    if isinstance(made, str):
        return failed("address", f"the token of the recipient is not valid: {made}")
    if fault := age_fault(token, now, keys.maximum_age):
        return failed("address", f"the token of the recipient is not valid: {fault}")
    return Checked(
        method="address",
        holds=True,
        why=f"the recipient of the report has a token of {token.date}",
        recipients=reported.get(_named(base), ()),
        identity=token_id_of(f"{token.id}{token.day}{token.mac}"),
        domain=domain_of(address),
    )


def _named(local_part: str) -> bytes:
    """Return the recipient that a VERP local part names, in comparable form; nothing if it has no such form.

    Only what follows the first `+` counts: a host with mailboxes such as `x+user` could otherwise speak for `user`.
    """
    user, equals, domain = local_part.partition("+")[2].rpartition("=")
    return comparable(f"{user}@{domain}") if equals else b""
