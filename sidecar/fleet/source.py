"""The stream of records as a source of lines for `tail`, `stats` and `explain --record`: `nats://` or `nats://NODE`.

Owns the reading of the stream from a time or a position on, also while it grows. A record is yielded once, and removes nothing.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext

from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.text import shown
from sidecar.fleet import STREAM, FleetError
from sidecar.fleet.connection import FleetConnection, in_words
from sidecar.fleet.stream import MESSAGE_ID, RECORD_VERSION, VERSION, stream_of, subject_of
from sidecar.journal.read import Line, Skipped

# Messages of one request, and how long it waits for the first.
_BATCH: Final = 500
_WAIT_SECONDS: Final = 1.0
_API_SECONDS: Final = 10.0
# The server removes the consumer of a reader that is gone.
_GONE_SECONDS: Final = 120.0
# How far back the last records of a node are searched, and how many ids are remembered: a shipper that was killed and came
# back after the stream's duplicate window has repeated up to 2,000 records.
_LOOK_BACK: Final = 250_000
_IDS: Final = 100_000
# Of a shipper: a node, the path of a segment, and a line. A node can publish any other.
_ID_LIMIT: Final = 1024
_VERSION: Final = re.compile(r"[0-9]{1,9}")
_LINE: Final = re.compile(r"[0-9]{1,18}")


class StreamSource:
    """The stream of a fleet, or what one node has published there. Use it as a context manager.

    `path` is as on the command line. All methods raise FleetError.
    """

    def __init__(self, path: Path, fleet: FleetSettings | None) -> None:
        if fleet is None:
            raise FleetError(f"{path} is a stream, and the settings have no [fleet] with its servers")
        self._fleet = fleet
        self._stream = stream_of(fleet)
        node = str(path).removeprefix(STREAM).strip("/")
        if any(character in node for character in "/.*> :"):
            raise FleetError(
                f"{shown(str(path))} is no source: write nats:// for all nodes, or nats://NODE; servers are in [fleet]"
            )
        self._subject = subject_of(fleet, "*", node or "*")
        self._next: int | None = None
        self._ids: dict[str, None] = {}

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._runner.__enter__()
        self._connection = FleetConnection(self._fleet, role="reader")
        try:
            self._run(self._connection.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        self._context: JetStreamContext = self._connection.client.jetstream(timeout=_API_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._connection.__aexit__())
        self._runner.close()

    def lines(self, *, since: float | None = None, follow: bool = False) -> Iterator[Line | Skipped]:
        """Yield the records: all, those of after `newest`, or those that were stored `since` then (seconds since 1970).

        With `follow` it waits for new ones, and never ends.
        """
        for message in self._messages(_start(self._next, since), follow=follow):
            if (line := self._line(message)) is not None:
                yield line

    def newest(self, number: int, wanted: Callable[[Line], bool] = lambda _: True) -> list[Line | Skipped]:
        """Return the last records that are wanted, `number` at most, of the last 250,000. `lines` continues after them."""
        state = self._run(self._context.stream_info(self._stream)).state
        back, found = max(number, 1), deque[Line | Skipped](maxlen=number)
        while number:
            first = max(state.first_seq, state.last_seq - back + 1)
            self._ids.clear()
            lines = map(self._line, self._messages(_start(first, None), until=state.last_seq))
            found = deque((one for one in lines if isinstance(one, Line) and wanted(one)), maxlen=number)
            if len(found) == number or first <= state.first_seq or back >= _LOOK_BACK:
                break
            back = min(8 * back, _LOOK_BACK)
        self._next = state.last_seq + 1
        return list(found)

    def _messages(self, start: dict[str, Any], *, until: int | None = None, follow: bool = False) -> Iterator[Msg]:
        subscription = self._run(self._subscribe(start))
        last = 0
        pending = self._run(subscription.consumer_info()).num_pending or 0
        while pending or follow:
            for message in self._run(self._fetch(subscription)):
                last, pending = message.metadata.sequence.stream, message.metadata.num_pending
                if until is not None and last > until:
                    return
                yield message
            if follow and not pending and not self._run(self._exists(subscription)):
                # The server with the consumer is gone.
                subscription = self._run(self._subscribe(_start(last + 1, None) if last else start))

    async def _subscribe(self, start: dict[str, Any]) -> JetStreamContext.PullSubscription:
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=_GONE_SECONDS, mem_storage=True, **start)
        return await self._context.pull_subscribe(self._subject, stream=self._stream, config=config)

    async def _fetch(self, subscription: JetStreamContext.PullSubscription) -> Sequence[Msg]:
        try:
            return await subscription.fetch(_BATCH, timeout=_WAIT_SECONDS)
        except (NatsTimeoutError, TimeoutError):
            return ()

    async def _exists(self, subscription: JetStreamContext.PullSubscription) -> bool:
        try:
            await subscription.consumer_info()
        except (NatsError, TimeoutError):
            return False
        return True

    def _line(self, message: Msg) -> Line | Skipped | None:
        """Return a record with its place, None if it was there before."""
        headers = message.headers or {}
        name = headers.get(MESSAGE_ID, "")
        if not 0 < len(name) <= _ID_LIMIT:
            name = f"{message.subject}/{message.metadata.sequence.stream}"
        if name in self._ids:
            return None
        self._ids[name] = None
        if len(self._ids) > _IDS:
            del self._ids[next(iter(self._ids))]
        file, _, number = name.rpartition("/")
        line = int(number) if _LINE.fullmatch(number) else 0
        version = headers.get(VERSION, str(RECORD_VERSION))
        if not _VERSION.fullmatch(version) or int(version) > RECORD_VERSION:
            why = f"its record version is {shown(version)}, and this program reads {RECORD_VERSION}: update the program"
            return Skipped(file=Path(file), number=line, why=why)
        return Line(file=Path(file), number=line, text=message.data)

    def _run(self, work: Any) -> Any:  # noqa: ANN401 - of any coroutine
        try:
            return self._runner.run(work)
        except (NatsError, TimeoutError) as error:
            why = in_words(error)
            if isinstance(error, NatsTimeoutError | TimeoutError):
                why = self._connection.fault or "no answer in time: the stream may be missing, or this user may not read it"
            raise FleetError(f"the stream {self._stream} cannot be read: {why}") from error


def _start(sequence: int | None, since: float | None) -> dict[str, Any]:
    """Return the settings of a consumer that begins at a position, or else at a time, or else at the first record."""
    if sequence is not None:
        return {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": max(1, sequence)}
    if since is not None:
        return {"deliver_policy": DeliverPolicy.BY_START_TIME, "opt_start_time": datetime.fromtimestamp(since, UTC)}
    return {"deliver_policy": DeliverPolicy.ALL}
