"""Everything that is counted, and the cell in which each count stands.

Owns the closed sets. Names become labels in monitoring: they are for ever. Never counts.
"""

from collections.abc import Iterator
from typing import Final

OTHER: Final = "other"

_RELAYING: Final = ("relay_hosts", "relay_to", "relay_from", "relay_from_authz")
_REASONS: Final = {
    ("connect", "continue"): ("relay_hosts", "deferred"),
    ("connect", "reject"): ("relaying_not_permitted",),
    ("connect", "tempfail"): ("unknown_listener", "too_many_sessions"),
    ("rcpt", "accept"): (*_RELAYING, "log_oob", "log_arf"),
    ("rcpt", "reject"): ("relaying_not_permitted", "unreadable_address"),
    ("rcpt", "tempfail"): ("too_many_recipients",),
    ("message", "accept"): (*_RELAYING, "oob", "arf"),
    ("message", "discard"): ("oob", "arf", "quarantine"),
    ("message", "reject"): ("relaying_not_permitted", "too_big"),
    ("message", "tempfail"): ("too_many_reports", "too_many_records", "no_room"),
}
VERDICTS: Final = tuple(
    (stage, action, reason) for (stage, action), reasons in _REASONS.items() for reason in (*reasons, OTHER)
)
"""Stage, action and reason. A refusal for trouble is none of them: no policy decided it."""

# KumoMTA's own classes (its rule files may name others).
BOUNCE_CLASSES: Final = (
    "AuthenticationFailed",
    "AutoReply",
    "BadConfiguration",
    "BadConnection",
    "BadDomain",
    "ChallengeResponse",
    "ContentRelated",
    "DNSFailure",
    "InactiveMailbox",
    "InvalidRecipient",
    "InvalidSender",
    "MessageExpired",
    "NoAnswerFromHost",
    "PolicyRelated",
    "ProhibitedAttachment",
    "ProtocolErrors",
    "QuotaIssues",
    "RelayDenied",
    "RelayingIssues",
    "RoutingErrors",
    "SpamBlock",
    "SpamContent",
    "SpamRelated",
    "Subscribe",
    "TransientFailure",
    "Uncategorized",
    "Unsubscribe",
    "VirusRelated",
    OTHER,
)
# IANA's registry of feedback report types (RFC 5965 section 7.3, RFC 6430, RFC 6591).
COMPLAINTS: Final = ("abuse", "auth-failure", "fraud", "not-spam", "virus", OTHER)

STEPS: Final = ("connect", "rcpt", "end_of_headers", "end_of_message")
"""The steps for whose answer an MTA waits."""

WRITES: Final = ("true", "false")
"""Whether a write to the journal waits for the disk."""

BOUNDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the histograms' buckets, in seconds; one more bucket takes what is longer."""

PLAIN: Final = ("oob_reports", "arf_reports", "faults", "journal_errors", "last_write")
"""Numbers that stand alone; `last_write` is in seconds since 1970."""

GAUGES: Final = ("sessions", "writing")
"""What goes up and down. A worker begins with none of it, whoever had its cells before."""

_HISTOGRAM: Final = len(BOUNDS) + 2


def _cells() -> Iterator[tuple[tuple[str, ...], int]]:
    """Give each name with the number of cells it takes."""
    yield from ((("verdict", *verdict), 1) for verdict in VERDICTS)
    yield from ((("bounce", name), 1) for name in BOUNCE_CLASSES)
    yield from ((("complaint", name), 1) for name in COMPLAINTS)
    yield from ((("step", name), _HISTOGRAM) for name in STEPS)
    yield from ((("write", name), _HISTOGRAM) for name in WRITES)
    yield from ((("plain", name), 1) for name in PLAIN)
    yield from ((("gauge", name), 1) for name in GAUGES)


def _numbered() -> tuple[dict[tuple[str, ...], int], int]:
    cells: dict[tuple[str, ...], int] = {}
    number = 0
    for name, size in _cells():
        cells[name] = number
        number += size
    return cells, number


CELL, CELLS = _numbered()
"""The first cell of each name, and how many cells there are."""
