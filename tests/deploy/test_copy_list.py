"""deploy/suppression/copy_list.py keeps the table of an application like the list of a real sidecar."""

import http.client
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.daemon.http.test_access import OPERATOR, READER
from tests.daemon.http.test_list_running import SETTINGS, ask, write_token
from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.suppression.test_process import bounce
from tests.wire.program import Program

SCRIPT = ROOT / "deploy/suppression/copy_list.py"
LIST = "/v1/suppression"
pytestmark = pytest.mark.daemon


def copied(folder: Path) -> dict[str, str]:
    with closing(sqlite3.connect(folder / "app.db")) as database:
        return dict(database.execute("SELECT address, reason FROM suppressed"))


def test_the_table_follows_the_list() -> None:
    """Additions, removals, a list that was made again, and a sidecar that is away."""
    port = free_port()
    program = Program(settings=SETTINGS.format(f"inet:127.0.0.1:{port}", 'reader = "reader", operator = "operator"'))
    folder = program.directory
    write_token(folder, "reader", READER)
    write_token(folder, "operator", OPERATOR)

    def update(name: str = "reader") -> str:
        command = [sys.executable, str(SCRIPT), f"http://127.0.0.1:{port}", str(folder / name), str(folder / "app.db")]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    def operator(method: str, path: str, body: object = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        return ask(connection, method, f"{LIST}/{path}", body, OPERATOR)[0]

    def listed() -> dict[str, Any] | None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            status, page = ask(connection, "GET", LIST, token=READER)
        except ConnectionError:
            return None
        return {one["address"]: one["reason"] for one in page["entries"]} if status == 200 else None

    with program:
        bounce(program, b"gone")
        wait_until(lambda: listed() == {"gone@example.net": "InvalidRecipient"}, "the bounce is on the list")
        assert (update(), copied(folder)) == ("", listed())
        assert operator("PUT", "o'neil@example.net", {"reason": "it's so"}) == 201
        assert (update(), copied(folder)) == ("", listed())
        assert operator("DELETE", "gone@example.net?reason=fixed") == 200
        assert (update(), copied(folder)) == ("", {"o'neil@example.net": "it's so"})
        write_token(folder, "wrong", OPERATOR[::-1])
        assert '401 {"error":"The token is not one of admin.tokens' in update("wrong")
        write_token(folder, "two", f"{READER}\n{READER}")
        assert update("two").endswith("more than one line\n")
        assert program.stop() == 0
        assert "Connection refused" in update()
        assert update().count("\n") == 1
        assert copied(folder) == {"o'neil@example.net": "it's so"}
        for path in (folder / "state").glob("suppression.db*"):
            path.unlink()
        # The journal still has the bounce, and the removal; a new list has other revisions.
        program.start()
        bounce(program, b"later")
        wait_until(lambda: len(listed() or {}) == 2, "the list is made again")
        assert (update(), copied(folder)) == ("", listed())
