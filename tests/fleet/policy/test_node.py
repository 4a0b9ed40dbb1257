"""A node with all of its parts: `sidecar run`, `sidecar fleet`, a NATS server with the permissions of `deploy/nats`."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from sidecar.cli import main
from sidecar.core.settings.fleet import FleetSettings
from sidecar.fleet import FleetError
from sidecar.fleet.connection import FleetConnection
from sidecar.fleet.policy.buckets import Buckets
from tests import ROOT
from tests.fleet.policy.fleets import key_pair
from tests.fleet.servers import Server, needs_nats, nkey, server
from tests.mta.processes import wait_until
from tests.wire.client import CONTINUE, GOING_ON
from tests.wire.program import Program

pytestmark = [needs_nats]

UNIT, SANDBOX = ROOT / "systemd/sidecar.service", ROOT / "tests/systemd/sandbox.py"
POLICY = 'listener_domains = ["domains.toml"]\n'
REQUIRED = f'{POLICY}[verify.domain."new.example"]\naddress = "required"\n'
NEW, OTHER = '["new.example"]\nlog_oob = true\n', '["other.example"]\nlog_oob = true\n'


@contextmanager
def permitted(folder: Path) -> Iterator[Server]:
    """Run a server with the users of deploy/nats: the seeds of the node, a reader and an operator are files in the folder."""
    keys = list[str]()
    for name in ("node", "reader", "operator"):
        seed, public = nkey()
        (folder / name).write_text(seed)
        (folder / name).chmod(0o600)
        keys.append(public)
    users = (ROOT / "deploy/nats/users.conf").read_text()
    with server(re.sub(r"\bU[A-Z0-9]{55}\b", lambda _: keys.pop(0), users)) as one:
        yield one


class Fleet:
    """What an operator does."""

    def __init__(self, folder: Path, one: Server) -> None:
        self.folder = folder
        self.key = key_pair(folder)
        credentials = 'node = "operator"\ncredentials = "operator"\npolicy_keys = ["policy.key.pub"]\n'
        verify = '[verify]\nsecret_files = ["secret"]\n'
        settings = f'state_directory = "none"\n{verify}[fleet]\nservers = "{one.url}"\n{credentials}'
        (folder / "sidecar.toml").write_text(settings)
        (folder / "secret").write_text("0123456789abcdef" * 4)
        (folder / "secret").chmod(0o600)
        (folder / "policy.toml").write_text(POLICY)

    def run(self, command: str, *arguments: str, status: int = 0) -> str:
        """Run a command of the fleet."""
        config = ("--config", str(self.folder / "sidecar.toml"))
        result = CliRunner().invoke(main, ["fleet", command, *config, *arguments])
        assert result.exit_code == status, result.output
        return result.output

    def publish(self, domains: str, *arguments: str) -> None:
        """Publish these listener domains."""
        (self.folder / "domains.toml").write_text(domains)
        self.run("publish", "--key", str(self.folder / "policy.key"), *arguments, str(self.folder / "policy.toml"))

    def node(self) -> dict[str, Any]:
        """Return what the status shows of the only node."""
        result = CliRunner().invoke(main, ["fleet", "status", "--config", str(self.folder / "sidecar.toml"), "--json"])
        found = json.loads(result.stdout)["nodes"] if result.stdout else []
        return found[0] if found else {}

    def has(self, revision: int) -> bool:
        """Return True if the node serves this revision and is well."""
        node = self.node()
        return (node.get("revision"), node.get("state")) == (revision, "ok")


def section(folder: Path, one: Server) -> str:
    """Return the settings of a node."""
    credentials = f'credentials = "{folder / "node"}"\npolicy_keys = ["{folder / "policy.key.pub"}"]\n'
    return f'[fleet]\nservers = "{one.url}"\nnode = "mx1"\n{credentials}'


def connected(program: Program, port: int) -> list[int]:
    """Return the processes that are connected to this port: the agent, and the shipper."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
    return [pid for pid in program.workers() if sockets & {*_descriptors(pid)}]


