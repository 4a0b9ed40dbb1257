"""The dispositions of a recipient: one closed set of words for records, JSON and tables.

Scripts read them: they are permanent. Never decides anything.
"""

from enum import StrEnum
from typing import Final


class Disposition(StrEnum):
    """The result for a recipient, or for a message as a whole (records reference, Dispositions)."""

    RELAYED = "relayed"
    LOGGED_AND_RELAYED = "logged_and_relayed"
    LOGGED_AND_DROPPED = "logged_and_dropped"
    DROPPED = "dropped"
    REJECTED_AT_CONNECT = "rejected_at_connect"
    REJECTED_AT_RCPT = "rejected_at_rcpt"
    REJECTED_AT_END = "rejected_at_end"
    TEMPFAILED = "tempfailed"
    QUARANTINED = "quarantined"

    @property
    def words(self) -> str:
        """The disposition as tables show it to people."""
        return _WORDS.get(self) or self.value.replace("_", " ")


_WORDS: Final = {Disposition.REJECTED_AT_RCPT: "rejected at RCPT", Disposition.REJECTED_AT_END: "rejected at the end"}

REJECTED: Final = frozenset((Disposition.REJECTED_AT_CONNECT, Disposition.REJECTED_AT_RCPT, Disposition.REJECTED_AT_END))
"""The dispositions of a 5xx reply by the policy."""
