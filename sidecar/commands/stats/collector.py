"""Count records. Owns the names under which they are counted. Never reads a file, and keeps no record."""

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from sidecar.commands.stats.forms import FormTally
from sidecar.commands.stats.summary import TITLES, Ranking, RankingEntry, Summary
from sidecar.commands.stats.timeline import Clockwork
from sidecar.core.names import normal_domain
from sidecar.core.records import TYPES, UNCATEGORIZED, Logged, Messages, form_of, reporting_domain
from sidecar.core.records.reason import BOUNCES, INCOMING, NOT_LOGGED, UNKNOWN, reason_of, shape
from sidecar.core.tally import Tally
from sidecar.core.text import rfc3339

# There can be any number of unknown types.
_TYPES = frozenset(TYPES)
OTHER_TYPE = "(other)"
NO_DOMAIN = "(no domain)"

# No message is larger.
_SIZE_LIMIT = 10**12
_NAME_LIMIT = 255
_TOP = 100
# The year 3000. A later time counts as none: it would stretch the timeline.
_TIME_LIMIT = 32_503_680_000
# The methods of proofs; other programs may have more.
_METHODS = 5
_IPV4 = re.compile(r"(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}", re.ASCII)


class Collector:
    """Counts the records at or after `since` and before `until`, in seconds since 1970; None is no bound.

    The forms of reports at or after `drift` are compared with those before it.
    """

    def __init__(self, since: float | None = None, until: float | None = None, drift: float | None = None) -> None:
        self._since, self._until = since, until
        self._begin, self._end = since or 0, _TIME_LIMIT if until is None else until
        self._records = self._outside = self._untimed = self._unreadable = self._bytes = self._messages = 0
        self._known = Messages()
        self._drift, self._forms = drift, FormTally()
        # The first and last time outside the range.
        self._first, self._last = _TIME_LIMIT, 0
        self._clockwork = Clockwork()
        self._reasons: Tally[tuple[str, str]] = Tally()
        self._tallies: dict[str, Tally[str]] = {name: Tally() for name in ("types", *TITLES)}
        # A peer is counted for its network when it is dropped, or at the end: that is cheaper than each time.
        self._tallies["peers"] = Tally(heir=self._to_network)

    def skip(self) -> None:
        """Count a line that is no record."""
        self._unreadable += 1

    def add(self, record: Logged) -> None:
        """Count a record, if it is in the range."""
        when = record.when
        if timed := 0 < when < _TIME_LIMIT:
            if not self._begin <= when < self._end:
                self._outside += 1
                self._first, self._last = min(self._first, when), max(self._last, when)
                return
        else:
            self._untimed += 1
            if self._since is not None or self._until is not None:
                return
        kind = record.type if record.type in _TYPES else OTHER_TYPE
        count = record.count if record.meta else 1
        if timed:
            self._clockwork.add(kind, when, count)
        self._records += 1
        self._tallies["types"].add(kind, count)
        if record.meta and record.type != "OOB" and (disposition := record.disposition) is not None:
            self._tallies["dispositions"].add(disposition.value, count)
        domains = [_domain_of(recipient) for recipient in record.recipients]
        self._reasons.add((kind, reason_of(record, domains)), count)
        if record.type in INCOMING:
            self._incoming(record, count)
        bounced = record.type in BOUNCES
        for domain in dict.fromkeys(domains):
            self._tallies["bounced_domains" if bounced else "recipient_domains"].add(domain, count)
        bounce_class = record.bounce_classification[:_NAME_LIMIT] or UNCATEGORIZED
        # Every record has the field, and most are no bounces. Our own replies are no bounces either.
        if bounced or bounce_class != UNCATEGORIZED:
            classes = "rejection_classes" if record.type == "Rejection" else "bounce_classes"
            self._tallies[classes].add(bounce_class, count)

    def _incoming(self, record: Logged, count: int) -> None:
        # An OOB record has no size, and its message has a Reception.
        if record.type != "OOB" and self._known.begins(record):
            self._messages += 1
            self._bytes += min(max(0, record.size), _SIZE_LIMIT)
        is_counted = record.type != "Reception" or record.disposition in NOT_LOGGED
        if is_counted and (level := record.meta.get("verified")) is not None:
            self._proof(record, str(level)[:_NAME_LIMIT], count)
        if (form := form_of(record)) is not None:
            before = self._drift is not None and record.when < self._drift
            self._forms.add(reporting_domain(record) or UNKNOWN, form, count, before=before)
        peer = record.peer_address
        if peer is not None:
            self._tallies["peers"].add(_text(peer.addr), count)
        if record.type == "OOB":
            self._tallies["reporting_mtas"].add(UNKNOWN if peer is None else _text(peer.name), count)
        elif record.type == "Feedback":
            report = record.feedback_report or {}
            self._tallies["feedback_types"].add(_text(report.get("feedback_type")), count)
            self._tallies["reporting_mtas"].add(_reporter(report), count)

    def _proof(self, record: Logged, level: str, count: int) -> None:
        methods, why = record.meta.get("verified_by"), record.meta.get("proof")
        named = ", ".join(map(str, methods[:_METHODS])) if isinstance(methods, list) else ""
        self._tallies["proofs"].add(f"{level} ({named})"[:_NAME_LIMIT] if named else level, count)
        if not named and isinstance(why, str):
            self._tallies["unproved"].add(shape(why), count)

    def _to_network(self, peer: str, count: int) -> None:
        self._tallies["networks"].add(_network(peer), count)

    def summary(self) -> Summary:
        """Return the figures. Add no record after this."""
        clockwork = self._clockwork
        for peer, count in self._tallies["peers"].top():
            self._to_network(peer, count)
        outside = (self._first, self._last) if self._outside else ()
        times = [when for when in (clockwork.first, clockwork.last, *outside) if when is not None]
        since, until = (None if bound is None else int(bound) for bound in (self._since, self._until))
        return Summary(
            since=_instant(self._since),
            until=_instant(self._until),
            first=_instant(clockwork.first),
            last=_instant(clockwork.last),
            log_first=_instant(min(times, default=None)),
            log_last=_instant(max(times, default=None)),
            records=self._records,
            count=self._tallies["types"].total,
            messages=self._messages,
            outside=self._outside,
            untimed=self._untimed,
            unreadable=self._unreadable,
            bytes_received=self._bytes,
            reasons=_ranking(self._reasons),
            forms=self._forms.forms(_instant(self._drift)),
            timeline=clockwork.timeline(since, until),
            **{name: _ranking(tally) for name, tally in self._tallies.items()},
        )


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(int(seconds))


