"""BATV's token `prvs=KDDDSSSSSS=user@example.com` (draft-levine-smtp-batv-01).

K is the number of a key, DDD the last digits of the day since 1970 on which the address expires, SSSSSS 24 bits of an
HMAC-SHA1 over both and the address. It is short: a host that guesses finds one after some 16 million tries for each secret.
Other programs make these tokens; this one only checks them.
"""

import hashlib
import hmac
import re

from msgspec import Struct

from sidecar.core.policy.address import domain_of
from sidecar.core.proof.secret import SECRETS_LIMIT
from sidecar.core.proof.values import TOLERANCE, Checked, absent, comparable, failed, token_id_of
from sidecar.core.settings.keys import DAY, Keys

_TAG = re.compile(r"prvs=([0-9])([0-9]{3})([0-9a-f]{6})=([^@\"]+)", re.IGNORECASE | re.ASCII)
_DAYS = 1000
_LIFETIME_LIMIT = 400
"""Days: with more, an expired day could be one that is ahead."""


class Tag(Struct, frozen=True, kw_only=True):
    """A local part with a token: the digits before the MAC, the MAC, and the local part without them."""

    digits: str
    mac: str
    local_part: str


def split(local_part: str) -> Tag | None:
    """Read a local part; None if it has no token of this form."""
    found = _TAG.fullmatch(local_part)
    return None if found is None else Tag(digits=found[1] + found[2], mac=found[3].lower(), local_part=found[4])


def check(local_part: str, domain: str, keys: Keys, now: float) -> Checked:
    """Check the token in the recipient of a report. It proves no reported recipient."""
    tag = split(local_part)
    if tag is None:
        return absent("address", "the recipient of the report has no token")
    if not keys.batv:
        return absent("address", "the recipient of the report has a BATV token only, and batv is false")
    address = f"{tag.local_part}@{domain}"
    # Other programs sign the address as it is spelled.
    spellings = {comparable(address), address.encode("utf-8", "replace")}
    # All are compared: the time does not say which one matches.
    matches = [
        hmac.compare_digest(hmac.new(secret.key, tag.digits.encode() + one, hashlib.sha1).hexdigest()[:6], tag.mac)
        for secret in keys.secrets[:SECRETS_LIMIT]
        for one in spellings
    ]
    if True not in matches:
        return failed("address", "the BATV token of the recipient is not valid: its MAC does not match")
    today = int((now - TOLERANCE) // DAY)
    lifetime = min(keys.maximum_age // DAY, _LIFETIME_LIMIT)
    if (int(tag.digits[1:]) - today) % _DAYS > lifetime + 1:
        return failed("address", "the BATV token of the recipient is not valid: it has expired")
    return Checked(
        method="address",
        holds=True,
        why="the recipient of the report has a BATV token, which has only 24 bits",
        identity=token_id_of(f"{tag.digits}{tag.mac}:{comparable(address).decode()}"),
        domain=domain_of(address),
    )
