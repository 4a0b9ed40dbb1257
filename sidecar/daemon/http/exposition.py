"""What is counted, in the form that Prometheus reads.

Owns the names and the help of the metrics: they are for ever. Never counts.
"""

import math
from collections.abc import Callable, Iterator

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

from sidecar.daemon.http.service import Service
from sidecar.daemon.metrics import BOUNCE_CLASSES, BOUNDS, COMPLAINTS, NEVER, STEPS, VERDICTS, WRITES, Histogram, Memory, Totals


def exposition(memory: Memory, service: Service) -> Callable[[str], tuple[bytes, str]]:
    """Give what answers a scrape: from its Accept header, the content and its type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(memory, service))

    def scrape(accept: str) -> tuple[bytes, str]:
        encode, kind = choose_encoder(accept)
        return encode(registry), kind

    return scrape


class _Collector(Collector):
    def __init__(self, memory: Memory, service: Service) -> None:
        self._memory = memory
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Give everything, as it is now."""
        totals = self._memory.totals()
        yield from _mail(totals)
        yield from _times(totals)
        yield from _disk(totals)
        yield from _processes(totals)
        yield from self._policy(totals)

    def _policy(self, totals: Totals) -> Iterator[Metric]:
        info = InfoMetricFamily("sidecar_policy", "The policy that answers here; all workers get the same.")
        info.add_metric((), {"revision": self._service.revision})
        yield info
        yield _gauge("sidecar_policy_loaded_timestamp_seconds", "When that policy was loaded.", self._service.made)
        yield _gauge("sidecar_listener_domains", "Listener domains of the policy that serves.", totals.own["listener_domains"])


def _mail(totals: Totals) -> Iterator[Metric]:
    verdicts = CounterMetricFamily(
        "sidecar_verdicts", "Peers, recipients and messages judged, and why.", labels=("stage", "action", "reason")
    )
    for verdict in VERDICTS:
        verdicts.add_metric(verdict, totals.of("verdict", *verdict))
    yield verdicts
    reports = CounterMetricFamily("sidecar_reports", "Messages taken as reports.", labels=("kind",))
    for kind in ("oob", "arf"):
        reports.add_metric((kind,), totals.of("plain", f"{kind}_reports"))
    yield reports
    bounces = CounterMetricFamily("sidecar_bounces", "Failed recipients in bounce reports.", labels=("class",))
    for name in BOUNCE_CLASSES:
        bounces.add_metric((name,), totals.of("bounce", name))
    yield bounces
    complaints = CounterMetricFamily("sidecar_complaints", "Feedback reports.", labels=("type",))
    for name in COMPLAINTS:
        complaints.add_metric((name,), totals.of("complaint", name))
    yield complaints
    yield _counter("sidecar_faults", "Connections answered 451 for a fault of ours.", totals.of("plain", "faults"))


def _times(totals: Totals) -> Iterator[Metric]:
    answers = HistogramMetricFamily("sidecar_answer_seconds", "Time until the MTA has its answer.", labels=("step",))
    for step in STEPS:
        _observed(answers, step, totals.histogram("step", step))
    yield answers
    writes = HistogramMetricFamily(
        "sidecar_journal_write_seconds",
        "Time of a write to the journal; a durable one waits for the disk.",
        labels=("durable",),
    )
    for durable in WRITES:
        _observed(writes, durable, totals.histogram("write", durable))
    yield writes
    yield _counter("sidecar_journal_errors", "Writes to the journal that failed.", totals.of("plain", "journal_errors"))
    yield _gauge("sidecar_journal_waiting", "Writes to the journal in hand.", totals.of("gauge", "writing"))
    yield _gauge("sidecar_journal_last_write_timestamp_seconds", "The last write that succeeded, or 0.", totals.last_write)
    yield _gauge("sidecar_sessions", "SMTP connections in hand.", totals.of("gauge", "sessions"))


def _disk(totals: Totals) -> Iterator[Metric]:
    own = totals.own
    is_degraded = own["journal_free"] < own["journal_minimum_free"]
    yield _gauge("sidecar_degraded", "1 while the journal's disk has less than journal.minimum_free, else 0.", int(is_degraded))
    yield _gauge("sidecar_journal_free_bytes", "Free bytes on the journal's fullest file system.", own["journal_free"])
    yield _gauge("sidecar_journal_minimum_free_bytes", "The setting journal.minimum_free.", own["journal_minimum_free"])
    left = own["journal_seconds_left"]
    yield _gauge(
        "sidecar_journal_time_left_seconds",
        "Time until that is full at the rate of the last minute; +Inf while it does not shrink.",
        math.inf if left == NEVER else left,
    )


def _processes(totals: Totals) -> Iterator[Metric]:
    own = totals.own
    workers = GaugeMetricFamily("sidecar_workers", "Worker processes.", labels=("state",))
    for state in ("wanted", "ready", "retiring"):
        workers.add_metric((state,), own[f"workers_{state}"])
    yield workers
    yield _counter("sidecar_worker_restarts", "Workers that died while they served.", own["restarts"])
    reloads = CounterMetricFamily("sidecar_reloads", "Reloads of the settings; without effect if failed.", labels=("outcome",))
    reloads.add_metric(("taken",), own["reloads"])
    reloads.add_metric(("failed",), own["failed_reloads"])
    yield reloads
    yield _gauge("sidecar_start_timestamp_seconds", "When the sidecar was started.", own["started"])


def _observed(family: HistogramMetricFamily, label: str, histogram: Histogram) -> None:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.buckets, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric((label,), buckets, histogram.seconds)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_text, value=value)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
