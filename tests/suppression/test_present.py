"""A new list in a fleet has what only other nodes know, and continues where the present one is, without NATS."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.sharing import StateKind, StreamPlace
from sidecar.suppression import building, segments
from sidecar.suppression.consumer import Consumer
from sidecar.suppression.locking import locked
from sidecar.suppression.node_store import NodeStore
from sidecar.suppression.opening import open_store
from sidecar.suppression.rules import Event, ListEntry
from sidecar.suppression.shared import PLACE, kind_of
from sidecar.suppression.sharing import first_place
from sidecar.suppression.states import ReadState, encode
from tests.suppression.journals import NOW, consume, list_of, stored, with_list, write_segment
from tests.suppression.nodes import A, Stream, StreamExchange, complaint
from tests.suppression.records import change, feedback, oob
from tests.suppression.test_building import JOURNALS, build, damage, tables
from tests.suppression.test_rules import EVENTS

B, C = "b@example.net", "c@example.net"
PAGE = 4096
ADDRESSES = ("a@x.test", "b@x.test", "\u00fc@x.test", "0@x.test", "~~@x.test")
# Of two other nodes, and of this one: what the stream has already.
STATE = st.tuples(st.sampled_from(["mx1", "mx2", "mx3"]), st.sampled_from(ADDRESSES), st.lists(EVENTS, max_size=6))
STATES = st.lists(STATE, min_size=1)


def node_of(folder: Path, **more: Any) -> Settings:
    """Return the settings of node mx1."""
    return replace(with_list(folder, **more), fleet=FleetSettings(servers=("nats://127.0.0.1:1",), node="mx1"))


def receive(made: Settings, *states: tuple[str, str, list[Event]]) -> None:
    """Receive states from the stream, some at a time; those of this node are what it has, so that it need not publish it."""

    def then(consumer: Consumer) -> None:
        database = consumer.database
        for number, (node, address, events) in enumerate(states, 1):
            key = database.key(address)
            for kind in ("reports", "changes"):
                own = database.own_events(key, kind) if node == "mx1" else {one for one in events if kind_of(one) == kind}
                state = ReadState(node=node, kind=kind, address=key, written=frozenset(own), events=frozenset(own))
                place: dict[str, str | None] = {PLACE: f'{{"stream":"1","number":{number}}}'}
                database.receive([state], [], properties=place, is_new=False, rules=consumer.rules, now=NOW)

    consume(made, then=then)


@contextmanager
def database_of(made: Settings) -> Iterator[NodeStore]:
    with open_store(list_of(made)) as database:
        yield database


def unpublished(made: Settings) -> set[tuple[StateKind, str]]:
    kinds: tuple[StateKind, ...] = ("reports", "changes")
    with database_of(made) as database:
        return {(kind, key) for kind in kinds for key in database.unpublished(kind, 1000)}


def own_states(made: Settings) -> dict[tuple[str, str], set[Event]]:
    """Return what this node knows, by kind and address."""
    with database_of(made) as database, closing(sqlite3.connect(database.path)) as plain:
        keys = {key for (key,) in plain.execute("SELECT address FROM event")}
        return {(kind, key): database.own_events(key, kind) for key in keys for kind in ("reports", "changes")}


@settings(deadline=None, max_examples=40)
@given(journal=JOURNALS, states=STATES, together=st.integers(1, 3), hashed=st.booleans())
def test_as_record_by_record(
    journal: list[list[dict[str, Any]]],
    states: list[tuple[str, str, list[Event]]],
    together: int,
    hashed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The same events, entries with their nodes, states, place and notes; then also with what is new in the journal."""
    made = node_of(tmp_path_factory.mktemp("lists"), store="hashed" if hashed else "plain")
    path = list_of(made).database
    *before, last = journal
    for number, records in enumerate(before):
        write_segment(made, number, records)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(building, "_TOGETHER", together)
        patched.setattr(segments, "_BATCH", together)
        open_store(list_of(made)).close()
        receive(made, *states)
        expected, notes, known = tables(path), unpublished(made), own_states(made)
        build(made)
        assert (tables(path), unpublished(made)) == (expected, notes)
        write_segment(made, 9, last)
        build(made)
        content = tables(path)
        changed = {one for one in known.keys() | own_states(made).keys() if known.get(one) != own_states(made).get(one)}
        assert {one for one in changed if known.get(one) or own_states(made).get(one)} <= unpublished(made)
        assert unpublished(made) <= notes | changed
        # Record by record nothing is left to do, and from the beginning it is the same.
        consume(made)
        assert tables(path) == content


