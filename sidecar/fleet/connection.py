"""The connection to the fleet's NATS servers: TLS, credentials, and the time that each step can take.

Owns the log in and the reconnects. Never publishes, and never subscribes.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Self

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import UnexpectedEOF
from nats.js.api import Header
from nats.js.errors import APIError

from sidecar import log
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.text import printable
from sidecar.fleet import FleetError

# For one server: TCP, TLS and the log in.
_CONNECT_SECONDS: Final = 5
# A cut that closes no TCP connection is noticed after two pings without an answer.
_PING_SECONDS: Final = 5
_PINGS: Final = 2
_RECONNECT_SECONDS: Final = 1
_CLOSE_SECONDS: Final = 2.0
# How soon a coroutine ends when its process has to.
_LOOK_SECONDS: Final = 0.1
_WORDS_LIMIT: Final = 300
_STATUS_LINE: Final = b"NATS/1.0 "
# Longer than a task needs to say goodbye.
_CANCEL_SECONDS: Final = 2.0
# How often a fault of a loop is logged: it can be one of each reconnect.
_LOG_SECONDS: Final = 60.0

_LOG = log.get("fleet")


class _LenientClient(Client):
    """nats-py's client, which stops at a header or subject that it cannot read, and takes a header for the server's status.

    This one reads on: others publish them, and a stream delivers them again after each reconnect.
    """

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            found = await super()._process_headers(headers)
        except (IndexError, ValueError):
            return None
        # The server's own status is in the first line.
        if found and not headers.startswith(_STATUS_LINE):
            found.pop(Header.STATUS.value, None)
        return found

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None) -> Any:  # noqa: ANN401 - as in nats-py
        return super()._build_message(sid, subject.decode("utf-8", "replace").encode(), reply, data, headers)


class _TlsClient(_LenientClient):
    """nats-py's client, which logs in without TLS even at a `tls://` URL if the server offers none. This one does not."""

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise NatsError("the server offers no TLS")
        return super()._connect_command()


class _LoopFaults:
    """Logs exceptions that no code of a loop handles, in one line. nats-py's tasks have some when servers come back."""

    def __init__(self) -> None:
        self._log_at, self._unlogged = 0.0, 0

    def __call__(self, _: asyncio.AbstractEventLoop, fault: dict[str, Any]) -> None:
        self._unlogged += 1
        if (now := time.monotonic()) >= self._log_at:
            _LOG.error(fault["message"], exc_info=fault.get("exception"), faults=self._unlogged)
            self._log_at, self._unlogged = now + _LOG_SECONDS, 0


def _log_faults() -> None:
    """Log the faults of this loop, instead of tracebacks of many lines on standard error."""
    loop = asyncio.get_running_loop()
    if loop.get_exception_handler() is None:
        loop.set_exception_handler(_LoopFaults())


