"""Bounces without a status part: the text of an automatic mailer -> the OobReport that it says.

`read_text` decides; `may_be_text_bounce` decides from the header section whether a message can be one. Nothing here raises an
exception for any bytes, reads a clock or a file, or takes more than linear time.
"""

from sidecar.core.reports.text.header import is_from_mailer, may_be_text_bounce, proves_mailer
from sidecar.core.reports.text.reading import TextBounce, read_text

__all__ = ["TextBounce", "is_from_mailer", "may_be_text_bounce", "proves_mailer", "read_text"]
