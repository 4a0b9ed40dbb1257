"""Counts and times of the workers, in memory that all processes share.

A worker adds to plain numbers, without a lock or a system call; another process reads them at any time. Nothing of a message is
stored, only which of a closed set of numbers it adds to; `reporters` alone keeps names, the domains of reporting hosts.
"""

from sidecar.daemon.metrics.memory import Memory
from sidecar.daemon.metrics.meter import Meter
from sidecar.daemon.metrics.series import BOUNDS, CELL, FAMILIES, INFINITE

__all__ = ["BOUNDS", "CELL", "FAMILIES", "INFINITE", "Memory", "Meter"]
