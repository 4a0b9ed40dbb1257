"""The short form of the random attacks and hostile loads that `make soak` runs at length, with a fixed seed."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from tests.mta.processes import wait_until
from tests.soak import addresses, escapes, latency, origins, removals, sessions
from tests.soak.__main__ import main
from tests.soak.hostile import Input, hostile_senders, inputs, large_reports

SEED = 1


@pytest.mark.mta
@pytest.mark.parametrize("name", list(addresses.CONFIGURATIONS))
def test_no_address_of_an_external_host_reaches_a_domain_that_is_not_open(name: str) -> None:
    """Wherever Postfix would send what was accepted, the policy has opened that domain."""
    fired = addresses.attack(name, 300, seed=SEED)
    assert fired.wrong == []
    assert fired.accepted >= fired.went_on > 5


@pytest.mark.mta
def test_the_addresses_can_reach_such_domains() -> None:
    """The same addresses by a relay host do."""
    assert addresses.attack("default", 200, seed=SEED, peer=addresses.INSIDER).wrong


@pytest.mark.mta
def test_every_reply_of_a_random_session_is_what_the_policy_says() -> None:
    """Whatever is pipelined, reset or changed in a session, only the state of the transcript counts."""
    judged = sessions.attack(50, seed=SEED)
    assert judged.wrong == []
    assert min(judged.accepted, judged.recipients - judged.accepted, judged.delivered, judged.changes) > 20
    assert judged.unjudged + judged.deferred < judged.recipients // 10


@pytest.mark.mta
def test_a_session_that_goes_against_the_policy_is_found() -> None:
    """Judged by a policy with one domain less, recipients were accepted and messages delivered that should not be."""
    stricter = sessions.DOMAINS.replace('["open.example"]', '["other.example"]')
    wrong = " ".join(sessions.attack(10, seed=SEED, policy=stricter).wrong)
    assert "250, and the policy says reject" in wrong
    assert "delivered against the policy" in wrong


@pytest.mark.mta
@pytest.mark.parametrize("name", list(removals.CONFIGURATIONS))
def test_no_spelling_of_a_removed_recipient_is_delivered(name: str) -> None:
    """A recipient that is removed from a message gets nothing, and the recipient beside it gets the message."""
    removed = removals.attack(name, 1, seed=SEED)
    assert removed.wrong == []
    assert removed.accepted == removed.messages
    assert removed.removed > 10


def test_no_output_shows_hostile_text_as_it_is() -> None:
    """Neither a terminal nor a browser obeys what a peer wrote."""
    shown = escapes.attack(40, seed=SEED)
    assert shown.wrong == []
    assert shown.characters > 10_000


def test_hostile_text_is_found() -> None:
    """What is searched for in the outputs is found where it is."""
    assert list(escapes.unfit("tail on a terminal", "\x1b[1mbold\x1b[0m\n")) == []
    assert list(escapes.unfit("tail on a terminal", "\x1b[2Jx\u202e")) == ["U+001B", "U+202E"]
    assert list(escapes.unfit("tail on a terminal", f"{escapes.HOSTILE_COLOUR}x")) == ["a colour that a peer chose"]
    assert list(escapes.unfit("tail --json", '"\x9b31m"\n')) == ["U+009B"]
    assert list(escapes.unexpected_markup("<p>x<b onclick=y>", "<p>x")) == ["<b onclick>"]


def test_the_admin_api_answers_no_request_that_a_browser_was_led_to() -> None:
    """Only one Host header that names the loopback address, and no Origin."""
    asked = origins.attack(300, seed=SEED)
    assert asked.wrong == []
    assert 20 < asked.permitted < asked.requests - 20
    assert asked.statuses[200] > 5


@pytest.fixture(scope="module")
def stand() -> Iterator[tuple[int, str]]:
    with latency.stand() as where:
        yield where


@pytest.mark.mta
@pytest.mark.parametrize("what", inputs(0.02), ids=lambda what: what.name)
def test_a_bystander_is_served_beside_hostile_senders(stand: tuple[int, str], what: Input) -> None:
    """Each hostile input reaches its last reply, and another peer's recipients are accepted meanwhile. Nothing is timed."""
    port, milter = stand
    with hostile_senders(what, 1, port=port, milter=milter) as sent:
        wait_until(lambda: sent().messages >= 1, "a hostile message has its last reply", seconds=300)
        waits = latency.measure(None, stand, senders=0, seconds=0)
    assert waits.unanswered == 0


@pytest.mark.mta
def test_a_bystander_is_served_beside_large_reports() -> None:
    """Each has its last reply, and recipients and a relay host's messages are answered meanwhile. Nothing is timed."""
    with latency.stand_without_mta() as where:
        for what in large_reports(100_000):
            with hostile_senders(what, 1, port=0, milter=where[1]) as sent:
                wait_until(lambda sent=sent: sent().messages >= 1, "a large report has its last reply", seconds=60)  # type: ignore[misc]  # a default has no type
                answered = [latency._one_step(where[1], number)[0] for number in range(3)]
            assert answered == [True, True, True]


@pytest.mark.mta
def test_the_waits_are_shown(stand: tuple[int, str]) -> None:
    """A row of the table: how many sessions there were, and how long they waited."""
    waits = latency.measure(inputs(0.02)[0], stand, senders=2, seconds=0.1)
    assert list(waits.seconds) == sorted(waits.seconds)
    assert waits.at(25) <= waits.at(50) <= waits.at(99)
    assert latency.row(waits)[:2] == ["comments in Content-Type", str(len(waits.seconds))]


def test_the_command_prints_its_seed_and_runs_one_part() -> None:
    """`make soak` runs what it is asked for, repeats it with the same seed, and says that nothing is wrong."""
    ran = CliRunner().invoke(main, ["--only", "origins", "--origins", "20", "--seed", "7"])
    assert ran.exit_code == 0, ran.output
    assert "Seed 7" in ran.output
    assert "20 requests" in ran.output
