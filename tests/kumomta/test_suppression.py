"""sidecar_suppression.lua in a real Lua, with a real sidecar: recipients on its list are rejected."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.daemon.http.test_access import OPERATOR, READER
from tests.daemon.http.test_list_running import SETTINGS, write_token
from tests.kumomta.endpoint import Endpoint, endpoint
from tests.kumomta.node import Node
from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.suppression.test_process import bounce
from tests.wire.program import Program

GONE = "gone@example.net"
FOUND = "gone@example.net is on the suppression list: InvalidRecipient since 20"
NOT_CHECKED = "sidecar: a recipient is not checked"
TRY_AGAIN = {"code": 451, "text": "4.4.3 the suppression list cannot be asked at present, try again later"}
ENTRY = {"address": "x", "reason": "abuse", "source": "reports", "since": "2026-01-01T00:00:00Z", "expires": None}


class Checking(Node):
    """A node that checks its recipients."""

    def __init__(self, at: str, token: Path, **more: Any) -> None:
        super().__init__()
        self.options = {"endpoint": at, "token": str(token), "timeout": "10s", **more}

    def __enter__(self) -> Self:
        super().__enter__()
        assert self.do("setup_suppression", options=self.options).result == "done"
        return self

    def check(self, address: str) -> Any:
        """Check a recipient."""
        return self.do("check_recipient", address=address)


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def program(port: int) -> Iterator[Program]:
    """A sidecar with one address on its list."""
    one = Program(settings=SETTINGS.format(f"inet:127.0.0.1:{port}", 'reader = "reader", operator = "operator"'))
    write_token(one.directory, "reader", READER)
    write_token(one.directory, "operator", OPERATOR)
    with one:
        bounce(one, b"gone")
        with checking(one, port) as node:
            wait_until(lambda: node.check(GONE).reject is not None, "the bounce is on the list")
        yield one


def checking(program: Program, port: int, **more: Any) -> Checking:
    return Checking(f"http://127.0.0.1:{port}", program.directory / "reader", **{"ttl": "0s", **more})


def test_recipients(program: Program, port: int) -> None:
    """One on the list is rejected with the reason, in any case; others are accepted, hostile ones too."""
    with checking(program, port) as node:
        for address in (GONE, "GONE@EXAMPLE.NET"):
            rejected = node.check(address).reject
            assert (rejected["code"], rejected["text"].lower()[:6]) == (550, "5.7.1 ")
            assert FOUND.lower() in rejected["text"].lower()
        hostile = ("", "x" * 4096 + "@example.net", "\x1b[2J@example.net", '"a\\"b"@x.test', "ü@bücher.example")
        for address in ("free@example.net", *hostile):
            answer = node.check(address)
            assert (answer.result, answer.reject, answer.error, answer.logged) == ("accepted", None, None, {}), address


def test_messages(program: Program, port: int) -> None:
    """Each recipient of an injected message is checked, but not of reports."""
    message = {"sender": "news@example.com", "recipients": ["free@example.net", GONE], "header": {}}
    with checking(program, port) as node:
        rejected: Any = node.do("check_message", message=message).reject
        assert FOUND in rejected["text"]
        assert node.do("check_message", message={**message, "sender": ""}).result == "accepted"
        assert node.do("check_message", message={**message, "recipients": ["free@example.net"]}).result == "accepted"


def test_logging(program: Program, port: int) -> None:
    with checking(program, port, check="log") as node:
        answer = node.check(GONE)
        assert (answer.result, len(answer.logged)) == ("accepted", 1)
        assert answer.logged[0].startswith(f"sidecar: accepted, but {FOUND}")


def test_the_cache(program: Program, port: int) -> None:
    """An answer is cached for a short time, and a token is read again after a minute."""
    with checking(program, port, ttl="2s") as node:
        assert node.check(GONE).reject is not None
        (program.directory / "reader").rename(program.directory / "away")
        node.do("clock", now=1)
        assert node.check(GONE).reject is not None
        node.do("clock", now=61)
        failed = node.check(GONE)
        assert (failed.result, failed.logged[0].startswith(NOT_CHECKED)) == ("accepted", True)
        (program.directory / "away").rename(program.directory / "reader")
        node.do("clock", now=200)
        assert node.check(GONE).reject is not None


@pytest.fixture
def other() -> Iterator[Endpoint]:
    with endpoint() as one:
        yield one


BAD: list[tuple[int, Any]] = [
    (200, "null"),
    (200, {"suppressed": None}),
    (200, {"suppressed": [7]}),
    (200, {"suppressed": [{"address": "x"}]}),
    (401, {"error": "The token is not one of admin.tokens."}),
    (503, {"error": "Not now."}),
    (200, b"{"),
]


@pytest.mark.parametrize(("status", "body"), BAD)
@pytest.mark.parametrize("on_failure", ["accept", "tempfail"])
def test_no_answer(other: Endpoint, tmp_path: Path, on_failure: str, status: int, body: Any) -> None:
    """Without a right answer mail is accepted or tempfailed, by choice, and the log says why in one line."""
    (tmp_path / "token").write_text(READER)
    other.status = status
    other.answer(body)
    with Checking(other.url, tmp_path / "token", on_failure=on_failure) as node:
        answer = node.check(GONE)
        assert (answer.reject, answer.result) == ((TRY_AGAIN, None) if on_failure == "tempfail" else (None, "accepted"))
        assert answer.logged[0].startswith(f"{NOT_CHECKED} ({on_failure}): ")
        assert "\n" not in answer.logged[0]


@pytest.mark.parametrize("mood", ["hangs up", "breaks off", "silent"])
def test_faults_of_the_network(other: Endpoint, tmp_path: Path, mood: str) -> None:
    """One question is asked while the failure is cached; then the sidecar can answer again."""
    (tmp_path / "token").write_text(READER)
    other.mood = mood
    with Checking(other.url, tmp_path / "token", timeout="200ms") as node:
        assert [node.check(GONE).logged[0][: len(NOT_CHECKED)] for _ in range(5)] == [NOT_CHECKED] * 5
        assert len(other.asked) == 1
        other.mood = "well"
        other.answer({"suppressed": [ENTRY | {"reason": "by hand\r\n250 ok\x1b" + "x" * 900}]})
        node.do("clock", now=3)
        reply = node.check(GONE).reject["text"]
        assert "by hand?250 ok?xxx" in reply
        assert (len(reply) < 500, reply.isascii(), reply.isprintable()) == (True, True, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "token is missing"),
        ({"token": "t", "endpoint": "unix:/s"}, "endpoint is no address"),
        ({"token": "t", "ttl": 5}, "ttl is no duration"),
        ({"token": "t", "timeout": "soon"}, "timeout is no duration"),
        ({"token": "t", "check": "off"}, "check is neither"),
        ({"token": "t", "on_failure": "reject"}, "on_failure is neither"),
        ({"token": "t", "Token": "t"}, "Token is no option"),
    ],
)
def test_wrong_options(options: dict[str, Any], said: str) -> None:
    """Mail is not checked, the log says so each time, and --validate fails."""
    with Node() as node:
        (problem,) = node.do("suppression_problems", options=options).result
        assert (said in problem, problem.endswith(".")) == (True, True)
        assert node.do("setup_suppression", options=options).result == "done"
        answer = node.do("check_recipient", address=GONE)
        assert (answer.result, answer.logged) == ("accepted", [f"sidecar: no recipient is checked: {problem}"])
        validated = node.do("validate").result
        assert (validated["failed"], validated["printed"]) == (
            True,
            ["Issues found with sidecar_suppression:", f" - {problem}"],
        )


def test_the_policy_with_a_token(program: Program, port: int) -> None:
    """sidecar.lua sends a token, too."""
    at = f"http://127.0.0.1:{port}"
    with Node(endpoint=at, ttl="0s", timeout="10s", token=str(program.directory / "reader")) as node:
        assert node.ask("bounce.example").result["log_oob"] == "LogThenDrop"
    with Node(endpoint=at, ttl="0s", timeout="10s") as node:
        assert json.dumps(node.ask("bounce.example").logged).count("status 401") == 1


@pytest.mark.parametrize("has_token", [True, False])
def test_verifying_with_a_token(program: Program, port: int, has_token: bool) -> None:
    """So does sidecar_verify.lua, for recipients and for reports."""
    options = {"endpoint": f"http://127.0.0.1:{port}", "timeout": "10s"}
    message = {
        "sender": "",
        "recipients": ["x@bounce.example"],
        "header": [["Content-Type", "multipart/report"]],
        "data": "Content-Type: multipart/report\r\n\r\n",
    }
    with Node() as node:
        node.do("setup_verify", options=options | ({"token": str(program.directory / "reader")} if has_token else {}))
        recipient = node.do("verify_recipient", address="x@bounce.example")
        meta = {"received_from": "203.0.113.9:4444", "received_via": "10.1.1.1:25"}
        report = node.do("verify_report", message=message, meta=meta)
    if has_token:
        assert (recipient.reject, recipient.logged, report.error) == (None, {}, None)
        assert report.reject is not None
        assert report.reject["code"] == 550  # the sidecar has read it: it is no report
    else:
        assert ["status 401" in json.dumps(one.logged) for one in (recipient, report)] == [True, True]
