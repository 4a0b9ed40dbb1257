"""The life of revisions on the nodes of a fleet, with a real NATS server; and what no node takes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.config import Reading
from sidecar.config.policy import candidate_of
from sidecar.fleet.policy import agent as module
from sidecar.fleet.policy.agent import Agent
from sidecar.fleet.policy.manifest import Canary, Manifest, signed
from sidecar.fleet.policy.publishing import manifest_files, new_revision
from sidecar.fleet.policy.signature import SigningKey
from tests.fleet.policy.fleets import DOMAINS, POLICY, Node, Publisher, files, fleet, key_pair, new_key, until
from tests.fleet.servers import Server, needs_nats, server

pytestmark = [needs_nats]

Story = Callable[[Publisher], Awaitable[object]]


@pytest.fixture(scope="module")
def nats() -> Iterator[Server]:
    with server() as one:
        yield one


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return key_pair(tmp_path)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.2)


def nodes(folder: Path, nats: Server, *names: str) -> list[Node]:
    """Return nodes of a fleet that no other test has."""
    made = [Node(folder, name, nats.url) for name in names]
    for node in made:
        text = node.config.read_text().replace("[fleet]\n", f'[fleet]\nname = "{folder.name}"\n')
        node.config.write_text(text)
    return made


def perform(each: list[Node], key: SigningKey, story: Story) -> None:
    async def performing() -> None:
        async with asyncio.timeout(120), fleet(each, key) as publisher:
            await story(publisher)

    asyncio.run(performing())


def test_the_life_of_a_revision(tmp_path: Path, nats: Server, key: SigningKey) -> None:
    """Published for a canary, then for all, then rolled back: each is a new revision, and each node has the right one."""
    mx1, mx2, mx3 = each = nodes(tmp_path, nats, "mx1", "mx2", "mx3")

    async def story(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: [one.revision for one in each] == [1, 1, 1], "the first is active")
        assert [str(one.where("log_oob")) for one in mx1.settings().domains] == ["policy/1/domains.toml:2"]
        second = files(domains=DOMAINS.replace("true", "false"))
        await publisher.publish(second, canary=Canary(nodes=("mx2",)))
        await until(lambda: mx2.revision == 2, "the canary has the second")
        assert (mx1.revision, mx3.revision) == (1, 1)
        history = await publisher.history()
        assert (history.current, history.latest) == (history.get(1), history.get(2))
        await publisher.put(new_revision(publisher.fleet, history, manifest_files(second), action="promote", of=2))
        await until(lambda: [one.revision for one in each] == [3, 3, 3], "the second is promoted")
        history = await publisher.history()
        assert (history.before(3), history.next) == (history.get(1), 4)
        await publisher.put(new_revision(publisher.fleet, history, history.get(1).files, action="rollback", of=1))
        await until(lambda: [one.revision for one in each] == [4, 4, 4], "the first is back")
        assert not [one for node in each for one in node.settings().domains if one.log_oob.value == "Ignore"]
        assert sorted(path.name for path in (mx1.folder / "state" / "policy").iterdir()) == ["3", "4", "active", "state.json"]

    perform(each, key, story)


def test_without_servers(tmp_path: Path, nats: Server, key: SigningKey) -> None:
    """The last good revision is on disk: a node starts with it, whatever became of the servers."""
    (node,) = each = nodes(tmp_path, nats, "mx1")

    async def story(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: node.revision == 1, "it is active")

    perform(each, key, story)
    node.config.write_text(node.config.read_text().replace(nats.url, "nats://127.0.0.1:1"))
    assert node.fleet.revision == 1
    assert len(node.settings().domains) == 1


async def _wrong_signature(publisher: Publisher, manifest: Manifest) -> None:
    value = signed(manifest, publisher.key).replace(b'"by":"', b'"by":"x')
    await publisher.buckets.put_manifest(manifest.revision, value)


async def _another_key(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.put(manifest, key=new_key())


async def _no_signature(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.buckets.put_manifest(manifest.revision, signed(manifest, publisher.key).split(b"\n")[0])


async def _garbage(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.buckets.put_manifest(manifest.revision, b"\xff" * 1000)


async def _replayed(publisher: Publisher, manifest: Manifest) -> None:
    """The signed manifest of revision 1, as a later one."""
    first = (await publisher.history()).get(1)
    await publisher.buckets.put_manifest(manifest.revision, signed(first, publisher.key))


async def _other_fleet(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.put(replace(manifest, fleet="other"))


async def _newer_version(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.put(replace(manifest, version=2))


async def _missing(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.put(replace(manifest, files=(replace(manifest.files[0], sha256="0" * 64), *manifest.files[1:])))


async def _truncated(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.put(
        replace(manifest, files=(replace(manifest.files[0], size=manifest.files[0].size + 1), *manifest.files[1:]))
    )


async def _other_content(publisher: Publisher, manifest: Manifest) -> None:
    """Someone with the right to write objects has replaced one by another of the same size."""
    content = b"#" * 10
    (file,) = manifest_files({"domains.toml": content})
    store = await publisher.buckets._js.object_store(publisher.buckets.policy)
    await store.put(file.sha256, b"x" * 10)
    await publisher.put(replace(manifest, files=(file, manifest.files[1])))


async def _outside(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.put(replace(manifest, files=(*manifest.files, replace(manifest.files[0], name="../x"))))


async def _no_policy(publisher: Publisher, manifest: Manifest) -> None:
    await publisher.put(replace(manifest, files=manifest.files[:1]))


async def _invalid(publisher: Publisher, _: Manifest) -> None:
    await publisher.publish(files(domains="[x\n"))


async def _own_key(publisher: Publisher, _: Manifest) -> None:
    await publisher.publish(files(policy=f"user = 'root'\n{POLICY}"))


@pytest.mark.parametrize(
    ("attack", "why"),
    [
        (_wrong_signature, "is wrong"),
        (_another_key, "which is not in policy_keys"),
        (_no_signature, "its manifest has no Ed25519 signature"),
        (_garbage, "its manifest has no Ed25519 signature"),
        (_replayed, "it is a copy of revision 1"),
        (_other_fleet, 'it is of the fleet "other"'),
        (
            _newer_version,
            "its manifest has version 2, and this program reads 1: it is kept until this node has a newer program",
        ),
        (_missing, "domains.toml has 0 of 29 bytes in the object store"),
        (_truncated, "domains.toml has 29 of 30 bytes in the object store"),
        (_other_content, "domains.toml in the object store is not the file that was signed"),
        (_outside, "file names that are not permitted"),
        (_no_policy, "file names that are not permitted"),
        (_invalid, "the reload failed: policy/2/domains.toml:1"),
        (_own_key, 'policy/2/policy.toml:1: user: "user" is no part of a fleet\'s policy'),
    ],
)
def test_what_no_node_takes(
    tmp_path: Path, nats: Server, key: SigningKey, attack: Callable[[Publisher, Manifest], Awaitable[None]], why: str
) -> None:
    """The earlier revision stays, the reason is reported, and the next good revision is taken."""
    (node,) = each = nodes(tmp_path, nats, "mx1")

    async def story(publisher: Publisher) -> None:
        first = await publisher.publish()
        await until(lambda: node.revision == 1, "the first is active")
        reloads = node.reloads
        await attack(publisher, replace(first, revision=2))
        await until(lambda: why in node.rejection, f"{node.rejection!r} has {why!r}")
        assert (node.revision, node.fleet.revision) == (1, 1)
        # Only the check of a configuration needs a reload.
        assert node.reloads == reloads + (attack in {_invalid, _own_key})
        report: dict[str, object] = {}
        while why not in str(report.get("error")):
            report = json.loads((await publisher.buckets.reports())[0].value)
        assert report["revision"] == 1
        await publisher.put(replace(first, revision=3))
        await until(lambda: node.revision == 3, "the next is active")
        await until(lambda: not node.rejection, "no error any more")

    perform(each, key, story)


def test_an_older_revision_is_never_new(tmp_path: Path, nats: Server, key: SigningKey) -> None:
    """Whoever empties the bucket can present revision 2 to a node that knows 3, also if it never had 3."""
    (node,) = each = nodes(tmp_path, nats, "mx1")

    async def story(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: node.revision == 1, "the first is active")
        second = await publisher.publish(files(domains=f"{DOMAINS}#2\n"))
        await until(lambda: node.revision == 2, "the second is active")
        await publisher.publish(files(domains="[x\n"))
        await until(lambda: "the reload failed" in node.rejection, "the third is rejected")
        js = publisher.buckets._js
        await js.delete_stream(f"KV_{publisher.buckets.policy}")
        await publisher.buckets.create()
        node.config.write_text(node.config.read_text() + "# changed\n")
        assert node.agent is not None
        node.agent._store.activate(1)
        await publisher.put(second)
        node.agent._reload()
        await until(lambda: "older than revision 3, which this node knows" in node.rejection, node.rejection)
        assert node.revision == 1
        await publisher.put(replace(second, revision=3))
        await until(lambda: "another manifest with this number" in node.rejection, node.rejection)
        assert node.revision == 1

    perform(each, key, story)


def test_a_newer_version_is_kept_for_a_newer_program(
    tmp_path: Path, nats: Server, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is upgraded takes what it rejected before."""
    (node,) = each = nodes(tmp_path, nats, "mx1")

    async def story(publisher: Publisher) -> None:
        first = await publisher.publish()
        await until(lambda: node.revision == 1, "the first is active")
        await publisher.put(replace(first, revision=2, version=2))
        await until(lambda: "manifest has version 2" in node.rejection, "it is rejected by name")
        monkeypatch.setattr("sidecar.fleet.policy.manifest.VERSION", 2)
        assert node.agent is not None
        node.agent._reload()
        await until(lambda: node.revision == 2, "the newer program takes it")

    perform(each, key, story)


