"""`sidecar run` with [admin]: the HTTP process, its generations, and what it survives."""

import http.client
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sidecar.daemon.milter import ENGINES
from tests import ROOT
from tests.daemon.process.starting import quick
from tests.daemon.process.test_running import MORE_DOMAINS, reload, unstarted
from tests.mta.processes import session_members, wait_until
from tests.wire.client import CONTINUE
from tests.wire.program import Program
from tests.wire.test_program import OOB

ADMIN = 'workers = 2\n[admin]\nsocket = "unix:admin"'


class Unix(http.client.HTTPConnection):
    """A connection to a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        # With a timeout, connect fails at once while the queue of the listening socket is full.
        self.sock.connect(str(self._path))
        self.sock.settimeout(120)


def ask(program: Program, path: str) -> tuple[int, dict[str, str], Any]:
    """Ask on a new connection."""
    with closing(Unix(program.directory / "admin")) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        kind = response.getheader("content-type", "")
        return response.status, dict(response.getheaders()), json.loads(body) if "json" in kind else body.decode()


def relay_to(program: Program, domain: str) -> bool | None:
    entry = ask(program, f"/v1/listener-domain?domain={domain}")[2]
    return None if entry is None else bool(entry["relay_to"])


def answers(program: Program) -> bool:
    try:
        return ask(program, "/readyz")[0] == 200
    except OSError:
        return False


def samples(program: Program) -> dict[str, float]:
    lines = ask(program, "/metrics")[2].splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def admin_pid(program: Program) -> int:
    """Return the process that is not a worker."""
    status = json.loads((program.directory / "state" / "status.json").read_text())
    workers = {worker["pid"] for worker in status["workers"]}
    (pid,) = set(session_members(program.pid)) - workers - {program.pid}
    return pid


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    with Program(milter=ADMIN, engine=getattr(request, "param", "direct")) as program:
        wait_until(lambda: answers(program), "the policy is served")
        yield program


def test_it_serves_the_policy_that_the_workers_have(program: Program) -> None:
    assert (relay_to(program, "relay.example"), relay_to(program, "bounce.example"), relay_to(program, "x.example")) == (
        True,
        False,
        None,
    )


def test_without_the_section_nothing_is_served() -> None:
    with Program() as program:
        assert len(session_members(program.pid)) == 3
        assert not (program.directory / "admin").exists()


def test_neither_workers_nor_the_supervisor_pay_for_the_http_server() -> None:
    """Only its own process imports it."""
    program = "import sys, sidecar.daemon.process, sidecar.daemon.process.worker; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert not {"starlette", "h11", "prometheus_client", "sidecar.daemon.http"} & set(loaded)
    assert "sidecar.daemon.metrics" in loaded


def test_a_reload_is_served_and_no_client_notices(program: Program) -> None:
    """A new generation answers before the old one ends, and no connection is closed while a question is on its way.

    Each answer has the revision of the settings.
    """
    before = ask(program, "/healthz")[1]["sidecar-revision"]
    program.write(domains=MORE_DOMAINS)
    # This client does not ask again when a connection breaks.
    kept = [Unix(program.directory / "admin") for _ in range(4)]
    revisions: list[str] = []
    deadline = time.monotonic() + 120
    while set(revisions[-len(kept) :]) <= {before}:
        for connection in kept:
            connection.request("GET", "/v1/listener-domain?domain=relay.example")
            response = connection.getresponse()
            assert (response.status, response.read()[:16]) == (200, b'{"relay_to":true')
            revisions.append(response.headers["sidecar-revision"])
        if len(revisions) == len(kept):
            program.signal(signal.SIGHUP)
        assert time.monotonic() < deadline
    wait_until(lambda: len(session_members(program.pid)) == 4, "the old generation has ended")
    assert relay_to(program, "more.example") is True
    assert samples(program)['sidecar_reloads_total{outcome="succeeded"}'] == 1
    for connection in kept:
        connection.close()


def test_a_failed_reload_is_counted_and_changes_nothing(program: Program) -> None:
    program.write(domains="[")
    reload(program, "the reload failed")
    assert relay_to(program, "relay.example") is True
    wait_until(lambda: samples(program)['sidecar_reloads_total{outcome="failed"}'] == 1, "the failure is counted")


def test_when_it_dies_mail_is_still_judged_and_another_one_starts(program: Program) -> None:
    died = admin_pid(program)
    workers = program.workers() - {died}
    os.kill(died, signal.SIGKILL)
    wait_until(lambda: program.says("the process for admin.socket was killed by SIGKILL"), "its death is logged")
    assert program.answers()
    wait_until(lambda: answers(program), "another one serves")
    assert admin_pid(program) != died
    assert workers < program.workers()


def test_one_that_hangs_is_killed_and_replaced() -> None:
    with quick({"systemd.ASK_SECONDS": 0.1, "workers.ANSWER_WITHIN": 0.5}, milter=ADMIN) as program:
        program.start()
        wait_until(lambda: answers(program), "the policy is served")
        hung = admin_pid(program)
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: program.says("gives no sign of life"), "it is missed")
        wait_until(lambda: answers(program), "another one serves")
        assert admin_pid(program) != hung
        assert program.answers()


def test_it_ends_with_the_supervisor_however_that_ends(program: Program) -> None:
    assert program.stop() == 0
    assert not (program.directory / "admin").exists()
    with Program(milter=ADMIN) as other:
        wait_until(lambda: answers(other), "the policy is served")
        session = other.kill_supervisor()
        wait_until(lambda: not session_members(session), "nothing of it is left")


def test_a_silent_client_does_not_keep_it_from_ending(program: Program) -> None:
    with closing(Unix(program.directory / "admin")) as idle, closing(Unix(program.directory / "admin")) as half:
        idle.connect()
        half.connect()
        half.sock.send(b"POST /v1/explain HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < 10


IMPATIENT = """
from sidecar.daemon.http import server
from sidecar.cli import main
server.PATIENCE_SECONDS = 0.5
main()
"""


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 500],
    ids=["sends nothing", "stops in its head", "asks much and reads nothing"],
)
def test_patience_has_an_end(said: bytes) -> None:
    """A client that does not continue loses its connection; others are answered meanwhile."""
    with unstarted(milter=ADMIN) as program:
        program.python = ["-c", IMPATIENT]
        program.start()
        wait_until(lambda: answers(program), "the policy is served")
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(program.directory / "admin"))
            one.sendall(said)
            poll = select.poll()
            poll.register(one, 0)
            assert answers(program)
            assert poll.poll(10_000)


def test_posts_without_a_body_keep_no_one_out(program: Program) -> None:
    """A question is answered, whatever number of connections announce a body and send none."""
    head = b"POST /v1/explain HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    try:
        for number, one in enumerate(silent):
            one.connect(str(program.directory / "admin"))
            one.sendall(head + b"{" * (number % 2))
        # Requests are read in the order of their arrival.
        assert answers(program)
        with closing(Unix(program.directory / "admin")) as connection:
            question = {"peer": "203.0.113.9", "from": "", "to": ["x@bounce.example"]}
            connection.request("POST", "/v1/explain", json.dumps(question))
            assert connection.getresponse().status == 200
    finally:
        for one in silent:
            one.close()


def test_many_silent_clients_keep_no_one_out(program: Program) -> None:
    """The one that was silent for the longest time is closed."""
    silent = [socket.socket(socket.AF_UNIX) for _ in range(450)]
    try:
        for one in silent:
            one.connect(str(program.directory / "admin"))
        for _ in range(20):
            assert ask(program, "/readyz")[0] == 200
        silent[0].settimeout(120)
        assert silent[0].recv(1) == b""
    finally:
        for one in silent:
            one.close()


@pytest.mark.parametrize(
    "said",
    [b"\0\0\0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000, b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["not HTTP", "too long", "not ASCII"],
)
def test_bytes_that_are_not_http_get_a_sentence(program: Program, said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(120)
        one.connect(str(program.directory / "admin"))
        one.sendall(said)
        answer = b"".join(iter(lambda: one.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"].startswith("Invalid HTTP request received: ")


def test_the_socket_has_the_rights_of_the_settings() -> None:
    with Program(milter=f'{ADMIN}\nsocket_mode = "0600"') as program:
        assert stat.S_IMODE((program.directory / "admin").stat().st_mode) == 0o600


def test_a_socket_that_is_taken_stops_the_start(program: Program) -> None:
    with unstarted(milter=f'workers = 1\n[admin]\nsocket = "unix:{program.directory / "admin"}"') as other:
        process = other.launch()
        assert process.wait(timeout=120) == 1
        assert other.says("another sidecar is listening")
    assert answers(program)


@pytest.mark.parametrize("program", list(ENGINES), indirect=True)
def test_everything_is_counted(program: Program) -> None:
    """The counts are those of all workers, and remain when a worker dies."""
    with program.mta() as mta:
        mta.begin()
        assert mta.envelope(b"<>", b"<x@bounce.example>") == [CONTINUE]
        mta.content(OOB)
        assert mta.envelope(b"<s@x.example>", b"<x@elsewhere.example>") != [CONTINUE]
        assert samples(program)["sidecar_sessions"] == 1
        mta.quit()
    found = samples(program)
    assert found['sidecar_verdicts_total{action="continue",reason="deferred",stage="connect"}'] == 1
    assert found['sidecar_verdicts_total{action="accept",reason="log_oob",stage="rcpt"}'] == 1
    assert found['sidecar_verdicts_total{action="reject",reason="relaying_not_permitted",stage="rcpt"}'] == 1
    assert found['sidecar_verdicts_total{action="discard",reason="oob",stage="message"}'] == 1
    assert found['sidecar_reports_total{kind="oob"}'] == 1
    assert found['sidecar_bounces_total{class="Uncategorized"}'] >= 1
    forms = {name: value for name, value in found.items() if name.startswith("sidecar_report_forms_total") and value}
    assert [name.partition("{")[2] for name in forms] == ['form="complete",reporter="example.net"}']
    assert found['sidecar_answer_seconds_count{step="rcpt"}'] == 2
    assert found['sidecar_answer_seconds_count{step="end_of_message"}'] == 1
    assert found['sidecar_journal_write_seconds_count{durable="true"}'] == 1
    assert found['sidecar_journal_write_seconds_count{durable="false"}'] == 1
    assert found["sidecar_journal_last_write_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
    assert found['sidecar_workers{state="ready"}'] == 2
    wait_until(lambda: samples(program)["sidecar_sessions"] == 0, "the session is over")
    os.kill(next(iter(program.workers() - {admin_pid(program)})), signal.SIGKILL)
    wait_until(lambda: samples(program)["sidecar_worker_restarts_total"] == 1, "the death is counted")
    assert samples(program)['sidecar_reports_total{kind="oob"}'] == 1


def test_status_shows_the_socket(program: Program) -> None:
    status = json.loads((program.directory / "state" / "status.json").read_text())
    assert status["admin_socket"] == f"unix:{program.directory / 'admin'}"
