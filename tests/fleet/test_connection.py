"""The connection to the fleet's servers: who can log in, what TLS must hold, and what happens when it is lost."""

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from nats.errors import Error, UnexpectedEOF

from sidecar.core.settings.fleet import FleetSettings
from sidecar.fleet import FleetError
from sidecar.fleet.connection import FleetConnection, _LoopFaults, persist, run
from tests.fleet.certificates import make
from tests.fleet.servers import Server, needs_nats, nkey, server, users

# nats-py leaves the sockets of failed reconnects to the garbage collector.
pytestmark = [needs_nats, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def fleet(*urls: str, **more: Any) -> FleetSettings:
    return FleetSettings(servers=urls, node="mx1", **more)


def connect(settings: FleetSettings) -> str:
    """Connect, and return the name of the server, or the error."""

    async def name() -> str:
        async with FleetConnection(settings, role="test") as connection:
            await connection.client.flush()
            return str(connection.client._server_info["server_name"])

    try:
        return asyncio.run(name())
    except FleetError as error:
        return str(error)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.fleet.connection._RECONNECT_SECONDS", 0.05)
    monkeypatch.setattr("sidecar.fleet.connection._CONNECT_SECONDS", 1)


def test_who_can_log_in(tmp_path: Path) -> None:
    """The owner of the key, and no one else."""
    (seed, public), (foreign, _) = nkey(), nkey()
    with server(users((public, {}))) as one:
        for name, text, expected in (("own", seed, "n1"), ("other", foreign, "Authorization Violation")):
            (tmp_path / name).write_text(f"{text}\n")
            assert connect(fleet(one.url, credentials=tmp_path / name)).endswith(expected)
        assert "Authorization Violation" in connect(fleet(one.url))
        assert connect(fleet(one.url, credentials=tmp_path / "no")).endswith("no cannot be read: No such file or directory")


def test_the_reason_stays() -> None:
    """What a server said before it closed the connection is not replaced by the close itself."""

    async def fault() -> str:
        connection = FleetConnection(fleet("nats://127.0.0.1:1"), role="test")
        for error in (Error("nats: 'Authorization Violation'"), ConnectionResetError(104, "Connection reset"), UnexpectedEOF()):
            await connection._on_error(error)
        return connection.fault

    assert asyncio.run(fault()) == "Authorization Violation"


def test_tls(tmp_path: Path) -> None:
    """The certificate must be of a known authority; a server without TLS never gets a log in."""
    ca, certificate, key = make(tmp_path)
    with server(f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\n') as one:
        secure = f"tls://127.0.0.1:{one.port}"
        assert connect(fleet(secure, tls_ca=ca)) == "n1"
        # The system's authorities do not know this one.
        assert "its certificate is not valid" in connect(fleet(secure))
        # The server requires it, whatever the URL says.
        assert connect(fleet(one.url, tls_ca=ca)) == "n1"
        assert "its certificate is not valid" in connect(fleet(f"tls://localhost:{one.port}", tls_ca=ca))
    with server() as one:
        assert "the server offers no TLS" in connect(fleet(f"tls://127.0.0.1:{one.port}"))
        assert "authentication timeout" not in one.log.read_text().lower()


def test_no_server() -> None:
    assert connect(fleet("nats://127.0.0.1:1")) == "no connection to nats://127.0.0.1:1: Connect call failed ('127.0.0.1', 1)"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what nats-py does has no event
            await asyncio.sleep(0.01)


def test_a_server_that_is_killed() -> None:
    """The connection is restored with the same client."""
    restored = list[bool]()

    async def work(settings: FleetSettings, kill: Callable[[], object], start: Callable[[], object]) -> None:
        async with FleetConnection(settings, role="test", restored=lambda: restored.append(True)) as connection:
            assert connection.is_up
            kill()
            await until(lambda: not connection.is_up)
            start()
            await until(lambda: restored)
            await connection.client.flush()
            assert (connection.is_up, connection.fault) == (True, "")

    with server() as one:
        asyncio.run(work(fleet(one.url), one.kill, one.start))


def test_a_user_that_is_rejected_for_a_while() -> None:
    """The connection is restored when the server accepts its user again."""
    (_, other), (seed, own) = nkey(), nkey()
    with server(users((own, {}))) as one:
        accepted = one.config.read_text()
        (path := one.config.parent / "seed").write_text(seed)

        async def work() -> None:
            async with FleetConnection(fleet(one.url, credentials=path), role="test") as connection:
                one.reload(accepted.replace(own, other))
                await until(lambda: connection.fault == "Authorization Violation")
                assert not connection.is_up
                one.reload(accepted)
                await until(lambda: connection.is_up)
                await connection.client.flush()

        asyncio.run(asyncio.wait_for(work(), 60))


def test_servers_that_start_later() -> None:
    """It is tried again with longer and longer pauses, also after a connection that the client has closed for good."""
    opened, pauses, reasons = list[FleetConnection](), list[float](), list[str]()

    async def work(connection: FleetConnection) -> None:
        opened.append(connection)
        if len(opened) == 1:
            await connection.client.close()
            await asyncio.Event().wait()

    with server() as one:
        one.kill()

        async def pause(seconds: float, why: str) -> None:
            pauses.append(seconds)
            reasons.append(why)
            if len(pauses) == 2:
                one.start()

        asyncio.run(asyncio.wait_for(persist(lambda: FleetConnection(fleet(one.url), role="test"), work, pause=pause), 60))
    assert (len(opened), pauses) == (2, [1.0, 2.0, 1.0])
    assert [reason.partition(" nats")[0] for reason in reasons] == ["no connection to"] * 2 + [
        "the server has closed the connection"
    ]


@pytest.mark.parametrize("stops", [True, False])
def test_a_process_that_has_to_end(stops: bool) -> None:
    """The work is cancelled, and can say goodbye. Without an order it ends by itself."""
    seen = list[str]()

    async def work() -> None:
        try:
            await asyncio.Event().wait() if stops else await asyncio.sleep(0)
        finally:
            seen.append("ended")

    run(work(), lambda _: stops)
    assert seen == ["ended"]


def test_each_node_has_answers_of_its_own(tmp_path: Path) -> None:
    """A node subscribes only below its own inbox, so that permissions can keep it from reading those of others."""
    seed, public = nkey()
    allowed = {"subscribe": ["_INBOX.sidecar.mx1.>"], "publish": ["a"]}
    (tmp_path / "seed").write_text(seed)

    async def answer(settings: FleetSettings) -> str:
        async with FleetConnection(settings, role="test") as connection:
            await connection.client.request("a", timeout=0.5)
            return ""

    with server(users((public, allowed))) as one:
        settings = fleet(one.url, credentials=tmp_path / "seed")
        with pytest.raises(Exception, match="no responders"):
            asyncio.run(answer(settings))
        with pytest.raises(TimeoutError):
            asyncio.run(answer(replace(settings, node="mx2")))


def test_a_reconnect_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """A task of nats-py ends with an exception that no one handles: one line, at most each minute; the work continues."""

    async def work(settings: FleetSettings, one: Server) -> None:
        async with FleetConnection(settings, role="test") as connection:
            client: Any = connection.client
            one.kill()
            await until(lambda: client._reconnection_task_future)
            # A server comes back, and another attempt replaces this one.
            client._reconnection_task_future.set_result(True)
            client._reconnection_task.cancel()
            await until(client._reconnection_task.done)
            client._reconnection_task = None
            gc.collect()
            loop = asyncio.get_running_loop()
            handler = loop.get_exception_handler()
            assert isinstance(handler, _LoopFaults)
            loop.call_exception_handler({"message": "another"})
            handler._log_at = 0.0
            loop.call_exception_handler({"message": "a minute later"})

    with server() as one:
        run(work(fleet(one.url), one), lambda _: False)
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert (first["event"], first["exception"][0]["type"]) == ("Task exception was never retrieved", "InvalidStateError")
    assert (second["event"], second["faults"]) == ("a minute later", 2)


@pytest.mark.parametrize("connects", [True, False])
def test_each_loop_logs_its_faults(connects: bool) -> None:
    """That of a process with `run`, and that of a command which connects."""

    async def has_one() -> None:
        if connects:
            with pytest.raises(FleetError):
                await FleetConnection(fleet("nats://127.0.0.1:1"), role="test").__aenter__()
        assert isinstance(asyncio.get_running_loop().get_exception_handler(), _LoopFaults)

    asyncio.run(has_one()) if connects else run(has_one(), lambda _: False)
