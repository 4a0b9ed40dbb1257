"""Records in KumoMTA's shape, made of facts, the reasons of a verdict and a report. No I/O, no clock."""

from sidecar.core.records.build import Facts, bounce_response, oob_bounces, reception, rejection, rejections
from sidecar.core.records.reading import TYPES, Logged, decode
from sidecar.core.records.record import UNCATEGORIZED, EnhancedCode, PeerAddress, Record, Response, encode

__all__ = [
    "TYPES",
    "UNCATEGORIZED",
    "EnhancedCode",
    "Facts",
    "Logged",
    "PeerAddress",
    "Record",
    "Response",
    "bounce_response",
    "decode",
    "encode",
    "oob_bounces",
    "reception",
    "rejection",
    "rejections",
]
