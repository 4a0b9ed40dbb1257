"""Many records as a few figures: what came, from whom, for whom and why, and when. No clock, no files.

Plots are drawn by a library that is not always there: `sidecar.stats.plots` and `sidecar.stats.page` are imported by name, and
only where somebody asks for a picture.
"""

from sidecar.stats.collector import Collector
from sidecar.stats.summary import Entry, Ranking, Summary, instant
from sidecar.stats.timeline import Timeline
from sidecar.stats.when import parse_when

__all__ = ["Collector", "Entry", "Ranking", "Summary", "Timeline", "instant", "parse_when"]
