"""Bytes -> OOB report | ARF report | "not a report, because".

`read` says what a message is; `may_be_report` says from its Content-Type alone whether it could still be one. Nothing here
raises on any bytes, reads a clock or a file, recurses, or takes more than linear time.
"""

from sidecar.core.reports.reading import may_be_report, read

__all__ = ["may_be_report", "read"]
