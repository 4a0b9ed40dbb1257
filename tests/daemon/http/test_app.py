"""The answers of each path, and the rejected requests."""

import asyncio
import base64
import json
import math
import threading
import time
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Question, encode_explanation
from sidecar.core.proof.address import check_address, tagged
from sidecar.core.proof.sign import sign
from sidecar.core.session.replies import ADDRESS_REQUIRED
from sidecar.core.settings.keys import Keys
from sidecar.core.settings.proof import VerifyRule, VerifySettings
from sidecar.core.settings.values import ANY_LISTENER
from sidecar.daemon.http import app as pages
from sidecar.daemon.http import bodies
from sidecar.daemon.http.questions import read_explain_question
from sidecar.daemon.http.threads import EXPLAINING_LIMIT
from sidecar.daemon.metrics import INFINITE, Memory
from tests.building import entry
from tests.core.proof.making import check_trace, secret
from tests.daemon.http.asking import DOMAINS, GONE, NEVER, app, ask, asked, plan

NOTHING = {"relay_to": False, "relay_from": [], "relay_from_authz": [], "log_oob": "Ignore", "log_arf": "Ignore"}
DOMAIN = "/v1/listener-domain"
OWN = "10.1.1.1:25"
EXTERNAL = ip_address("203.0.113.9")
OOB = (
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
    b"Final-Recipient: rfc822; u@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ({"domain": "relay.example"}, NOTHING | {"relay_to": True}),
        ({"domain": "RELAY.Example."}, NOTHING | {"relay_to": True}),
        ({"domain": "bounce.example", "listener": "[::1]:25"}, NOTHING | {"log_oob": "LogThenDrop"}),
        (
            {"domain": "send.example", "peer": "10.0.0.1:4444", "authz_id": "daniel"},
            NOTHING
            | {"relay_from": ["10.0.0.0/24", "2001:db8::/32"], "relay_from_authz": ["daniel"], "log_arf": "LogThenRelay"},
        ),
        ({"domain": "a.b.wild.example"}, NOTHING | {"log_oob": "LogThenRelay"}),
        ({"domain": "wild.example"}, None),
        ({"domain": ""}, None),
        ({"domain": "no domain, but text\r\n\0"}, None),
    ],
)
def test_the_answer_has_the_parameters_of_the_entry_or_is_null(query: dict[str, str], answer: Any) -> None:
    """The peer and its name do not matter: KumoMTA itself applies relay_from."""
    found = ask(app(), DOMAIN, query)
    assert (found.status, found.value) == (200, answer)
    assert (found.headers["cache-control"], found.headers["sidecar-revision"]) == ("max-age=5", "abc123")


@settings(deadline=None)
@given(
    domain=st.text(max_size=300) | st.sampled_from([one.domain.replace("*", "x.y") for one in DOMAINS]),
    listener=st.sampled_from([OWN, "10.1.1.2:25"]),
)
def test_the_answer_is_what_the_policy_looks_up(domain: str, listener: str) -> None:
    """A text that is not a domain name finds the entry "*", as in an address."""
    domains = [*DOMAINS, entry("*", log_arf="LogThenDrop"), entry("relay.example", OWN, log_oob="LogThenDrop")]
    value = ask(app(domains), DOMAIN, {"domain": domain, "listener": listener}).value
    policy = plan(domains).policy
    from_address = policy.lookup(listener, policy.at_rcpt(EXTERNAL, listener, None, "", f"x@{domain}").domain)
    if "@" not in domain and '"' not in domain:
        assert value is not None
        assert from_address is not None
        assert (value["relay_to"], value["log_oob"], value["log_arf"]) == (
            from_address.relay_to,
            from_address.log_oob.value,
            from_address.log_arf.value,
        )


