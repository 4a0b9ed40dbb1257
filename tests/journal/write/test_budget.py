"""The debt of networks whose records are bigger than what they sent."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.settings.values import LimitSettings
from sidecar.journal.write import limits
from sidecar.journal.write.limits import RESTORE_SECONDS, RecordBudget

NOON = 1_790_000_000.0
NET = "cb007109"
BURST = 10_000


def limited(each: int = 5) -> RecordBudget:
    return RecordBudget(LimitSettings(record_bytes_per_byte=each, record_bytes_burst=BURST))


def spend(it: RecordBudget, size: int, received: int = 0, now: float = NOON, *, anyway: bool = False) -> bool:
    return it.spend(NET, received=received, size=size, now=now, anyway=anyway)


def test_the_burst() -> None:
    """Records are written whole or not at all, up to the last byte; another network has its own burst."""
    it = limited()
    assert [spend(it, size) for size in (6000, 4001, 4000, 1)] == [True, False, True, False]
    assert it.spend("cb007108", received=0, size=BURST, now=NOON)


def test_what_is_received_pays() -> None:
    """Five bytes for each, also where the records are not written; none is saved up."""
    it = limited()
    assert spend(it, BURST)
    assert not spend(it, 600, received=100)
    assert spend(it, 500)
    assert spend(it, 0, received=1_000_000)
    assert [spend(it, BURST), spend(it, 1)] == [True, False]


def test_records_that_are_paid_for_are_written_whatever_the_debt() -> None:
    """A network in debt, such as a big provider's, still gets its ordinary reports accepted."""
    it = limited()
    assert spend(it, BURST)
    assert spend(it, 5 * BURST, anyway=True)
    assert not spend(it, 1)
    assert spend(it, 5000, received=1000)


def test_the_burst_is_restored_within_a_day() -> None:
    it = limited()
    assert spend(it, BURST)
    assert not spend(it, 101, now=NOON + RESTORE_SECONDS / 100)
    assert spend(it, 100, now=NOON + RESTORE_SECONDS / 100)
    assert spend(it, BURST, now=NOON + 2 * RESTORE_SECONDS)


@pytest.mark.parametrize("back", [1.0, 3600.0, NOON])
def test_a_clock_that_is_set_back(back: float) -> None:
    """It restores nothing, and keeps no burst back for longer than a day."""
    it = limited()
    assert spend(it, BURST)
    assert not spend(it, 1, now=NOON - back)
    assert spend(it, BURST, now=NOON - back + RESTORE_SECONDS)


def test_only_networks_in_debt_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """And of these so many: those that came last."""
    monkeypatch.setattr(limits, "NETWORKS_LIMIT", 3)
    it = limited()
    spend(it, 500, received=100)
    assert not it._debts
    for number in range(5):
        it.spend(str(number), received=0, size=1, now=NOON)
    assert list(it._debts) == ["2", "3", "4"]
    spend(it, -1, received=0)
    it.spend("3", received=1, size=0, now=NOON)
    assert list(it._debts) == ["2", "4"]


def test_no_limit() -> None:
    assert spend(limited(each=0), 1 << 40)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3000)), max_size=200))
def test_never_above_the_limit(messages: list[tuple[int, int]]) -> None:
    """Whatever comes in whatever order, the records written have five bytes for each byte received, and the burst."""
    it, received, written = limited(), 0, 0
    for size, came in messages:
        received += came
        written += size if spend(it, size, received=came) else 0
        assert written <= 5 * received + BURST


def test_threads() -> None:
    it = limited()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: spend(it, 7), range(4000))) == BURST // 7
