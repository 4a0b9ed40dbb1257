"""Who can open a page: login, logout, cookies, the origin of a form, its token, and its role."""

import re

import pytest
from jinja2 import Environment
from starlette.requests import Request

from sidecar.daemon.http import access
from sidecar.daemon.http.console import Console, rendering
from tests.daemon.http.asking import app, ask
from tests.daemon.http.console.visiting import HOST, Visitor, console_app, text_of
from tests.daemon.http.test_access import READER, tokens

POLICY, ADD = "/console/policy", "/console/suppression/add"
SECURE = "https://console.example.com"


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "WRONG_SECONDS", 0.0)


def test_without_the_setting_there_is_no_console() -> None:
    for path in ("/console/", "/console/login", "/console/static/style.css"):
        assert ask(app(), path).status == 404


def test_no_request_compiles_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    rendering._environment.cache_clear()
    visitor = Visitor()
    compiled: list[str] = []
    monkeypatch.setattr(Environment, "compile", lambda _, source, *__: compiled.append(source))
    visitor.log_in()
    assert visitor.get(POLICY).status == 200
    assert compiled == []


def test_a_page_asks_for_a_token_and_then_opens() -> None:
    visitor = Visitor()
    assert visitor.get("/").headers["location"] == visitor.get("/console").headers["location"] == "/console/"
    asked = visitor.get(f"{POLICY}?name=a.example&listener=")
    query = "next=/console/policy%3Fname%3Da.example%26listener%3D"
    assert (asked.status, asked.headers["location"]) == (303, f"/console/login?{query}")
    form = visitor.get(asked.headers["location"]).body.decode()
    assert 'value="/console/policy?name=a.example&amp;listener="' in form
    answer = visitor.log_in(next=f"{POLICY}?name=a.example")
    assert (answer.status, answer.headers["location"]) == (303, f"{POLICY}?name=a.example")
    assert visitor.get(POLICY).status == 200
    assert visitor.get("/console/login").headers["location"] == "/console/"


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example", "/console/\\evil", "/v1/explain", "", "/console/a\r\nx: y"]
)
def test_the_login_leads_to_a_page_of_the_console_only(wanted: str) -> None:
    assert Visitor().log_in(next=wanted).headers["location"] == "/console/"


def test_the_cookie() -> None:
    """Over TLS it has the prefix that no other host and no plain connection can set."""
    plain = Visitor()
    plain.log_in()
    assert re.fullmatch(r"sidecar=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/console; SameSite=strict", plain.set_cookie)
    secure = Visitor(console_app(listening="unix:/s"), origin=SECURE)
    secure.log_in()
    assert re.fullmatch(
        r"__Host-sidecar=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict; Secure", secure.set_cookie
    )
    assert secure.get(POLICY).status == 200


def test_cookies_of_other_programs_end_no_session() -> None:
    """A browser sends the cookies of all ports of a host. Any of these programs can set one of the console's name, too."""
    visitor = Visitor()
    visitor.log_in()
    own = f"sidecar={visitor.cookies.pop('sidecar')}"
    for before, after in (
        ('theme={"dark":true}; ', ""),
        ("a[b]=c;", ""),
        ("sidecar=x; ", ""),
        ("", "; sidecar=x"),
        ("", "; y"),
    ):
        assert visitor.get(POLICY, cookie=before + own + after).status == 200, (before, after)
    assert visitor.get(POLICY, cookie="sidecar=x; " * 10 + own).status == 303


def test_logout() -> None:
    visitor = Visitor()
    visitor.log_in()
    kept = dict(visitor.cookies)
    assert visitor.post("/console/logout", {"csrf": "x"}).status == 303
    visitor.cookies = dict(kept)
    assert visitor.get(POLICY).status == 200, "a form of another page ends no session"
    assert visitor.send("/console/logout", POLICY).headers["location"] == "/console/login"
    visitor.cookies = kept
    assert visitor.get(POLICY).status == 303


def test_a_wrong_token() -> None:
    visitor = Visitor()
    answer = visitor.log_in("wrong<b>")
    assert (answer.status, visitor.cookies) == (403, {})
    assert "not one of the tokens" in text_of(answer)
    assert b"wrong" not in answer.body.replace(b"wrong tokens", b"")


def test_a_token_that_is_too_long() -> None:
    """It is a wrong token: the form appears again."""
    answer = Visitor().log_in("x" * 10_000)
    assert (answer.status, "not one of the tokens" in text_of(answer)) == (403, True)


