"""The NATS buckets of a fleet's policy: signed manifests, the files of revisions, and what the nodes report.

Owns their names and their settings, which are permanent. A node needs no consumer and no right to create one: it asks for
single messages (JetStream direct get).
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, BadObjectMetaError, NotFoundError

from sidecar.core.settings.fleet import FleetSettings
from sidecar.fleet import FleetError
from sidecar.fleet.connection import in_words
from sidecar.fleet.policy.manifest import FILE_LIMIT, MANIFEST_LIMIT, IncompleteError, ManifestFile, digest_of

# JetStream error codes: "maximum messages per subject exceeded", "stream name already in use" with other settings.
_EXISTS: Final = 10077
_IN_USE: Final = 10058
# What the sidecar's own status may have, with the reason of a reload that failed.
_REPORT_LIMIT: Final = 64 << 10
_THREE: Final = 3


class Report(Struct, frozen=True, kw_only=True):
    """What a node reported: the JSON, and when the server stored it, in seconds since 1970."""

    node: str
    stored: float
    value: bytes


class _ObjectInfo(Struct, frozen=True):
    """What a reader needs of the metadata of an object (NATS ADR-20)."""

    nuid: str
    size: int
    chunks: int
    deleted: bool = False


class NoBucketsError(FleetError):
    """No one has published a policy: the buckets do not exist."""


class Buckets:
    """The buckets, through a connected client. All methods raise FleetError."""

    def __init__(self, client: Client, fleet: FleetSettings) -> None:
        self._client, self._js, self._fleet = client, client.jetstream(), fleet
        self.policy, self.nodes = f"{fleet.name}_policy", f"{fleet.name}_nodes"

    @property
    def subject(self) -> str:
        """The subject of all manifests: a message there is a new revision."""
        return f"$KV.{self.policy}.revision.*"

    async def create(self) -> None:
        """Create the buckets that are missing. An operator's credential is needed."""
        for config in self.settings():
            async with _in_words(f"the stream {config['name']} cannot be created"):
                answer = await self._client.request(f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps(config).encode())
                error = json.loads(answer.data).get("error")
                # One that an operator made with other replicas or limits stays as it is.
                if error is not None and error.get("err_code") != _IN_USE:
                    raise FleetError(f"the stream {config['name']} cannot be created: {error.get('description')}")

    def settings(self) -> list[dict[str, Any]]:
        """Return the settings of their streams.

        A manifest is never replaced or deleted: the stream rejects a second message on its subject, whoever sends it.
        """
        replicas = _THREE if self._client._server_info.get("cluster") else 1  # noqa: SLF001 - nats-py shows it nowhere else
        common = {"storage": "file", "num_replicas": replicas, "allow_direct": True, "discard": "new", "max_consumers": -1}
        bucket = {"max_msgs_per_subject": 1, "deny_delete": True, "allow_rollup_hdrs": False}
        final = {"discard_new_per_subject": True, "deny_purge": True, "max_msg_size": MANIFEST_LIMIT}
        objects = [f"$O.{self.policy}.C.>", f"$O.{self.policy}.M.>"]
        return [
            {"name": f"KV_{self.policy}", "subjects": [f"$KV.{self.policy}.>"], **common, **bucket, **final},
            {"name": f"OBJ_{self.policy}", "subjects": objects, **common, "allow_rollup_hdrs": True},
            {
                "name": f"KV_{self.nodes}",
                "subjects": [f"$KV.{self.nodes}.>"],
                **common,
                **bucket,
                "discard": "old",
                "max_msg_size": _REPORT_LIMIT,
            },
        ]

    async def manifests(self, after: int = 0) -> AsyncIterator[tuple[int, str, bytes]]:
        """Yield sequence, key and value of each manifest that was stored after a sequence."""
        async for message in self._messages(f"KV_{self.policy}", self.subject, after):
            yield message.seq or 0, (message.subject or "").rpartition(".")[2], message.data or b""

    async def put_manifest(self, revision: int, value: bytes) -> None:
        """Store a manifest. Raise FleetError if the revision exists."""
        async with _in_words(f"revision {revision} cannot be stored"):
            try:
                await self._js.publish(f"$KV.{self.policy}.revision.{revision}", value)
            except APIError as error:
                if error.err_code != _EXISTS:
                    raise
                why = "another operator has published it meanwhile: look at `sidecar fleet history`"
                raise FleetError(f"revision {revision} exists: {why}") from error

    async def put_file(self, content: bytes) -> None:
        """Store a file of a revision under its digest, unless it is stored already."""
        name = digest_of(content)
        with_file = ManifestFile(name=name, size=len(content), sha256=name)
        async with _in_words("a file cannot be stored"):
            try:
                await self.file(with_file)
            except IncompleteError:
                store = await self._js.object_store(self.policy)
                try:
                    await store.put(name, content)
                except BadObjectMetaError:  # any user's acknowledgement can be stored in its place
                    await self._js.purge_stream(f"OBJ_{self.policy}", subject=self._entry_of(name))
                    await store.put(name, content)

    def _entry_of(self, digest: str) -> str:
        """Return the subject of what the store says of a file."""
        return f"$O.{self.policy}.M.{urlsafe_b64encode(digest.encode()).decode()}"

    async def file(self, file: ManifestFile) -> bytes:
        """Return a file of a revision. Raise IncompleteError if it is not as it was signed."""
        stream, chunks, size = f"OBJ_{self.policy}", list[bytes](), 0
        info = await self._last(stream, self._entry_of(file.sha256))
        try:
            known = None if info is None else msgspec.json.decode(info.data or b"", type=_ObjectInfo)
        except (ValueError, RecursionError):
            known = None
        if known is not None and not known.deleted:
            async for message in self._messages(stream, f"$O.{self.policy}.C.{known.nuid}", 0):
                chunks.append(message.data or b"")
                size += len(chunks[-1])
                if size >= min(known.size, FILE_LIMIT):
                    break
        content = b"".join(chunks)
        if len(content) != file.size:
            raise IncompleteError(f"{file.name} has {len(content):,} of {file.size:,} bytes in the object store")
        if digest_of(content) != file.sha256:
            raise IncompleteError(f"{file.name} in the object store is not the file that was signed")
        return content

    async def put_report(self, value: bytes) -> None:
        """Store what this node reports."""
        async with _in_words("the report of this node cannot be stored"):
            await self._js.publish(f"$KV.{self.nodes}.{self._fleet.node}", value)

    async def reports(self) -> list[Report]:
        """Return what all nodes reported last."""
        found = []
        async for message in self._messages(f"KV_{self.nodes}", f"$KV.{self.nodes}.*", 0):
            stamp = (message.headers or {}).get("Nats-Time-Stamp", "")
            node = (message.subject or "").rpartition(".")[2]
            found.append(Report(node=node, stored=_seconds(stamp), value=message.data or b""))
        return found

    async def _messages(self, stream: str, subject: str, after: int) -> AsyncIterator[RawStreamMsg]:
        while (message := await self._get(stream, seq=after + 1, subject=subject, next=True)) is not None:
            if (number := message.seq or 0) <= after:
                raise FleetError(f"the stream {stream} cannot be read: after message {after} the server sends message {number}")
            after = number
            yield message

    async def _last(self, stream: str, subject: str) -> RawStreamMsg | None:
        return await self._get(stream, subject=subject)

    async def _get(self, stream: str, **which: Any) -> RawStreamMsg | None:  # noqa: ANN401 - as in nats-py
        async with _in_words(f"the stream {stream} cannot be read"):
            try:
                return await self._js.get_msg(stream, direct=True, **which)
            except NotFoundError:
                return None


@asynccontextmanager
async def _in_words(what: str) -> AsyncIterator[None]:
    """Raise FleetError instead of the errors of nats-py."""
    try:
        yield
    except NoRespondersError as error:
        raise NoBucketsError(f"{what}: it does not exist; `sidecar fleet publish` makes it") from error
    except TimeoutError as error:
        raise FleetError(f"{what}: no answer in time, or no permission") from error
    except (NatsError, OSError) as error:
        raise FleetError(f"{what}: {in_words(error)}") from error
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        # Of nats-py, which takes each answer for one of JetStream.
        raise FleetError(f"{what}: the server's answer is not valid") from error


def _seconds(stamp: str) -> float:
    """Return a time of a NATS header, RFC 3339 with nanoseconds, in seconds since 1970; 0 if it is none."""
    try:
        return datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp()
    except ValueError:
        return 0.0