def test_nobody_replaces_a_manifest(tmp_path: Path, nats: Server, key: SigningKey) -> None:
    """The stream rejects a second message on its subject, and two publishers never get one number."""
    each = nodes(tmp_path, nats, "mx1")

    async def story(publisher: Publisher) -> None:
        first = await publisher.publish()
        with pytest.raises(Exception, match="revision 1 exists"):
            await publisher.put(first)
        await publisher.buckets._js.publish(f"$KV.{publisher.buckets.policy}.revision.2", b"squatter")
        assert (await publisher.publish(files(domains="#\n"))).revision == 3
        await until(lambda: each[0].revision == 3, "the next number is free")

    perform(each, key, story)


def test_a_configuration_that_this_node_rejects(tmp_path: Path, nats: Server, key: SigningKey) -> None:
    """The whole configuration counts, and the first errors are reported. The next good revision is taken."""
    (node,) = each = nodes(tmp_path, nats, "mx1")

    async def story(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: node.revision == 1, "the first is active")
        policy = f'{POLICY}[verify.domain."b.example"]\naddress = "required"\nx = 1\n'
        await publisher.publish(files(policy=policy))
        await until(lambda: "revision 2: the reload failed" in node.rejection, node.rejection)
        assert "policy/2/policy.toml:3: verify.domain" in node.rejection
        assert "policy/2/policy.toml:4: verify.domain" in node.rejection
        assert (node.revision, node.fleet.revision, _proposed(node)) == (1, 1, None)
        await publisher.publish()
        await until(lambda: node.revision == 3, "the next is active")

    perform(each, key, story)


