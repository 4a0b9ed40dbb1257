"""The part of pymilter's context that this package uses, typed here because pymilter ships neither stubs nor annotations.

Owns no behaviour.
"""

from typing import Any, Protocol


class Macros(Protocol):
    """Where an MTA's macros are read."""

    def getsymval(self, name: str, /) -> str | None:
        """Give a macro. Raises UnicodeDecodeError when it is not UTF-8."""


class Context(Macros, Protocol):
    """One milter connection, as libmilter hands it to each callback."""

    def getpriv(self) -> Any:  # noqa: ANN401 - whatever was kept there; the adapter knows what
        """Give what `setpriv` kept, or None."""

    def setpriv(self, kept: object, /) -> object:
        """Keep one object for this connection, and give the one kept before."""

    def setsymlist(self, stage: int, names: str, /) -> None:
        """Ask for these macros at a stage, at most five, separated by spaces; only while negotiating."""

    def setreply(self, code: str, enhanced: str, text: str, /) -> None:
        """Set the SMTP reply that goes with the REJECT or TEMPFAIL to come; `%` is written `%%`."""

    def delrcpt(self, recipient: str, /) -> None:
        """Take a recipient off the envelope; only at the end of the message, and only if that was negotiated."""
