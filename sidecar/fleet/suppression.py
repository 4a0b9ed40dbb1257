"""The stream of the suppression list: the newest state of each node and address, read and written by a thread.

Owns its name and subjects, which are permanent, and from where it is read after a lost connection. Never reads a state.
"""

import asyncio
import queue
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self, cast, get_args

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext

from sidecar import log
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.sharing import Arrivals, ArrivedState, NodeState, StateKind, StreamPlace
from sidecar.fleet import FleetError
from sidecar.fleet.connection import FleetConnection, cancel, in_words, inbox, persist, run

# Messages of one request, and requests that wait for the list: some MiB.
_BATCH: Final = 500
_BATCHES: Final = 8
# How long a request waits for the next message. Each time the consumer is looked for.
_WAIT_SECONDS: Final = 2.0
_FULL_SECONDS: Final = 0.02
_DOWN_SECONDS: Final = 0.1
_API_SECONDS: Final = 10.0
# The server removes the consumer of a node that is gone.
_GONE_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 2.0
_RESTART_SECONDS: Final = 5.0
# Messages that are published before others are read.
_TURN: Final = 50
_KINDS: Final = get_args(StateKind)

_LOG = log.get("fleet")


def stream_of(fleet: FleetSettings) -> str:
    """Return the name of the stream of the suppression list."""
    return f"{fleet.name}_suppression"


def subject_of(fleet: FleetSettings, kind: str, key: str) -> str:
    """Return the subject of a state of this node."""
    return f"{fleet.name}.suppression.{fleet.node}.{kind}.{key}"


