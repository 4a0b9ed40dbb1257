"""The shipper: each record reaches the stream once, whatever is killed, and the checkpoint never passes one that did not."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from msgspec.structs import replace
from nats.aio.msg import Msg

from sidecar.core.settings.settings import Settings
from sidecar.fleet import READER
from sidecar.fleet.connection import FleetConnection, persist, run
from sidecar.fleet.feed import Feed, FeedBusyError
from sidecar.fleet.shipper import ship
from sidecar.journal.read import Checkpoints, SegmentMark
from tests.fleet.servers import cluster, needs_nats, nkey, server, users
from tests.fleet.shipping import (
    count,
    fleet_of,
    leader_of,
    make_stream,
    record,
    repeated,
    shipping,
    stored,
    with_fleet,
    write,
)
from tests.mta.processes import wait_until

pytestmark = [needs_nats, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]

FIRST, SECOND = "20261130-120000.000001", "20261130-120000.000002"


def mark(made: Any, path: Path) -> SegmentMark | None:
    return Checkpoints(made.checkpoints_directory).load(READER).segments.get(str(path))


def fault(made: Any) -> str:
    return next((one.fault for one in Checkpoints(made.checkpoints_directory).all_known()), "")


def test_what_is_published(tmp_path: Path) -> None:
    """Each record as it was written, below the node and the type, with an id that names its place."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        done = write(made, FIRST, [record(1), record(2, "OOB")], finished=True)
        live = write(made, SECOND, [record(3, "a.b"), record(4, "NewType")])
        with live.open("a") as file:
            file.write('not json\n{"type": "Rejec')
        with shipping(made):
            wait_until(lambda: count(made) == 4, "all records are in the stream")
            with live.open("a") as file:
                file.write('tion"}\n')
            wait_until(lambda: count(made) == 5, "also what was written later")
            wait_until(lambda: mark(made, done) == SegmentMark(lines=2, done=True), "the first segment is done")
        assert mark(made, live) == SegmentMark(lines=4)
        assert [(subject, name, found["type"]) for subject, name, found in stored(made)] == [
            ("sidecar.records.mx1.Reception", f"mx1/{FIRST}.jsonl/1", "Reception"),
            ("sidecar.records.mx1.OOB", f"mx1/{FIRST}.jsonl/2", "OOB"),
            ("sidecar.records.mx1.other", f"mx1/{SECOND}.jsonl/1", "a.b"),
            ("sidecar.records.mx1.NewType", f"mx1/{SECOND}.jsonl/2", "NewType"),
            ("sidecar.records.mx1.Rejection", f"mx1/{SECOND}.jsonl/4", "Rejection"),
        ]
        # Another process continues where this one ended.
        write(made, SECOND, [record(6)])
        with shipping(made):
            wait_until(lambda: count(made) == 6, "the new record")
        assert not repeated(stored(made))


def test_what_is_repeated_is_stored_once(tmp_path: Path) -> None:
    """A shipper that lost its checkpoint publishes all again."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        path = write(made, FIRST, [record(number) for number in range(2500)], finished=True)
        for _ in range(2):
            Checkpoints(made.checkpoints_directory).remove(READER)
            with shipping(made):
                wait_until(lambda: (found := mark(made, path)) and found.done, "all is acknowledged")
        found = stored(made)
        assert [one["id"] for _, _, one in found] == [record(number)["id"] for number in range(2500)]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """After a reload the new process waits for the end of the one before."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        write(made, FIRST, [record(1)])
        with Feed(made, READER):
            with pytest.raises(FeedBusyError), Feed(made, READER):
                pass
            with shipping(made):
                pass  # it can be ended while it waits
        with shipping(made):
            wait_until(lambda: count(made) == 1, "the next one ships")


def test_servers_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status has the reason and the age of what waits, also before the first connection; then all is shipped."""
    monkeypatch.setattr("sidecar.fleet.connection._CONNECT_SECONDS", 0.2)
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        one.kill()
        write(made, FIRST, [record(number) for number in range(5)])
        with shipping(made):
            wait_until(lambda: fault(made).startswith("no connection to nats://"), "it has the reason")
            assert Checkpoints(made.checkpoints_directory).known(READER).oldest == record(0)["created"]
            one.start()
            wait_until(lambda: count(made) == 5, "all is shipped")
            wait_until(lambda: fault(made) == "", "the fault is over")
        assert not repeated(stored(made))


def test_late_acknowledgements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for a process that was killed do not count for records of the next one, which has the same numbers."""
    monkeypatch.setattr("sidecar.fleet.shipper._ACK_SECONDS", 0.2)
    monkeypatch.setattr("sidecar.fleet.shipper._LAST_RETRY", 0.2)
    seen = list[str]()

    async def watch(connection: FleetConnection) -> None:
        async def on_record(message: Msg) -> None:
            seen.append(message.reply)
            # What the server of the process before could still send.
            for old in {*seen} - {message.reply}:
                await connection.client.publish(old, b'{"stream":"sidecar_records","seq":1}')

        await connection.client.subscribe("sidecar.records.>", cb=on_record)
        await asyncio.Event().wait()

    def watching(made: Settings, wait: Callable[[float], bool]) -> None:
        run(persist(lambda: FleetConnection(fleet_of(made), role="test"), watch, pause=lambda _, __: asyncio.sleep(0.1)), wait)

    with server() as one:
        made = with_fleet(tmp_path, one)
        end = Event()
        thread = Thread(target=watching, args=(made, lambda _: end.is_set()))
        thread.start()
        try:
            path = write(made, FIRST, [record(1)])
            for number in (1, 2):  # without a stream: no one acknowledges
                with shipping(made):
                    wait_until(lambda number=number: len(set(seen)) == number, "it was published", seconds=20)  # type: ignore[misc]
                    again = len(seen) + 2
                    wait_until(lambda again=again: len(seen) >= again, "it still waits", seconds=20)  # type: ignore[misc]
        finally:
            end.set()
            thread.join()
        assert mark(made, path) == SegmentMark(lines=0)


