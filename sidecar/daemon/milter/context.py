"""What the callbacks of both engines get and return: pymilter's context, as far as it is used, and libmilter's codes (mfapi.h).

Owns no behaviour. pymilter ships neither stubs nor annotations.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

CONTINUE: Final = 0
REJECT: Final = 1
DISCARD: Final = 2
ACCEPT: Final = 3
TEMPFAIL: Final = 4
NOREPLY: Final = 7
SKIP: Final = 8
WAITING: Final = -1
"""The code of a callback that has no answer yet: `resume` of its context gets it later."""


class Macros(Protocol):
    """A source of an MTA's macros."""

    def getsymval(self, name: str, /) -> str | None:
        """Return a macro. Raise UnicodeDecodeError if it is not UTF-8."""


class Context(Macros, Protocol):
    """One milter connection, as libmilter passes it to each callback."""

    def getpriv(self) -> Any:  # noqa: ANN401 - the adapter knows what it is
        """Return what `setpriv` kept, or None."""

    def setpriv(self, kept: object, /) -> object:
        """Keep one object for this connection, and return the one kept before."""

    def setsymlist(self, stage: int, names: str, /) -> None:
        """Ask for these macros at a stage, at most five, separated by spaces; only while negotiating."""

    def setreply(self, code: str, enhanced: str, text: str, /) -> None:
        """Set the SMTP reply of the next REJECT or TEMPFAIL; `%` is written `%%`."""

    def delrcpt(self, recipient: str, /) -> None:
        """Remove a recipient from the envelope; only at the end of the message, and only if that was negotiated."""

    def addheader(self, name: str, value: str, index: int, /) -> None:
        """Insert a header field before the one with this index; under the same conditions. The first has index 0."""

    def chgfrom(self, sender: str, /) -> None:
        """Change the envelope sender; under the same conditions."""


class WaitingContext(Context, Protocol):
    """A context of the direct engine, where a callback can answer later."""

    def resume_later(self, finish: Callable[[], int], /) -> None:
        """Let the thread of the connection call `finish` for the code; from any thread, once for each WAITING."""
