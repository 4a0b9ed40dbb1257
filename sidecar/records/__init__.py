"""Closed record types in KumoMTA's shape, built from facts, the verdict's reasons and a report. No I/O, no clock."""

from sidecar.records.build import Facts, feedback, oob_bounces, quarantined, reception, rejection, rejections
from sidecar.records.reading import Logged, decode
from sidecar.records.record import EnhancedCode, PeerAddress, Record, RecordType, Response, encode, visible

__all__ = [
    "EnhancedCode",
    "Facts",
    "Logged",
    "PeerAddress",
    "Record",
    "RecordType",
    "Response",
    "decode",
    "encode",
    "feedback",
    "oob_bounces",
    "quarantined",
    "reception",
    "rejection",
    "rejections",
    "visible",
]
