"""The console as an application: who is logged in, what a form must prove, and which page a path has.

Owns login, logout, and the checks of each request. Other modules answer; they are never asked without a session.
"""

import asyncio
import hmac
import mmap
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from sidecar.daemon.http.access import Access
from sidecar.daemon.http.bodies import BODY_LIMIT, Bodies
from sidecar.daemon.http.console.forms import Form, read_form
from sidecar.daemon.http.console.frame import FormView, Frame, View
from sidecar.daemon.http.console.rendering import HEADERS, static_file
from sidecar.daemon.http.console.sessions import LONGEST_SECONDS, ConsoleSession, Sessions

HOME: Final = "/console/"
LOGIN: Final = "/console/login"
LOGOUT: Final = "/console/logout"
STATIC: Final = "/console/static/"
# A page of the console, with a query, and no other place.
_OWN: Final = re.compile(r"/console/[a-z0-9/_-]*(\?[^\s\\]*)?")
_ORIGIN: Final = re.compile(r"https?://([^/]+)")
_LOGIN_SIZE: Final = 4096
_TOO_LARGE: Final = 413
_READING: Final = frozenset({"GET", "HEAD"})
_COOKIE: Final = "sidecar"
# A browser takes a cookie of this name only over TLS, for this host alone, and for all its paths.
_SECURE_COOKIE: Final = "__Host-sidecar"
# Another program of this host, on any port, can set ours, too: each of these is tried.
_COOKIES: Final = 10
_SENTENCES: Final = {"Not Found": "No page has this address.", "Method Not Allowed": "This page has no such form."}


