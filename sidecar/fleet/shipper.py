"""Ships the records of this node to the fleet's stream: a bounded number at a time, each until the stream has acknowledged it.

Owns subjects, message ids and retries. A crash repeats records with the same ids, and the stream stores each id once.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from sidecar import log
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.text import in_units
from sidecar.fleet import READER
from sidecar.fleet.connection import FleetConnection, inbox, persist, run
from sidecar.fleet.feed import Feed, FeedBusyError, Item
from sidecar.fleet.kept import Kept
from sidecar.fleet.stream import MESSAGE_ID, RECORD_VERSION, VERSION, stream_of, subject_of

# Not acknowledged at a time. A round trip of 50 ms then still permits 20,000 a second.
WINDOW: Final = 1000
WINDOW_BYTES: Final = 16 << 20
# The leader of a stream is replaced within some seconds.
_ACK_SECONDS: Final = 5.0
_FIRST_RETRY: Final = 0.25
_LAST_RETRY: Final = 30.0
_LOOK_SECONDS: Final = 0.25
# Records that are published before acknowledgements are read.
_TURN: Final = 50
# "message size exceeds maximum allowed": the stream's own limit (NATS, errors of JetStream).
_TOO_LARGE: Final = 10054
_KEPT_SECONDS: Final = 3600.0

_LOG = log.get("fleet")


class _AckError(Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _Ack(Struct, frozen=True):
    stream: str = ""
    error: _AckError | None = None


_ACK: Final = msgspec.json.Decoder(_Ack)


class _Sent(Struct, kw_only=True):
    """A record on its way. `kept` if it comes from the folder of those, and not from the journal."""

    item: Item
    size: int
    at: float
    kept: bool


class Shipper:
    """Ships what `feed` has; `kept` has the records that the stream rejected."""

    def __init__(self, fleet: FleetSettings, feed: Feed, kept: Kept) -> None:
        self._fleet, self._feed, self._kept = fleet, feed, kept
        self._stream = stream_of(fleet)
        # Of this process alone: a late acknowledgement for the process before must not count for another record.
        self._acks = f"{inbox(fleet)}.ack.{secrets.token_hex(8)}"
        self._waiting: dict[int, _Sent] = {}
        self._bytes = 0
        self._number = 0
        self._records: Iterator[Item] = iter(())
        self._next: Item | None = None
        self._moved = asyncio.Event()
        self._failed = False
        self._retry_at, self._retry_after = 0.0, _FIRST_RETRY
        self._kept_at = 0.0
        feed.kept = len(kept)

    async def work(self, connection: FleetConnection) -> None:
        """Ship with this connection, without end."""
        self._connection = connection
        await connection.client.subscribe(f"{self._acks}.*", cb=self._on_ack, pending_msgs_limit=-1, pending_bytes_limit=-1)
        self.retry_soon()
        self._kept_at = 0.0  # another server can have another limit
        # A fault of one of the two ends both: the process is replaced then.
        async with asyncio.TaskGroup() as group:
            group.create_task(self._retry())
            while True:
                await self._ship_new()
                await self._ship_kept()
                await asyncio.sleep(_LOOK_SECONDS)

    def retry_soon(self) -> None:
        """Publish again what is not acknowledged: its acknowledgements can be lost."""
        self._failed, self._retry_at, self._retry_after = True, 0.0, _FIRST_RETRY

    def look(self) -> None:
        """Read the next record without a connection: the status shows how old it is."""
        if self._next is None:
            self._next = next(self._records, None)
        if self._next is None:
            self._records = self._feed.records()
            self._next = next(self._records, None)

    async def settle(self, seconds: float) -> None:
        """Wait some time for the acknowledgements of what was published."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            await self._wait_for_ack(0.1)

    async def _ship_new(self) -> None:
        # Kept between connections: a record that was read is not read again.
        while (item := self._next or next(self._records, None)) is not None:
            self._next = item
            await self._ship(item)
            if not self._number % _TURN:
                await asyncio.sleep(0)
                self._feed.save()
        self._records = self._feed.records()

    async def _ship_kept(self) -> None:
        if time.monotonic() < self._kept_at:
            return
        self._kept_at = time.monotonic() + _KEPT_SECONDS
        for item in self._kept.items():
            if self._fits(item):
                await self._ship(item, kept=True)

    async def _ship(self, item: Item, *, kept: bool = False) -> None:
        """Publish a record as soon as the window has space for it."""
        if not self._fits(item):
            limit = in_units(self._connection.client.max_payload)
            self._keep(item, f"it has {in_units(len(item.text))}, and the server's max_payload is {limit}")
            self._next = None
            return
        while self._waiting and (len(self._waiting) >= WINDOW or self._bytes + len(item.text) > WINDOW_BYTES):
            await self._wait_for_ack(_LOOK_SECONDS)
            self._feed.save()
        self._number += 1
        self._waiting[self._number] = _Sent(item=item, size=len(item.text), at=time.monotonic(), kept=kept)
        self._bytes += len(item.text)
        self._next = None
        await self._publish(self._number)

    async def _publish(self, number: int) -> None:
        """Publish once. If the connection is lost, it is published again later."""
        sent = self._waiting[number]
        sent.at = time.monotonic()
        if not self._connection.is_up:
            self._failed = True
            return
        headers = {MESSAGE_ID: self._id(sent.item), VERSION: str(RECORD_VERSION), "Nats-Expected-Stream": self._stream}
        subject = subject_of(self._fleet, sent.item.type)
        try:
            await self._connection.client.publish(subject, sent.item.text, f"{self._acks}.{number}", headers)
        except (NatsError, OSError) as error:
            self._fail(str(error).removeprefix("nats: "))

    async def _retry(self) -> None:
        """Publish again what was not acknowledged in time, with longer and longer pauses."""
        while True:
            await asyncio.sleep(_FIRST_RETRY / 2)
            now = time.monotonic()
            oldest = next(iter(self._waiting.values()), None)
            if oldest is not None and now > oldest.at + _ACK_SECONDS:
                self._fail(self._connection.fault or "no acknowledgement in time")
            if not self._connection.is_up:
                self._fail(self._connection.fault or "no connection")
            elif self._failed and now >= self._retry_at:
                self._failed = False
                self._retry_at, self._retry_after = now + self._retry_after, min(2 * self._retry_after, _LAST_RETRY)
                for number in list(self._waiting):
                    if number in self._waiting:
                        await self._publish(number)
            self._feed.save()

    async def _on_ack(self, message: Msg) -> None:
        sent = self._waiting.get(int(message.subject.rpartition(".")[2]))
        if sent is None:
            return  # acknowledged before, of an earlier attempt
        try:
            ack = _ACK.decode(message.data)
        except ValueError:
            # Without a responder the answer has a header and no content.
            self._fail(f"the stream {self._stream} does not exist, or this node may not publish to it")
            return
        if ack.error is not None and ack.error.err_code == _TOO_LARGE:
            self._keep(sent.item, ack.error.description)
        elif ack.error is not None or ack.stream != self._stream:
            self._fail(ack.error.description if ack.error is not None else f"another stream answers: {ack.stream}")
            return
        elif sent.kept:
            self._kept.remove(sent.item)
            self._feed.kept = len(self._kept)
        else:
            self._feed.acknowledge(sent.item)
        del self._waiting[int(message.subject.rpartition(".")[2])]
        self._bytes -= sent.size
        self._connection.fault = ""
        if self._feed.fault:
            _LOG.info("records are shipped again", stream=self._stream)
            self._feed.fault = ""
        self._retry_after = _FIRST_RETRY
        self._moved.set()

    def _fail(self, why: str) -> None:
        self._failed = True
        if self._feed.fault != why:
            self._feed.fault = why
            _LOG.error(f"records are not shipped: {why}; they wait in the journal", stream=self._stream)

    def _keep(self, item: Item, why: str) -> None:
        path = self._kept.add(item)
        self._feed.acknowledge(item)
        self._feed.kept = len(self._kept)
        text = "it is kept, and shipped when the limit permits it"
        _LOG.error(f"the stream rejects a record: {why}; {text}", type=item.type, file=item.path, line=item.line, kept=path)

    def _fits(self, item: Item) -> bool:
        """Return True if the server accepts a message of this size, with its headers."""
        return len(item.text) + len(self._id(item)) + 200 <= self._connection.client.max_payload

    def _id(self, item: Item) -> str:
        return f"{self._fleet.node}/{item.segment}/{item.line}"

    async def _wait_for_ack(self, seconds: float) -> None:
        self._moved.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            pass


def ship(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Ship the records of the journal until `wait` returns True. Raise JournalError and OSError."""
    while True:
        try:
            with Feed(settings, READER) as feed:
                _ship(settings, feed, wait)
        except FeedBusyError:
            if wait(_LOOK_SECONDS):
                return
        else:
            return


def _ship(settings: Settings, feed: Feed, wait: Callable[[float], bool]) -> None:
    assert settings.fleet is not None  # noqa: S101 - the caller's condition
    fleet = settings.fleet

    async def shipping() -> None:
        shipper = Shipper(fleet, feed, Kept(settings.state_directory / "unshipped" / READER))

        async def work(connection: FleetConnection) -> None:
            try:
                await shipper.work(connection)
            finally:
                await shipper.settle(1.0)

        async def pause(seconds: float, why: str) -> None:
            feed.fault = why
            shipper.look()
            feed.save()
            await asyncio.sleep(seconds)

        await persist(lambda: FleetConnection(fleet, role="shipper", restored=shipper.retry_soon), work, pause=pause)

    run(shipping(), wait)
