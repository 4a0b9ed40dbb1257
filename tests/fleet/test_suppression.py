"""One suppression list for many nodes, with real NATS servers."""

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.commands import run
from sidecar.core.settings.settings import Settings
from sidecar.journal.read import Checkpoints
from sidecar.suppression import READER
from sidecar.suppression.states import key_of
from tests.daemon.http.test_running import Unix
from tests.fleet.servers import Server, needs_nats, nkey, server
from tests.fleet.sharing import (
    add,
    child,
    delete_list_stream,
    known,
    listed,
    make_list_stream,
    newest,
    node_of,
    publish_as,
    remove,
    report,
    share,
    sharing,
    wait_for,
)
from tests.fleet.shipping import FOLDER
from tests.fleet.test_process import SANDBOX, UNIT
from tests.mta.processes import wait_until
from tests.suppression.journals import list_of
from tests.suppression.records import DAY, feedback, oob
from tests.wire.program import Program

pytestmark = needs_nats

TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of this test
A, B, C = (f"{name}@example.net" for name in "abc")


@pytest.fixture(autouse=True)
def soon_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show a fault after half a second."""
    monkeypatch.setattr("sidecar.suppression.sharing._LATE_SECONDS", 0.5)


def three(folder: Path, one: Server, **more: Any) -> list[Settings]:
    return [node_of(folder, name, one, **more) for name in ("mx1", "mx2", "mx3")]


def fault(made: Settings) -> str:
    """Return what `sidecar status` shows about the list."""
    return "".join(one.fault for one in Checkpoints(made.checkpoints_directory).all_known() if one.name == READER)


def test_all_nodes_have_one_list(tmp_path: Path) -> None:
    """Changes and reports of each node reach all; reports count together; a new node gets everything."""
    with server() as one:
        nodes = a, b, c = three(tmp_path, one)
        make_list_stream(a)
        with sharing(a, b):
            add(a, A)
            report(b, feedback(B))
            for number, node in enumerate((a, b, a, b, a)):
                report(node, oob(C, "QuotaIssues", message=f"m{number}"), ago=number * 0.6 * DAY)
            found = wait_for({A, B, C}, a, b)
            assert {address: entry.nodes for address, entry in found.items()} == {A: ("mx1",), B: ("mx2",), C: ("mx1", "mx2")}
            assert len(found[C].reports) == 5
        with sharing(*nodes):
            wait_for({A, B, C}, *nodes)
            remove(c, B)
            wait_for({A, C}, *nodes)
            assert [fault(node) for node in nodes] == [""] * 3


def test_nodes_and_servers_that_are_away(tmp_path: Path) -> None:
    """Each node answers and takes changes alone. Of two conflicting changes all have the same one in the end."""
    with server() as one:
        nodes = a, b, c = three(tmp_path, one)
        make_list_stream(a)
        with sharing(a, b, c):
            for address in (A, B, C):
                add(a, address)
            wait_for({A, B, C}, *nodes)
        # One node is away: another one removes what it gets a late report about.
        with sharing(a, b):
            remove(a, A)
            removed = time.time()
            wait_for({B, C}, a, b)
        report(c, feedback(A), ago=3600)
        with sharing(*nodes):
            wait_for({B, C}, *nodes)
            one.kill()
            # Without servers: a removal and then an addition of the same address, elsewhere, and a new report.
            remove(b, B)
            wait_until(lambda: B not in listed(b), "the node of the change has it")
            add(a, B, expires=int(time.time()) + 5000)
            # A record has whole seconds: in the second of the removal it would count as made before.
            wait_until(lambda: int(time.time()) > removed, "the next second")
            report(c, feedback(A))
            wait_until(lambda: A in listed(c), "the node of the report has it")
            wait_until(lambda: fault(b), "the status says why")
            one.start()
            wait_until(lambda: all(B in (found := listed(one)) and found[B].expires for one in nodes), "the addition counts")
            wait_for({A, B, C}, *nodes)
            wait_until(lambda: not any(map(fault, nodes)), "all is well")


def test_killed_while_it_merges(tmp_path: Path) -> None:
    """SIGKILL at any moment: the lists are equal in the end, and each report counts once."""
    chance = random.Random(7)  # noqa: S311 - repeatable
    with server() as one:
        nodes = a, b, c = three(tmp_path, one)
        make_list_stream(a)
        with sharing(a):
            for number in range(300):
                report(a, oob(f"{number}@example.net", "BadDomain", message=f"a{number}"))
                report(b, oob(f"{number // 2}@example.net", "BadDomain", message=f"b{number}"))
            for _ in range(5):
                for node in (b, c):
                    with child(partial(share, node, Event().wait)) as pid:
                        time.sleep(chance.uniform(0.05, 0.6))
                        os.kill(pid, signal.SIGKILL)
        with sharing(*nodes):
            wait_for({f"{number}@example.net" for number in range(300)}, *nodes)
            wait_until(lambda: [sum(map(len, known(node).values())) for node in nodes] == [600] * 3, "all know all reports")
            wait_for({f"{number}@example.net" for number in range(300)}, *nodes)


def test_another_stream(tmp_path: Path) -> None:
    """Without a stream the status says so. A new stream gets what each node knows."""
    with server() as one:
        nodes = a, b, _ = three(tmp_path, one)
        with sharing(a, b):
            add(a, A)
            wait_until(lambda: "sidecar_suppression" in fault(a), "the status says what is missing")
            make_list_stream(a)
            wait_for({A}, a, b)
            delete_list_stream(a)
            make_list_stream(a)
            add(b, B)
            wait_for({A, B}, a, b)
        with sharing(*nodes):
            wait_for({A, B}, *nodes)


def test_hashed_lists(tmp_path: Path) -> None:
    """With one key all nodes have one list, and the stream has no address. Another key is rejected by name."""
    with server() as one:
        a, b, c = three(tmp_path, one, store="hashed")
        make_list_stream(a)
        key = Path(f"{list_of(a).database}.key")
        with sharing(a):
            add(a, A)
            wait_until(lambda: listed(a), "it is on the list")
        Path(f"{list_of(b).database}.key").write_bytes(key.read_bytes())
        with sharing(a, b, c):
            wait_for({*listed(a)}, a, b)
            add(b, B)
            wait_until(lambda: len(listed(a)) == 2, "it is on the other list")
            add(c, C)
            wait_until(lambda: len(listed(c)) == 1, "it is on its own list")
            wait_until(lambda: "all nodes need the same `store`, and the same key" in fault(c), "the status says why")
        for file in one.config.parent.rglob("*"):
            assert not file.is_file() or b"example.net" not in file.read_bytes()


@contextmanager
def with_users(folder: Path) -> Iterator[tuple[Server, dict[str, Path]]]:
    """Run a server with the users of deploy/nats: two nodes, of which the second may not change the list, and the others."""
    seeds, keys = dict[str, Path](), list[str]()
    for name in ("mx1", "reader", "admin", "mx2"):
        seed, public = nkey()
        seeds[name] = folder / f"{name}.seed"
        seeds[name].write_text(seed)
        seeds[name].chmod(0o600)
        keys.append(public)
    text = (FOLDER / "users.conf").read_text()
    (node,) = re.findall(r"    \{\n      # The node mx1.*?\n    \}\n", text, re.DOTALL)
    second = re.sub(
        r"\bU[A-Z0-9]{55}\b", keys[3], node.replace("mx1", "mx2").replace('"sidecar.suppression.mx2.changes.*"\n', "\n")
    )
    text = text.replace(node, node + second)
    wanted = iter([keys[0], keys[3], *keys[1:3]])
    with server(re.sub(r"\bU[A-Z0-9]{55}\b", lambda _: next(wanted), text)) as one:
        yield one, seeds


def test_stolen_credentials(tmp_path: Path) -> None:
    """They permit reports of this node. They remove nothing, and what they write over is restored."""
    with with_users(tmp_path) as (one, seeds):
        admin = node_of(tmp_path, "admin", one, fleet={"credentials": seeds["admin"]})
        make_list_stream(admin)
        a, b = (node_of(tmp_path, name, one, fleet={"credentials": seeds[name]}) for name in ("mx1", "mx2"))
        with sharing(a, b):
            add(a, A)
            report(b, feedback(B))
            wait_for({A, B}, a, b)
            # Without the permission a change stays on its node.
            remove(b, A)
            wait_until(lambda: "changes of 1 address: permissions violation" in fault(b).lower(), "the status says so")
            assert {*listed(a)} == {A, B}
            stored = len(one.log.read_text())
            for subject in ("mx1.changes", "mx1.reports", "mx2.changes"):
                publish_as(b, f"sidecar.suppression.{subject}.x", b"{}")
            wait_until(lambda: one.log.read_text()[stored:].count("Publish Violation") == 3, "the server rejects all three")
            # An acknowledgement goes wherever the publisher wants: it can write over a state, and not make one.
            state = f"sidecar.suppression.mx1.changes.{key_of(A)}"
            publish_as(b, "sidecar.suppression.mx2.reports.x", b"{}", reply=state)
        with sharing(a):
            wait_until(lambda: _content(admin, state).get("node") == "mx1", "the node publishes its state again")
        third = node_of(tmp_path, "new", one, fleet={"credentials": seeds["admin"]})
        with sharing(third):
            wait_for({A, B}, third)


def _content(made: Settings, subject: str) -> dict[str, Any]:
    return json.loads(newest(made, subject))  # type: ignore[no-any-return]


def config_of(made: Settings, one: Server) -> Path:
    """Write the settings of a node into a file, for commands."""
    path = made.state_directory / "sidecar.toml"
    path.write_text(
        f'state_directory = "{made.state_directory}"\n[journal]\ndirectory = "{made.journal.directory}"\n'
        f'[suppression]\ndatabase = "{list_of(made).database}"\n'
        f'[fleet]\nservers = "{one.url}"\nnode = "{made.state_directory.name}"\n'
    )
    return path


def sidecar(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["suppression", *arguments])


def test_commands_and_http(tmp_path: Path) -> None:
    """In the sandbox of the unit: changes by HTTP and by commands reach all nodes. All show where an entry came from."""
    with server() as one:
        a, b, _ = three(tmp_path, one)
        make_list_stream(a)
        section = f'[suppression]\n[fleet]\nservers = "{one.url}"\nnode = "mx9"\n[admin]\nsocket = "unix:admin"\n'
        unstarted = Program(settings=section + 'tokens = { operator = "token" }')
        unstarted.python = [str(SANDBOX), str(UNIT), sys.executable, *unstarted.python]
        (unstarted.directory / "token").write_text(TOKEN)
        (unstarted.directory / "token").chmod(0o600)
        with unstarted as program, sharing(a, b):
            config = config_of(a, one)
            wait_until(lambda: sidecar("list", "--config", str(config)).exit_code == 0, "the list exists")
            wait_until((program.directory / "state/suppression.db").exists, "the program has its list")
            _put(program, A)
            wait_until(lambda: A in listed(a) and A in listed(b), "the change is everywhere")
            made = sidecar("add", "--config", str(config), "--reason", "by phone", B)
            assert made.exit_code == 0, made.output
            wait_until(lambda: B in listed(b) and _get(program, B).get("entry"), "the change is everywhere")
            assert [one["node"] for one in _get(program, B)["events"]] == ["mx1"]
            assert json.loads(sidecar("show", "--config", str(config), "--json", A).stdout)["entry"]["nodes"] == ["mx9"]
            assert "mx9" in sidecar("show", "--config", str(config), A).stdout
            rows = sidecar("list", "--config", str(config)).stdout.splitlines()
            assert [row.split()[0] for row in rows if row.split()[-1] in {"mx1", "mx9"}] == [A, B]
            wait_until(lambda: _stats(config)["unpublished"] == 0, "all is published")
            by_node = {"mx1": 1, "mx9": 1}
            assert _stats(config) == {"node": "mx1", "unpublished": 0, "by_node": by_node, "behind_since": None, "fault": ""}
            text = sidecar("stats", "--config", str(config)).stdout
            assert "mx9" in text
            assert program.stop() == 0
        erased = sidecar("erase", "--config", str(config), A)
        assert "erased" in erased.output


def _stats(config: Path) -> Any:
    return json.loads(sidecar("stats", "--config", str(config), "--json").stdout)["fleet"]


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of the node works."""
    monkeypatch.setitem(sys.modules, "sidecar.fleet.suppression", None)
    (made, _, _) = three(tmp_path, Server(tmp_path, port=1))
    reader, _ = run._suppression(made)
    end = Event()
    thread = Thread(target=reader.run, args=(made, lambda seconds: end.wait(seconds) if seconds else end.is_set()))
    thread.start()
    try:
        add(made, A)
        wait_until(lambda: A in listed(made), "it is on the list")
    finally:
        end.set()
        thread.join()


def _ask(program: Program, method: str, address: str, body: object = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with closing(Unix(program.directory / "admin")) as connection:
        connection.request(method, f"/v1/suppression/{address}", None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
        assert response.status in {200, 201, 202, 204, 404}, content
        return json.loads(content) if content else {}


def _put(program: Program, address: str) -> None:
    _ask(program, "PUT", address, {"reason": "unsubscribed"})


def _get(program: Program, address: str) -> dict[str, Any]:
    return _ask(program, "GET", address)
