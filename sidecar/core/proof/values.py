"""The values of proofs: what is known before a report is read, and what a report has proved.

Field names and words of `Checked`, `Reporter` and `Proof` are for records and `--json`: they are permanent.
"""

import hashlib
from base64 import b32encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from sidecar.core.policy.address import normal_address
from sidecar.core.settings.keys import Keys

Level = Literal["recipient", "message", "none"]
"""What is proved: that a message of ours failed for this recipient, that the message is ours, or nothing."""
Method = Literal["address", "header", "dkim"]
Result = Literal["valid", "invalid", "absent"]
"""What one method found; `absent`: there was nothing to check, or no key for it."""
Body = Literal["whole", "part", "differs", "absent", "unchecked"]
"""How the returned body relates to a DKIM signature: `part` is the beginning that `l=` covers, `unchecked` is too large."""

TOLERANCE = 600
"""Seconds: clocks of signing and verifying hosts can differ so much."""

SIGNATURE_LIMIT = 2
"""DKIM signatures with a key of ours that are checked in a report: RSA and Ed25519. Each takes up to 110 us."""

# Characters of a peer's text in a sentence.
_SHOWN = 80

MESSAGE_ID = "message:"
"""How the id of a message begins, in `Proof.verified_ids`."""
TOKEN_ID = "address:"  # noqa: S105 - it is in records
"""Likewise the id of a token in an address."""

Reported = Mapping[bytes, tuple[str, ...]]
"""Reported recipients in the spellings of the report, by their comparable form."""


class Case(Struct, frozen=True, kw_only=True):
    """What the returned message of a report is checked for.

    `reported` are the recipients that the report names. `admits` is called before each check of a DKIM signature: False defers
    it.
    """

    keys: Keys
    now: float
    reported: tuple[str, ...] = ()
    admits: Callable[[], bool] = lambda: True


class Checked(Struct, frozen=True, kw_only=True):
    """The result of one method. `why` is a plain sentence. If it does not hold, all that follows is empty.

    `absent`: there is nothing to check. `deferred`: a signature was not checked, because there were too many before it.

    `recipients` are the reported recipients that it proves, as the report spells them. `identity` is the same for every report
    about the same message (`address`: with the same token). `domain` is the domain of the token or of the DKIM key.
    """

    method: Method
    holds: bool
    why: str
    absent: bool = False
    deferred: bool = False
    recipients: tuple[str, ...] = ()
    identity: str = ""
    domain: str = ""
    body: Body | None = None

    @property
    def result(self) -> Result:
        """The result in one word."""
        return "valid" if self.holds else "absent" if self.absent else "invalid"


class Reporter(Struct, frozen=True, kw_only=True):
    """The domains for which the report itself passed DKIM and SPF, as `authserv_id` says."""

    authserv_id: str
    dkim: tuple[str, ...] = ()
    spf: str | None = None


class Proof(Struct, frozen=True, kw_only=True):
    """What a report proves about one recipient: `meta.verified`, `meta.verified_by` and `meta.verified_ids`.

    A report repeats another one about the same recipient if they share the id of a message in `verified_ids`. If it names no
    message, it repeats any report with its token.
    """

    verified: Level
    verified_by: tuple[Method, ...]
    verified_ids: tuple[str, ...]


class Verification(Struct, frozen=True, kw_only=True):
    """What was found about one report: the result of each method, the strongest first."""

    methods: tuple[Checked, ...]
    reporter: Reporter | None = None

    def proof(self, *recipients: str) -> Proof:
        """Return the proof for reported recipients, which are spelled as in the report: the level that all of them have."""
        held = [one for one in self.methods if one.holds]
        proved = {recipient for one in held for recipient in one.recipients}
        covered = bool(recipients) and proved.issuperset(recipients)
        level: Level = "recipient" if covered else "message" if held else "none"
        return Proof(
            verified=level,
            verified_by=tuple(one.method for one in held),
            verified_ids=tuple(dict.fromkeys(one.identity for one in held)),
        )

    @property
    def holds(self) -> bool:
        """Whether a method holds: the report is about a message, or came back to an address, that is ours."""
        return any(one.holds for one in self.methods)

    @property
    def deferred(self) -> bool:
        """Whether a check of a signature was deferred, so that the result is not known yet."""
        return any(one.deferred for one in self.methods)

    @property
    def why(self) -> str:
        """One sentence for each method."""
        return "; ".join(f"{one.method}: {one.why}" for one in self.methods)


def message_id_of(identifier: bytes) -> str:
    """Return the id by which reports about a message count once: of its Message-ID or signed fields, without white space."""
    return f"{MESSAGE_ID}{_hashed(identifier)}"


def token_id_of(token: str) -> str:
    """Return the id of a token, and of the address if it is short: tokens of BATV can be the same for two addresses."""
    return f"{TOKEN_ID}{_hashed(token.encode('utf-8', 'replace'))}"


def _hashed(octets: bytes) -> str:
    return b32encode(hashlib.sha256(octets).digest()[:20]).decode().lower()


def failed(method: Method, why: str) -> Checked:
    """Return the result of a method that does not hold."""
    return Checked(method=method, holds=False, why=why)


def absent(method: Method, why: str) -> Checked:
    """Return the result of a method that has nothing to check."""
    return Checked(method=method, holds=False, absent=True, why=why)


def comparable(address: str) -> bytes:
    """Return the form in which addresses are compared and signed: the domain as A-labels, ASCII letters in lower case."""
    return normal_address(address).encode("utf-8", "replace").lower()


def by_name(recipients: Iterable[str]) -> Reported:
    """Return recipients by their comparable form; without those for which it is empty."""
    found: defaultdict[bytes, list[str]] = defaultdict(list)
    for one in recipients:
        found[comparable(one)].append(one)
    return {name: tuple(spellings) for name, spellings in found.items() if name}


def plain(value: Any) -> str:  # noqa: ANN401 - bytes or text of a peer
    """Return a peer's text for a sentence: short, printable."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return repr(short)
