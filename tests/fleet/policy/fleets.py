"""A fleet for tests: nodes with settings of their own, agents in this process, and a publisher with a key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidecar.config import Reading
from sidecar.config.policy import policy_in
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.fleet.connection import FleetConnection, cancel
from sidecar.fleet.policy.agent import Agent, Check
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.manifest import Canary, Manifest, PolicyError, signed
from sidecar.fleet.policy.publishing import History, manifest_files, new_revision, publish, read_history
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


async def check_here(config: Path, folder: Path, revision: int) -> None:
    """As the process that checks, without starting Python: a tenth of the CPU time."""
    loaded = Reading(config, policy=policy_in(folder, revision)).loaded
    errors = [one for one in loaded.problems if one.level == "error"]
    if errors:
        raise PolicyError(f"its settings are not valid on this node: {errors[0].place}: {errors[0].text}")


class Node:
    """A node: its settings file, and an agent that is replaced at each reload, as the supervisor does."""

    def __init__(self, folder: Path, name: str, url: str, *, more: str = "") -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir()
        self.config = self.folder / "sidecar.toml"
        fleet = f'[fleet]\nservers = "{url}"\nnode = "{name}"\npolicy_keys = ["{folder / "policy.key.pub"}"]\n'
        self.config.write_text(f'state_directory = "state"\n{more}\n{fleet}')
        self.check: Check = check_here
        self.reloads = 0
        self.agent: Agent | None = None

    def settings(self) -> Settings:
        """Return what the node loads now."""
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
        while not end.is_set():
            again = asyncio.Event()

            def reload(event: asyncio.Event = again) -> None:
                self.reloads += 1
                event.set()

            self.agent = Agent(self.settings(), self.config, reload, check=self.check)
            async with FleetConnection(self.fleet, role="policy", restored=self.agent.wake) as connection:
                working = asyncio.ensure_future(self.agent.work(connection))
                waiting = [asyncio.ensure_future(event.wait()) for event in (again, end)]
                await asyncio.wait((working, *waiting), return_when=asyncio.FIRST_COMPLETED)
                for one in waiting:
                    one.cancel()
                await cancel(working)
                if not working.cancelled():
                    working.result()

    @property
    def revision(self) -> int:
        """The revision that serves."""
        return 0 if self.agent is None else self.agent.serving

    @property
    def refusal(self) -> str:
        """Why a revision does not serve."""
        return "" if self.agent is None else self.agent.refusal


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
        await publish(self.buckets, manifest, content, self.key)
        return manifest

    async def put(self, manifest: Manifest, *, key: SigningKey | None = None) -> None:
        """Store only a manifest."""
        await self.buckets.put_manifest(manifest.revision, signed(manifest, key or self.key))


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
