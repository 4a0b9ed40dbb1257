"""All metrics: names, help and label values for Prometheus, and the cell of each number.

Names and label values are permanent. The set is closed: a value from outside that is not in it counts as "other".
"""

from collections.abc import Iterator
from itertools import product
from typing import Final, Literal, get_args

from msgspec import Struct

from sidecar.core.proof.values import Method, Result
from sidecar.core.records import FORMS
from sidecar.core.session.verdicts import CheckResult

OTHER: Final = "other"

_RELAYING: Final = ("relay_hosts", "relay_to", "relay_from", "relay_from_authz")
# A tempfail after a fault of the program is not here: no policy decided it. See "faults".
_REASONS: Final = {
    ("connect", "continue"): ("relay_hosts", "deferred"),
    ("connect", "reject"): ("relaying_not_permitted",),
    ("connect", "tempfail"): ("unknown_listener", "too_many_sessions"),
    ("rcpt", "accept"): (*_RELAYING, "log_oob", "log_arf"),
    ("rcpt", "reject"): ("relaying_not_permitted", "unreadable_address", "address_required", "suppressed"),
    ("rcpt", "tempfail"): ("too_many_recipients", "unreadable_list"),
    ("message", "accept"): (*_RELAYING, "oob", "arf"),
    ("message", "discard"): ("oob", "arf", "quarantine"),
    ("message", "reject"): ("relaying_not_permitted", "too_big", "unverified"),
    ("message", "tempfail"): ("too_many_reports", "too_many_records", "no_room"),
}
_VERDICTS: Final = tuple((*verdict, reason) for verdict, reasons in _REASONS.items() for reason in (*reasons, OTHER))

# The classes of KumoMTA's own rules; other rule files can name more.
_BOUNCE_CLASSES: Final = (
    "AuthenticationFailed", "AutoReply", "BadConfiguration", "BadConnection", "BadDomain", "ChallengeResponse",
    "ContentRelated", "DNSFailure", "InactiveMailbox", "InvalidRecipient", "InvalidSender", "MessageExpired",
    "NoAnswerFromHost", "PolicyRelated", "ProhibitedAttachment", "ProtocolErrors", "QuotaIssues", "RelayDenied",
    "RelayingIssues", "RoutingErrors", "SpamBlock", "SpamContent", "SpamRelated", "Subscribe", "TransientFailure",
    "Uncategorized", "Unsubscribe", "VirusRelated",
)  # fmt: skip
# IANA's registry of feedback report types (RFC 5965 section 7.3, RFC 6430, RFC 6591).
_COMPLAINTS: Final = ("abuse", "auth-failure", "fraud", "not-spam", "virus")

BOUNDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""Upper bounds of the histograms' buckets, in seconds. One more bucket counts what is longer."""

INFINITE: Final = 2**64 - 1
"""The value of a gauge that stands for +Inf."""


class Family(Struct, frozen=True):
    """A metric, without the prefix "sidecar_", and the values of its labels."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ((),)


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


FAMILIES: Final = (
    Family("counter", "verdicts", "Peers, recipients and messages judged, and why.", ("stage", "action", "reason"), _VERDICTS),
    Family("counter", "reports", "Messages classified as reports.", ("kind",), _each("oob", "arf")),
    Family(
        "counter",
        "proofs",
        "Reports checked for a proof that they are about own mail.",
        ("method", "result"),
        tuple(product(get_args(Method), get_args(Result))),
    ),
    Family(
        "counter",
        "suppression_checks",
        "Recipients of relay hosts that were looked up in the suppression list.",
        ("result",),
        _each(*get_args(CheckResult)),
    ),
    Family("counter", "bounces", "Failed recipients in bounce reports.", ("class",), _each(*_BOUNCE_CLASSES, OTHER)),
    Family("counter", "complaints", "Feedback reports.", ("type",), _each(*_COMPLAINTS, OTHER)),
    Family("counter", "faults", "Connections answered 451 because of a fault of the program."),
    # The steps whose answer an MTA waits for.
    Family(
        "histogram",
        "answer_seconds",
        "Time until the MTA has its answer.",
        ("step",),
        _each("connect", "rcpt", "end_of_headers", "end_of_message"),
    ),
    Family(
        "histogram",
        "journal_write_seconds",
        "Time of a write to the journal; a durable one waits for the disk.",
        ("durable",),
        _each("true", "false"),
    ),
    Family("counter", "journal_errors", "Writes to the journal that failed."),
    Family("gauge", "journal_waiting", "Writes to the journal in progress."),
    Family("gauge", "journal_last_write_timestamp_seconds", "The last write that succeeded, or 0."),
    Family("gauge", "sessions", "Open SMTP connections."),
    Family("gauge", "degraded", "1 while the journal's disk has less than journal.minimum_free, else 0."),
    Family("gauge", "journal_free_bytes", "Free bytes on the journal's fullest file system."),
    Family("gauge", "journal_minimum_free_bytes", "The setting journal.minimum_free."),
    Family(
        "gauge",
        "journal_time_left_seconds",
        "Time until that file system is full at the rate of the last minute; +Inf while its free space does not shrink.",
    ),
    Family(
        "gauge",
        "reader_behind_seconds",
        "Age of the oldest record that is not delivered: to the fleet, or to the slowest webhook. For suppression: how long "
        "the list has differed from that of the other nodes.",
        ("reader",),
        _each("fleet", "webhook", "suppression"),
    ),
    Family(
        "gauge",
        "reader_kept_records",
        "Records that were rejected where they are delivered.",
        ("reader",),
        _each("fleet", "webhook"),
    ),
    Family("gauge", "workers", "Worker processes.", ("state",), _each("wanted", "ready", "retiring")),
    Family("counter", "worker_restarts", "Workers that died while they were serving."),
    Family(
        "counter",
        "reloads",
        "Reloads of the settings; a failed reload has no effect.",
        ("outcome",),
        _each("succeeded", "failed"),
    ),
    Family("gauge", "start_timestamp_seconds", "When the sidecar was started."),
    Family("gauge", "listener_domains", "Listener domains of the policy in use."),
)

REPORT_FORMS: Final = Family(
    "counter",
    "report_forms",
    "Reports by the domain of the reporting host; the rarest reporters are other.",
    ("reporter", "form"),
    tuple((OTHER, form) for form in FORMS),
)
"""The metric of `reporters`, which has no cells: its reporters come from outside."""

HISTOGRAM_CELLS: Final = len(BOUNDS) + 2
"""A histogram has one cell for each bucket, and one for the sum in nanoseconds."""


def _cells() -> Iterator[tuple[str, ...]]:
    for family in FAMILIES:
        for values in family.values:
            for _ in range(HISTOGRAM_CELLS if family.kind == "histogram" else 1):
                yield (family.name, *values)


_CELLS: Final = tuple(_cells())
CELLS: Final = len(_CELLS)
CELL: Final = {name: CELLS - 1 - number for number, name in enumerate(reversed(_CELLS))}
"""The first cell of each name and label values."""
