"""What a record says to the suppression list: an event of an address, or why it counts nothing.

Owns which address a report is about, which proof it needs, and the identity of a report. Records of any age and of KumoMTA are
external data. Never decides if an address is suppressed.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, Literal, Self

import msgspec
from msgspec import Struct

from sidecar.core.names import normal_domain
from sidecar.core.policy.address import normal_address
from sidecar.core.records.build import MAILBOX_LIMIT
from sidecar.core.records.reading import Logged
from sidecar.core.settings.keys import Keys
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import IGNORED_TYPES, SuppressionRule
from sidecar.core.suppressed import REASON_LIMIT
from sidecar.core.text import LATEST, printable
from sidecar.suppression.rules import MICROSECONDS, NEVER, Event, ListEntry, Ruleset

CHANGE_TYPE: Final = "Suppression"
"""The type of the record of a change by hand."""

_TRUST: Final = {"any": 0, "message": 1, "recipient": 2}
# Ours has 32 digits. A longer one, of another program, is replaced by its hash.
_ID_LIMIT: Final = 64
# Ours have an id for each of three methods. What follows in a record of another program does not count.
_VERIFIED_IDS_LIMIT: Final = 8


# RFC 5321 section 4.1.2: a quoted local part, and one that needs no quotes.
_QUOTED: Final = re.compile(r'"((?>(?:[^\\"]++|\\.)*))"')
_ESCAPED: Final = re.compile(r"\\(.)")
_TO_ESCAPE: Final = re.compile(r'[\\"]')
_DOT_ATOM: Final = re.compile(r'(?>[^\s()<>\[\]:;,\\"@.]++(?:\.[^\s()<>\[\]:;,\\"@.]++)*)')


class Uncounted(StrEnum):
    """Why a report counts nothing. The values are the keys of `suppression stats --json`."""

    NO_RULE = "no_rule"
    NO_ADDRESS = "no_address"
    SEVERAL_RECIPIENTS = "several_recipients"
    NOT_PROVED = "not_proved"
    NOT_READABLE = "not_readable"


class AddressEvent(Struct, frozen=True, kw_only=True, gc=False):
    """An event, and the address that it is about, as `normal_key` returns it."""

    address: str
    event: Event


def normal_key(address: str) -> str | None:
    """Return the form in which addresses compare: without case and needless quotes, the domain in A-labels; None if it is none.

    A record has at most `MAILBOX_LIMIT` characters of an address: what may be cut off is no address.
    Nor is what has invisible characters.
    """
    if len(address) >= MAILBOX_LIMIT or printable(address) != address:
        return None
    # Feedback reports spell it in angle brackets, too.
    bare = address[1:-1] if address.startswith("<") and address.endswith(">") else address
    local_part, at, domain = normal_address(bare).rpartition("@")
    if not at or not local_part or normal_domain(domain) is None:
        return None
    return unicodedata.normalize("NFC", f"{_unquoted(local_part)}@{domain}".lower())


def _unquoted(local_part: str) -> str:
    """Return a local part without quotes and backslashes that it does not need: it names the same mailbox."""
    found = _QUOTED.fullmatch(local_part)
    if found is None:
        return local_part
    text = _ESCAPED.sub(r"\1", found[1])
    return text if _DOT_ATOM.fullmatch(text) else '"' + _TO_ESCAPE.sub(r"\\\g<0>", text) + '"'


class Reader:
    """Reads records for one set of rules. `trust` is the least proof that a report needs, `proof_age` as in `Ruleset`."""

    def __init__(
        self,
        rules: Iterable[SuppressionRule],
        *,
        trust: Literal["any", "message", "recipient"] = "any",
        proof_age: int = Keys().maximum_age,
    ) -> None:
        self.rules = Ruleset(rules, proof_age=proof_age)
        self._trust, self._least = trust, _TRUST[trust]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return a reader for the list of these settings, which must have `[suppression]`."""
        own = settings.suppression
        assert own is not None  # noqa: S101 - the caller's condition
        return cls(own.rule, trust=own.trust, proof_age=(settings.verify or Keys()).maximum_age)

    @property
    def fingerprint(self) -> str:
        """A text that differs if other rules decide."""
        rules = [(rule.when, rule.count, rule.days, rule.within, rule.expire) for rule in self.rules.rules]
        return msgspec.json.encode((rules, self._trust)).decode()

    def read(self, record: Logged) -> AddressEvent | Uncounted | None:
        """Return what a record says; None for records of other types, and for feedback that is no complaint."""
        if record.type == CHANGE_TYPE:
            return _change(record)
        if record.type == "OOB":
            return self._report(record, record.bounce_classification, record.recipients)
        if record.type != "Feedback":
            return None
        report = record.feedback_report or {}
        word = report.get("feedback_type")
        word = word.lower() if isinstance(word, str) else ""
        return None if word in IGNORED_TYPES else self._report(record, word, _texts(report, "original_rcpto_to"))

    def _report(self, record: Logged, word: str, recipients: tuple[str, ...]) -> AddressEvent | Uncounted:
        if self.rules.rule(word) is None:
            return Uncounted.NO_RULE
        if _TRUST.get(str(record.meta.get("verified")), 0) < self._least:
            return Uncounted.NOT_PROVED
        if len(recipients) > 1 and len(set(map(normal_key, recipients))) > 1:
            # One of them complained: the report does not say which.
            return Uncounted.SEVERAL_RECIPIENTS
        address = normal_key(recipients[0]) if recipients else None
        if address is None:
            # The envelope sender of the report can name the recipient in a form that only its application knows.
            return Uncounted.NO_ADDRESS
        if not record.message_id or not 0 < record.when <= LATEST:
            return Uncounted.NOT_READABLE
        time, id_ = record.when * MICROSECONDS, bounded_id(record.message_id)
        return AddressEvent(address=address, event=Event(time=time, id=id_, word=word, verified_ids=_verified_ids(record)))


