"""A sidecar in service: early refusal, reload, a journal that cannot be written, a sidecar that is gone."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.mta.client import EXTERNAL, Peer
from tests.mta.house import House, house
from tests.mta.mails import OOB, ORDINARY
from tests.mta.processes import wait_until

pytestmark = pytest.mark.mta

BOUNCES = """\
["bounce.example"]
log_oob = "LogThenDrop"
"""
ONE_LISTENER = """\
[listener."10.1.1.1:2525"."bounce.example"]
log_oob = "LogThenDrop"
"""
OPEN_LISTENER = Peer(listener="10.1.1.1:2525")


@pytest.fixture(scope="module")
def home() -> Iterator[House]:
    with house(domains=BOUNCES) as built:
        yield built


@contextmanager
def domains(home: House, text: str) -> Iterator[None]:
    """Serve with other listener domains for a while."""
    home.sidecar.write_domains(text)
    home.sidecar.reload()
    try:
        yield
    finally:
        home.sidecar.write_domains(BOUNCES)
        home.sidecar.reload()


def test_a_peer_that_could_not_say_anything_right_is_refused_at_connect(home: House) -> None:
    """Where no domain of its listener takes anything from strangers, a stranger is refused before it says a word."""
    with domains(home, ONE_LISTENER):
        outcome = home.offer("", ["news-17@bounce.example"], OOB)
        assert outcome.refused is not None
        assert outcome.refused.code in {550, 554}
        assert outcome.written() == [("Rejection", 550, "")]
        assert outcome.records[0]["response"]["command"] == "CONNECT"
        assert outcome.records[0]["response"]["content"] == "relaying not permitted for 203.0.113.9:4444"


def test_a_peer_that_may_have_something_to_say_is_heard(home: House) -> None:
    """Where some domain takes reports, a stranger's verdict waits for the recipient."""
    with domains(home, ONE_LISTENER):
        outcome = home.offer("", ["news-17@bounce.example"], OOB, peer=OPEN_LISTENER)
        assert outcome.last.code == 250
        assert [name for name, _, _ in outcome.written()] == ["Reception", "OOB"]


def test_reload_takes_effect_for_the_next_message(home: House) -> None:
    """After a reload each new message has the new rules, on new connections and on one that was open before."""
    with home.connect(EXTERNAL) as before:
        assert before.send("", ["news-17@bounce.example"], OOB).last.code == 250
        with domains(home, '["other.example"]\nlog_oob = "LogThenDrop"\n'):
            assert home.offer("", ["news-17@bounce.example"], OOB).last.code == 550
            assert home.offer("", ["news-17@other.example"], OOB).last.code == 250
            assert before.send("", ["news-17@bounce.example"], OOB).last.code == 550
            assert before.send("", ["news-17@other.example"], OOB).last.code == 250
    assert home.offer("", ["news-17@bounce.example"], OOB).last.code == 250


def test_a_bad_file_never_takes_effect(home: House) -> None:
    """A reload with a mistake says file, line and key in the log, and the rules stay as they were."""
    home.sidecar.write_domains('["bounce.example"]\nlog_oob = "LogThenForget"\n')
    try:
        log = home.sidecar.reload()
        assert "listener_domains.toml" in log
        assert "LogThenForget" in log
        assert home.offer("", ["news-17@bounce.example"], OOB).last.code == 250
    finally:
        home.sidecar.write_domains(BOUNCES)
        home.sidecar.reload()


@contextmanager
def full_disk(home: House) -> Iterator[None]:
    """Let no worker write a byte more to any file (RLIMIT_FSIZE), as if the disk were full."""
    # Those that a reload retired are on their way out.
    wait_until(lambda: len(home.sidecar.workers()) == 2, "only the workers in service are left")
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in home.sidecar.workers()}
    for pid, (_, hard) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)


def test_a_journal_that_cannot_be_written_loses_nothing(home: House) -> None:
    """Without its records no report is dropped and no mail accepted: the peer gets 451, comes again, and all is well."""
    assert home.offer("", ["news-17@bounce.example"], OOB).last.code == 250
    with full_disk(home):
        for content in (OOB, ORDINARY):
            outcome = home.offer("", ["news-17@bounce.example"], content)
            assert outcome.last.code == 451
            assert (outcome.records, outcome.delivered) == ([], {})
        outcome = home.offer("somebody@customer.example", ["me@elsewhere.example"], ORDINARY, peer=Peer(address="127.0.0.1:99"))
        assert outcome.last.code == 451
        assert (outcome.records, outcome.delivered) == ([], {})
    outcome = home.offer("", ["news-17@bounce.example"], OOB)
    assert outcome.last.code == 250
    assert [name for name, _, _ in outcome.written()] == ["Reception", "OOB"]


def test_without_the_sidecar_nobody_gets_in() -> None:
    """With milter_default_action = tempfail, a sidecar that is gone means 451 for all, and an open door for none."""
    with house(domains=BOUNCES) as home:
        assert home.sidecar.stop() == 0
        outcome = home.offer("somebody@peer.example.net", ["me@elsewhere.example"], ORDINARY)
        assert outcome.last.code == 451
        assert outcome.delivered == {}
