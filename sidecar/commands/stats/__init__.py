"""`sidecar stats`: many records as a few figures: what arrived, from which peers, for which domains, why, and when.

`plots` and `page` need a library that is not always there. They are imported by name, and only for a picture.
"""

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.summary import Ranking, RankingEntry, Summary, instant
from sidecar.commands.stats.timeline import Timeline
from sidecar.commands.stats.when import parse_when

__all__ = ["Collector", "Ranking", "RankingEntry", "Summary", "Timeline", "instant", "parse_when"]
