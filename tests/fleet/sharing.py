"""Nodes that share one suppression list, for tests and `make soak`: each with its own journal and database."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from msgspec.structs import replace
from nats.js.api import StreamConfig
from nats.js.client import JetStreamContext

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.fleet.suppression import ListExchange, stream_of
from sidecar.suppression.changes import HandChange, write
from sidecar.suppression.consumer import follow
from sidecar.suppression.faults import StoreError
from sidecar.suppression.listing import Listed
from sidecar.suppression.opening import open_reader
from tests.fleet.servers import Server, urls
from tests.fleet.shipping import FOLDER, fleet_of, with_stream
from tests.mta.processes import wait_until
from tests.suppression.journals import list_of, with_list

RECORDED = int(time.time()) - 3600


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
    lists = [listed(one) for one in nodes]
    wait_until(lambda: all(listed(one) == listed(nodes[0]) for one in nodes), "the lists are equal")
    return lists[0]


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
