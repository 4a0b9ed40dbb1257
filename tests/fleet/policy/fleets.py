"""A fleet for tests: nodes with settings of their own, agents in this process, and a publisher with a key."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidecar.config import Reading
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.core.text import rfc3339
from sidecar.fleet.connection import FleetConnection, cancel
from sidecar.fleet.policy.agent import Agent
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.manifest import Canary, Manifest, signed
from sidecar.fleet.policy.publishing import History, manifest_files, new_revision, read_history, store_revision
from sidecar.fleet.policy.signature import SigningKey, make_pair, public_of, read_private

DOMAINS = '["b.example"]\nlog_oob = true\n'
POLICY = 'listener_domains = ["domains.toml"]\n'


def files(policy: str = POLICY, domains: str = DOMAINS) -> dict[str, bytes]:
    return {"policy.toml": policy.encode(), "domains.toml": domains.encode()}


def key_pair(folder: Path) -> SigningKey:
    """Make a pair of keys, whose public key nodes find. Return the private one."""
    private, public = make_pair()
    (folder / "policy.key").write_bytes(private)
    (folder / "policy.key.pub").write_bytes(public)
    key = read_private(folder / "policy.key")
    assert isinstance(key, SigningKey)
    return key


def new_key() -> SigningKey:
    """Return a key that no node knows."""
    private = Ed25519PrivateKey.generate()
    return SigningKey(id=public_of(private).id, private=private)


class Node:
    """A node: its settings file, and an agent that is replaced at each reload, as the supervisor does.

    `can_reload` is cleared for a reload that takes long.
    """

    def __init__(self, folder: Path, name: str, url: str, *, more: str = "") -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        self.config = self.folder / "sidecar.toml"
        self.status = self.folder / "state" / "status.json"
        fleet = f'[fleet]\nservers = "{url}"\nnode = "{name}"\npolicy_keys = ["{folder / "policy.key.pub"}"]\n'
        self.config.write_text(f'state_directory = "state"\n{more}\n{fleet}')
        self.reloads = 0
        self.can_reload = asyncio.Event()
        self.can_reload.set()
        self.agent: Agent | None = None

    def settings(self) -> Settings:
        """Return what the node loads at a start."""
        loaded = Reading(self.config).loaded
        assert loaded.settings is not None, loaded.problems
        return loaded.settings

    @property
    def fleet(self) -> FleetSettings:
        """The section of the fleet."""
        fleet = self.settings().fleet
        assert fleet is not None
        return fleet

    async def run(self, end: asyncio.Event) -> None:
        """Run agents until the end; a reload replaces the agent by one of the new settings."""
        settings = self.settings()
        while not end.is_set():
            again = asyncio.Event()
            self.agent = Agent(settings, again.set)
            self.agent.begin()
            async with FleetConnection(self.fleet, role="policy", restored=self.agent.wake) as connection:
                working = asyncio.ensure_future(self.agent.work(connection))
                loading = asyncio.ensure_future(self._loaded(again))
                ending = asyncio.ensure_future(end.wait())
                await asyncio.wait((working, loading, ending), return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
                await cancel(working)
                if not working.cancelled():
                    working.result()
                await cancel(loading)
                settings = settings if loading.cancelled() else loading.result()

    async def _loaded(self, again: asyncio.Event) -> Settings:
        """Return the settings of the next reload that succeeds. What fails is in the status."""
        while True:
            await again.wait()
            again.clear()
            await self.can_reload.wait()
            self.reloads += 1
            loaded = Reading(self.config, candidate=True).loaded
            if loaded.settings is not None:
                return loaded.settings
            self.fail_reload(*(f"{one.place}: {one.key}: {one.text}" for one in loaded.problems if one.level == "error"))

    def fail_reload(self, *problems: str) -> None:
        """Write what the supervisor writes after a reload that failed."""
        failed = {"last_reload": {"time": rfc3339(int(time.time())), "problems": problems}}
        self.status.parent.mkdir(exist_ok=True)
        self.status.write_bytes(msgspec.json.encode(failed))

    @property
    def revision(self) -> int:
        """The revision that serves."""
        return 0 if self.agent is None else self.agent.serving

    @property
    def rejection(self) -> str:
        """Why a revision does not serve."""
        return "" if self.agent is None else self.agent.rejection


class Publisher:
    """An operator with a key and a connection."""

    def __init__(self, connection: FleetConnection, fleet: FleetSettings, key: SigningKey) -> None:
        self.fleet, self.key = fleet, key
        self.buckets = Buckets(connection.client, fleet)

    async def history(self) -> History:
        """Return all revisions."""
        return await read_history(self.buckets, self.fleet, [public_of(self.key.private)])

    async def publish(self, content: Mapping[str, bytes] | None = None, *, canary: Canary | None = None) -> Manifest:
        """Publish these files."""
        content = files() if content is None else content
        manifest = new_revision(self.fleet, await self.history(), manifest_files(content), action="publish", canary=canary)
        await store_revision(self.buckets, manifest, content, self.key)
        return manifest

    async def put(self, manifest: Manifest, *, key: SigningKey | None = None) -> None:
        """Store only a manifest."""
        await self.buckets.put_manifest(manifest.revision, signed(manifest, key or self.key))


class Operator:
    """A machine from which whole programs get their policy, without waiting."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._key = folder, key_pair(folder)
        self._fleet = FleetSettings(servers=(url,), node="operator")

    def section(self, node: str) -> str:
        """Return the settings of a node that takes this policy."""
        public = self._folder / "policy.key.pub"
        return f'[fleet]\nservers = "{self._fleet.servers[0]}"\nnode = "{node}"\npolicy_keys = ["{public}"]\n'

    def publish(self, domains: str, *, policy: str = POLICY) -> None:
        """Publish these listener domains for all nodes."""

        async def publishing() -> None:
            async with FleetConnection(self._fleet, role="operator") as connection:
                publisher = Publisher(connection, self._fleet, self._key)
                await publisher.buckets.create()
                await publisher.publish(files(policy, domains))

        asyncio.run(publishing())


@asynccontextmanager
async def fleet(nodes: Sequence[Node], key: SigningKey) -> AsyncIterator[Publisher]:
    """Run the agents of these nodes, beside a publisher."""
    async with FleetConnection(nodes[0].fleet, role="publisher") as connection:
        publisher = Publisher(connection, nodes[0].fleet, key)
        await publisher.buckets.create()
        end = asyncio.Event()
        running = [asyncio.ensure_future(node.run(end)) for node in nodes]
        try:
            yield publisher
            for one in running:
                assert not one.done(), one.result()
        finally:
            # Not cancelled: that could interrupt the end of a connection.
            end.set()
            await asyncio.wait(running)


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - agents have no event for each step
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None