def test_without_a_listener_there_is_no_answer_if_listeners_differ() -> None:
    """The milter answers 451 then; to use the rules of another listener would be a guess."""
    found = app([*DOMAINS, entry("relay.example", OWN, log_oob="LogThenDrop")])
    assert ask(found, DOMAIN, {"domain": "relay.example", "listener": OWN}).value == NOTHING | {"log_oob": "LogThenDrop"}
    refused = ask(found, DOMAIN, {"domain": "relay.example"})
    assert refused.status == 409
    assert refused.error == "The question cannot be answered: some rules hold on one listener only: name the listener."


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "domain is missing"),
        ("domain=a&domain=b", "more than once"),
        ("domain=a&relay=1", '"relay" is not a parameter'),
        ("domain=a&listener=25", "'25'"),
        ("domain=a&listener=10.0.0.1", "no port"),
        ("domain=a&peer=someone", "'someone'"),
        ("domain=a&peer=1.2.3.4:99999", "highest"),
        (f"domain={'a' * 1025}", "<= 1024"),
        ("domain=a&%1b%5b2J=1", r"\u001b"),
    ],
)
def test_a_wrong_query_gets_a_sentence(query: str, said: str) -> None:
    """An unknown parameter is never ignored."""
    found = ask(app(), DOMAIN, query)
    assert found.status == 400
    assert said in found.error
    assert found.error.endswith(".")
    assert found.error.isprintable()
    assert found.headers["cache-control"] == "no-store"


# --- explain

QUESTION = {"peer": "203.0.113.9:4444", "from": "", "to": ["x@bounce.example"]}


def put(question: object, **how: Any) -> Any:
    body = question if isinstance(question, bytes) else json.dumps(question).encode()
    return ask(app(**how), "/v1/explain", method="POST", pieces=[body])


@pytest.mark.parametrize(
    ("message", "content"),
    [({}, None), ({"message_text": OOB.decode()}, OOB), ({"message_base64": base64.b64encode(OOB).decode()}, OOB)],
    ids=["none", "text", "base64"],
)
def test_explain_answers_as_the_command_does(message: dict[str, str], content: bytes | None) -> None:
    """It is the same code and the same object."""
    served = plan()
    question = msgspec.convert(QUESTION, Question)
    expected = Evaluator(served.settings).explain(question, content, clock=lambda: 0.0, new_id=uuid4)
    found = put(QUESTION | message).value
    wanted = json.loads(encode_explanation(expected))
    assert found["message"].keys() == wanted["message"].keys()
    records, others = found["message"].pop("records"), wanted["message"].pop("records")
    assert found == wanted
    assert [record["type"] for record in records] == [record["type"] for record in others]
    assert (content is None) == (not records)


def test_no_file_that_a_client_names_is_read(tmp_path: Path) -> None:
    """The questions of the command name a path; here such a question is rejected."""
    path = tmp_path / "oob.eml"
    path.write_bytes(OOB)
    found = put(QUESTION | {"message": str(path)})
    assert (found.status, "No file is read here" in found.error) == (400, True)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (b"", "not a question"),
        (b"{", "not a question"),
        (b"[]", "not a question"),
        (b"[" * 100_000, "not a question"),
        (b"\xff", "not a question"),
        ({}, "peer"),
        (QUESTION | {"to": "x@y"}, "array"),
        (QUESTION | {"to": ["x@y"] * 1001}, "<= 1000"),
        (QUESTION | {"bcc": "x"}, "bcc"),
        (QUESTION | {"peer": "someone"}, "someone"),
        (QUESTION | {"helo": "\x1b[2J", "peer": "\x1b"}, r"\x1b"),
        (QUESTION | {"message_base64": "%"}, "base64"),
        (QUESTION | {"message_base64": "", "message_text": ""}, "go together"),
        (b'{"peer": "203.0.113.9", "from": "\\ud800x", "to": []}', "not a question"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_body_gets_a_sentence(question: object, said: str) -> None:
    """The sentence is printable."""
    found = put(question)
    assert found.status == 400
    assert said in found.error
    assert found.error.isprintable()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
    )
)
def test_any_json_gets_an_answer(value: object) -> None:
    """It is never a fault of the program."""
    assert put(value).status == 400


@settings(deadline=None)
@given(st.fixed_dictionaries({"from": st.text(), "to": st.lists(st.text(), max_size=4)}, optional={"message_text": st.text()}))
def test_any_envelope_and_message_get_an_answer(question: dict[str, Any]) -> None:
    """Addresses of external hosts are never a fault of the program."""
    assert put(QUESTION | question).status == 200


