"""Where inputs begin: the sample mails of the tests.

Owns nothing but their reading.
"""

from collections.abc import Iterator
from pathlib import Path

_DATA = Path(__file__).parent.parent / "data"


def mails() -> Iterator[bytes]:
    """Give every sample mail: made by hand, or by a real MTA."""
    return (path.read_bytes() for path in sorted(_DATA.glob("*/*.eml")))
