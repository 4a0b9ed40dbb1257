"""The lists of nodes that share one: equal in whatever order states arrive, and whoever writes them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.suppression import SuppressionRule, SuppressionSettings
from sidecar.core.sharing import StreamPlace
from sidecar.suppression.opening import open_store
from sidecar.suppression.present import PresentList
from sidecar.suppression.reading import AddressEvent
from sidecar.suppression.rules import Event, ListEntry, Ruleset
from sidecar.suppression.states import encode, key_of
from tests.suppression.journals import consume, list_of, stored, with_list, write_segment
from tests.suppression.nodes import NOW, RULES, A, Node, Stream, add, complaint, fleet, remove, settle
from tests.suppression.records import BEGIN, DAY, oob
from tests.suppression.test_rules import EVENTS

# The record of a change has an id of its own.
UNIQUE = EVENTS.map(lambda event: event if event.kind == "report" else replace(event, id=f"{event.id}{event.time}"))
STEPS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("read"), st.integers(0, 2), st.lists(UNIQUE, min_size=1, max_size=8)),
    st.tuples(st.sampled_from(["step", "restart", "rewind", "lose", "renew"]), st.integers(0, 2), st.just([])),
)


@settings(deadline=None, max_examples=150)
@given(steps=st.lists(STEPS, max_size=25))
def test_all_lists_are_equal(steps: list[tuple[str, int, list[Event]]]) -> None:
    """Nodes read events, are behind, crash, read again and lose messages: in the end all have the list of all events."""
    everything = set[Event]()
    with fleet() as nodes:
        for action, number, events in steps:
            node = nodes[number]
            node.exchange.is_lost = action == "lose"
            if action == "read":
                node.read(*events)
                everything.update(events)
            elif action == "rewind":
                node.restart(StreamPlace())
            elif action == "renew":
                # A new list, with what the stream has; that is everything.
                node.restart()
                settle(node)
                nodes[number].close()
                nodes[number] = node = Node(node.name, node.stream)
            elif action == "restart":
                node.restart()
            node.sharing.step()
        for node in nodes:
            node.restart()
        settle(*nodes)
        expected = RULES.entry(RULES.kept(everything, NOW), NOW)
        found = [node.entry() for node in nodes]
        assert found[0] == found[1] == found[2]
        assert (found[0] and replace(found[0], nodes=())) == expected


def test_reports_count_together() -> None:
    """Five reports on three days, at three nodes."""
    with fleet() as nodes:
        for number, day in enumerate((0, 0.1, 1, 1.1, 2)):
            event = replace(complaint(day, id=f"m{number}"), word="QuotaIssues")
            nodes[number % 3].read(event)
        settle(*nodes)
        (entry,) = {node.entry() for node in nodes}
        assert entry is not None
        assert (entry.reports, entry.nodes) == (("m0", "m1", "m2", "m3", "m4"), ("mx0", "mx1", "mx2"))


@pytest.mark.parametrize("late", [0, 1])
def test_a_late_report_does_not_undo_a_removal(late: int) -> None:
    """A node that was away reports what was before the removal, and then something after it."""
    with fleet() as (a, b, c):
        a.read(complaint(1))
        settle(a, b)
        b.read(remove(3))
        settle(a, b)
        c.read(complaint(2, id="m2"))
        settle(*((a, b, c), (c, b, a))[late])
        assert [node.entry() for node in (a, b, c)] == [None] * 3
        c.read(complaint(4, id="m3"))
        settle(a, b, c)
        assert {node.entry() for node in (a, b, c)} == {
            ListEntry(reason="abuse", source="reports", since=BEGIN + 4 * DAY, expires=0, reports=("m3",), nodes=("mx2",))
        }


def test_the_stricter_addition_wins() -> None:
    with fleet() as (a, b, c):
        a.read(add(1, expires=BEGIN + 30 * DAY))
        b.read(add(1, expires=BEGIN + 60 * DAY, id="longer"))
        settle(a, b, c)
        (entry,) = {node.entry() for node in (a, b, c)}
        assert entry is not None
        assert (entry.expires, entry.nodes) == (BEGIN + 60 * DAY, ("mx1",))


@pytest.mark.parametrize("renewed", [False, True])
def test_a_removal_of_a_wrong_clock(*, renewed: bool) -> None:
    """The clock of a node is ten years ahead. Its removal cancels no later report, also after a rebuild."""
    with fleet() as nodes:
        a, b, c = nodes
        b.read(complaint(1))
        settle(a, b, c)
        wrong = [remove(3650), add(3650.1), remove(3650.2, id="last")]
        a.read(*wrong)
        settle(a, b, c)
        assert [node.entry() for node in nodes] == [None] * 3
        a.stream.clock = NOW + 2 * DAY
        if renewed:
            a.close()
            a = nodes[0] = Node("mx0", a.stream)
            a.read(*wrong)
        for node in nodes:
            node.clock = NOW + 2 * DAY
        c.read(complaint(21, id="m2"))
        settle(*nodes)
        (entry,) = {node.entry() for node in nodes}
        assert entry is not None
        assert entry.reports == ("m2",)
        assert a.database.newest(A, "add") < (NOW + DAY) * 1_000_000


def test_a_clock_that_stays_wrong() -> None:
    """Its node reads its journal again: its removal has the time that the stream has corrected once."""
    with fleet(2) as (a, b):
        a.clock = NOW + 3650 * DAY
        for hours in range(3):
            a.stream.clock = NOW + hours * 3600
            a.read(remove(3650))
            a.restart()
            settle(a, b)
            assert [event.time for event in b.database.history(A)] == [NOW * 1_000_000]


def test_a_report_of_a_wrong_clock() -> None:
    """It counts, and a removal cancels it."""
    with fleet() as (a, b, c):
        a.read(complaint(3650))
        settle(a, b, c)
        assert len({node.entry() for node in (a, b, c)}) == 1
        assert b.entry() is not None
        b.read(remove(20.5))
        settle(a, b, c)
        assert [node.entry() for node in (a, b, c)] == [None] * 3


def test_erase() -> None:
    """What a node knew is gone everywhere, and does not come back from the stream."""
    with fleet() as (a, b, c):
        a.read(complaint(1))
        settle(a, b, c)
        assert a.database.erase(A, NOW)
        a.restart(StreamPlace())
        settle(a, b, c)
        assert [(node.entry(), node.database.history(A)) for node in (a, b, c)] == [(None, [])] * 3
        (reports, changes) = sorted(a.stream.messages.values(), key=lambda one: one.kind, reverse=True)
        assert (reports.lasts, changes.lasts) == (30 * DAY, 30 * DAY)
        # A new report counts.
        a.read(complaint(2, id="m2"))
        settle(a, b, c)
        assert all(node.entry() for node in (a, b, c))


def test_erased_before_a_rebuild(tmp_path: Path) -> None:
    """What was erased, and is still in the stream, does not come back with a new database."""
    path = tmp_path / "old.db"
    with open_store(SuppressionSettings(database=path)) as old:
        old.share("mx0")
        old.erase(A, NOW)
    with fleet(1) as nodes:
        nodes[0].read(complaint(1))
        nodes[0].read(complaint(1), address="b@example.net")
        settle(*nodes)
        nodes[0].close()
        nodes[0] = new = Node("mx0", nodes[0].stream)
        with PresentList(path, "plain") as present:
            new.database.put_erased(present.erased())
        settle(new)
        assert (new.entry(), new.entry("b@example.net") is not None) == (None, True)
        assert not any(b"m1" in one.content for one in new.stream.messages.values() if one.key == key_of(A))


def test_erased_elsewhere() -> None:
    """A node forgets what others know, too, until they publish it again."""
    with fleet(2) as (a, b):
        a.read(complaint(1))
        settle(a, b)
        assert b.database.erase(A, NOW)
        settle(a, b)
        assert (b.entry(), b.database.history(A)) == (None, [])
        a.read(complaint(2, id="m2"))
        settle(a, b)
        assert len(b.database.history(A)) == 2


def test_nothing_is_published_before_all_is_read() -> None:
    """A new list has less than the stream: its state must not replace the one there."""
    with fleet(1) as nodes:
        for number in range(10):
            nodes[0].read(complaint(number, id="old"), address=f"{number}@example.net")
        settle(*nodes)
        nodes[0].close()
        nodes[0] = node = Node("mx0", nodes[0].stream)
        for number in range(10):
            node.read(complaint(number, id="new"), address=f"{number}@example.net")
        while node.sharing.step():
            assert all(b'"old"' in one.content for one in node.stream.messages.values())
        settle(node)
        assert all(b'"new"' in one.content and b'"old"' in one.content for one in node.stream.messages.values())


def test_a_busy_stream() -> None:
    """A node that is behind others publishes its own changes at once, when it had everything once."""
    with fleet(2) as (a, b):
        settle(a, b)
        for number in range(50):
            b.read(complaint(1), address=f"{number}@example.net")
        settle(b)
        a.read(complaint(1))
        a.sharing.step()
        assert (a.exchange.is_current, "mx0" in {node for node, *_ in a.stream.messages}) == (False, True)


def test_a_connection_that_was_lost() -> None:
    """What was on its way is published again with the next connection, without a pause."""
    with fleet(1) as (a,):
        settle(a)
        a.exchange.is_lost = True
        a.read(complaint(1))
        settle(a)
        a.exchange.is_up = False
        settle(a)
        assert not a.stream.messages
        a.exchange.is_up, a.exchange.is_lost = True, False
        settle(a)
        assert len(a.stream.messages) == 1


def test_ended_states() -> None:
    """A node publishes that its reports do not count any more."""
    with fleet(2) as (a, b):
        a.read(replace(complaint(1), word="InvalidRecipient"))
        settle(a, b)
        a.clock = NOW + 300 * DAY
        assert a.database.delete_expired(RULES, a.clock) == 1
        settle(a, b)
        assert b.database.history(A) == []
        assert [one.lasts for one in a.stream.messages.values()] == [30 * DAY]


def test_ended_entries() -> None:
    """States of a node that is gone for good are deleted when they cannot count any more."""
    with fleet() as (a, b, c):
        c.read(replace(complaint(1), word="InvalidRecipient"))
        settle(a, b, c)
        later = NOW + 300 * DAY
        for node in (a, b):
            node.clock = later
            assert node.database.delete_expired(RULES, later) == 1
            assert node.database.known(A)["mx2"]
            assert node.database.delete_old_states(RULES, later, after="") == A
            assert node.database.delete_old_states(RULES, later, after=A) == ""
            assert node.database.history(A) == []


def test_a_new_stream() -> None:
    """All nodes publish to it what they know, and keep what others know."""
    with fleet() as nodes:
        for number, node in enumerate(nodes):
            node.read(complaint(number, id=f"m{number}"), address=f"{number}@example.net")
        settle(*nodes)
        stream = Stream("2")
        for node in nodes:
            node.stream = stream
            node.restart()
        settle(*nodes)
        assert len(stream.messages) == 3
        assert all(node.entry(f"{number}@example.net") for node in nodes for number in range(3))


def test_a_new_name() -> None:
    """A node that gets another name, also after some time outside the fleet, publishes all that it knows again."""
    with fleet(1) as (a,):
        a.read(complaint(1))
        settle(a)
        a.database.share("")
        assert (a.database.get_property("node"), a.database.unpublished("reports", 9)) == (None, [])
        a.name = "other"
        a.database.share("other")
        a.restart()
        settle(a)
        assert {node for node, *_ in a.stream.messages} == {"mx0", "other"}


def test_overwritten() -> None:
    """Another program writes over the state of a node: it is not used, and the node publishes its state again."""
    with fleet() as (a, b, c):
        a.read(complaint(1))
        settle(a, b, c)
        ((subject, state),) = a.stream.messages.items()
        a.stream.put("mx0", replace(state, content=b'{"stream":"sidecar_records","seq":7}'))
        settle(c, b, a)
        assert a.stream.messages[subject].content == state.content
        assert all(node.entry() for node in (a, b, c))


def test_rejected_states_are_read_again() -> None:
    """A newer program publishes: an older one reads it after its update, and applies the others meanwhile."""
    with fleet() as (a, b, _):
        newer = encode(A, "reports", [complaint(1)], node="mx0", store="plain")
        a.stream.put("mx0", replace(newer, content=newer.content.replace(b'"version":1', b'"version":2')))
        a.read(complaint(1), address="b@example.net")
        settle(a, b)
        assert (b.entry(), b.entry("b@example.net") is not None) == (None, True)
        (number,) = [one.number for one in a.stream.messages.values() if one.key == key_of(A)]
        key = "mx0", "reports", key_of(A)
        a.stream.messages[key] = replace(a.stream.messages[key], content=newer.content)  # as if it were read by a newer one
        b.restart()
        settle(b)
        assert b.entry() is not None
        assert b.database.get_property("rejected") is None
        assert number > 0


def test_other_rules() -> None:
    """A state has only what the rules of its node count; a node with other rules decides otherwise."""
    with fleet(2) as (a, b):
        b.rules = Ruleset([SuppressionRule(when=("InvalidRecipient",))], proof_age=0)
        b.restart()
        a.read(complaint(1))
        settle(a, b)
        assert (a.entry() is not None, b.entry()) == (True, None)


def test_the_status_shows_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with fleet(1) as (a,):
        settle(a)
        assert a.shown == (0, "")
        a.exchange.is_lost, a.exchange.error = True, "not permitted"
        a.read(complaint(1))
        settle(a)
        monkeypatch.setattr("sidecar.suppression.sharing._LATE_SECONDS", 0.0)
        a.sharing.step()
        since, why = a.shown
        assert (since <= NOW, why) == (True, "the stream does not show changes of 1 address: not permitted")


def test_entries_keep_their_nodes_when_the_rules_change(tmp_path: Path) -> None:
    """The sidecar decides again on all that is stored, with the names of the nodes."""
    made = replace(with_list(tmp_path), fleet=FleetSettings(servers=(), node="mx1"))
    segment = write_segment(made, 0, [oob(A, "BadDomain", day=19)])
    consume(made)
    segment.unlink()
    rules = (SuppressionRule(when=("BadDomain",), expire=9 * DAY),)
    consume(replace(made, suppression=replace(list_of(made), rule=rules)))
    entry = stored(made)[A]
    assert (entry.expires, entry.nodes) == (BEGIN + 28 * DAY, ("mx1",))


@pytest.mark.parametrize("first", ["share", "filter"])
def test_a_node_with_a_filter_notes_what_to_publish(tmp_path: Path, first: str) -> None:
    """Both have temporary triggers on one connection, and each notes the change, whichever was made first."""
    keys: list[str] = []
    with open_store(SuppressionSettings(database=tmp_path / "list.db")) as database:
        if first == "filter":
            database.before_entries(keys.append)
        database.share("mx1")
        if first == "share":
            database.before_entries(keys.append)
        database.apply([AddressEvent(address=A, event=add(1))], None, rules=RULES, now=NOW)
        assert (database.unpublished("changes", 10), keys) == ([A], [A])
