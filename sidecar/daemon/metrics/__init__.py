"""Counts and times of what the workers do, in memory that all processes share.

Owns the closed set of what is counted, and the memory. A worker adds to plain numbers, without lock or system call; another
process reads them whenever it likes. No stranger's text is ever kept: what is not in the set counts as "other".
"""

from sidecar.daemon.metrics.memory import NEVER, Histogram, Memory, Totals
from sidecar.daemon.metrics.meter import Meter
from sidecar.daemon.metrics.series import BOUNCE_CLASSES, BOUNDS, CELL, COMPLAINTS, STEPS, VERDICTS, WRITES

__all__ = [
    "BOUNCE_CLASSES",
    "BOUNDS",
    "CELL",
    "COMPLAINTS",
    "NEVER",
    "STEPS",
    "VERDICTS",
    "WRITES",
    "Histogram",
    "Memory",
    "Meter",
    "Totals",
]
