"""sidecar_verify.lua with a real sidecar: a node rejects recipients without a token, and reports that prove nothing."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.core.proof import trace
from sidecar.core.proof.address import tagged
from tests.core.proof.making import MAIL, bounce, secret
from tests.kumomta.endpoint import endpoint
from tests.kumomta.node import LISTENER, PEER, Answer, Node
from tests.mta.places import free_port
from tests.mta.processes import wait_until
from tests.wire.program import Program

DOMAINS = """\
["bounce.sender.example"]
log_oob = "LogThenDrop"
["proved.example"]
log_oob = "LogThenDrop"
["open.example"]
log_oob = "LogThenDrop"
"""
MILTER = """\
workers = 1
[admin]
socket = "inet:127.0.0.1:{port}"
[verify]
secret_files = ["{file}"]
batv = false
[verify.domain."bounce.sender.example"]
address = "required"
[verify.domain."proved.example"]
unverified = "reject"
"""
SENDER, PROVED = "news@bounce.sender.example", "news@proved.example"
JO = "jo@remote.example"
REQUIRED = {"code": 550, "text": "5.7.1 this address accepts only bounces of mail sent from here"}
REFUSED = {"code": 550, "text": "5.7.1 this report does not prove that it is about mail sent from here"}
LATER = {"code": 451, "text": "4.4.3 this report cannot be verified at present, try again later"}
NO_REPLY = {"action": "reject", "reply": "ok"}
FORGED = bounce(MAIL, JO)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sidecar that verifies reports."""
    file, port = tmp_path_factory.mktemp("keys") / "secret", free_port()
    file.write_bytes(secret().key)
    file.chmod(0o600)
    with Program(domains=DOMAINS, milter=MILTER.format(port=port, file=file)):
        found = f"http://127.0.0.1:{port}"
        with Node() as node:
            set_up(node, endpoint=found)
            wait_until(lambda: not node.do("verify_recipient", address="x@open.example").logged, "the sidecar answers")
        yield found


def set_up(node: Node, **options: Any) -> None:
    assert node.do("setup_verify", options={"timeout": "10s"} | options).error is None


def report(node: Node, content: bytes, *recipients: str, kind: str = "multipart/report; boundary=b", **meta: Any) -> Answer:
    """Fire smtp_server_data."""
    message = {"sender": "", "recipients": recipients, "header": [["Content-Type", kind]], "data": content.decode()}
    return node.do("verify_report", message=message, meta={"received_from": PEER, "received_via": LISTENER} | meta)


def test_recipients(url: str) -> None:
    """Only an address with a token is accepted in the domain that requires one; others are not asked about twice."""
    token = tagged(SENDER, secret(), time.time())
    with Node() as node:
        set_up(node, endpoint=url)
        expected = [
            (SENDER, REQUIRED),
            (token, None),
            (token.upper(), None),
            (token.replace("news+", "else+"), REQUIRED),
            ("postmaster@Bounce.Sender.Example", REQUIRED),
            ('"a@open.example"@bounce.sender.example', REQUIRED),
            (PROVED, None),
            ("x@elsewhere.example", None),
        ]
        found = [node.do("verify_recipient", address=address) for address, _ in expected]
    assert [(one.reject, one.error, one.logged) for one in found] == [(reply, None, {}) for _, reply in expected]


def test_reports(url: str) -> None:
    """A report that proves nothing is rejected where the domain says so; other mail is not even sent to the sidecar."""
    now = time.time()
    proof = trace.trace(secret(), now, message_id="<week-17@sender.example>", sender=PROVED, recipients=[JO])
    true = bounce(f"{trace.NAME}: {proof}\n{MAIL}", JO)
    with Node() as node:
        set_up(node, endpoint=url)
        assert report(node, FORGED, PROVED).reject == REFUSED
        assert report(node, FORGED, PROVED, kind="MULTIPART/(x)Report; boundary=b").reject == REFUSED
        for content, recipient in ((true, PROVED), (FORGED, "x@open.example"), (FORGED, tagged(SENDER, secret(), now))):
            answer = report(node, content, recipient)
            assert (answer.reject, answer.error, answer.logged) == (None, None, {})
        assert report(node, FORGED, PROVED, "x@open.example").reject is None  # one of them accepts it
        assert report(node, FORGED, PROVED, kind="text/plain").reject is None


def test_a_large_report(url: str) -> None:
    """What the sidecar does not read is rejected for good: it will not become smaller."""
    with Node() as node:
        set_up(node, endpoint=url)
        answer = report(node, FORGED + b"x" * 13_000_000, PROVED)
    assert answer.reject == {"code": 552, "text": "5.3.4 this report is too large to be verified"}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, {"address": "optional", "message": None}, "status 500"),
        (503, {"address": "optional"}, "status 503"),
        (200, b"<html>", ""),
        (200, ["optional"], ""),
        (200, {"address": "maybe", "recipients": [], "message": {"action": "reject", "reply": "550"}}, ""),
        (200, {"address": "required", "reply": "250 ok", "recipients": [], "message": NO_REPLY}, "no SMTP reply"),
    ],
)
@pytest.mark.parametrize("on_failure", ["tempfail", "accept"])
def test_no_answer(status: int, body: Any, reason: str, on_failure: str) -> None:
    """Without a right answer all is tempfailed, or accepted if the options say so; the log has the reason."""
    with endpoint() as server, Node() as node:
        server.status = status
        server.answer(body)
        set_up(node, endpoint=server.url, on_failure=on_failure)
        for answer in (node.do("verify_recipient", address=SENDER), report(node, FORGED, PROVED)):
            assert answer.error is None
            assert answer.reject == (LATER if on_failure == "tempfail" else None)
            (line,) = answer.logged
            assert line.startswith(f"sidecar: a report is not verified ({on_failure}): ")
            assert reason in line


def test_domains_are_cached() -> None:
    """Mail to domains without tokens costs one question for each domain and `ttl`; a domain with tokens one for each mail."""
    with endpoint() as server, Node() as node:
        server.answer({"address": "optional", "reply": None})
        set_up(node, endpoint=server.url, ttl="5s")
        for number in range(3):
            node.do("verify_recipient", address=f"u{number}@A.example")
        assert [one["address"] for one in server.asked] == ["x@a.example"]
        node.do("clock", now=6)
        node.do("verify_recipient", address="u@a.example")
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"endpoint": "unix:/s"}, "endpoint is no address of a server"),
        ({"ttl": 5}, "ttl is no duration"),
        ({"timeout": "soon"}, "timeout is no duration"),
        ({"on_failure": "file"}, "on_failure is neither"),
        ({"files": []}, "files is no option"),
    ],
)
def test_wrong_options(options: dict[str, Any], problem: str) -> None:
    """Each is named, `--validate` fails, and all mail is tempfailed."""
    with Node() as node:
        (found,) = node.do("verify_problems", options=options).result
        assert found.startswith(problem)
        node.do("setup_verify", options=options)
        for answer in (node.do("verify_recipient", address=SENDER), report(node, FORGED, PROVED)):
            assert (answer.reject, answer.logged) == (LATER, [f"sidecar: all mail is tempfailed: {found}"])
        assert node.do("validate").result["failed"] is True
