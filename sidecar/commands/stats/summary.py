"""The figures: what `sidecar stats` shows, whether as tables, JSON, a page or a picture.

Owns their names, which `--json` writes: they are for ever. Never counts.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct

from sidecar.commands.stats.timeline import Timeline


class RankingEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a ranking; `type` is the record type where the ranking tells them apart."""

    name: str
    count: int
    type: str | None = None


class Ranking(Struct, frozen=True, kw_only=True):
    """The names that were counted most.

    `total` is everything that was counted and always exact, `others` what is left of it beyond `top`. `names` is how many names
    there were. Where there were too many to remember them all, `shortfall` is by how much a figure in `top` may be too low, and
    `names` is a lower bound; otherwise `shortfall` is 0 and all is exact.
    """

    total: int
    others: int
    names: int
    shortfall: int
    top: list[RankingEntry]

    def first(self, number: int) -> "Ranking":
        """Give the same with so many names at the top."""
        top = self.top[:number]
        return Ranking(
            total=self.total,
            others=self.total - sum(entry.count for entry in top),
            names=self.names,
            shortfall=self.shortfall,
            top=top,
        )


class Summary(Struct, frozen=True, kw_only=True):
    """What some logs tell of a range of time.

    `since` and `until` are the range that was asked for (its end not included), `first` and `last` the times of the records in
    it: RFC 3339, None where there is none. `log_first` and `log_last` are of all records that were read: files that were last
    written before `since` are not. `records` counts lines; `count`, and all figures below it, count a record that stands for
    many rejections as that many. `outside` counts what was read and is not in the range, `untimed` the records without a time
    (in the range only if none was asked for), `unreadable` lines that are no records. `bytes_received` is the size of the
    accepted messages. `dispositions` counts the sidecar's Receptions, Feedback and Rejections: a message with an OOB record has
    a Reception too. KumoMTA's records have no disposition.
    """

    since: str | None
    until: str | None
    first: str | None
    last: str | None
    log_first: str | None
    log_last: str | None
    records: int
    count: int
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
    feedback_types: Ranking
    timeline: Timeline | None

    def names(self) -> Iterator[tuple[str, Ranking]]:
        """Give the rankings of single names that are worth showing, with their titles, in order."""
        titles = {
            "Dispositions": self.dispositions,
            "Peers": self.peers,
            "Networks of peers": self.networks,
            "Recipient domains": self.recipient_domains,
            "Domains that bounced": self.bounced_domains,
            "Reporters": self.reporting_mtas,
            "Bounce classes": self.bounce_classes,
            "Feedback types": self.feedback_types,
        }
        if not self.networks.shortfall and self.networks.names == self.peers.names:
            del titles["Networks of peers"]  # each peer is in one of its own
        return ((title, ranking) for title, ranking in titles.items() if ranking.top)


def instant(seconds: float) -> str:
    """Write an instant, given in seconds since 1970, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
