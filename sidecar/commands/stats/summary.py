"""The figures of `sidecar stats`. Owns their names in `--json`, which are permanent."""

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from sidecar.commands.stats.forms import Forms
from sidecar.commands.stats.timeline import Timeline

TITLES = {
    "dispositions": "Dispositions",
    "peers": "Peers",
    "networks": "Networks of peers",
    "recipient_domains": "Recipient domains",
    "bounced_domains": "Domains that bounced",
    "reporting_mtas": "Reporters",
    "bounce_classes": "Bounce classes",
    "rejection_classes": "Classes of our own rejections",
    "feedback_types": "Feedback types",
    "proofs": "Proofs of reports",
    "unproved": "Why a report proves nothing",
}
"""The rankings of names, in the order of every output."""


class RankingEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a ranking. `type` is the record type, if the ranking has it."""

    name: str
    count: int
    type: str | None = None


class Ranking(Struct, frozen=True, kw_only=True):
    """The most frequent names.

    `total` is the exact count of all names, `others` the count of those outside `top`, `names` the number of names. If there
    were too many names to keep, a figure in `top` can be too low by `shortfall`, and `names` is a lower bound; otherwise
    `shortfall` is 0.
    """

    total: int
    others: int
    names: int
    shortfall: int
    top: list[RankingEntry]

    def first(self, number: int) -> "Ranking":
        """Return the ranking with `number` names in `top`."""
        top = self.top[:number]
        return replace(self, top=top, others=self.total - sum(entry.count for entry in top))


class Summary(Struct, frozen=True, kw_only=True):
    """The figures of a range of time. Times are RFC 3339 or None.

    `since` and `until` are the range (without its end), `first` and `last` the times of its records, `log_first` and `log_last`
    those of all records that were read: files that were last written before `since` are not. `records` counts lines. `count`
    and all other figures count a record of many rejections as that many. `messages` counts the incoming messages, each once for
    all its recipients; KumoMTA's records do not contain which recipients share a message, so there each counts as one.
    `outside` counts records outside the range, `untimed` those without a time (in the range only if it is not set),
    `unreadable` lines that are no records. `bytes_received` is the size of the accepted messages. `dispositions` counts the
    sidecar's Receptions, Feedback and Rejections: an OOB record has none, because its message has a Reception. KumoMTA's
    records have no disposition.
    `forms` has the reporters, and how complete their reports are. `bounce_classes` are the classes of the replies of other
    MTAs, `rejection_classes` those of our own. `proofs` counts records of reports by what these prove, and
    the methods that held; `unproved` has the reasons of those that prove nothing.
    """

    since: str | None
    until: str | None
    first: str | None
    last: str | None
    log_first: str | None
    log_last: str | None
    records: int
    count: int
    messages: int
    outside: int
    untimed: int
    unreadable: int
    bytes_received: int
    types: Ranking
    dispositions: Ranking
    reasons: Ranking
    peers: Ranking
    networks: Ranking
    recipient_domains: Ranking
    bounced_domains: Ranking
    reporting_mtas: Ranking
    bounce_classes: Ranking
    rejection_classes: Ranking
    feedback_types: Ranking
    proofs: Ranking
    unproved: Ranking
    forms: Forms
    timeline: Timeline | None

    def names(self) -> Iterator[tuple[str, Ranking]]:
        """Yield the rankings of names that are not empty, with their titles."""
        for name, title in TITLES.items():
            ranking: Ranking = getattr(self, name)
            # If each peer has its own network, the networks are the peers.
            is_peers = name == "networks" and not ranking.shortfall and ranking.names == self.peers.names
            if ranking.top and not is_peers:
                yield title, ranking
