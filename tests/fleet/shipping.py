"""Journals, and what a stream has, for the tests of the fleet."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from msgspec.structs import replace
from nats.js.api import StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import ServiceUnavailableError

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import JournalSettings
from sidecar.fleet.connection import FleetConnection
from sidecar.fleet.shipper import ship
from sidecar.fleet.stream import stream_of
from tests.building import settings
from tests.fleet.servers import Server, urls

FOLDER = Path(__file__).parents[2] / "deploy" / "nats"


def with_fleet(folder: Path, *servers: Server, **more: Any) -> Settings:
    """Return settings of a node `mx1`, with everything in a folder."""
    fleet = FleetSettings(servers=urls(servers), node="mx1", **more)
    journal = JournalSettings(directory=folder / "journal")
    return replace(settings(), state_directory=folder, journal=journal, fleet=fleet)


def fleet_of(made: Settings) -> FleetSettings:
    assert made.fleet is not None
    return made.fleet


def record(number: int, kind: str = "Reception", **more: Any) -> dict[str, Any]:
    return {"type": kind, "id": f"{number:032x}", "created": 1_790_000_000 + number, **more}


def write(made: Settings, name: str, records: list[dict[str, Any]], *, finished: bool = False) -> Path:
    """Add records to a segment."""
    path = made.journal.directory / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in records)
    path.chmod(0o440 if finished else 0o640)
    return path


@contextmanager
def shipping(made: Settings) -> Iterator[Thread]:
    """Ship in a thread, and end it as the supervisor does."""
    end = Event()
    thread = Thread(target=ship, args=(made, lambda seconds: end.wait(seconds) if seconds else end.is_set()))
    thread.start()
    try:
        yield thread
    finally:
        end.set()
        thread.join(30)
        assert not thread.is_alive()


def make_stream(made: Settings, *, replicas: int = 1, **more: Any) -> None:
    """Create the stream of records."""
    config = {**json.loads((FOLDER / "records.json").read_text()), "num_replicas": replicas, "max_bytes": -1, **more}

    async def create(stream: JetStreamContext) -> None:
        try:
            await stream.add_stream(StreamConfig.from_response(dict(config)))
        except ServiceUnavailableError as error:  # the cluster has no leader yet
            raise TimeoutError from error

    with_stream(made, create)


def with_stream(made: Settings, work: Any, *, attempts: int = 10) -> Any:
    """Return what `work` returns. After a leader was killed, another one needs some seconds."""

    async def connected() -> Any:
        async with FleetConnection(fleet_of(made), role="test") as connection:
            return await work(connection.client.jetstream(timeout=3))

    for _ in range(attempts - 1):
        with suppress(TimeoutError):
            return asyncio.run(connected())
    return asyncio.run(connected())


def stored(made: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the subject, the message id and the record of each message of the stream, in order."""

    async def read(stream: JetStreamContext) -> list[tuple[str, str, dict[str, Any]]]:
        name = stream_of(fleet_of(made))
        count = (await stream.stream_info(name)).state.messages
        found = list[tuple[str, str, dict[str, Any]]]()
        subscription = await stream.subscribe(f"{fleet_of(made).name}.records.>", stream=name, ordered_consumer=True)
        while len(found) < count:
            message = await subscription.next_msg(timeout=30)
            assert message.headers
            found.append((message.subject, message.headers["Nats-Msg-Id"], json.loads(message.data)))
        return found

    return with_stream(made, read)  # type: ignore[no-any-return]


def count(made: Settings, *, attempts: int = 10) -> int:
    """Return how many messages the stream has."""

    async def read(stream: JetStreamContext) -> int:
        return (await stream.stream_info(stream_of(fleet_of(made)))).state.messages

    return with_stream(made, read, attempts=attempts)  # type: ignore[no-any-return]


def repeated(messages: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Return the message ids that are there more than once."""
    return [name for name, number in Counter(name for _, name, _ in messages).items() if number > 1]


def leader_of(made: Settings) -> str:
    """Return the name of the server that leads the stream."""

    async def leader(stream: JetStreamContext) -> str:
        cluster = (await stream.stream_info(stream_of(fleet_of(made)))).cluster
        return "" if cluster is None else cluster.leader or ""

    return with_stream(made, leader)  # type: ignore[no-any-return]
