"""An MTA's macros, played.

Owns nothing else.
"""

from collections.abc import Mapping


class Macros:
    """An MTA's macros."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)

    def getsymval(self, name: str, /) -> str | None:
        """Give one."""
        return self.values.get(name)
