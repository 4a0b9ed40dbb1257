"""What the sessions of a worker share."""

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.names import IPAddress, network_of
from sidecar.core.session import Quota
from sidecar.core.session.quota import BURST_SECONDS, NETWORKS_LIMIT
from sidecar.core.settings.values import LimitSettings

PEER = ip_address("203.0.113.9")
NOON = 1_790_000_000.0


def admitted(quota: Quota, peer: IPAddress, now: float, *, tries: int = 100_000) -> int:
    """Count the reports that a peer gets in at one instant."""
    return next((count for count in range(tries) if not quota.admit_report(network_of(str(peer)), now)), tries)


def test_sessions() -> None:
    """There is room for so many sessions, and again for each that has left."""
    quota = Quota(LimitSettings(sessions=2))
    assert [quota.enter() for _ in range(3)] == [True, True, False]
    quota.leave()
    assert [quota.enter() for _ in range(2)] == [True, False]


def test_memory() -> None:
    """Bytes are taken whole or not at all, up to the last one."""
    quota = Quota(LimitSettings(report_memory=1000))
    assert [quota.hold(size) for size in (600, 401, 400, 1)] == [True, False, True, False]
    quota.release(400)
    assert quota.hold(400)


def test_rate() -> None:
    """A peer has a burst of some seconds' worth, and then its rate, whatever it tries in between."""
    quota = Quota(LimitSettings(reports_per_second=5))
    assert admitted(quota, PEER, NOON) == 5 * BURST_SECONDS
    assert [admitted(quota, PEER, NOON + second) for second in (1, 2, 2.5, 2.75)] == [5, 5, 2, 1]
    assert admitted(quota, PEER, NOON + 3600) == 5 * BURST_SECONDS


def test_peers_do_not_share_their_rate() -> None:
    """What one peer brings is nothing to another."""
    quota = Quota(LimitSettings(reports_per_second=1))
    assert [admitted(quota, ip_address(f"203.0.113.{number}"), NOON) for number in range(3)] == [BURST_SECONDS] * 3


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("203.0.113.9", "203.0.113.8", False),
        ("::1", "0.0.0.0", False),  # noqa: S104 - an address with the number of the other's network
    ],
)
def test_an_ipv6_network_is_one_peer(first: str, second: str, together: bool) -> None:
    """Whoever has an IPv6 address has 2^64 of them, and one rate."""
    quota = Quota(LimitSettings(reports_per_second=1))
    admitted(quota, ip_address(first), NOON)
    assert quota.admit_report(network_of(second), NOON) != together


@pytest.mark.parametrize("back", [1.0, 3600.0, NOON])
def test_a_clock_that_is_set_back(back: float) -> None:
    """It adds nothing, and takes nothing away for longer than a second."""
    quota = Quota(LimitSettings(reports_per_second=1))
    admitted(quota, PEER, NOON)
    assert not quota.admit_report(network_of(str(PEER)), NOON - back)
    assert quota.admit_report(network_of(str(PEER)), NOON - back + 1)


def test_the_peers_are_bounded() -> None:
    """However many peers come, so many are remembered: those that came last."""
    quota = Quota(LimitSettings(reports_per_second=1))
    admitted(quota, PEER, NOON)
    for number in range(NETWORKS_LIMIT - 1):
        quota.admit_report(network_of(str(ip_address(number))), NOON)
    assert not quota.admit_report(network_of(str(PEER)), NOON)
    for number in range(NETWORKS_LIMIT):
        quota.admit_report(network_of(str(ip_address(number))), NOON)
    assert len(quota._reports._networks) == NETWORKS_LIMIT
    assert quota.admit_report(network_of(str(PEER)), NOON)


@given(st.integers(1, 20), st.lists(st.floats(0, 3), max_size=200))
def test_never_above_the_rate(rate: int, pauses: list[float]) -> None:
    """In any stretch of time a peer gets in no more than its burst and its rate for that time."""
    quota, now, count = Quota(LimitSettings(reports_per_second=rate)), NOON, 0
    for pause in pauses:
        now += pause
        count += quota.admit_report(network_of(str(PEER)), now)
    assert count <= rate * (BURST_SECONDS + now - NOON) + 0.01


def test_threads() -> None:
    """Many threads take and give back, and the counts come out even."""
    quota = Quota(LimitSettings(sessions=3, report_memory=3000))

    def work(_: int) -> int:
        taken = 0
        for _ in range(2000):
            if quota.enter():
                taken += 1
                assert quota.hold(1000)
                assert quota._sessions <= 3
                quota.release(1000)
                quota.leave()
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert (quota._sessions, quota._bytes) == (0, 0)
