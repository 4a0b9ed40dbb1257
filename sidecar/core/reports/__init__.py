"""Bytes -> OOB report | ARF report | "not a report, because".

`read` decides what a message is; `may_be_report` decides from its Content-Type whether it can be a report. Nothing here raises
an exception for any bytes, reads a clock or a file, recurses, or takes more than linear time.
"""