def _descriptors(pid: int) -> Iterator[str]:
    with suppress(FileNotFoundError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                yield str(descriptor.readlink())


def accepts(program: Program, domain: str) -> bool:
    """Return True if an external host can send bounces to a domain."""
    with program.mta() as mta:
        if mta.begin() not in GOING_ON:
            return False
        return mta.envelope(b"<>", f"<x@{domain}>".encode()) == [CONTINUE]


def test_a_node(tmp_path: Path) -> None:
    """Revisions reach mail; they survive the agent, the servers and the program."""
    with permitted(tmp_path) as one:
        fleet = Fleet(tmp_path, one)
        unstarted = Program(settings="reload_on_change = false\n" + section(tmp_path, one), milter="workers = 1")
        # In the sandbox of the unit.
        unstarted.python = [str(SANDBOX), str(UNIT), sys.executable, *unstarted.python]
        with unstarted as program:
            assert accepts(program, "bounce.example")
            fleet.publish(NEW)
            wait_until(lambda: fleet.has(1), "the first revision serves")
            assert (accepts(program, "new.example"), accepts(program, "bounce.example")) == (True, False)
            # The policy of the file has no effect any more; the state is that of the running program.
            question = ["--peer", "203.0.113.9", "--from", "", "--to", "a@new.example", "--json"]
            config = ["--config", str(program.directory / "sidecar.toml")]
            explained = CliRunner().invoke(main, ["explain", *config, *question])
            assert json.loads(explained.stdout)["recipients"][0]["because"][-1]["file"] == "policy/1/domains.toml"
            for pid in connected(program, one.port):
                with suppress(ProcessLookupError):  # replaced meanwhile
                    os.kill(pid, signal.SIGKILL)
            fleet.publish(OTHER, "--canary", "mx1")
            wait_until(lambda: fleet.has(2), "the canary has the second")
            assert (accepts(program, "new.example"), accepts(program, "other.example")) == (False, True)
            # The operator's machine has a secret, and the node has none: it finds that by itself.
            (tmp_path / "policy.toml").write_text(REQUIRED)
            fleet.publish(NEW)
            wait_until(lambda: fleet.node().get("state") == "error", "the node rejects the third")
            rejected = fleet.node()
            assert "revision 3: the reload failed: policy/3/policy.toml:3: verify.domain" in rejected["error"]
            assert rejected["revision"] == 2
            assert (accepts(program, "new.example"), accepts(program, "other.example")) == (False, True)
            (tmp_path / "policy.toml").write_text(POLICY)
            one.kill()
            assert program.stop() == 0
            program.start()
            assert (accepts(program, "new.example"), accepts(program, "other.example")) == (False, True)
            one.start()
            fleet.run("rollback", "--key", str(tmp_path / "policy.key"), "1")
            wait_until(lambda: fleet.has(4), "the first is back")
            assert (accepts(program, "new.example"), accepts(program, "other.example")) == (True, False)
            assert program.stop() == 0


Theft = Callable[[Buckets, FleetSettings], Awaitable[object]]


async def _publish(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.publish(f"$KV.{buckets.policy}.revision.2", b"x")


async def _replace(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.publish(f"$KV.{buckets.policy}.revision.1", b"x")


async def _delete(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.delete_stream(f"KV_{buckets.policy}")


async def _purge(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.purge_stream(f"OBJ_{buckets.policy}")


async def _objects(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.publish(f"$O.{buckets.policy}.M.x", b"x")


async def _other_report(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.publish(f"$KV.{buckets.nodes}.mx2", b"x")


async def _consumer(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.subscribe(f"$KV.{buckets.policy}.>", stream=f"KV_{buckets.policy}")


async def _create(buckets: Buckets, fleet: FleetSettings) -> None:
    await Buckets(buckets._client, replace(fleet, name="another")).create()


async def _records(buckets: Buckets, _: FleetSettings) -> None:
    await buckets._js.get_msg("sidecar_records", seq=1, direct=True)


THEFTS = (_publish, _replace, _delete, _purge, _objects, _other_report, _consumer, _create, _records)


def test_a_stolen_credential(tmp_path: Path) -> None:
    """With the credential of a node no one changes the policy, nor what other nodes report; not even by a copy."""
    with permitted(tmp_path) as one:
        fleet = Fleet(tmp_path, one)
        fleet.publish(NEW)
        stolen = FleetSettings(servers=(one.url,), node="mx1", credentials=tmp_path / "node")

        async def stealing() -> None:
            async with FleetConnection(stolen, role="thief") as connection:
                buckets = Buckets(connection.client, stolen)
                buckets._js._timeout = 0.3
                assert [key async for _, key, _ in buckets.manifests()] == ["1"]
                for theft in THEFTS:
                    connection.fault = ""
                    with pytest.raises((FleetError, TimeoutError)):
                        await theft(buckets, stolen)
                    assert "permissions violation" in connection.fault.lower(), theft
                # A server answers to any subject: here it would store the first manifest again, and whatever a reader asks for.
                for subject in ("revision.1", "revision.2"):
                    reply = f"$KV.{buckets.policy}.{subject}"
                    wanted = b'{"seq": 1}'
                    await connection.client.publish(f"$JS.API.DIRECT.GET.KV_{buckets.policy}", wanted, reply=reply)
                await buckets.put_report(b"{}")

        asyncio.run(stealing())
        found = json.loads(fleet.run("history", "--json"))
        assert [one["revision"] for one in found["revisions"]] == [1]
        # What a copy leaves is no revision.
        assert found["invalid"]
        assert all("it is a copy of revision 1" in one["why"] for one in found["invalid"])
        fleet.publish(OTHER)
        assert json.loads(fleet.run("history", "--json"))["revisions"][-1]["revision"] == 2 + len(found["invalid"])