def test_a_reload_that_fails_for_a_while(
    tmp_path: Path, nats: Server, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory had no room: the revision is tried again, and the earlier one serves meanwhile."""
    monkeypatch.setattr(module, "_RELOAD_SECONDS", (0.5, 0.5))
    (node,) = each = nodes(tmp_path, nats, "mx1")

    async def story(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: node.revision == 1, "the first is active")
        node.can_reload.clear()
        await publisher.publish(files(domains="#\n"))
        await until(lambda: _proposed(node) == 2, "the second is proposed")
        node.fail_reload("the process that loads the settings was killed by SIGKILL")
        await until(lambda: "revision 2: the reload failed: the process" in node.rejection, node.rejection)
        assert (node.revision, node.fleet.revision, _proposed(node)) == (1, 1, None)
        node.can_reload.set()
        await until(lambda: node.revision == 2, "the second is active")

    perform(each, key, story)


def _proposed(node: Node) -> int | None:
    return candidate_of(node.folder / "state")


@pytest.mark.parametrize("reloaded", [False, True])
def test_an_agent_that_died(tmp_path: Path, nats: Server, key: SigningKey, reloaded: bool) -> None:
    """Before the reload, the next one takes the revision again; after it, it makes it the active one, also without NATS."""
    (node,) = each = nodes(tmp_path, nats, "mx1")

    async def dying(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: node.revision == 1, "the first is active")
        node.can_reload.clear()
        await publisher.publish(files(domains="#\n"))
        await until(lambda: _proposed(node) == 2, "the second is proposed")

    async def living(_: Publisher) -> None:
        await until(lambda: node.revision == 2, "the second is active")

    perform(each, key, dying)
    # A start never takes what was only proposed.
    assert node.fleet.revision == 1
    if reloaded:
        settings = Reading(node.config, candidate=True).loaded.settings
        assert settings is not None
        Agent(settings, pytest.fail).begin()
        assert (node.fleet.revision, _proposed(node)) == (2, None)
    node.can_reload.set()
    perform(each, key, living)


def test_a_long_reload(tmp_path: Path, nats: Server, key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node reports also while it loads a revision, and takes no other one meanwhile."""
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.05)
    (node,) = each = nodes(tmp_path, nats, "mx1")
    node.can_reload.clear()

    async def story(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: _proposed(node) == 1, "the first is proposed")
        await publisher.publish(files(domains="#\n"))
        reports = await publisher.buckets.reports()
        while not reports or b'"latest":2' not in reports[0].value:
            reports = await publisher.buckets.reports()
        assert b'"revision":0' in reports[0].value
        assert _proposed(node) == 1
        node.can_reload.set()
        await until(lambda: node.revision == 2, "the second is active")

    perform(each, key, story)


