"""`sidecar fleet`: what is published, what is rejected before, and what is shown; with a real NATS server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.config import Reading
from sidecar.core.fleet_view import CanaryHealth
from sidecar.fleet.connection import FleetConnection
from sidecar.fleet.policy import status as module
from sidecar.fleet.policy.buckets import Buckets
from sidecar.fleet.policy.manifest import read_manifest, signed
from sidecar.fleet.policy.report import NodeReport
from tests.fleet.policy.fleets import key_pair, new_key
from tests.fleet.servers import Server, needs_nats, publish_raw, server

pytestmark = [needs_nats]

POLICY = 'listener_domains = ["domains/a.toml"]\nbounce_classifier = ["iana", "rules.toml"]\n'


@pytest.fixture(scope="module")
def nats() -> Iterator[Server]:
    with server() as one:
        yield one


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


class Operator:
    """The folder of an operator: settings, a key, a policy."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        key_pair(folder)
        fleet = f'[fleet]\nservers = "{url}"\nname = "{folder.name}"\npolicy_keys = ["policy.key.pub"]\n'
        self.write("sidecar.toml", f'state_directory = "state"\n{fleet}')
        self.write("policy.toml", POLICY)
        self.write("rules.toml", '[rules]\nX = ["^x"]\n')
        self.write("domains/a.toml", '["b.example"]\nlog_oob = true\n')

    def write(self, name: str, text: str) -> None:
        """Write one of its files."""
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(text)

    def run(self, *arguments: str, status: int = 0) -> Result:
        """Run a command."""
        arguments = (arguments[0], "--config", str(self.folder / "sidecar.toml"), *arguments[1:])
        result = CliRunner().invoke(main, ["fleet", *arguments])
        assert result.exit_code == status, result.output
        return result

    def change(self, command: str, *arguments: str, status: int = 0) -> str:
        """Run a command that signs."""
        if command == "publish":
            arguments = (*arguments, str(self.folder / "policy.toml"))
        return self.run(command, "--key", str(self.folder / "policy.key"), *arguments, status=status).output

    def on_buckets(self, work: Callable[[Buckets], Any]) -> None:
        """Work with the buckets beside the program."""
        settings = Reading(self.folder / "sidecar.toml").loaded.settings
        assert settings is not None
        assert settings.fleet is not None
        fleet = settings.fleet

        async def working() -> None:
            async with FleetConnection(fleet, role="test") as connection:
                await work(Buckets(connection.client, fleet))

        asyncio.run(working())

    def report(self, *reports: NodeReport) -> None:
        """Report as these nodes."""

        async def reporting(buckets: Buckets) -> None:
            for one in reports:
                await buckets._js.publish(f"$KV.{buckets.nodes}.{one.node}", msgspec.json.encode(one))

        self.on_buckets(reporting)

    def nodes(self, *reports: NodeReport, status: int = 0) -> dict[str, Any]:
        """Return what `status --json` shows of the nodes, after these reports."""
        self.report(*reports)
        found = json.loads(self.run("status", "--json", status=status).stdout)
        return {one["node"]: one for one in found["nodes"]}


@pytest.fixture
def operator(tmp_path: Path, nats: Server) -> Operator:
    return Operator(tmp_path, nats.url)


def node(name: str, revision: int, **more: Any) -> NodeReport:
    return NodeReport(node=name, program="0.1.0", revision=revision, **more)


def test_from_canary_to_rollback(operator: Operator) -> None:
    """Each change shows what it opens and closes; a canary is promoted only when its nodes serve it."""
    for command in ("status", "history"):
        assert "it does not exist; `sidecar fleet publish` makes it" in operator.run(command, status=1).output
    assert "publish the first revision without --canary" in operator.change("publish", "--canary", "mx1", status=1)
    assert "This is the first revision: it has 1 listener domain" in operator.change("publish")
    assert "there is nothing to publish" in operator.change("publish", status=1)
    assert operator.nodes(node("mx1", 1), node("mx2", 1))["mx1"]["state"] == "ok"
    operator.write("domains/a.toml", '["b.example"]\nlog_oob = true\nrelay_to = true\n')
    assert "The node mx9 never reported" in operator.change("publish", "--canary", "mx1,mx9", status=1)
    output = operator.change("publish", "--canary", "mx1", "--hold-at", "2.5")
    assert "Opens (1)" in output
    assert "a.toml" in output
    assert "Revision 2 is published for mx1." in output
    assert "mx1: has revision 1: it has not taken this one yet" in operator.change("promote", status=1)
    assert operator.nodes(status=1)["mx1"]["state"] == "behind"
    operator.report(node("mx1", 1, held="11 tempfailed", held_revision=2))
    assert "mx1: held: 11 tempfailed" in operator.change("promote", status=1)
    operator.report(node("mx1", 2, latest=2))
    assert "Revision 3 is published for all nodes, with the files of revision 2." in operator.change("promote")
    assert "there is nothing to promote" in operator.change("promote", status=1)
    output = operator.change("rollback")
    assert "Closes (1)" in output
    assert "Revision 4 is published for all nodes, with the files of revision 1." in output
    assert "All nodes have the files of revision 1" in operator.change("rollback", "1", status=1)
    assert "There is no revision 9" in operator.change("rollback", "9", status=1)
    assert "with the files of revision 3" in operator.change("rollback", "3")
    found = json.loads(operator.run("history", "--json").stdout)
    kept = [(one["revision"], one["action"], one.get("of"), one["canary"]) for one in found["revisions"]]
    canary = {"nodes": ["mx1"], "hold_at": 2.5}
    assert kept == [
        (1, "publish", None, None), (2, "publish", None, canary), (3, "promote", 2, None), (4, "rollback", 1, None),
        (5, "rollback", 3, None),
    ]  # fmt: skip
    assert found["invalid"] == []
    text = operator.run("history").output
    assert "rollback of 3" in text
    assert "3 files" in text


