"""Webhooks: batches of records to HTTP endpoints, each at least once and in the order of its segment.

Owns the form of a request, its signature and its retries. Each endpoint has a checkpoint of its own: none waits for another.
"""

import asyncio
import hmac
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import httpx

from sidecar import log
from sidecar.config.fleet import default_node
from sidecar.core.proof.secret import read_secret
from sidecar.core.settings.fleet import WebhookSettings
from sidecar.core.settings.keys import Secret
from sidecar.core.settings.settings import Settings
from sidecar.core.text import counted, shown
from sidecar.fleet import WEBHOOK, FleetError
from sidecar.fleet.connection import in_words, run
from sidecar.fleet.feed import Feed, FeedBusyError, Item
from sidecar.fleet.kept import Kept
from sidecar.fleet.stream import RECORD_VERSION, VERSION
from sidecar.journal.read import Checkpoints

SIGNATURE: Final = "Sidecar-Signature"

# Many endpoints accept 1 MiB. A larger record is sent alone.
_BATCH: Final = 500
_BATCH_BYTES: Final = 512 * 1024
# The whole request, with its answer. An endpoint that needs longer should store the body and answer.
_REQUEST_SECONDS: Final = 30.0
_ANSWER_BYTES: Final = 64 * 1024
_LOOK_SECONDS: Final = 0.25
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 300.0
_KEPT_SECONDS: Final = 3600.0
_SHOWN: Final = 200
_AGENT: Final = {"User-Agent": "sidecar"}

_LOG = log.get("webhook")


