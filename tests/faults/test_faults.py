"""The short form of what `make soak` does at length."""

import pytest

from sidecar.daemon.milter import ENGINES
from tests.faults.campaign import campaign
from tests.faults.disk import mounts_permitted
from tests.faults.flood import footprints
from tests.faults.idle import idle
from tests.faults.reloads import THREADS, reload_under_load
from tests.faults.strikes import STRIKES

MEGABYTE = 1024 * 1024
BOTH = pytest.mark.parametrize("engine", list(ENGINES))


@pytest.mark.mta
@BOTH
def test_what_was_answered_250_is_in_the_journal_and_nothing_passed_that_may_not(engine: str) -> None:
    """Each kind of fault strikes once, under load, through a real Postfix, and after each all kinds of mail are taken again."""
    if not mounts_permitted():
        pytest.skip("this test mounts a file system, which is not permitted here")
    report = campaign(len(STRIKES), megabytes=64, engine=engine)
    assert not {what: cases for what, cases in report.wrong.items() if cases}
    assert len(report.by_name()) == len(STRIKES)
    assert min(report.taken, report.refused, report.deferred) > 50


@BOTH
def test_a_reload_under_load_costs_no_session_anything(engine: str) -> None:
    """No session is answered 451, or by half of a policy; a bad file changes nothing."""
    report = reload_under_load(10, engine=engine)
    assert not {what: cases for what, cases in report.wrong.items() if cases}
    assert report.sessions >= 100


def test_loading_many_listener_domains_makes_no_session_wait() -> None:
    """Reading 20,000 domains takes most of a second, in which sessions begin and end as ever."""
    report = reload_under_load(2, more_domains=20_000)
    assert not {what: cases for what, cases in report.wrong.items() if cases}
    # Sessions that wait for the end of a reload would be one for each thread.
    assert report.fewest_meanwhile > 3 * THREADS


@BOTH
def test_sessions_leave_nothing_behind_in_a_worker(engine: str) -> None:
    """Memory, threads and descriptors are the same after 1,500 sessions and after 3,000.

    Measured: within 60 kB. A session object that stayed would alone make 500 kB: the bound is 170 bytes a session.
    """
    before, after = footprints(1500, 1500, engine=engine)
    assert after.memory - before.memory < MEGABYTE // 4
    # libmilter's pool has a thread or two more when many sessions come at once.
    assert after.threads <= before.threads + 2
    assert after.descriptors == before.descriptors


@BOTH
def test_connections_that_say_nothing_cost_little_and_keep_nobody_waiting(engine: str) -> None:
    """2,000 of them on one worker: the sessions of others are served. Measured: 3.3 kB each at most.

    The direct engine takes no more CPU time for those sessions. libmilter passes all idle connections to poll(2) when one
    of its threads becomes idle, and on a busy machine that is often.
    """
    report = idle(2000, engine=engine)
    assert report.each < 8 * 1024
    assert report.beside.threads <= report.before.threads + 2
    if engine == "direct":
        assert report.busy_beside < 2 * report.busy_before + 0.02