def entries(made: Settings) -> dict[str, tuple[str, ...]]:
    """Return the nodes behind each entry."""
    return {address: entry.nodes for address, entry in stored(made).items()}


def filled(folder: Path) -> Settings:
    """Return a node with an address of its own, one of another node, and one of both, which are published."""
    made = node_of(folder)
    write_segment(made, 0, [feedback(A), feedback(C)])
    others = [("mx2", B, [complaint(1)]), ("mx2", C, [complaint(-1, id="m2")]), ("mx1", A, []), ("mx1", C, [])]
    receive(made, *others)
    assert unpublished(made) == set()
    return made


def test_without_nats(tmp_path: Path) -> None:
    """No address is missing after a rebuild, and only what is new is published and read when NATS is back."""
    made = filled(tmp_path)
    expected = entries(made)
    assert expected == {A: ("mx1",), B: ("mx2",), C: ("mx2",)}
    write_segment(made, 1, [change(A, "add", reason="x"), feedback("d@example.net")])
    build(made)
    assert entries(made) == {**expected, "d@example.net": ("mx1",)}
    assert unpublished(made) == {("changes", A), ("reports", "d@example.net")}
    stream = Stream()
    stream.number = 4
    stream.put("mx3", encode("e@example.net", "reports", [complaint(1)], node="mx3", store="plain"))
    places = list[StreamPlace]()

    @contextmanager
    def connect(place: StreamPlace) -> Iterator[StreamExchange]:
        places.append(place)
        yield StreamExchange(stream, "mx1", place)

    with locked(list_of(made)), Consumer(made, clock=lambda: NOW, connect=connect) as consumer:
        while consumer._share():
            pass
    assert places == [StreamPlace(stream="1", number=4)]
    assert entries(made) == {**expected, "d@example.net": ("mx1",), "e@example.net": ("mx3",)}
    assert {(node, kind) for node, kind, _ in stream.messages} == {("mx1", "changes"), ("mx1", "reports"), ("mx3", "reports")}


def test_what_the_rebuild_ends(tmp_path: Path) -> None:
    """A report that the new list does not have any more is noted, so that other nodes forget it."""
    made = node_of(tmp_path)
    gone = write_segment(made, 0, [oob(A, "BadDomain", day=1), feedback(C)])
    receive(made, ("mx1", A, []), ("mx1", C, []))
    gone.unlink()
    with locked(list_of(made)):
        building.Builder(made, clock=lambda: NOW + 400 * 86400).build("old")
    assert unpublished(made) == {("reports", A)}


def test_only_the_journal(tmp_path: Path) -> None:
    """`rebuild --new` forgets what other nodes know, and reads the stream from its beginning; what was erased stays erased."""
    made = filled(tmp_path)
    with database_of(made) as database:
        database.share("mx1")
        database.erase("gone@example.net", NOW)
    build(made, copy=False)
    with database_of(made) as database:
        assert first_place(database) == StreamPlace()
    assert entries(made) == {A: ("mx1",), C: ("mx1",)}
    consume(made)
    assert unpublished(made) == {
        ("reports", A),
        ("reports", C),
        ("reports", "gone@example.net"),
        ("changes", "gone@example.net"),
    }


