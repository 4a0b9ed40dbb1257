"""Secrets and MACs: the part that all tokens share.

A token is a key id, a day and a MAC, in ASCII lower case and digits: `abcde20788...`. Any language can make it: HMAC-SHA256,
cut to 80 bits, in base32 (deploy/docs/verification.md). Time and randomness are arguments.
"""

import hmac
from base64 import b32encode
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from sidecar.core.proof.values import TOLERANCE
from sidecar.core.settings.keys import DAY, Secret
from sidecar.core.text import counted, in_time

Label = Literal[b"address", b"header", b"sender", b"recipient"]
"""What a MAC is for: no MAC passes for one of another kind."""

SECRET_MINIMUM = 32
"""Characters of a secret: base32 of 160 bits, twice what a MAC has."""
SECRET_LIMIT = 256
SECRETS_LIMIT = 8
"""Secrets that verify: a rotation needs two."""

MAC_SIZE = 16
"""Characters of a MAC: 80 bits in base32, which then needs no padding."""
_MAC_BYTES = 10
_ID = b"sidecar key id"
TOKEN = rf"([a-z2-7]{{2}})([0-9]{{5}})([a-z2-7]{{{MAC_SIZE}}})"
"""The pattern of a token: key id, day since 1970, MAC."""
TOKEN_SIZE = 2 + 5 + MAC_SIZE


class Token(Struct, frozen=True, kw_only=True):
    """A token as it was read."""

    id: str
    day: str
    mac: str

    @property
    def date(self) -> str:
        """The day as `2026-12-01`."""
        return datetime.fromtimestamp(int(self.day) * DAY, UTC).date().isoformat()


def read_secret(content: bytes) -> Secret | str:
    """Read the content of a secret file: one line of printable ASCII without blanks. Return what is wrong if it is none."""
    line = content.strip(b" \t\r\n")
    if b"\n" in line or b"\r" in line:
        return "it has more than one line; a secret file has one"
    if not line.isascii() or not line.decode().isprintable() or b" " in line:
        return "it has characters that are not printable ASCII, or blanks; `openssl rand -hex 32` makes a secret"
    if len(line) < SECRET_MINIMUM:
        return f"it has {counted(len(line), 'character')}; a secret has at least {SECRET_MINIMUM}"
    if len(line) > SECRET_LIMIT:
        return f"it has {counted(len(line), 'character')}; a secret has at most {SECRET_LIMIT}"
    return Secret(key=line, id=_base32(hmac.digest(line, _ID, "sha256"))[:2])


def make_secret(random: bytes) -> str:
    """Return the line of a new secret file. `random` has 32 bytes or more of a random source for keys."""
    if len(random) < SECRET_MINIMUM:
        raise ValueError(f"{len(random)} random bytes are too few")
    return b32encode(random).decode().lower().rstrip("=")


def mac(secret: Secret, label: Label, *texts: bytes) -> str:
    """Return the MAC of texts that have no line end."""
    return _base32(hmac.digest(secret.key, b"\n".join((label, *texts)), "sha256")[:_MAC_BYTES])


def make_token(secret: Secret, label: Label, now: float, *texts: bytes) -> str:
    """Return a token for texts that have no line end."""
    day = f"{int(now // DAY):05}"
    return f"{secret.id}{day}{mac(secret, label, day.encode(), *texts)}"


def maker(token: Token, secrets: tuple[Secret, ...], label: Label, *texts: bytes) -> Secret | str:
    """Return the secret that made a token for these texts, or why there is none."""
    known = [secret for secret in secrets[:SECRETS_LIMIT] if secret.id == token.id]
    if not known:
        return f"no secret has its key id {token.id!r}"
    for secret in known:
        if hmac.compare_digest(mac(secret, label, token.day.encode(), *texts), token.mac):
            return secret
    return "its MAC does not match"


def age_fault(token: Token, now: float, maximum_age: int) -> str | None:
    """Return what is wrong with the day of a token: it was made on that day in UTC, at any time. None if it is valid."""
    start = int(token.day) * DAY
    if start > now + TOLERANCE:
        return f"it is of {token.date}, which is in the future"
    if start + DAY + maximum_age + TOLERANCE < now:
        return f"it is of {token.date}, and older than {in_time(maximum_age)}"
    return None


def _base32(octets: bytes) -> str:
    return b32encode(octets).decode().lower()