class RejectedError(Exception):
    """The endpoint did not accept a batch; the text says why. With `too_large` a smaller one may be accepted."""

    def __init__(self, why: str, *, too_large: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.too_large, self.retry_after = too_large, retry_after


def signature(secret: Secret, body: bytes, now: int) -> str:
    """Return the value of the header Sidecar-Signature for a body that is sent at a time, in seconds since 1970."""
    mac = hmac.digest(secret.key, f"{now}.".encode() + body, "sha256").hex()
    return f"t={now},v1={mac}"


def ranges(lines: Sequence[int]) -> str:
    """Return increasing numbers as text: `3-7,9`."""
    parts: list[list[int]] = []
    for line in lines:
        if parts and parts[-1][1] == line - 1:
            parts[-1][1] = line
        else:
            parts.append([line, line])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


class Webhook:
    """Delivers what `feed` has to an endpoint. `client` has its TLS settings."""

    def __init__(self, webhook: WebhookSettings, node: str, feed: Feed, kept: Kept, client: httpx.AsyncClient) -> None:
        self._webhook, self._node, self._feed, self._kept, self._client = webhook, node, feed, kept, client
        found = read_secret(webhook.secret_file.read_bytes())
        if isinstance(found, str):
            raise FleetError(f"{webhook.secret_file} has no secret: {found}")
        self._secret = found
        self._kept_at = 0.0
        feed.kept = len(kept)

    async def work(self) -> None:
        """Deliver without end."""
        while True:
            for batch in self._batches(self._feed.records()):
                await self._deliver(batch)
                for item in batch:
                    self._feed.acknowledge(item)
                self._feed.save()
                await asyncio.sleep(0)  # an endpoint with a backlog lets the others run
            await self._deliver_kept()
            self._feed.save()
            await asyncio.sleep(_LOOK_SECONDS)

    def _batches(self, items: Iterator[Item]) -> Iterator[list[Item]]:
        """Yield the wanted records in batches of one segment. The others are acknowledged at once."""
        batch, size = list[Item](), 0
        for item in items:
            if self._webhook.types and item.type not in self._webhook.types:
                self._feed.acknowledge(item)
                continue
            if batch and (item.path != batch[0].path or len(batch) == _BATCH or size + len(item.text) > _BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(item)
            size += len(item.text)
        if batch:
            yield batch

    async def _deliver(self, batch: Sequence[Item]) -> None:
        """Send a batch until it is accepted. One that is too large is halved, and a single record that is, is kept."""
        pause = _FIRST_RETRY
        while True:
            try:
                await self._send(batch)
            except RejectedError as error:
                if error.too_large:
                    break
                self._fail(str(error))
                self._feed.save()
                await asyncio.sleep(min(max(pause, error.retry_after), _LAST_RETRY))
                pause = min(2 * pause, _LAST_RETRY)
            else:
                self._recover()
                return
        if len(batch) > 1:
            await self._deliver(batch[: len(batch) // 2])
            await self._deliver(batch[len(batch) // 2 :])
        else:
            self._keep(batch[0])

    async def _deliver_kept(self) -> None:
        """Try again what was too large: the endpoint may accept more now."""
        if time.monotonic() < self._kept_at:
            return
        self._kept_at = time.monotonic() + _KEPT_SECONDS
        for item in self._kept.items():
            with suppress(RejectedError):
                await self._send([item])
                self._kept.remove(item)
        self._feed.kept = len(self._kept)

    async def _send(self, batch: Sequence[Item]) -> None:
        """Send a batch once. Raise RejectedError."""
        body = b"".join(item.text + b"\n" for item in batch)
        headers = {
            "Content-Type": "application/x-ndjson",
            SIGNATURE: signature(self._secret, body, int(time.time())),
            VERSION: str(RECORD_VERSION),
            "Sidecar-Node": self._node,
            "Sidecar-Segment": batch[0].segment,
            "Sidecar-Lines": ranges([item.line for item in batch]),
        }
        try:
            async with (
                asyncio.timeout(_REQUEST_SECONDS),
                self._client.stream("POST", self._webhook.url, content=body, headers=headers) as answer,
            ):
                text = await _beginning(answer)
        except TimeoutError:
            raise RejectedError(f"no answer within {_REQUEST_SECONDS:.0f} seconds") from None
        except (httpx.HTTPError, OSError) as error:
            raise RejectedError(_in_words(error)) from error
        if not answer.is_success:
            after = answer.headers.get("Retry-After", "")
            redirects = ", and redirects are not followed" if answer.is_redirect else ""
            raise RejectedError(
                f"it answers {answer.status_code}{redirects}: {shown(text)}",
                too_large=answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE,
                retry_after=float(after) if after.isascii() and after.isdecimal() else 0.0,
            )

    def _fail(self, why: str) -> None:
        if self._feed.fault != why:
            self._feed.fault = why
            _LOG.error(f"records are not delivered: {why}; they wait in the journal", webhook=self._webhook.name)

    def _recover(self) -> None:
        if self._feed.fault:
            self._feed.fault = ""
            _LOG.info("records are delivered again", webhook=self._webhook.name)

    def _keep(self, item: Item) -> None:
        path = self._kept.add(item)
        self._feed.kept = len(self._kept)
        text = "the endpoint rejects a record as too large: it is kept, and sent again each hour"
        _LOG.error(text, webhook=self._webhook.name, type=item.type, file=item.path, line=item.line, kept=path)


async def _beginning(answer: httpx.Response) -> str:
    """Read an answer to its end. Return its beginning. Raise RejectedError for a long one."""
    content = b""
    async for chunk in answer.aiter_raw():
        content += chunk
        if len(content) > _ANSWER_BYTES:
            raise RejectedError(f"its answer has more than {_ANSWER_BYTES} bytes")
    return content[:_SHOWN].decode("utf-8", "replace")


def _in_words(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return in_words(error if cause is None else cause)


async def _always(webhook: WebhookSettings, node: str, settings: Settings) -> None:
    """Deliver to one endpoint. A fault of the program ends none of the others."""
    name = f"{WEBHOOK}-{webhook.name}"
    while True:
        try:
            kept = Kept(settings.state_directory / "unshipped" / name)
            context = ssl.create_default_context(cafile=webhook.tls_ca)
            with Feed(settings, name) as feed:
                # No proxy, and no credentials of a .netrc: the settings have all.
                async with httpx.AsyncClient(
                    verify=context, trust_env=False, timeout=_REQUEST_SECONDS, headers=_AGENT
                ) as client:
                    await Webhook(webhook, node, feed, kept, client).work()
        except FeedBusyError:
            await asyncio.sleep(_LOOK_SECONDS)
            continue
        except Exception as error:  # noqa: BLE001 - see the docstring
            _LOG.error("the webhook failed, and is started again", webhook=webhook.name, exc_info=error)
        await asyncio.sleep(_LAST_RETRY / 10)


def deliver(settings: Settings, wait: Callable[[float], bool]) -> None:
    """Deliver the records of the journal to all endpoints until `wait` returns True."""
    names = [f"{WEBHOOK}-{one.name}" for one in settings.webhook]
    Checkpoints(settings.checkpoints_directory).remove_all(WEBHOOK, but=names)
    node = default_node() if settings.fleet is None else settings.fleet.node

    async def all_of_them() -> None:
        _LOG.info("records are delivered", to=counted(len(names), "webhook"))
        await asyncio.gather(*(_always(one, node, settings) for one in settings.webhook))

    run(all_of_them(), wait)
