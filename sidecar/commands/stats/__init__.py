"""`sidecar stats`: count records by type, reason, peer, domain and time.

`plots` needs matplotlib, which is optional: the command imports it only for a picture.
"""

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.summary import Ranking, RankingEntry, Summary, instant
from sidecar.commands.stats.timeline import Timeline
from sidecar.commands.stats.when import parse_when

__all__ = ["Collector", "Ranking", "RankingEntry", "Summary", "Timeline", "instant", "parse_when"]