def _ranking(tally: Tally[str] | Tally[tuple[str, str]]) -> Ranking:
    named = ((None, key, count) if isinstance(key, str) else (*key, count) for key, count in tally.top())
    entries = [RankingEntry(type=kind, name=name, count=count) for kind, name, count in named]
    top = sorted(entries, key=lambda entry: (-entry.count, entry.name, entry.type or ""))[:_TOP]
    others = tally.total - sum(entry.count for entry in top)
    return Ranking(total=tally.total, others=others, names=tally.names, shortfall=tally.shortfall, top=top)


def _reporter(report: object) -> str:
    """Return the reporting MTA of a feedback report, or the program that made it."""
    match report:
        case {"reporting_mta": {"name": str(name)}} if name:
            return _text(name)
        case {"user_agent": name}:
            return _text(name)
        case _:
            return UNKNOWN


def _text(value: object) -> str:
    return value[:_NAME_LIMIT] if isinstance(value, str) and value else UNKNOWN


def _domain_of(recipient: str) -> str:
    _, at, domain = recipient.rpartition("@")
    return _domain(domain[: _NAME_LIMIT + 1]) if at else NO_DOMAIN


@lru_cache(maxsize=8192)
def _domain(text: str) -> str:
    return normal_domain(text) or NO_DOMAIN


def _network(peer: str) -> str:
    """Return the network that usually has one owner: a /24, or a /64 (RFC 6177)."""
    if found := _IPV4.fullmatch(peer):
        return f"{found[1]}.0/24"
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"
