"""Which token each path needs, on a port and on a UNIX socket."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.settings.values import AdminSettings, AdminToken, Role
from sidecar.daemon.http import access
from tests.daemon.http.asking import LISTENING, app, ask, asked

READER, OPERATOR = "the-reader-of-the-tests-has-no-secret", "the-operator-of-the-tests-has-none-too"
UNIX = "unix:/s"
LIST, ONE, CHECK = "/v1/suppression", "/v1/suppression/a@b.example", "/v1/suppression/check"
OPEN, POLICY = ("/healthz", "/readyz"), ("/v1/listener-domain", "/metrics", "/openapi.json", "/unknown")


def tokens(**texts: str) -> tuple[AdminToken, ...]:
    roles: dict[str, Role] = {"reader": "reader", "operator": "operator"}
    return tuple(
        AdminToken(role=roles[role], file=Path(role), digest=hashlib.sha256(text.encode()).hexdigest())
        for role, text in texts.items()
    )


BOTH = tokens(reader=READER, operator=OPERATOR)


def status(path: str, token: str | None, *, listening: str, method: str = "GET", own: tuple[AdminToken, ...] = BOTH) -> Any:
    to = app(listening=listening, admin=AdminSettings(tokens=own))
    headers = {"host": "127.0.0.1"} | ({} if token is None else {"authorization": f"Bearer {token}"})
    return ask(to, path, method=method, headers=headers)


@pytest.mark.parametrize(
    ("listening", "method", "paths", "allowed"),
    [
        (LISTENING, "GET", OPEN, (None, READER, OPERATOR)),
        (LISTENING, "GET", (*POLICY, LIST, ONE), (READER, OPERATOR)),
        (LISTENING, "POST", ("/v1/explain", "/v1/sign", CHECK), (READER, OPERATOR)),
        (LISTENING, "PUT", (ONE,), (OPERATOR,)),
        (LISTENING, "DELETE", (ONE, CHECK + "/x"), (OPERATOR,)),
        (LISTENING, "POST", ("/v1/suppression/events",), (OPERATOR,)),
        (UNIX, "GET", (*OPEN, *POLICY, LIST, ONE), (None, READER, OPERATOR)),
        (UNIX, "POST", ("/v1/sign", CHECK), (None, READER, OPERATOR)),
        (UNIX, "PUT", (ONE,), (OPERATOR,)),
        (UNIX, "DELETE", (ONE,), (OPERATOR,)),
    ],
)
def test_each_path_has_its_role(listening: str, method: str, paths: tuple[str, ...], allowed: tuple[str | None, ...]) -> None:
    """An operator is a reader, too. The mode of a UNIX socket is the right to read."""
    for path in paths:
        for token in (None, READER, OPERATOR):
            answer = status(path, token, listening=listening, method=method)
            rejected = answer.status == 401 or "token" in str(answer.value if answer.status == 403 else "")
            assert rejected == (token not in allowed), (path, token, answer.status)
            if answer.status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.error.endswith("send Authorization: Bearer TOKEN.")


@pytest.mark.parametrize("listening", [LISTENING, UNIX])
@pytest.mark.parametrize("own", [(), tokens(reader=READER)])
def test_without_an_operator_nothing_changes(listening: str, own: tuple[AdminToken, ...]) -> None:
    for token in (None, READER):
        answer = status(ONE, token, listening=listening, method="PUT", own=own)
        assert (answer.status, answer.error[:42]) == (403, "Changes need the token of an operator: wri"), token


def test_without_tokens_a_port_serves_the_policy_and_no_addresses() -> None:
    """KumoMTA nodes ask without one."""
    assert status("/v1/listener-domain", None, listening=LISTENING, own=()).status == 400
    for path, method in ((LIST, "GET"), (f"{LIST}\n", "GET"), (ONE, "GET"), (CHECK, "POST"), (f"{CHECK}\n", "POST")):
        answer = status(path, None, listening=LISTENING, method=method, own=())
        assert (answer.status, "tokens = { reader" in answer.error) == (403, True)
    # A header that an older client sends is ignored.
    assert status("/v1/listener-domain", "x", listening=LISTENING, own=()).status == 400


@pytest.mark.parametrize(
    "given", ["Bearer x", "bearer", f"Basic {READER}", f"Bearer {READER}x", f"Bearer {READER} x", "Bearer ü"]
)
def test_a_wrong_token(given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It gets 401 later, also where none is needed; the log has one line for many, and no token."""
    monkeypatch.setattr(access, "WRONG_SECONDS", 0.0)
    to = app(listening=UNIX, admin=AdminSettings(tokens=BOTH))
    for _ in range(5):
        answer = ask(to, "/v1/listener-domain", headers={"authorization": given})
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert ask(to, "/healthz", headers={"authorization": given}).status == 200
    log = capsys.readouterr().err
    assert log.count("had a wrong token") == 1
    assert READER not in log


def test_wrong_tokens_keep_no_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered while they wait."""
    monkeypatch.setattr(access, "WRONG_SECONDS", 60.0)
    to = app(admin=AdminSettings(tokens=BOTH))
    host = {"host": "localhost"}

    async def many() -> int:
        waiting = [
            asyncio.create_task(asked(to, "/metrics", headers=host | {"authorization": f"Bearer {number}"}))
            for number in range(50)
        ]
        await asyncio.sleep(0)
        answer = await asked(to, "/metrics", headers=host | {"authorization": f"BEARER  {READER}"})
        assert not any(one.done() for one in waiting)
        for one in waiting:
            one.cancel()
        return answer.status

    assert asyncio.run(many()) == 200