class FleetConnection:
    """A connection that is restored when it is lost. Use it as an async context manager. `role` is its name at the server.

    `client` is nats-py's own. `fault` is the last error in words, and empty while the connection works. `ended` is set when the
    server has closed it for good, for example after a change of its users: open another one then. `restored` is called after
    each reconnect. Without it nothing is logged: the caller reports errors.
    """

    def __init__(self, fleet: FleetSettings, *, role: str, restored: Callable[[], object] | None = None) -> None:
        self._fleet, self._role, self._restored = fleet, role, restored
        self.client = (_TlsClient if any(url.startswith("tls:") for url in fleet.servers) else _LenientClient)()
        self.fault = ""
        self.ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Raise FleetError if no server can be reached within some seconds."""
        _log_faults()
        servers, options = list(self._fleet.servers), self._options()
        connecting = asyncio.ensure_future(self.client.connect(servers, **options))
        try:
            await asyncio.wait((connecting,), timeout=(_CONNECT_SECONDS + _RECONNECT_SECONDS) * len(servers))
        finally:
            await cancel(connecting)
            if connecting.cancelled() or connecting.exception() is not None:
                await self.__aexit__()
        # nats-py tries again until the time is up; `fault` has the reason.
        error = TimeoutError() if connecting.cancelled() else connecting.exception()
        if error is not None:
            raise FleetError(f"no connection to {' or '.join(servers)}: {self.fault or in_words(error)}") from error
        self.fault = ""
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(TimeoutError, OSError, NatsError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.client.close()

    @property
    def is_up(self) -> bool:
        """Whether it is connected now."""
        return self.client.is_connected

    def _options(self) -> dict[str, Any]:
        fleet = self._fleet
        options: dict[str, Any] = {
            "name": f"sidecar {self._role} {fleet.node}",
            "tls": _tls(fleet),
            "connect_timeout": _CONNECT_SECONDS,
            "ping_interval": _PING_SECONDS,
            "max_outstanding_pings": _PINGS,
            "reconnect_time_wait": _RECONNECT_SECONDS,
            "max_reconnect_attempts": -1,
            "inbox_prefix": inbox(fleet),
            "error_cb": self._on_error,
            "disconnected_cb": self._on_lost,
            "reconnected_cb": self._on_restored,
            "closed_cb": self._on_closed,
        }
        if fleet.credentials is not None:
            try:
                is_seed = b"BEGIN" not in fleet.credentials.read_bytes()
            except OSError as error:
                raise FleetError(f"{fleet.credentials} cannot be read: {error.strerror}") from error
            # Read again at each reconnect.
            options["nkeys_seed" if is_seed else "user_credentials"] = str(fleet.credentials)
        return options

    async def _on_error(self, error: Exception) -> None:
        # The server closes a connection after it has said why: the reason is worth more, and is logged once.
        if self.fault and isinstance(error, ConnectionResetError | UnexpectedEOF):
            return
        if (why := in_words(error)) != self.fault:
            self.fault = why
            self._log(_LOG.warning, "an error of the connection to the fleet", error=why)

    async def _on_lost(self) -> None:
        # Also at the end of a connection that is closed.
        if not self.client.is_closed:
            self._log(_LOG.warning, "the connection to the fleet is lost", error=self.fault)

    async def _on_restored(self) -> None:
        url = self.client.connected_url
        self._log(_LOG.info, "the connection to the fleet is restored", server="" if url is None else url.netloc)
        self.fault = ""
        if self._restored is not None:
            self._restored()

    def _log(self, write: Callable[..., object], text: str, **facts: object) -> None:
        if self._restored is not None:
            write(text, role=self._role, **facts)

    async def _on_closed(self) -> None:
        self.ended.set()


def inbox(fleet: FleetSettings) -> str:
    """Return the prefix of the subjects on which this node gets answers: no other node may subscribe to it."""
    return f"_INBOX.{fleet.name}.{fleet.node}"


def in_words(error: BaseException) -> str:
    """Return an error of a connection as a short phrase. A server writes what it wants into its errors."""
    return printable(_words(error)[:_WORDS_LIMIT])


def _words(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid: {error.verify_message}"
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return error.strerror or str(error)
        case APIError():
            return str(error.description or error)
        case _:
            return str(error).strip().removeprefix("nats: ").strip("'") or type(error).__name__


def _tls(fleet: FleetSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=fleet.tls_ca)
    except OSError as error:  # ssl.SSLError too
        raise FleetError(f"{fleet.tls_ca} has no valid certificates: {error.strerror or error}") from error


async def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task until it ends: before Python 3.12 `asyncio.wait_for` can lose a cancellation, and nats-py uses it."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_CANCEL_SECONDS)


async def persist(
    open_one: Callable[[], FleetConnection],
    work: Callable[[FleetConnection], Awaitable[None]],
    *,
    pause: Callable[[float, str], Awaitable[None]],
) -> None:
    """Work with a connection until the work is done. Open another one when the servers cannot be reached or closed it for good.

    `pause` waits so many seconds before the next attempt, and gets the error of the last one.
    """
    failed = False
    seconds, why = 1.0, ""
    while True:
        try:
            async with open_one() as connection:
                if failed:
                    _LOG.info("the fleet can be reached again")
                failed, seconds, why = False, 1.0, "the server has closed the connection"
                done = asyncio.ensure_future(work(connection))
                ended = asyncio.ensure_future(connection.ended.wait())
                try:
                    await asyncio.wait((done, ended), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    ended.cancel()
                    await cancel(done)
                if not done.cancelled():
                    return done.result()
        except FleetError as error:
            why = str(error)
            if not failed:
                _LOG.error(why)
            failed = True
        await pause(seconds, why)
        seconds = min(2 * seconds, 30.0)


def run(work: Coroutine[Any, Any, None], wait: Callable[[float], bool]) -> None:
    """Run a coroutine to its end; cancel it as soon as `wait(0)` returns True."""

    async def until_the_end() -> None:
        _log_faults()
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.wait((task,), timeout=_LOOK_SECONDS)
            if wait(0.0):
                await cancel(task)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(until_the_end())