def test_after_the_fleet(tmp_path: Path) -> None:
    """A node that left its fleet keeps what other nodes know, and continues when it joins again."""
    made = filled(tmp_path)
    alone = replace(made, fleet=None)
    consume(alone)
    build(alone)
    assert stored(alone).keys() == {A, B, C}
    consume(made)
    with database_of(made) as database:
        assert first_place(database) == StreamPlace(stream="1", number=4)
    assert unpublished(made) == {("reports", A), ("reports", C)}


def test_another_store(tmp_path: Path) -> None:
    """Addresses in another form are not used: a hashed list gets none, also none that was erased."""
    made = filled(tmp_path)
    with database_of(made) as database:
        database.share("mx1")
        database.erase(A, NOW)
    hashed = replace(made, suppression=replace(list_of(made), store="hashed"))
    build(hashed)
    assert tables(list_of(made).database)["node_state"] == []
    assert unpublished(hashed) == set()


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_damaged_list(tmp_path: Path, by_hand: bool) -> None:
    """What can be read is kept, also behind a damaged page. The stream is read from its beginning for the rest."""
    made = filled(tmp_path)
    receive(made, *(("mx2", f"{number:04}@example.net", [complaint(1)]) for number in range(400)))
    expected = entries(made)
    damage(list_of(made).database)
    destroyed = zero_a_leaf(list_of(made).database)
    assert 5 < len(destroyed) < 100
    write_segment(made, 1, [feedback("new@example.net")])
    if by_hand:
        build(made)
    consume(made)
    assert entries(made) == {
        **{one: nodes for one, nodes in expected.items() if one not in destroyed},
        "new@example.net": ("mx1",),
    }
    with database_of(made) as database:
        assert first_place(database) == StreamPlace()
    assert unpublished(made) == {("reports", one) for one in (A, C, "new@example.net")}


def zero_a_leaf(path: Path) -> set[str]:
    """Destroy a page of the states of other nodes, between others. Return the addresses that are lost."""
    content = bytearray(path.read_bytes())
    beginnings = range(0, len(content), PAGE)
    # The rows of entries have no such text.
    leaves = [one for one in beginnings if content[one] == 10 and b"mx2reports" in content[one : one + PAGE]]
    middle = leaves[len(leaves) // 2]
    page = bytes(content[middle : middle + PAGE])
    content[middle : middle + PAGE] = bytes(PAGE)
    path.write_bytes(content)
    numbers = [number for number in range(400) if f"{number:04}@example.net".encode() in page]
    # A row beside a damaged page cannot be read either.
    return {f"{number:04}@example.net" for number in (numbers[0] - 1, *numbers, numbers[-1] + 1)}


def test_a_list_that_is_damaged_elsewhere(tmp_path: Path) -> None:
    """If only the entries are damaged nothing is missing; the place is not trusted."""
    made = filled(tmp_path)
    expected = entries(made)
    damage(list_of(made).database)
    consume(made)
    assert entries(made) == expected
    with database_of(made) as database:
        assert first_place(database) == StreamPlace()


def test_a_state_that_is_not_valid(tmp_path: Path) -> None:
    """It is not used, and the others are."""
    made = filled(tmp_path)
    with closing(sqlite3.connect(list_of(made).database)) as database:
        database.execute("UPDATE node_state SET events = '[{]' WHERE address = ?", (B,))
        database.commit()
    build(made)
    consume(made)
    assert entries(made) == {A: ("mx1",), C: ("mx2",)}
    with database_of(made) as store:
        assert first_place(store) == StreamPlace()


def test_both_nodes_are_named(tmp_path: Path) -> None:
    """An entry that follows from reports of two nodes names both after a rebuild."""
    made = node_of(tmp_path)
    write_segment(made, 0, [oob(A, "QuotaIssues", day=day) for day in (0, 1)])
    others = [replace(complaint(day, id=f"m{day}"), word="QuotaIssues") for day in (2, 3, 4)]
    receive(made, ("mx2", A, others))
    build(made)
    entry: ListEntry = stored(made)[A]
    assert (entry.nodes, len(entry.reports)) == (("mx1", "mx2"), 5)
