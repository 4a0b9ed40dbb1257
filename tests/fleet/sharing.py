"""Nodes that share one suppression list, for tests and `make soak`: each with its own journal and database."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from msgspec.structs import replace
from nats.js.api import StreamConfig
from nats.js.client import JetStreamContext

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.fleet.connection import FleetConnection
from sidecar.fleet.suppression import ListExchange, stream_of
from sidecar.journal.database import StoreError
from sidecar.suppression.changes import HandChange, write
from sidecar.suppression.consumer import follow
from sidecar.suppression.listing import Listed
from sidecar.suppression.opening import open_reader
from sidecar.suppression.rules import Event as ListEvent
from tests.fleet.servers import Server, urls
from tests.fleet.shipping import FOLDER, fleet_of, with_stream
from tests.mta.processes import wait_until
from tests.suppression.journals import list_of, with_list


def node_of(folder: Path, name: str, *servers: Server, fleet: dict[str, Any] | None = None, **more: Any) -> Settings:
    """Return the settings of a node, with everything in a folder of its own."""
    (folder / name).mkdir(exist_ok=True)
    settings = FleetSettings(servers=urls(servers), node=name, **(fleet or {}))
    return replace(with_list(folder / name, **more), fleet=settings)


def make_list_stream(made: Settings, *, replicas: int = 1) -> None:
    """Create the stream of deploy/nats."""
    config = {**json.loads((FOLDER / "suppression.json").read_text()), "num_replicas": replicas, "max_bytes": -1}

    async def create(stream: JetStreamContext) -> None:
        await stream.add_stream(StreamConfig.from_response(config))

    with_stream(made, create)


def delete_list_stream(made: Settings) -> None:
    async def delete(stream: JetStreamContext) -> None:
        await stream.delete_stream(stream_of(fleet_of(made)))

    with_stream(made, delete)


def share(made: Settings, wait: Callable[[float], bool]) -> None:
    """Do the work of the process of the list."""
    follow(made, wait, connect=partial(ListExchange, made))


@contextmanager
def sharing(*nodes: Settings) -> Iterator[None]:
    """Run nodes in threads, and end them as the supervisor does."""
    end = Event()
    wait = lambda seconds: end.wait(seconds) if seconds else end.is_set()  # noqa: E731
    threads = [Thread(target=share, args=(one, wait)) for one in nodes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def listed(made: Settings) -> dict[str, Listed]:
    """Return the list of a node."""
    try:
        with open_reader(list_of(made)) as store:
            return {one.address: one for one in store.entries(int(time.time()))}
    except (StoreError, sqlite3.OperationalError):  # it is being made
        return {}


def wait_for(addresses: set[str], *nodes: Settings) -> dict[str, Listed]:
    """Wait until these are the addresses on the lists of all nodes. Return the list, which is the same everywhere."""
    wait_until(lambda: all({*listed(one)} == addresses for one in nodes), f"{addresses} are on all lists")
    wait_until(lambda: all(listed(one) == listed(nodes[0]) for one in nodes), "the lists are equal")
    return listed(nodes[0])


def add(made: Settings, address: str, **more: Any) -> None:
    write(made, [HandChange(action="add", address=address, reason="by hand", **more)], by="tests")


def remove(made: Settings, address: str, **more: Any) -> None:
    write(made, [HandChange(action="remove", address=address, reason="by hand", **more)], by="tests")


def report(made: Settings, record: dict[str, Any], *, ago: float = 0, segment: str = "20260901-120000.000000") -> None:
    """Add the record of a report that was made so many seconds ago to the journal."""
    path = made.journal.directory / f"{segment}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    when = int(time.time() - ago)
    with path.open("a") as file:
        file.write(json.dumps({**record, "created": when, "timestamp": when}, separators=(",", ":")) + "\n")
    path.chmod(0o640)


def known(made: Settings) -> dict[str, set[ListEvent]]:
    """Return all events that a node knows, by address."""
    with open_reader(list_of(made)) as store:
        return {address: {*store.history(address)} for address in listed(made)}


@contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """Yield a process that works; it is reaped in the end."""
    if (pid := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def publish_as(made: Settings, subject: str, content: bytes, *, reply: str = "") -> None:
    """Publish with the credentials of a node, and wait until the server has it."""

    async def work() -> None:
        async with FleetConnection(fleet_of(made), role="test") as connection:
            await connection.client.publish(subject, content, reply)
            await connection.client.flush()

    asyncio.run(work())


def newest(made: Settings, subject: str) -> bytes:
    """Return the message of a subject."""

    async def read(stream: JetStreamContext) -> bytes:
        return (await stream.get_last_msg(stream_of(fleet_of(made)), subject)).data or b""

    return with_stream(made, read)  # type: ignore[no-any-return]