def test_wrong_tokens_lock_nobody_out() -> None:
    """Each user of this machine can send them to a port."""
    visitor = Visitor()
    assert {visitor.log_in("wrong").status for _ in range(100)} == {403}
    assert visitor.log_in().status == 303


def test_without_tokens_the_console_is_closed() -> None:
    """Also on a UNIX socket, before which a proxy can stand."""
    for listening in ("unix:/s", "inet:127.0.0.1:8894"):
        answer = Visitor(console_app(tokens=(), listening=listening)).get("/console/")
        assert (answer.status, "sidecar keys make" in text_of(answer)) == (403, True)


def test_the_host_and_the_origin() -> None:
    """Names that resolve to this machine, and pages of other sites, reach nothing."""
    visitor = Visitor()
    assert visitor.get("/console/login", host="evil.example").status == 403
    assert visitor.get("/console/login", origin="http://evil.example").status == 403
    for origin in ("http://evil.example", "null", f"http://{HOST}.evil.example", "", "http://127.0.0.1:1"):
        assert visitor.post("/console/login", {"token": READER}, origin=origin).status == 403, origin
    assert not visitor.cookies
    # The API stays closed to all pages.
    assert visitor.get("/v1/listener-domain?domain=x", origin=f"http://{HOST}").status == 403


@pytest.mark.parametrize("host", ["x/console/static/", "x/console/login?", "x#", "u@x", "x y", "[::1", "x\\y"])
def test_a_host_that_is_none(host: str) -> None:
    """Over a UNIX socket any name is allowed, but none that becomes a part of the path of its URL."""
    visitor = Visitor(console_app(listening="unix:/s"))
    assert visitor.get(POLICY, host=host).status == 400
    assert visitor.get(POLICY, host="any.example:8080").status == 303


def test_a_link_of_another_site_opens_its_page() -> None:
    """The browser keeps the strict cookie back at first."""
    visitor = Visitor()
    answer = visitor.get(f"{POLICY}?name=x", sec_fetch_site="cross-site")
    assert 'content="0; url=/console/policy?name=x"' in answer.body.decode()


def test_a_form_needs_its_session_its_token_and_its_role() -> None:
    visitor = Visitor()
    assert "session has ended" in text_of(visitor.post(ADD, {"address": "a@b.example"}))
    visitor.log_in()
    assert "another session" in text_of(visitor.post(ADD, {"csrf": "0" * 64}))
    other = Visitor(visitor.app)
    other.log_in(READER)
    assert "operator" in text_of(other.send(ADD, POLICY))
    assert "has no [suppression]" in text_of(visitor.send(ADD, POLICY)) or visitor.send(ADD, POLICY).status in {400, 404}


def test_what_each_answer_says_to_the_browser() -> None:
    visitor = Visitor()
    visitor.log_in()
    for path in ("/console/login", POLICY, "/console/nowhere", "/console/static/style.css", "/console/static/nothing"):
        headers = visitor.get(path).headers
        assert headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    assert visitor.get(POLICY).headers["cache-control"] == "no-store"
    assert visitor.get("/console/nowhere").status == 404


def test_the_pages_name_no_other_host_and_have_no_script_of_their_own() -> None:
    visitor = Visitor()
    visitor.log_in()
    for path in ("/console/login", POLICY, "/console/explain", "/console/suppression"):
        body = visitor.get(path).body.decode()
        assert not re.search(r'(?:href|src|action)="(?:https?:)?//', body)
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script(?! src)", body)
        files = re.findall(r"/console/static/[\w.]+\?v=[0-9a-f]{12}", body)
        for file in files:
            answer = visitor.get(file)
            assert (answer.status, answer.headers["cache-control"]) == (200, "max-age=31536000, immutable")


def test_the_tokens_of_the_settings() -> None:
    visitor = Visitor(console_app(tokens=tokens(reader=READER)))
    assert visitor.log_in().status == 403
    assert visitor.log_in(READER).status == 303
    assert "reader" in text_of(visitor.get(POLICY))


def test_a_page_needs_a_session_also_without_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the gate opens nothing."""

    def open_gate(_: Console, request: Request) -> None:
        request.scope.setdefault("state", {})["session"] = None

    monkeypatch.setattr(Console, "_gate", open_gate)
    visitor = Visitor()
    for page in ("", "live", "live/stream", "search", "record", "explain", "trial", "policy", "suppression", "nodes"):
        assert visitor.get(f"/console/{page}").status == 403, page
    for form in ("explain", "trial", "suppression/add", "suppression/remove", "logout"):
        assert visitor.post(f"/console/{form}", {"csrf": "x"}).status == 403, form