def test_a_body_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read to its end."""
    monkeypatch.setattr(bodies, "BODY_LIMIT", 1024)
    for path in ("/v1/explain", "/v1/sign"):
        found = ask(app(listening="unix:/s"), path, method="POST", pieces=[b"x" * 600, b"x" * 600, NEVER])
        assert (found.status, "more than 1.0 KiB." in found.error) == (413, True)


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow client cannot wait for ever."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    assert ask(app(), "/v1/explain", method="POST", pieces=[b"{", NEVER]).status == 408


def test_an_incomplete_body_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Clients that hang up do not fill the log, and do not keep others out."""
    found = app()
    for _ in range(EXPLAINING_LIMIT + 1):
        assert ask(found, "/v1/explain", method="POST", pieces=[b"{", GONE]).status == 400
    assert capsys.readouterr().err == ""


def test_only_a_few_questions_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is rejected until they are answered. A question for a domain is answered meanwhile."""
    going_on = threading.Event()

    def slowly(body: bytes) -> Any:
        assert going_on.wait(120)
        return read_explain_question(body)

    monkeypatch.setattr(pages, "read_explain_question", slowly)
    found, question = app(), [json.dumps(QUESTION).encode()]

    async def many() -> tuple[Any, Any]:
        try:
            slow = [asked(found, "/v1/explain", method="POST", pieces=question) for _ in range(EXPLAINING_LIMIT)]
            waiting = [asyncio.create_task(one) for one in slow]
            # Each runs until it waits for its answer.
            await asyncio.sleep(0)
            one_more = await asked(found, "/v1/explain", method="POST", pieces=question)
            domain = await asked(found, DOMAIN, {"domain": "relay.example"})
        finally:
            going_on.set()
        assert [(await one).status for one in waiting] == [200] * len(waiting)
        return one_more, domain

    one_more, domain = asyncio.run(many())
    assert (one_more.status, one_more.headers["retry-after"], domain.status) == (503, "1", 200)
    assert ask(found, "/v1/explain", method="POST", pieces=question).status == 200


def test_clients_that_send_no_body_keep_no_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete question is answered, whatever the number of such requests."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
    found = app()

    async def many() -> Any:
        silent = [asked(found, "/v1/explain", method="POST", pieces=[NEVER]) for _ in range(5 * EXPLAINING_LIMIT)]
        slow = [asked(found, "/v1/explain", method="POST", pieces=[b"{", NEVER]) for _ in range(5 * EXPLAINING_LIMIT)]
        waiting = [asyncio.create_task(one) for one in (*silent, *slow)]
        await asyncio.sleep(0)
        answer = await asked(found, "/v1/explain", method="POST", pieces=[json.dumps(QUESTION).encode()])
        assert [(await one).status for one in waiting] == [408] * len(waiting)
        return answer

    assert asyncio.run(many()).status == 200


def test_all_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bodies that were silent for the longest time are given up; one that is still arriving is read."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 60)
    monkeypatch.setattr(bodies, "BODIES_LIMIT", 1000)
    found = app()
    question = json.dumps(QUESTION).encode()
    assert len(question) < 400

    async def many() -> Any:
        slow = [asked(found, "/v1/explain", method="POST", pieces=[b"x" * 400, NEVER]) for _ in range(3)]
        waiting = [asyncio.create_task(one) for one in slow]
        first, second, third = waiting
        # The third body was too much.
        assert (await first).status == 503
        answer = await asked(found, "/v1/explain", method="POST", pieces=[bytes([byte]) for byte in question + b" " * 300])
        assert (await second).headers["retry-after"] == "1"
        assert not third.done()
        third.cancel()
        return answer

    assert asyncio.run(many()).status == 200


def test_a_body_whose_time_is_over_in_the_same_moment_is_no_fault_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODIES_LIMIT", 10)
    all_bodies = bodies.Bodies()

    async def both() -> None:
        loop, counted = asyncio.get_running_loop(), asyncio.Event()

        def count_another() -> None:
            all_bodies._count(asyncio.Timeout(None), 8)
            counted.set()

        with suppress(TimeoutError):
            async with asyncio.timeout(None) as late:
                all_bodies._count(late, 8)
                late.reschedule(loop.time())
                # After the timeout has fired, before this task gets it.
                loop.call_soon(count_another)
                await asyncio.sleep(60)
        assert late.expired()
        assert counted.is_set()

    asyncio.run(both())


# --- which clients get an answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8894", 200),
        ("LOCALHOST:9", 200),
        ("[::1]:8894", 200),
        ("evil.example:8894", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.0.0.1:8894:1", 403),
        ("127.0.0.1, evil.example", 403),
        ("", 403),
    ],
)
def test_another_host_name_is_rejected(host: str, status: int) -> None:
    """A page in a browser on this machine asks for its own name, which resolves to 127.0.0.1."""
    assert ask(app(), "/healthz", headers={"host": host}).status == status


def test_only_on_a_unix_socket_any_host_name_is_accepted() -> None:
    """No browser reaches one, and clients write any name there."""
    assert ask(app(), "/healthz", headers={}).status == 403
    unix = app(listening="unix:/run/sidecar/admin.sock")
    assert ask(unix, "/healthz", headers={}).status == 200
    assert ask(unix, "/healthz", headers={"host": "whoever"}).status == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8894"])
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/v1/explain"])
def test_a_request_of_a_page_is_rejected(path: str, origin: str) -> None:
    """It has an Origin header."""
    found = ask(app(), path, headers={"host": "127.0.0.1", "origin": origin})
    assert (found.status, found.error) == (
        403,
        "Pages in a browser are not permitted to ask here: ask without an Origin header.",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/healthz/", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/v1/%2e%2e/metrics", 404),
        ("POST", "/healthz", 405),
        ("GET", "/v1/explain", 405),
        ("DELETE", DOMAIN, 405),
        ("TRACE", "/metrics", 405),
    ],
)
def test_an_unknown_path_or_method_gets_a_sentence(method: str, path: str, status: int) -> None:
    """For a wrong method also the right ones."""
    found = ask(app(), path, method=method)
    assert found.status == status
    assert found.error.endswith(".")
    assert ("allow" in found.headers) == (status == 405)


def test_a_fault_is_a_sentence_and_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client gets no detail of the program."""
    monkeypatch.setattr(Memory, "totals", lambda _: 1 / 0)
    found = ask(app(), "/metrics")
    assert (found.status, found.error) == (500, "An unexpected fault: see the log of the sidecar.")
    assert "ZeroDivisionError" in capsys.readouterr().err