def test_without_the_stream(tmp_path: Path) -> None:
    """Records wait, and the reason is known. So they do while the stream is full."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        path = write(made, FIRST, [record(1)])
        with shipping(made):
            wait_until(lambda: "does not exist" in fault(made), "the stream is missing")
            assert Checkpoints(made.checkpoints_directory).known(READER).oldest == record(1)["created"]
            assert mark(made, path) == SegmentMark(lines=0)
            make_stream(made, max_msgs=1)
            wait_until(lambda: mark(made, path) == SegmentMark(lines=1), "it is shipped")
            write(made, FIRST, [record(2)])
            wait_until(lambda: "maximum messages exceeded" in fault(made), "the stream is full")
            assert mark(made, path) == SegmentMark(lines=1)
        assert [found["id"] for _, _, found in stored(made)] == [record(1)["id"]]


def test_a_record_above_the_limit(tmp_path: Path) -> None:
    """It is kept, holds no other one, and is shipped when the server accepts it."""
    with server("max_payload: 2000\n") as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        path = write(made, FIRST, [record(1), record(2, text="x" * 3000), record(3)])
        kept = tmp_path / "unshipped" / READER
        with shipping(made):
            wait_until(lambda: mark(made, path) == SegmentMark(lines=3), "the others are shipped")
        assert [file.name for file in kept.iterdir()] == [f"{FIRST}.jsonl-2.record"]
        assert Checkpoints(made.checkpoints_directory).known(READER).kept == 1
        one.reload(one.config.read_text().replace("2000", "8000"))
        with shipping(made):
            wait_until(lambda: not list(kept.iterdir()), "it is shipped")
        assert {found["id"] for _, _, found in stored(made)} == {record(number)["id"] for number in (1, 2, 3)}
        assert Checkpoints(made.checkpoints_directory).known(READER).kept == 0


def test_the_limit_of_the_stream(tmp_path: Path) -> None:
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made, max_msg_size=1000)
        path = write(made, FIRST, [record(1, text="x" * 3000), record(2)])
        with shipping(made):
            wait_until(lambda: mark(made, path) == SegmentMark(lines=2), "the other one is shipped")
        assert len(list((tmp_path / "unshipped" / READER).iterdir())) == 1


def test_a_node_that_may_only_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The permissions of the documents are enough, and with them it cannot publish for another node, nor read."""
    monkeypatch.setattr("sidecar.fleet.shipper._ACK_SECONDS", 1.0)
    (seed, public), (other, admin) = nkey(), nkey()
    permissions = {"publish": ["sidecar.records.mx1.*"], "subscribe": ["_INBOX.sidecar.mx1.>"]}
    for name, text in (("node", seed), ("admin", other)):
        (tmp_path / name).write_text(text)
    with server(users((public, permissions), (admin, {}))) as one:
        made = with_fleet(tmp_path, one, credentials=tmp_path / "node")
        administrator = replace(made, fleet=replace(fleet_of(made), credentials=tmp_path / "admin"))
        make_stream(administrator)
        write(made, FIRST, [record(1)])
        with shipping(made):
            wait_until(lambda: count(administrator) == 1, "it is shipped")
        foreign = replace(made, fleet=replace(fleet_of(made), node="mx2"), state_directory=tmp_path / "other")
        with shipping(foreign):
            wait_until(lambda: fault(foreign).lower().startswith("permissions violation"), "it is rejected")
        with pytest.raises(TimeoutError):
            count(made, attempts=1)
        assert count(administrator) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    """It is killed in the middle, and started again."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        total = 6000
        path = write(made, FIRST, [record(number) for number in range(total)], finished=True)
        with shipping(made):
            wait_until(lambda: (found := mark(made, path)) and found.lines > 0, "it has begun")
            one.kill(number)
            one.start()
            wait_until(lambda: (found := mark(made, path)) and found.done, "all is acknowledged")
        found = stored(made)
        assert (len(found), repeated(found)) == (total, [])


def test_a_leader_that_is_killed(tmp_path: Path) -> None:
    """Of three servers, the leader of the stream is killed while records are shipped."""
    with cluster() as servers:
        made = with_fleet(tmp_path, *servers)
        make_stream(made, replicas=3)
        total = 4000
        path = write(made, FIRST, [record(number) for number in range(total)], finished=True)
        with shipping(made):
            wait_until(lambda: (found := mark(made, path)) and found.lines > 0, "it has begun")
            leader = leader_of(made)
            (killed,) = [one for one in servers if one.name == leader]
            killed.kill()
            wait_until(lambda: (found := mark(made, path)) and found.done, "all is acknowledged")
        found = stored(made)
        assert (len(found), repeated(found)) == (total, [])


def test_a_fault_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the process, which its supervisor replaces; it is not left with a part that does nothing."""

    async def fail(_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("sidecar.fleet.shipper.Shipper._retry", fail)
    with server() as one:
        made = with_fleet(tmp_path, one)
        write(made, FIRST, [record(number) for number in range(2000)])
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            ship(made, lambda _: False)
