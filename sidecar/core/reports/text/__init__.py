"""Bounces without a status part: the text of an automatic mailer -> the OobReport that it says.

`read_text` decides. `is_from_mailer` says if a header section proves an automatic mailer; without a proof only a message from
the null sender can be one. Nothing here raises an exception for any bytes, reads a clock or a file, or takes more than linear
time.
"""

from sidecar.core.reports.text.header import answers_automatically, is_from_mailer
from sidecar.core.reports.text.reading import TextBounce, read_statusless, read_text

__all__ = ["TextBounce", "answers_automatically", "is_from_mailer", "read_statusless", "read_text"]