# --- health


def test_it_is_ready_while_a_worker_serves() -> None:
    """The supervisor publishes it."""
    memory = Memory()
    found = app(memory=memory)
    assert (ask(found, "/healthz").value, ask(found, "/readyz").status) == ({"alive": True}, 503)
    memory.publish({("workers", "ready"): 2})
    assert ask(found, "/readyz").value == {"ready": True, "workers": 2, "revision": "abc123"}


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0", "\xff;q=x"])
def test_prometheus_reads_the_metrics(accept: str) -> None:
    """It reads both formats."""
    memory = Memory()
    memory.publish({("workers", "ready"): 2, ("reloads", "succeeded"): 3, ("journal_time_left_seconds",): INFINITE})
    memory.reporters(memory.free([])).add("isp.example", "lost")
    found = ask(app(memory=memory), "/metrics", headers={"host": "localhost", "accept": accept})
    assert found.status == 200
    assert ("openmetrics" in found.headers["content-type"]) == found.body.endswith(b"# EOF\n")
    read = openmetrics if "openmetrics" in accept else parser
    families = read.text_string_to_metric_families(found.body.decode())
    samples = {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}
    assert samples["sidecar_workers", ("state", "ready")] == 2
    assert samples["sidecar_reloads_total", ("outcome", "succeeded")] == 3
    assert samples["sidecar_journal_time_left_seconds",] == math.inf
    assert samples["sidecar_report_forms_total", ("form", "lost"), ("reporter", "isp.example")] == 1
    assert samples["sidecar_report_forms_total", ("form", "lost"), ("reporter", "other")] == 0
    assert samples["sidecar_policy_info", ("revision", "abc123")] == 1
    assert samples["sidecar_policy_loaded_timestamp_seconds",] == 1_700_000_000.5


def test_a_client_cannot_ask_for_any_listener() -> None:
    """That name is internal."""
    assert ask(app(), DOMAIN, {"domain": "relay.example", "listener": ANY_LISTENER}).status == 400


