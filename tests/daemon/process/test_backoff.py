"""The waits before a dead worker is replaced."""

import pytest

from sidecar.daemon.process.backoff import Backoff


@pytest.mark.parametrize(
    ("lives", "waits"),
    [
        ([0] * 7, [1, 2, 4, 5, 5, 5, 5]),
        ([3600] * 3, [1, 1, 1]),
        ([0, 0, 0, 60, 0], [1, 2, 4, 1, 2]),
    ],
)
def test_the_wait_doubles_up_to_five_seconds_and_starts_again_after_a_steady_worker(lives: list[int], waits: list[int]) -> None:
    backoff = Backoff()
    assert [backoff.after(lived) for lived in lives] == waits