class ListExchange:
    """The stream of the suppression list from `place` on. An `Exchange`. Use it as a context manager, for one thread."""

    def __init__(self, settings: Settings, place: StreamPlace) -> None:
        assert settings.fleet is not None  # noqa: S101 - the caller's condition
        self._fleet = settings.fleet
        self._stream = stream_of(settings.fleet)
        self._place = place
        self._arrived: queue.Queue[Arrivals] = queue.Queue(_BATCHES)
        self._outbox: deque[NodeState] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event
        self._is_read = self.is_up = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(_STOP_SECONDS)

    @property
    def is_current(self) -> bool:
        """Whether all that the stream has was received."""
        return self._is_read and self._arrived.empty()

    def receive(self) -> Arrivals | None:
        """Return the next states, None if there are none now."""
        with suppress(queue.Empty):
            return self._arrived.get_nowait()
        return None

    def publish(self, states: Sequence[NodeState]) -> None:
        """Publish states of this node soon, each once at most."""
        self._outbox.extend(states)
        if states and (loop := self._loop) is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._wake.set)

    # --- the thread

    def _run(self) -> None:
        """Read and write until the end. A fault of the program ends nothing else."""
        while not self._end.is_set():
            try:
                run(self._always(), lambda _: self._end.is_set())
            except Exception as error:  # noqa: BLE001 - see the docstring
                self._is_read, self.error = False, str(error)
                _LOG.error("the exchange of the suppression list failed, and is started again", exc_info=error)
                self._end.wait(_RESTART_SECONDS)

    async def _always(self) -> None:
        self._wake, self._loop = asyncio.Event(), asyncio.get_running_loop()
        await persist(lambda: FleetConnection(self._fleet, role="suppression"), self._work, pause=self._pause)

    async def _pause(self, seconds: float, why: str) -> None:
        self._is_read, self.error = False, why
        await asyncio.sleep(seconds)

    async def _work(self, connection: FleetConnection) -> None:
        """Read and write with this connection, until one of the two fails."""
        try:
            reading = asyncio.ensure_future(self._read_all(connection))
            writing = asyncio.ensure_future(self._write_all(connection))
            try:
                done, _ = await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                self._is_read = self.is_up = False
                for task in (reading, writing):
                    await cancel(task)
        except (NatsError, TimeoutError) as error:
            why = connection.fault or in_words(error)
            if isinstance(error, NatsTimeoutError | TimeoutError):
                why = connection.fault or "no answer in time: this node may not be permitted to read it"
            raise FleetError(f"the stream {self._stream} cannot be read: {why}") from error

    async def _read_all(self, connection: FleetConnection) -> None:
        context = connection.client.jetstream(timeout=_API_SECONDS)
        while True:
            while not connection.is_up:
                self._is_read, self.error = False, connection.fault or "the connection is lost"
                await asyncio.sleep(_DOWN_SECONDS)
            await self._find_place(context)
            # A message that was on its way when a connection was lost is delivered to another consumer only.
            start: dict[str, Any] = {
                "deliver_policy": DeliverPolicy.BY_START_SEQUENCE,
                "opt_start_seq": self._place.number + 1,
                "inactive_threshold": _GONE_SECONDS,
                "mem_storage": True,
            }
            config = ConsumerConfig(ack_policy=AckPolicy.NONE, **start)
            subject = f"{self._fleet.name}.suppression.>"
            subscription = await context.pull_subscribe(subject, stream=self._stream, config=config)
            try:
                await self._read(connection, subscription)
            finally:
                with suppress(NatsError, OSError):
                    await subscription.unsubscribe()

    async def _find_place(self, context: JetStreamContext) -> None:
        """Begin with the first message of a stream that is not the one of the place."""
        info = await context.stream_info(self._stream)
        stream = str(info.created)
        if stream != self._place.stream or self._place.number > info.state.last_seq:
            self._place = StreamPlace(stream=stream)
            await self._deliver(())

    async def _read(self, connection: FleetConnection, subscription: JetStreamContext.PullSubscription) -> None:
        """Read until the connection was lost, or the server has lost the consumer."""
        lost = connection.client.stats["reconnects"]
        pending = (await subscription.consumer_info()).num_pending or 0
        self.is_up = True
        while connection.is_up and connection.client.stats["reconnects"] == lost:
            self._is_read = not pending
            messages = await _fetch(subscription, min(pending, _BATCH) or 1)
            if messages:
                pending = messages[-1].metadata.num_pending
                # A new message is not in the list yet.
                self._is_read = False
                await self._deliver(messages)
            elif connection.is_up:
                try:
                    pending = (await subscription.consumer_info()).num_pending or 0
                except (NatsError, TimeoutError):
                    return
            self.is_up = connection.is_up
            if connection.fault:
                self.error, connection.fault = connection.fault, ""
        self._is_read = self.is_up = False

    async def _deliver(self, messages: Sequence[Msg]) -> None:
        if messages:
            self._place = StreamPlace(stream=self._place.stream, number=messages[-1].metadata.sequence.stream)
        arrivals = Arrivals(place=self._place, states=tuple(one for one in map(_state, messages) if one is not None))
        while self._arrived.full():  # noqa: ASYNC110 - another thread makes space
            await asyncio.sleep(_FULL_SECONDS)
        self._arrived.put_nowait(arrivals)

    async def _write_all(self, connection: FleetConnection) -> None:
        self._outbox.clear()  # the list publishes it again
        acks = f"{inbox(self._fleet)}.list.{secrets.token_hex(8)}"
        await connection.client.subscribe(acks, cb=self._on_ack, pending_msgs_limit=-1, pending_bytes_limit=-1)
        while True:
            await self._wake.wait()
            self._wake.clear()
            count = 0
            while self._outbox:
                await self._write(connection, self._outbox.popleft(), acks)
                count += 1
                if not count % _TURN:
                    await asyncio.sleep(0)

    async def _write(self, connection: FleetConnection, state: NodeState, acks: str) -> None:
        if not connection.is_up:
            return
        headers = {"Nats-Expected-Stream": self._stream}
        if state.lasts:
            headers["Nats-TTL"] = str(state.lasts)
        try:
            await connection.client.publish(subject_of(self._fleet, state.kind, state.key), state.content, acks, headers)
        except (NatsError, OSError) as error:
            self.error = in_words(error)

    async def _on_ack(self, message: Msg) -> None:
        """Note an error. The states that were stored are received."""
        try:
            ack = msgspec.json.decode(message.data, type=dict[str, Any])
        except ValueError:
            # Without a responder the answer has a header and no content.
            self.error = f"the stream {self._stream} does not exist, or this node may not publish to it"
            return
        if (error := ack.get("error")) is not None:
            self.error = str(error.get("description", error))


async def _fetch(subscription: JetStreamContext.PullSubscription, count: int) -> Sequence[Msg]:
    try:
        return await subscription.fetch(count, timeout=_WAIT_SECONDS)
    except (NatsTimeoutError, TimeoutError):
        return ()


def _state(message: Msg) -> ArrivedState | None:
    """Return the state in a message; None if its subject is none of ours."""
    parts = message.subject.split(".")
    if len(parts) != 5 or parts[3] not in _KINDS:  # noqa: PLR2004 - see `subject_of`
        return None
    return ArrivedState(
        node=parts[2],
        kind=cast("StateKind", parts[3]),
        key=parts[4],
        content=message.data,
        number=message.metadata.sequence.stream,
        stored=int(message.metadata.timestamp.timestamp() * 1_000_000),
    )