SECRET = secret(b"the-secret-of-the-tests-is-no-secret")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("news@other.example", {"address": "optional", "reply": None}),
        ("news@Bounce.Example", {"address": "required", "reply": str(ADDRESS_REQUIRED)}),
        (tagged("news@bounce.example", SECRET, time.time()), {"address": "required", "reply": None}),
        ("@relay.example:" + tagged("news@bounce.example", SECRET, time.time()), {"address": "required", "reply": None}),
        (tagged("news@other.example", SECRET, time.time()), {"address": "optional", "reply": None}),
        ("", {"address": "optional", "reply": None}),
        ("x" * 1000 + "@bounce.example", {"address": "required", "reply": str(ADDRESS_REQUIRED)}),
    ],
    # Tokens are of today: each process of a test run must have the same names.
    ids=["optional", "none", "valid", "route", "another domain", "empty", "long"],
)
def test_recipient(address: str, expected: dict[str, str | None]) -> None:
    """A recipient needs a token where the domain requires one, and the reply is that of the milter."""
    verify = VerifySettings(secrets=(SECRET,), domains={"bounce.example": VerifyRule(requires_token=True)})
    assert ask(app(verify=verify), "/v1/recipient", {"address": address}).value == expected
    assert ask(app(), "/v1/recipient", {"address": address}).value == {"address": "optional", "reply": None}


def test_recipient_needs_an_address() -> None:
    assert ask(app(), "/v1/recipient").error == "address is missing: name the recipient."
    assert ask(app(), "/v1/recipient", {"address": "a@b", "domain": "b"}).status == 400


SIGN = "/v1/sign"


def test_signing() -> None:
    """The proofs are those of the milter, with the first secret."""
    to = app(listening="unix:/s", verify=VerifySettings(secrets=(SECRET, secret(b"another-secret-of-the-tests-is-none-too"))))
    question = {"sender": "news@example.com", "message_id": "<1@example.com>", "recipients": ["jo@remote.example"]}
    made = ask(to, SIGN, method="POST", pieces=[json.dumps(question).encode()])
    assert (made.status, made.value["why"]) == (200, None)
    keys, now = Keys(secrets=(SECRET,)), time.time()
    assert check_address(made.value["sender"], keys, now).holds
    head = f"Message-ID: <1@example.com>\nX-Sidecar-Trace: {made.value['trace']}".encode()
    proved = check_trace(head, "news@example.com", ("jo@remote.example",), keys, now)
    assert proved.recipients == ("jo@remote.example",)
    unsigned = ask(to, SIGN, method="POST", pieces=[b'{"sender": ""}'])
    assert unsigned.value == {"sender": "", "why": "it is the null sender", "trace": None}


@pytest.mark.parametrize(
    ("body", "listening", "has_secret", "status", "error"),
    [
        (b'{"sender": "a@b"}', "inet:127.0.0.1:8894", True, 403, "Signing needs a UNIX socket"),
        (b'{"sender": "a@b"}', "unix:/s", False, 400, "The question cannot be answered: the settings have no secret"),
        (b'{"sender": 1}', "unix:/s", True, 400, "The body is not a question"),
        (b'{"sender": "a@b", "from": "x"}', "unix:/s", True, 400, "The body is not a question"),
        (b"{}", "unix:/s", True, 400, "The body is not a question"),
    ],
)
def test_signing_is_rejected(body: bytes, listening: str, has_secret: bool, status: int, error: str) -> None:
    """Every local user reaches a port, and who can sign can forge bounces."""
    verify = VerifySettings(secrets=(SECRET,)) if has_secret else None
    answer = ask(app(listening=listening, verify=verify), SIGN, method="POST", pieces=[body])
    assert (answer.status, answer.error[: len(error)]) == (status, error)


def test_a_line_end_is_not_signed() -> None:
    """A MAC covers lines, so an address of two lines gets none."""
    for sender, recipient in (("a@b\nc@d", "e@f"), ("a@b", "e@f\ng@h")):
        found = sign(SECRET, 0, sender=sender, message_id="<1@b>", recipients=[recipient])
        assert found.trace is None