class MemoryList:
    """A list in memory, for `simulate` and to compare a stored list with what the journal says."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._events: dict[str, set[Event]] = {}
        self.uncounted: dict[Uncounted, int] = {}
        self.reports = 0
        self.newest = 0

    def add(self, record: Logged) -> None:
        """Read a record."""
        found = self._reader.read(record)
        if found is not None:
            self.newest = max(self.newest, record.when if record.when <= LATEST else 0)
        if isinstance(found, Uncounted):
            self.uncounted[found] = self.uncounted.get(found, 0) + 1
        elif found is not None:
            self.reports += found.event.kind == "report"
            self._events.setdefault(found.address, set()).add(found.event)

    def entries(self, now: int) -> dict[str, ListEntry]:
        """Return the addresses that are suppressed at `now` (seconds since 1970)."""
        rules = self._reader.rules
        found = ((address, rules.entry(rules.kept(events, now), now)) for address, events in self._events.items())
        return {address: entry for address, entry in found if entry is not None}


def bounded_id(text: str) -> str:
    """Return the id of a message, or a hash of one that is too long or not readable."""
    if len(text) <= _ID_LIMIT and text.isascii() and text.isprintable():
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _verified_ids(record: Logged) -> tuple[str, ...]:
    """Return the ids of a report's proofs. A message can bounce and be complained about: neither repeats the other."""
    ending = "" if record.type == "OOB" else f"/{record.type}"
    ids = _texts(record.meta, "verified_ids")[:_VERIFIED_IDS_LIMIT]
    return tuple(sorted({bounded_id(one) + ending for one in ids if one}))


def _texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = values.get(key)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def _change(record: Logged) -> AddressEvent | Uncounted:
    """Read the record of a change by hand, which `changes` has written."""
    action, reason, time = (record.meta.get(key) for key in ("action", "reason", "time"))
    expires = record.meta.get("expires") or NEVER
    address = normal_key(record.recipients[0]) if len(record.recipients) == 1 else None
    if not isinstance(time, int) or not isinstance(expires, int) or not 0 < time <= LATEST * MICROSECONDS:
        return Uncounted.NOT_READABLE
    if address is None or action not in {"add", "remove"} or not 0 <= expires <= LATEST:
        return Uncounted.NOT_READABLE
    word = printable(str(reason or "")[:REASON_LIMIT])
    event = Event(time=time, id=bounded_id(record.id), kind=action, word=word, expires=expires if action == "add" else NEVER)
    return AddressEvent(address=address, event=event)
