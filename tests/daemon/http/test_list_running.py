"""`sidecar run` with [admin] and [suppression]: reports, changes over HTTP, and tokens that change with a reload."""

import http.client
import json
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from sidecar.machine import name_of_user
from tests.daemon.http.test_access import OPERATOR, READER
from tests.daemon.http.test_running import Unix, answers
from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.suppression.test_process import bounce
from tests.wire.program import Program

LIST = "/v1/suppression"
NEW = "another-operator-of-the-tests-is-none-too"
SETTINGS = 'bounce_classifier = ["iana"]\n[suppression]\n[admin]\nsocket = "{}"\ntokens = {{ {} }}\n'


def write_token(folder: Path, role: str, text: str) -> None:
    (folder / role).write_text(text)
    (folder / role).chmod(0o600)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object = None, token: str = ""
) -> tuple[int, Any]:
    """Ask, and return the status and the JSON."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_the_life_of_a_list() -> None:
    """A real bounce is listed; an operator removes it; the record has the user; a new token counts after a reload."""
    program = Program(settings=SETTINGS.format("unix:admin", 'operator = "operator"'))
    write_token(program.directory, "operator", OPERATOR)
    with program:

        def operator(method: str, path: str, body: object = None, token: str = OPERATOR) -> tuple[int, Any]:
            return ask(Unix(program.directory / "admin"), method, path, body, token)

        wait_until(lambda: answers(program), "HTTP is served")
        bounce(program, b"gone")
        path = f"{LIST}/gone@example.net"
        wait_until(lambda: operator("GET", path, token="")[0] == 200, "the report is on the list")
        assert operator("DELETE", f"{path}?reason=fixed", token="")[0] == 401
        assert operator("DELETE", f"{path}?reason=fixed")[1]["entry"] is None
        assert operator("PUT", f"{LIST}/by-hand%40example.net", {"reason": "x"})[0] == 201
        lines = b"".join(one.read_bytes() for one in (program.directory / "state/journal").iterdir()).splitlines()
        made = [record for line in lines if (record := json.loads(line))["type"] == "Suppression"]
        assert {record["meta"]["by"] for record in made} == {f"operator over HTTP, user {name_of_user(0)}"}
        assert {record["nodeid"] for record in made} == {(program.directory / "state/node_id").read_text().strip()}

        write_token(program.directory, "operator", NEW)
        program.signal(signal.SIGHUP)
        wait_until(lambda: operator("DELETE", f"{path}?reason=fixed", token=NEW)[0] == 200, "the new token counts")
        wait_until(lambda: operator("GET", path)[0] == 401, "the old one does not")
        assert program.stop() == 0
        assert OPERATOR not in program.log.read_text()
        unfinished = [one for one in (program.directory / "state/journal").iterdir() if one.stat().st_mode & 0o222]
        assert not unfinished


def test_a_port() -> None:
    """With tokens each path but the health needs one."""
    port = free_port()
    program = Program(settings=SETTINGS.format(f"inet:127.0.0.1:{port}", 'reader = "reader", operator = "operator"'))
    write_token(program.directory, "reader", READER)
    write_token(program.directory, "operator", OPERATOR)
    with program:

        def status(path: str, token: str = "") -> int:
            try:
                return ask(http.client.HTTPConnection("127.0.0.1", port, timeout=120), "GET", path, token=token)[0]
            except ConnectionError:
                return 0

        wait_until(lambda: status("/readyz") == 200, "HTTP is served")
        wait_until(lambda: status(LIST, READER) == 200, "the list is served")
        assert [status(path) for path in (LIST, "/openapi.json", "/v1/listener-domain?domain=a")] == [401, 401, 401]
        assert [status(path, READER) for path in ("/openapi.json", "/v1/listener-domain?domain=a")] == [200, 200]


@pytest.mark.parametrize("has_tokens", [True, False])
def test_explanations(has_tokens: bool) -> None:
    """They look recipients up, but not for each user who reaches an open port."""
    port = free_port()
    tokens = 'reader = "reader", operator = "operator"' if has_tokens else ""
    settings = SETTINGS.format(f"inet:127.0.0.1:{port}", tokens).replace("[suppression]", '[suppression]\ncheck = "reject"')
    program = Program(settings=settings if has_tokens else settings.replace("tokens = {  }\n", ""))
    write_token(program.directory, "reader", READER)
    write_token(program.directory, "operator", OPERATOR)
    question = {"peer": "127.0.0.1", "from": "news@sender.example", "to": ["gone@example.net"]}
    with program:

        def explained() -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            return ask(connection, "POST", "/v1/explain", question, READER if has_tokens else "")[1]["recipients"][0]

        bounce(program, b"gone")
        list_file = program.directory / "state/suppression.db"
        wait_until(lambda: is_listed(list_file, "gone@example.net"), "the report is on the list")
        if has_tokens:
            wait_until(lambda: explained()["action"] == "reject", "the recipient is rejected")
            assert explained()["suppressed"]["reason"]
        else:
            assert explained()["action"] == "accept"


def is_listed(path: Path, address: str) -> bool:
    """Return True if the database has an address; False also if there is none yet, or it is being made."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute("SELECT 1 FROM entry WHERE address = ?", (address,)).fetchone() is not None
    return False
