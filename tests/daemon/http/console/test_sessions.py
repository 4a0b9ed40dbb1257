"""Sessions end in time, with their token and at logout, and their number is bounded."""

import mmap
from collections.abc import Iterator

import pytest

from sidecar.core.settings.values import AdminToken
from sidecar.daemon.http.console.sessions import IDLE_SECONDS, LONGEST_SECONDS, Sessions
from tests.daemon.http.test_access import BOTH, tokens

READING, OPERATING = BOTH


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return its time."""
        return self.now


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    with mmap.mmap(-1, mmap.PAGESIZE) as made:
        yield made


def table(memory: mmap.mmap, clock: Clock, own: tuple[AdminToken, ...] = BOTH) -> Sessions:
    return Sessions(own, memory, clock)


def test_a_session_has_the_role_of_its_token(memory: mmap.mmap) -> None:
    own = table(memory, Clock())
    cookies = [own.start(token) for token in BOTH]
    found = [own.find(cookie) for cookie in cookies]
    assert [one and one.role for one in found] == ["reader", "operator"]
    assert len({one.csrf for one in found if one}) == 2
    assert own.find("") is own.find("x") is own.find("\u20ac") is None
    assert all(cookie.encode() not in memory[:] for cookie in cookies)


@pytest.mark.parametrize(("step", "lives"), [(IDLE_SECONDS - 1, True), (IDLE_SECONDS + 1, False)])
def test_an_unused_session_ends(memory: mmap.mmap, step: float, lives: bool) -> None:
    clock = Clock()
    own = table(memory, clock)
    cookie = own.start(READING)
    clock.now += step
    assert (own.find(cookie) is not None) == lives


def test_a_used_session_ends_too(memory: mmap.mmap) -> None:
    clock = Clock()
    own = table(memory, clock)
    cookie = own.start(READING)
    for _ in range(int(LONGEST_SECONDS // (IDLE_SECONDS / 2))):
        clock.now += IDLE_SECONDS / 2
        assert own.find(cookie) is not None
    clock.now += 1
    assert own.find(cookie) is None


def test_sessions_outlast_a_reload_but_not_their_token(memory: mmap.mmap) -> None:
    clock = Clock()
    reading, operating = (table(memory, clock).start(token) for token in BOTH)
    after = table(memory, clock, (*tokens(operator="another"), READING))
    assert after.find(reading) is not None
    assert after.find(operating) is None


def test_logout_ends_one_session(memory: mmap.mmap) -> None:
    own = table(memory, Clock())
    first, second = own.start(READING), own.start(READING)
    found = own.find(first)
    assert found is not None
    own.end(found)
    assert own.find(first) is None
    assert own.find(second) is not None


def test_the_table_is_bounded_and_the_unused_session_goes(memory: mmap.mmap) -> None:
    clock = Clock()
    own = table(memory, clock)
    kept = own.start(OPERATING)
    clock.now += 1
    unused = own.start(READING)
    for _ in range(len(memory) // 80 - 1):
        clock.now += 1
        assert own.find(kept) is not None
        own.start(READING)
    assert own.find(unused) is None
    assert own.find(kept) is not None


@pytest.mark.parametrize(("few", "many"), [(OPERATING, READING), (READING, OPERATING)])
def test_many_sessions_of_one_token_end_none_of_the_other(memory: mmap.mmap, few: AdminToken, many: AdminToken) -> None:
    clock = Clock()
    own = table(memory, clock)
    kept = [own.start(few)]
    for number in range(2 * len(memory) // 80):
        clock.now += 1
        latest = own.start(many)
        if number % 30 == 29:
            kept.append(own.start(few))
    assert len(kept) == 4
    assert all(own.find(one) is not None for one in (*kept, latest))
