"""The contract's rules said a second time, for one fixed table of domains, without a line of the program's.

Owns what must come of a message. Never asks the policy or the session.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import asdict

from sidecar.core.settings.proof import VerifySettings
from sidecar.core.settings.settings import Settings
from tests.building import entry, settings
from tests.core.proof.making import keys

RELAY, DROP, IGNORE = "LogThenRelay", "LogThenDrop", "Ignore"
SIZE_LIMIT = 1500
RECIPIENT_LIMIT = 5
RELAY_HOSTS = ("127.0.0.1", "192.0.2.7")
PARTNER = "198.51.100.4"

TABLE: dict[str, dict[str, Any]] = {
    "open.example": {"relay_to": True},
    "bounce.example": {"log_oob": DROP},
    "keep.example": {"log_oob": RELAY},
    "fbl.example": {"log_arf": DROP},
    "fblkeep.example": {"log_arf": RELAY},
    "both.example": {"relay_to": True, "log_oob": DROP, "log_arf": DROP},
    "from.example": {"relay_from": [PARTNER]},
    "auth.example": {"relay_from_authz": ["daniel"]},
    "*.wild.example": {"log_oob": DROP, "log_arf": RELAY},
    "*": {"relay_to": False},
}
"""What the listener domains say; no listener has rules of its own."""

_NAME = re.compile(r"[a-z0-9_*-]{1,63}(?:\.[a-z0-9_*-]{1,63})*")
# Of these every MTA makes the same; the others are full of surprises, and right in the tests of the rooms that know them.
_LOCAL_PART = re.compile(r"[A-Za-z0-9.+=_-]+")


def fuzzed_settings() -> Settings:
    """Make the table's settings."""
    return settings(
        [entry(domain, **keys) for domain, keys in TABLE.items()],
        relay_hosts=RELAY_HOSTS,
        report_size_limit=SIZE_LIMIT,
        recipient_limit=RECIPIENT_LIMIT,
        headers=("subject", "received"),
        # With the default, "accept", the proofs of each report are checked, and change no verdict.
        verify=VerifySettings(**asdict(keys())),
    )


class Right(NamedTuple):
    """What a recipient may be sent."""

    relay: bool
    log_oob: object
    log_arf: object

    @property
    def accept(self) -> bool:
        """Tell whether it may be named."""
        return self.relay or self.takes_reports

    @property
    def takes_reports(self) -> bool:
        """Tell whether it takes any report."""
        return self.log_oob != IGNORE or self.log_arf != IGNORE

    def fate(self, *, arf: bool, oob: bool) -> tuple[bool, str | None]:
        """Tell whether a whole message is relayed to it, and what it is logged as (section 3, "End of message")."""
        if arf and self.log_arf != IGNORE:
            return self.log_arf == RELAY, "arf"
        if oob and self.log_oob != IGNORE:
            return self.log_oob == RELAY, "oob"
        return self.relay, None


def right(peer: str, authz_id: str | None, sender: str, recipient: str) -> Right | None:
    """Give a recipient's right (section 3, "RCPT"); None where only the whole of section 2 could tell the domains."""
    from_domain, domain = _plain_domain(sender), _plain_domain(recipient)
    if from_domain is None or domain is None:
        return None
    origin, entry_of = _entry(from_domain), _entry(domain)
    relay = (
        peer in RELAY_HOSTS
        or peer in _list(origin, "relay_from")
        or (authz_id is not None and authz_id in _list(origin, "relay_from_authz"))
        or entry_of.get("relay_to") is True
    )
    return Right(relay, entry_of.get("log_oob", IGNORE), entry_of.get("log_arf", IGNORE))


def could_name(address: str, domain: str) -> bool:
    """Tell whether an address, read with all the kindness there is, could name a domain of the table."""
    letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", address).casefold()))
    return "".join(filter(str.isalnum, domain)) in letters


def verdict(rights: Sequence[Right], *, arf: bool, oob: bool) -> str:
    """Name the verdict on a whole message."""
    fates = [right.fate(arf=arf, oob=oob) for right in rights]
    if any(relayed for relayed, _ in fates):
        return "Accept"
    return "Discard" if any(kind for _, kind in fates) else "Reject"


def records(rights: Sequence[Right], *, arf: bool, oob: bool, failed: int) -> list[str]:
    """Name the records of a whole message (section 4)."""
    if verdict(rights, arf=arf, oob=oob) == "Reject":
        return ["Rejection"]
    own = {"arf": ["Feedback"], "oob": ["Reception", *["OOB"] * failed]}
    return [name for right in rights for name in own.get(right.fate(arf=arf, oob=oob)[1] or "", ["Reception"])]


def _plain_domain(address: str) -> str | None:
    """Give the domain of an address without quotes, routes or IDN; None for the others."""
    local_part, at, domain = address.rpartition("@")
    if at and not (_LOCAL_PART.fullmatch(local_part) and domain.isascii()):
        return None
    domain = domain.lower().removesuffix(".") if at and len(domain) <= 255 else ""
    return domain if _NAME.fullmatch(domain) or domain.startswith("[") else ""


def _entry(domain: str) -> dict[str, object]:
    if domain in TABLE:
        return TABLE[domain]
    return TABLE["*.wild.example"] if domain.endswith(".wild.example") else TABLE["*"]


def _list(entry_of: dict[str, object], key: str) -> list[object]:
    value = entry_of.get(key, [])
    assert isinstance(value, list)
    return value
