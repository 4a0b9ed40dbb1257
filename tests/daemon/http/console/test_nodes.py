"""The page of the fleet, also with the reports and revisions of a real NATS server."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.config import Reading
from sidecar.core.fleet_view import FleetUnavailableError, FleetView, NodeStatus, OpenFleet
from sidecar.core.settings.fleet import FleetSettings
from sidecar.core.settings.settings import Settings
from sidecar.daemon.http.console import nodes as pages
from sidecar.daemon.http.console.nodes import Commands, commands_for
from sidecar.fleet.policy.report import NodeReport
from sidecar.fleet.policy.status import read_fleet_view
from tests.commands.fleet.test_fleet import Operator
from tests.daemon.http.console.visiting import Visitor, app_of, text_of
from tests.fleet.policy.fleets import key_pair
from tests.fleet.servers import Server, needs_nats, server

NODES = "/console/nodes"
HOSTILE = "<b>\u202ex"


@pytest.fixture(scope="module")
def nats() -> Iterator[Server]:
    with server() as one:
        yield one


def settings(folder: Path, fleet: str) -> Settings:
    key_pair(folder)
    (folder / "sidecar.toml").write_text(f'state_directory = "state"\n{fleet}')
    made = Reading(folder / "sidecar.toml").loaded.settings
    assert made is not None
    return made


def visit(made: Settings, read: OpenFleet | None) -> Visitor:
    visitor = Visitor(app_of(made, fleet=read))
    visitor.log_in()
    return visitor


FLEET = '[fleet]\nservers = "nats://127.0.0.1:1"\nname = "f"\npolicy_keys = ["policy.key.pub"]\n'


@needs_nats
def test_the_nodes_and_revisions_of_a_fleet(tmp_path: Path, nats: Server) -> None:
    operator = Operator(tmp_path, nats.url)
    operator.change("publish")
    operator.write("domains/a.toml", "")
    operator.change("publish", "--canary", "mx2,mx3", "--force")
    operator.report(
        NodeReport(node="mx1", program="0.1.0", revision=1, lag=90),
        NodeReport(node="mx2", program="0.1.0", revision=1, held=f"5 {HOSTILE} tempfailed", held_revision=2),
        NodeReport(node="mx3", program="0.1.0", revision=1),
    )
    made = Reading(tmp_path / "sidecar.toml").loaded.settings
    assert made is not None
    visitor = visit(made, read_fleet_view)
    text = text_of(visitor.get(NODES))
    assert "mx1 ok 1 0 seconds ago 90 seconds 0.1.0" in text or "mx1 ok 1 1 second ago 90 seconds 0.1.0" in text
    assert "mx2 held 1, not 2" in text
    assert "5 <b>\\u202ex tempfailed" in text
    assert "mx3 behind 1, not 2" in text
    assert "2 canary" in text
    assert "mx2, mx3" in text
    assert "<b>" not in visitor.get(NODES).body.decode()
    assert "tempfailed; mx3: has revision 1: it has not taken this one yet. The command fails" in text
    assert "The canary ends: sidecar fleet rollback --key policy.key" in text
    assert "2 canary" in text
    assert "not for all nodes" in text
    assert "/console/nodes#revisions" in visitor.get("/console/policy").body.decode()


@needs_nats
def test_each_command_of_the_page_does_what_it_says(tmp_path: Path, nats: Server) -> None:
    """Publish, canary, promote and rollback, each by the command that the page shows at that moment."""
    operator = Operator(tmp_path, nats.url)
    made = Reading(tmp_path / "sidecar.toml").loaded.settings
    assert made is not None
    assert made.fleet is not None
    fleet = made.fleet

    def run(command: str) -> None:
        _, _, name, *arguments = shlex.split(command)
        files = {"policy.key", "policy.toml"}
        operator.run(name, *(str(tmp_path / one) if one in files else one for one in arguments))

    def now() -> Commands:
        return commands_for(read_fleet_view(fleet))

    found = commands_for(FleetView(nodes=(), revisions=(), invalid=()))
    assert (found.promote, found.rollback, found.returns) == ("", "", {})
    operator.change("publish")
    found = now()
    assert (found.promote, found.rollback, found.returns) == ("", "", {})
    operator.write("domains/a.toml", "")
    operator.report(NodeReport(node="mx1", program="0.1.0", revision=1))
    run(now().publish)
    assert now().obstacles == ["mx1: has revision 1: it has not taken this one yet"]
    operator.report(NodeReport(node="mx1", program="0.1.0", revision=2))
    found = now()
    assert (found.obstacles, found.returns) == ([], {1: "sidecar fleet rollback --key policy.key 1"})
    run(found.promote)
    found = now()
    assert (found.promote, [*found.returns]) == ("", [1])
    run(found.rollback)
    assert [*now().returns] == [3]
    run(now().returns[3])
    assert [(one.action, one.is_in_use) for one in read_fleet_view(fleet).revisions] == [
        ("rollback of 3", True),
        ("rollback of 1", False),
        ("promote of 2", True),
        ("publish", True),
        ("publish", False),
    ]


@needs_nats
def test_before_the_first_revision(tmp_path: Path, nats: Server) -> None:
    operator = Operator(tmp_path, nats.url)
    made = Reading(operator.folder / "sidecar.toml").loaded.settings
    assert made is not None
    answer = visit(made, read_fleet_view).get(NODES)
    assert (answer.status, "Before the first sidecar fleet publish" in text_of(answer)) == (503, True)


def test_servers_that_do_not_answer(tmp_path: Path) -> None:
    def read(_: FleetSettings) -> FleetView:
        raise FleetUnavailableError("no connection to nats://127.0.0.1:1: refused")

    answer = visit(settings(tmp_path, FLEET), read).get(NODES)
    assert (answer.status, "The fleet cannot be read: no connection to nats://127.0.0.1:1: refused." in text_of(answer)) == (
        503,
        True,
    )


def test_the_servers_are_asked_once_in_some_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read(fleet: FleetSettings) -> FleetView:
        asked.append(fleet.name)
        one = NodeStatus(node="mx1", state="silent", program="", revision=1, wanted=1, silent=3600, lag=0)
        return FleetView(nodes=(one,), revisions=(), invalid=("7: no signature",))

    visitor = visit(settings(tmp_path, FLEET), read)
    text = text_of(visitor.get(NODES))
    assert "mx1 silent 1 60 minutes ago none" in text
    assert "No node takes revision 7: no signature." in text
    visitor.get(NODES)
    assert asked == ["f"]
    monkeypatch.setattr(pages, "_FRESH_SECONDS", -1.0)
    visitor.get(NODES)
    assert asked == ["f", "f"]


def test_without_a_fleet_or_its_keys(tmp_path: Path) -> None:
    made = settings(tmp_path, FLEET)
    assert made.fleet is not None
    text = text_of(visit(replace(made, fleet=replace(made.fleet, policy_keys=())), None).get(NODES))
    assert "names no policy_keys" in text
    visitor = visit(replace(made, fleet=None), None)
    assert "The settings have no [fleet] ." in text_of(visitor.get(NODES))
    assert NODES not in visitor.get("/console/policy").body.decode()
