"""Where inputs begin: the sample mails of the tests.

Owns nothing but their reading.
"""

from collections.abc import Iterator

from tests import DATA


def mails() -> Iterator[bytes]:
    """Give every sample mail: made by hand, or by a real MTA."""
    return (path.read_bytes() for path in sorted(DATA.glob("*/*.eml")))