def test_a_rollback_ends_a_canary(operator: Operator) -> None:
    operator.change("publish")
    operator.write("domains/a.toml", "")
    operator.change("publish", "--canary", "mx1", "--force")
    assert "with the files of revision 1" in operator.change("rollback")


def test_a_share_of_the_nodes(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least one, of those that report; not always the same."""
    operator.change("publish")
    operator.report(*(node(f"mx{number}", 1) for number in range(20)))
    chosen = []
    for share, count in (("10%", 2), ("1%", 1), ("11%", 3)):
        operator.write("domains/a.toml", f"# {share}\n")
        operator.change("publish", "--canary", share)
        found = json.loads(operator.run("history", "--json").stdout)["revisions"][-1]["canary"]["nodes"]
        assert len(set(found)) == count
        chosen.append(found)
    assert len({tuple(one[:1]) for one in chosen}) > 1
    monkeypatch.setattr("sidecar.commands.fleet.publish.SILENT_SECONDS", -1)
    operator.write("domains/a.toml", "#\n")
    assert "No node reports" in operator.change("publish", "--canary", "10%", status=1)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "policy.toml",
            "[verify]\nsecret_files = ['secret']\n",
            'error: verify.secret_files: "verify.secret_files" is no part of',
        ),
        ("policy.toml", "[journal]\nkeep_age = 0\n", 'error: journal: "journal" is no part of a fleet\'s policy'),
        ("policy.toml", "[fleet]\nname = 'x'\n", '"fleet" is no part of a fleet\'s policy'),
        ("policy.toml", "[verify.domain.'b.example']\naddress = 'required'\n", "No address token is valid without a secret."),
        ("policy.toml", "listener_domains = ['/etc/passwd']\n", 'A revision cannot have the file "/etc/passwd"'),
        ("policy.toml", "listener_domains = ['../a.toml']\n", 'cannot have the file "../a.toml"'),
        ("policy.toml", "listener_domains = ['.secret']\n", 'cannot have the file ".secret"'),
        ("policy.toml", "listener_domains = ['policy.toml']\n", 'cannot have the file "policy.toml"'),
        ("policy.toml", "listener_domains = ['no.toml']\n", 'The file "no.toml" does not exist. Create it or name another.\n'),
        ("policy.toml", "x =\n", "This is not TOML"),
        ("domains/a.toml", "['b.example']\nrelay_to = 1\n", 'domains/a.toml:2: error: "b.example".relay_to'),
        ("domains/a.toml", "['*']\nrelay_to = true\n", "This policy is an open relay (1 place). To publish it, write --force."),
    ],
)
def test_what_is_not_published(operator: Operator, file: str, text: str, said: str) -> None:
    """The reason names file, line and key; nothing reaches the servers."""
    operator.write(file, text)
    assert said in operator.change("publish", status=1)
    with pytest.raises(Exception, match="does not exist"):
        operator.on_buckets(lambda buckets: buckets.reports())


def test_force_and_dry_run(operator: Operator) -> None:
    """An open relay is published when its operator insists. A dry run publishes nothing, also before the first revision."""
    assert "This is the first revision" in operator.change("publish", "--dry-run")
    assert "does not exist" in operator.run("history", status=1).stderr
    operator.change("publish")
    operator.write("domains/a.toml", "['*']\nrelay_to = true\n")
    assert "DANGER" in operator.change("publish", "--force", "--dry-run")
    assert len(json.loads(operator.run("history", "--json").stdout)["revisions"]) == 1
    operator.change("publish", "--force")
    assert len(json.loads(operator.run("history", "--json").stdout)["revisions"]) == 2


def test_keys(operator: Operator) -> None:
    """A key that no node knows signs nothing; settings without keys and without a fleet are errors."""
    (operator.folder / "policy.key").unlink()
    assert "policy.key cannot be read: No such file or directory." in operator.change("publish", status=1)
    (operator.folder / "policy.key").write_text("x")
    assert "is no key for signatures: it is no private key in PEM form" in operator.change("publish", status=1)
    (operator.folder / "old").mkdir()
    key_pair(operator.folder / "old")
    (operator.folder / "policy.key").write_bytes((operator.folder / "old" / "policy.key").read_bytes())
    assert "it is not in policy_keys" in operator.change("publish", status=1)
    operator.write("sidecar.toml", "[fleet]\nservers = 'nats://127.0.0.1:1'\n")
    assert "name no key that signs the policy" in operator.run("status", status=1).output
    operator.write("sidecar.toml", "[fleet]\nservers = 'nats://127.0.0.1:1'\npolicy_keys = ['policy.key.pub']\n")
    assert "No connection to nats://127.0.0.1:1" in operator.run("status", status=1).output
    operator.write("sidecar.toml", "")
    assert "The settings have no [fleet]" in operator.run("status", status=1).output


def test_status(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node with its state; an invalid report is one, too."""
    assert "does not exist" in operator.run("status", status=1).output
    operator.change("publish")
    operator.write("domains/a.toml", "")
    operator.change("publish", "--canary", "mx2,mx4,mx5", "--force")
    health = CanaryHealth(messages=1234, tempfailed=5)
    found = operator.nodes(
        node("mx1", 1, lag=90),
        node("mx2", 2, health=health),
        node("mx3", 0, error="revision 1: wrong"),
        node("mx4", 1, held="5 tempfailed", held_revision=2),
        node("mx5", 1, held="an old story", held_revision=1),
        status=1,
    )
    assert {name: one["state"] for name, one in found.items()} == {
        "mx1": "ok", "mx2": "ok", "mx3": "error", "mx4": "held", "mx5": "behind",
    }  # fmt: skip
    assert (found["mx1"]["wanted"], found["mx2"]["wanted"], found["mx1"]["lag"]) == (1, 2, 90)
    assert found["mx2"]["health"] == {"messages": 1234, "tempfailed": 5, "faults": 0, "restarts": 0}
    text = operator.run("status", status=1).output
    for said in (
        "The newest revision is 2, for mx2, mx4, mx5.", "mx3: revision 1: wrong", "mx4: 5 tempfailed", "1, not 2",
        "mx2: canary: 1,234 messages, 5 tempfailed, 0 faults, 0 dead workers",
    ):  # fmt: skip
        assert said in text
    operator.on_buckets(lambda buckets: buckets._js.publish(f"$KV.{buckets.nodes}.mx6", b"x"))
    monkeypatch.setattr(module, "SILENT_SECONDS", -1)
    found = operator.nodes(status=1)
    assert {one["state"] for one in found.values()} == {"silent"}
    assert "its report is not valid" in found["mx6"]["error"]


def test_what_a_node_forges_hides_no_other_node(operator: Operator, nats: Server) -> None:
    operator.change("publish")
    operator.nodes(node("mx1", 1), node("mx3", 1))
    for header, content in (
        (b"NATS/1.0\r\nStatus: 404\r\n\r\n", b""),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", b""),
        (b"NATS/1.0\r\n\r\n", b'{"x":' + b"[" * 60_000),
    ):
        publish_raw(nats, f"$KV.{operator.folder.name}_nodes.mx2".encode(), header, content)
        found = operator.nodes(status=1)
        assert [one["state"] for one in found.values()] == ["ok", "error", "ok"]


def test_what_is_invalid_is_listed(operator: Operator) -> None:
    """A manifest of an unknown key is no revision, and its number is not used again."""
    operator.change("publish")

    async def attack(buckets: Buckets) -> None:
        value = await anext(value async for _, _, value in buckets.manifests())
        settings = Reading(operator.folder / "sidecar.toml").loaded.settings
        assert settings is not None
        assert settings.fleet is not None
        manifest = read_manifest(value, settings.fleet, settings.fleet.policy_keys, key="1")
        await buckets.put_manifest(2, signed(msgspec.structs.replace(manifest, revision=2), new_key()))

    operator.on_buckets(attack)
    assert "No node takes revision 2: it is signed with the key" in operator.run("history").output
    operator.write("domains/a.toml", "")
    assert "Revision 3 is published" in operator.change("publish")


def test_the_status_without_the_key_of_the_revisions(operator: Operator) -> None:
    """It says why no node takes them, and not that there are none."""
    operator.change("publish")
    for name in ("policy.key", "policy.key.pub"):
        (operator.folder / name).unlink()
    key_pair(operator.folder)
    assert "No node takes a revision: it is signed with the key" in operator.run("status").output
