"""Counting by name where external hosts choose the names."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.tally import Tally

ADDITIONS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=300)


@given(ADDITIONS, st.integers(1, 8))
def test_honest(additions: list[tuple[int, int]], limit: int) -> None:
    """No figure is too high, none is lower than the shortfall allows, the total is exact, and a missing name is rare."""
    tally: Tally[int] = Tally(limit)
    truth: Counter[int] = Counter()
    for name, count in additions:
        tally.add(name, count)
        truth[name] += count
    shown = dict(tally.top())
    assert tally.total == truth.total()
    assert len(shown) <= 2 * limit
    assert all(truth[name] - tally.shortfall <= count <= truth[name] for name, count in shown.items())
    assert all(count <= tally.shortfall for name, count in truth.items() if name not in shown)
    assert tally.names <= len(truth)
    if not tally.shortfall:
        assert (shown, tally.names) == (dict(truth), len(truth))


@given(ADDITIONS)
def test_heir(additions: list[tuple[int, int]]) -> None:
    """What is dropped goes to the heir: nothing is lost, nothing is counted twice."""
    heir: Counter[int] = Counter()

    def inherit(name: int, count: int) -> None:
        heir[name] += count

    tally: Tally[int] = Tally(3, heir=inherit)
    truth: Counter[int] = Counter()
    for name, count in additions:
        tally.add(name, count)
        truth[name] += count
    assert heir + Counter(dict(tally.top())) == truth


def test_a_flood_of_names() -> None:
    """Thousands of new names do not displace the frequent one."""
    tally: Tally[str] = Tally(10)
    for number in range(2000):
        tally.add(f"made up {number}", 1)
        if not number % 3:
            tally.add("real", 1)
    [(name, count), *_] = tally.top(1)
    assert name == "real"
    assert 667 - tally.shortfall <= count <= 667
    assert tally.shortfall < 667


def test_equal_counts_are_in_the_order_of_their_names() -> None:
    """Two logs with the same records in another order give the same list."""
    names = ["c.example", "a.example", "b.example"]
    for order in (names, names[::-1]):
        tally: Tally[str] = Tally()
        for name in order:
            tally.add(name, 1)
        tally.add("z.example", 2)
        assert tally.top() == [("z.example", 2), ("a.example", 1), ("b.example", 1), ("c.example", 1)]
