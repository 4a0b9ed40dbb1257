"""The words between supervisor and worker, and the silence of the dead."""

import pytest

from sidecar.supervisor.control import hear_grace, hear_ready, pair, say_ready, say_retire


def test_words_arrive_one_by_one() -> None:
    """Two words said in a hurry are two words heard."""
    supervisor, worker = pair()
    with supervisor, worker:
        say_ready(worker)
        assert hear_ready(supervisor)
        say_retire(supervisor, 600.0)
        say_retire(supervisor, 0.0)
        assert (hear_grace(worker), hear_grace(worker)) == (600.0, 0.0)


@pytest.mark.parametrize("unread", [False, True])
def test_the_death_of_either_is_heard_and_speaking_to_the_dead_is_no_error(unread: bool) -> None:
    """Also where the dead left something unread, which the kernel tells of as a reset."""
    supervisor, worker = pair()
    with supervisor:
        if unread:
            say_retire(supervisor, 1.0)
        worker.close()
        assert not hear_ready(supervisor)
        say_retire(supervisor, 1.0)
    supervisor, worker = pair()
    with worker:
        if unread:
            say_ready(worker)
        supervisor.close()
        assert hear_grace(worker) is None
        say_ready(worker)
