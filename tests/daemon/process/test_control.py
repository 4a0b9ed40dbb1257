"""The words between supervisor and worker, and the silence of the dead."""

import pytest

from sidecar.daemon.process.control import (
    ask_alive,
    hear_supervisor,
    hear_worker,
    pair,
    say_alive,
    say_left,
    say_ready,
    say_retire,
)


def test_words_arrive_one_by_one() -> None:
    """Two words said in a hurry are two words heard."""
    supervisor, worker = pair()
    with supervisor, worker:
        say_ready(worker)
        say_alive(worker)
        say_left(worker)
        assert [hear_worker(supervisor) for _ in range(3)] == ["ready", "alive", "left"]
        ask_alive(supervisor)
        say_retire(supervisor, 600.0)
        say_retire(supervisor, 0.0)
        assert [hear_supervisor(worker) for _ in range(3)] == ["alive?", 600.0, 0.0]


def test_speaking_to_one_who_does_not_listen_never_waits() -> None:
    """A worker that is stopped reads nothing; its supervisor has others to look after."""
    supervisor, worker = pair()
    with supervisor, worker:
        for _ in range(10_000):
            ask_alive(supervisor)
        assert hear_supervisor(worker) == "alive?"


@pytest.mark.parametrize("unread", [False, True])
def test_the_death_of_either_is_heard_and_speaking_to_the_dead_is_no_error(unread: bool) -> None:
    """Also where the dead left something unread, which the kernel tells of as a reset."""
    supervisor, worker = pair()
    with supervisor:
        if unread:
            say_retire(supervisor, 1.0)
        worker.close()
        assert hear_worker(supervisor) is None
        say_retire(supervisor, 1.0)
    supervisor, worker = pair()
    with worker:
        if unread:
            say_ready(worker)
        supervisor.close()
        assert hear_supervisor(worker) is None
        say_ready(worker)