def test_a_canary_that_cannot_be_loaded_ends_no_trial(tmp_path: Path, nats: Server, key: SigningKey) -> None:
    """The canary that serves is still watched."""
    (node,) = each = nodes(tmp_path, nats, "mx1")
    canary = Canary(nodes=("mx1",))

    async def story(publisher: Publisher) -> None:
        await publisher.publish(canary=canary)
        await until(lambda: node.revision == 1, "the first is active")
        await publisher.publish(files(domains="[x\n"), canary=canary)
        await until(lambda: "the reload failed" in node.rejection, "the second is rejected")
        await until(lambda: counted(node) == 0, "the first is watched")

    perform(each, key, story)


def record(code: int, **more: object) -> str:
    kind = "Reception" if code == 250 else "Rejection"
    return json.dumps({"type": kind, "response": {"code": code}, "meta": more}) + "\n"


def counted(node: Node) -> int | None:
    """Return how many messages a canary has counted."""
    health = None if node.agent is None else node.agent._health
    return None if health is None else health.messages


@pytest.mark.parametrize("by", ["tempfails", "faults", "workers"])
def test_a_canary_that_is_held(tmp_path: Path, nats: Server, key: SigningKey, by: str) -> None:
    """A canary that tempfails too much, or whose workers die, returns by itself, and says why; a promotion is taken."""
    (node, _) = each = nodes(tmp_path, nats, "mx1", "mx2")
    journal = node.folder / "state" / "journal"
    journal.mkdir(parents=True)
    (journal / "20260101-000000-0001.jsonl").write_text(record(451) * 100)
    status = node.folder / "state" / "status.json"

    async def story(publisher: Publisher) -> None:
        await publisher.publish()
        await until(lambda: [one.revision for one in each] == [1, 1], "the first is active")
        status.write_text('{"restarts": 5, "faults": 1}')
        canary = await publisher.publish(files(domains="#\n"), canary=Canary(nodes=("mx1",), hold_at=10))
        await until(lambda: node.revision == 2 and counted(node) is not None, "the canary is watched")
        lines = record(250) * 90 + record(451, count=10)
        (journal / "20260101-000001-0001.jsonl").write_text(lines)
        await until(lambda: counted(node) == 100, "they are counted")
        assert node.revision == 2
        if by == "tempfails":
            with (journal / "20260101-000001-0001.jsonl").open("a") as file:
                file.write(record(451))
            why = "11 tempfailed, 0 faults, 0 dead workers: 10.9 % of 101 messages, and hold_at is 10 %"
        elif by == "faults":
            status.write_text('{"restarts": 5, "faults": 3}')
            why = "10 tempfailed, 2 faults, 0 dead workers: 11.8 % of 102 messages, and hold_at is 10 %"
        else:
            status.write_text('{"restarts": 8, "faults": 1}')
            why = "3 workers died"
        await until(lambda: node.revision == 1, "it returned")
        report: dict[str, object] = {}
        while report.get("held_revision") != 2 or report.get("revision") != 1:
            report = json.loads(next(one.value for one in await publisher.buckets.reports() if one.node == "mx1"))
        assert report["held"] == why
        history = await publisher.history()
        await publisher.put(new_revision(publisher.fleet, history, canary.files, action="promote", of=2))
        await until(lambda: [one.revision for one in each] == [3, 3], "the promotion is taken")

    perform(each, key, story)
