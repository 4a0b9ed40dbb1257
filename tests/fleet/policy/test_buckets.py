"""Buckets of a server that lies: each call ends, with a sentence."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError

from sidecar.core.settings.fleet import FleetSettings
from sidecar.fleet import FleetError
from sidecar.fleet.connection import FleetConnection, in_words
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.manifest import IncompleteError, ManifestFile, digest_of
from tests.fleet.servers import needs_nats, server

FILE = ManifestFile(name="a", size=1, sha256="0" * 64)


class _Lying:
    """A connection that answers each question for a message with the same one, or raises."""

    def __init__(self, answer: Callable[[], RawStreamMsg]) -> None:
        self._answer = answer

    def jetstream(self) -> "_Lying":
        return self

    async def publish(self, *_: object) -> None:
        self._answer()

    async def get_msg(self, *_: object, **__: object) -> RawStreamMsg:
        return self._answer()


def ask(answer: Callable[[], RawStreamMsg], work: Callable[[Buckets], Awaitable[Any]]) -> None:
    buckets = Buckets(cast("Any", _Lying(answer)), FleetSettings(servers=("nats://x",), node="mx1"))

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work(buckets)

    asyncio.run(bounded())


async def all_manifests(buckets: Buckets) -> None:
    async for _ in buckets.manifests():
        await asyncio.sleep(0)


def test_a_message_that_is_repeated() -> None:
    with pytest.raises(FleetError, match="after message 7 the server sends message 7"):
        ask(lambda: RawStreamMsg(subject="$KV.x.revision.1", seq=7, data=b""), all_manifests)


def test_a_file_without_an_end() -> None:
    """Its pieces are empty."""
    answers = iter([b'{"nuid":"x","size":9,"chunks":1}'])
    with pytest.raises(FleetError, match="after message 1 the server sends message 1"):
        ask(lambda: RawStreamMsg(subject="", seq=1, data=next(answers, b"")), lambda buckets: buckets.file(FILE))


def test_metadata_that_cannot_be_read() -> None:
    with pytest.raises(IncompleteError):
        ask(lambda: RawStreamMsg(subject="", seq=1, data=b'{"x":' + b"[" * 100_000), lambda buckets: buckets.file(FILE))


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x"), AttributeError("x"), RecursionError("x")])
def test_an_answer_that_is_none(error: Exception) -> None:
    """These are the errors of nats-py for JSON of another form, and for missing headers."""

    def answer() -> RawStreamMsg:
        raise error

    with pytest.raises(FleetError, match="cannot be read: the server's answer is not valid"):
        ask(answer, all_manifests)
    with pytest.raises(FleetError, match="cannot be stored: the server's answer is not valid"):
        ask(answer, lambda buckets: buckets.put_report(b""))


def test_the_words_of_a_server_are_bounded() -> None:
    found = in_words(APIError(code=503, description="\x1b[31m\u202e" + "x" * 100_000))
    assert found.isprintable()
    assert len(found) < 400


@needs_nats
def test_junk_in_the_place_of_a_file() -> None:
    """A server stores an acknowledgement for whatever user in any subject: the file can be published in spite of it."""

    async def publishing(fleet: FleetSettings) -> None:
        async with FleetConnection(fleet, role="operator") as connection:
            buckets = Buckets(connection.client, fleet)
            await buckets.create()
            file = ManifestFile(name="a", size=7, sha256=digest_of(b"content"))
            entry = urlsafe_b64encode(file.sha256.encode()).decode()
            for junk in (b'{"stream":"sidecar_records","seq":1}', b"x", b""):
                await connection.client.publish(f"$O.{buckets.policy}.M.{entry}", junk)
                await connection.client.flush()
                await buckets.put_file(b"content")
                assert await buckets.file(file) == b"content"

    with server() as one:
        asyncio.run(publishing(FleetSettings(servers=(one.url,), node="operator")))
