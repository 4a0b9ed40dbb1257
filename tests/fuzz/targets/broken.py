"""A target that fails on purpose, so that the tests know that a failure would be seen.

Owns no check of the program; it is none of those that `make fuzz` runs.
"""

from collections.abc import Iterator

from sidecar.core.names import normal_domain


def seeds() -> Iterator[bytes]:
    """Yield an input that is as it must be."""
    yield b"example.com"


def check(data: bytes) -> None:
    """Fail on an exclamation mark."""
    assert normal_domain(data.decode("utf-8", "replace")) != "!"
    assert b"!" not in data, "an external host wrote the forbidden word"
