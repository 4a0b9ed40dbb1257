"""The metrics in the formats that Prometheus reads."""

import math
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sidecar.daemon.metrics import BOUNDS, CELL, FAMILIES, INFINITE, Memory
from sidecar.daemon.metrics.series import REPORT_FORMS
from sidecar.daemon.process.plan import Plan

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}


class Exposition(Collector):
    """The metrics of all processes, and of a plan."""

    def __init__(self, memory: Memory, plan: Plan) -> None:
        self._memory = memory
        self._plan = plan
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, for an Accept header."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def collect(self) -> Iterator[Metric]:
        """Return the metrics, for the registry."""
        totals = self._memory.totals()
        for family in FAMILIES:
            metric = _FAMILIES[family.kind](f"sidecar_{family.name}", family.text, labels=family.labels)
            for values in family.values:
                cell = CELL[family.name, *values]
                if isinstance(metric, HistogramMetricFamily):
                    metric.add_metric(values, _buckets(totals, cell), totals[cell + len(BOUNDS) + 1] / 1e9)
                else:
                    metric.add_metric(values, math.inf if totals[cell] == INFINITE else totals[cell])
            yield metric
        forms = CounterMetricFamily(f"sidecar_{REPORT_FORMS.name}", REPORT_FORMS.text, labels=REPORT_FORMS.labels)
        for reporter, form, count in self._memory.reporter_totals():
            forms.add_metric((reporter, form), count)
        yield forms
        info = InfoMetricFamily("sidecar_policy", "The policy that this process serves; all workers get the same.")
        info.add_metric((), {"revision": self._plan.revision})
        yield info
        made = self._plan.made
        yield GaugeMetricFamily("sidecar_policy_loaded_timestamp_seconds", "When that policy was loaded.", value=made)


def _buckets(totals: list[int], first: int) -> list[tuple[str, float]]:
    """Return the upper bound of each bucket, and the count up to it."""
    bounds = (*map(str, BOUNDS), "+Inf")
    return list(zip(bounds, accumulate(totals[first : first + len(bounds)]), strict=True))