class Console:
    """The console: `pages` and `forms` by path. `memory` has the sessions.

    With `is_unix` a proxy or a user of this machine asks over a UNIX socket.
    """

    def __init__(  # noqa: PLR0913 - what the checks need
        self,
        frame: Frame,
        *,
        pages: Mapping[str, View],
        forms: Mapping[str, FormView],
        access: Access,
        bodies: Bodies,
        memory: mmap.mmap,
        is_unix: bool,
    ) -> None:
        self._frame = frame
        self._access = access
        self._bodies = bodies
        self._is_unix = is_unix
        self._sessions = Sessions(access.tokens, memory)
        routes = [
            Route(STATIC + "{name}", self._static),
            Route(LOGIN, self._login_form, methods=["GET"]),
            Route(LOGIN, self._log_in, methods=["POST"]),
            Route(LOGOUT, self._log_out, methods=["POST"]),
            *(Route(path, _viewed(view), methods=["GET"]) for path, view in pages.items()),
            *(Route(path, self._posted(view), methods=["POST"]) for path, view in forms.items()),
        ]
        kinds = (HTTPException, ValueError, Exception)
        self._app = Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, self._on_error))
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope, receive)
        answer = self._gate(request) or self._app
        await answer(scope, receive, send_with_headers)

    # --- the checks of each request

    def _gate(self, request: Request) -> Response | None:
        """Return the answer to a request that no page can answer. Otherwise note its session."""
        scope, path = request.scope, request.scope["path"]
        scope.setdefault("state", {})["session"] = None
        if path.startswith(STATIC):
            return None
        if (fault := _origin_fault(request)) is not None:
            return self._error_page(request, fault)
        if not self._access.tokens:
            return self._frame.show(request, "closed.html", 403)
        if (session := self._session(request.headers)) is not None:
            scope["state"] |= {"session": session, "role": session.role, "place": "in the console"}
        return None if session is not None or path == LOGIN else self._without_session(request)

    def _without_session(self, request: Request) -> Response:
        if request.method not in _READING:
            return self._error_page(request, HTTPException(403, "The session has ended: log in, and send the form again."))
        query = request.scope["query_string"].decode("latin-1")
        wanted = request.scope["path"] + (f"?{query}" if query else "")
        if request.headers.get("sec-fetch-site") == "cross-site":
            # A browser sends no strict cookie when a link of another site leads here. It does when this page asks again.
            return self._frame.show(request, "again.html", wanted=wanted)
        return RedirectResponse(LOGIN + ("" if wanted == HOME else f"?next={quote(wanted)}"), 303)

    def _session(self, headers: Headers) -> ConsoleSession | None:
        return next(filter(None, map(self._sessions.find, islice(_cookies(headers), _COOKIES))), None)

    async def _form(self, request: Request, limit: int = BODY_LIMIT) -> Form:
        body = await self._bodies.read(request, limit)
        return await asyncio.to_thread(read_form, request.headers, body)

    def _posted(self, view: FormView) -> View:
        """Answer a form of a session, if it has the session's own token, and the role that it needs."""

        async def answer(request: Request) -> Response:
            session = _session_of(request)
            form = await self._form(request)
            if not hmac.compare_digest(form.get("csrf").encode(), session.csrf.encode()):
                raise HTTPException(403, "The form is of another session: load its page again, and send it again.")
            if view.role == "operator" and not session.is_operator:
                raise HTTPException(403, "The reader's token cannot change anything: log in with the operator's.")
            return await view.answer(request, form)

        return answer

    # --- login and logout

    async def _login_form(self, request: Request) -> Response:
        wanted = _own(request.query_params.get("next", ""))
        if request.state.session is not None:
            return RedirectResponse(wanted, 303)
        return self._frame.show(request, "login.html", wanted=wanted, fault=None)

    async def _log_in(self, request: Request) -> Response:
        try:
            form = await self._form(request, _LOGIN_SIZE)
        except HTTPException as error:
            if error.status_code != _TOO_LARGE:
                raise
            form = Form({}, {})  # no token is that long
        wanted, token = _own(form.get("next")), self._access.find(form.get("token"))
        if token is None:
            # No limit on their number: it would lock out users with a token, and no one can guess a token.
            await self._access.delay_wrong()
            fault = "This is not one of the tokens that admin.tokens names."
            return self._frame.show(request, "login.html", 403, wanted=wanted, fault=fault)
        answer = RedirectResponse(wanted, 303)
        is_secure = request.headers.get("origin", "").startswith("https:")
        answer.set_cookie(
            _SECURE_COOKIE if is_secure else _COOKIE,
            self._sessions.start(token),
            max_age=int(LONGEST_SECONDS),
            path="/" if is_secure else "/console",
            secure=is_secure,
            httponly=True,
            samesite="strict",
        )
        return answer

    async def _log_out(self, request: Request) -> Response:
        session = _session_of(request)
        form = await self._form(request, _LOGIN_SIZE)
        if hmac.compare_digest(form.get("csrf").encode(), session.csrf.encode()):
            self._sessions.end(session)
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(_COOKIE, path="/console")
        answer.delete_cookie(_SECURE_COOKIE, path="/", secure=True)
        return answer

    async def _on_error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return self._error_page(request, error)
        if isinstance(error, ValueError):
            return self._error_page(request, HTTPException(400, f"This cannot be answered: {error}."))
        return self._error_page(request, HTTPException(500, "An unexpected fault: see the log of the sidecar."))

    def _error_page(self, request: Request, error: HTTPException) -> Response:
        sentence = _SENTENCES.get(error.detail, error.detail)
        answer = self._frame.show(request, "error.html", error.status_code, sentence=sentence)
        answer.headers.update(error.headers or {})
        return answer

    async def _static(self, request: Request) -> Response:
        found = static_file(request.path_params["name"], request.query_params.get("v", ""))
        if found is None:
            raise HTTPException(404)
        return found


def _cookies(headers: Headers) -> Iterator[str]:
    """Yield the values of our cookies. Those of other programs can have any form."""
    pairs = [pair.strip().partition("=") for pair in ";".join(headers.getlist("cookie")).split(";")]
    yield from (value for wanted in (_SECURE_COOKIE, _COOKIE) for name, _, value in pairs if name == wanted)


def _viewed(view: View) -> View:
    """Answer a page to a session, and to no one else, whatever the gate has found."""

    async def answer(request: Request) -> Response:
        _session_of(request)
        return await view(request)

    return answer


def _session_of(request: Request) -> ConsoleSession:
    session: ConsoleSession | None = request.state.session
    if session is None:
        raise HTTPException(403, "This page needs a session: log in.")
    return session


def _origin_fault(request: Request) -> HTTPException | None:
    """Return the error for a request of a page of another site; each form names its own origin."""
    origin = request.headers.get("origin")
    if origin is None and request.method in _READING:
        return None
    if origin is None:
        return HTTPException(403, "The browser has not named the page of this form (Origin).")
    match = _ORIGIN.fullmatch(origin)
    if match is not None and match[1].lower() == request.headers.get("host", "").lower():
        return None
    text = "A page of another site has sent this (Origin). Behind a proxy, the Host header must be the one of the browser."
    return HTTPException(403, text)


def _own(wanted: str) -> str:
    return wanted if _OWN.fullmatch(wanted) else HOME
