"""A visitor of the console in this process: it keeps cookies and fills in forms, as a browser does."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

from msgspec.structs import replace

from sidecar.core.fleet_view import OpenFleet
from sidecar.core.policy import compile_policy
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import AdminSettings, AdminToken
from sidecar.core.suppressed import EditableList
from sidecar.daemon.http import Application
from sidecar.daemon.metrics import Memory
from sidecar.daemon.process.plan import Plan
from tests.daemon.http.asking import LISTENING, Answer, app, asked
from tests.daemon.http.test_access import BOTH, OPERATOR

HOST = "127.0.0.1:8894"


def console_app(*, tokens: tuple[AdminToken, ...] = BOTH, **more: Any) -> Application:
    """Return an application with a console."""
    return app(admin=AdminSettings(tokens=tokens, console=True), **more)


def app_of(made: Settings, *, suppressed: EditableList | None = None, fleet: OpenFleet | None = None) -> Application:
    """Return an application with a console for settings in a folder of their own."""
    full = replace(made, admin=AdminSettings(tokens=BOTH, console=True))
    plan = Plan(settings=full, policy=compile_policy(full), node_id="node", revision="abc123", made=1_790_000_000.5)
    return Application(plan, Memory(), version="1.2", listening=LISTENING, suppressed=suppressed, fleet=fleet)


class Visitor:
    """A browser without scripts. `headers` are sent with each request."""

    def __init__(self, to: Application | None = None, *, origin: str = f"http://{HOST}", **headers: str) -> None:
        self.app = to or console_app()
        self.origin = origin
        self.host = origin.partition("://")[2]
        self.cookies: dict[str, str] = {}
        self.set_cookie = ""
        self._headers = headers

    def get(self, path: str, **headers: str) -> Answer:
        """Ask for a page."""
        return self._ask(path, "GET", headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """Send a form as it stands."""
        body = urlencode(fields).encode()
        form = {"content-type": "application/x-www-form-urlencoded", "origin": self.origin}
        return self._ask(path, "POST", form | headers, [body])

    def upload(self, path: str, page: str, /, **files: bytes) -> Answer:
        """Send a form with fields and files as multipart/form-data, with the token of a page. Names of files end with _file."""
        parts = {"csrf": self._token(page).encode(), **files}
        lines = [
            b'--own-boundary\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
            % (name.removesuffix("_file").encode(), b'; filename="x"' if name.endswith("_file") else b"", value)
            for name, value in parts.items()
        ]
        headers = {"content-type": "multipart/form-data; boundary=own-boundary", "origin": self.origin}
        return self._ask(path, "POST", headers, [b"".join(lines) + b"--own-boundary--\r\n"])

    def send(self, path: str, page: str, /, **fields: str) -> Answer:
        """Send a form with the token of a page."""
        return self.post(path, fields | {"csrf": self._token(page)})

    def _token(self, page: str) -> str:
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).body.decode())
        assert token is not None
        return token[1]

    def log_in(self, token: str = OPERATOR, **fields: str) -> Answer:
        """Send the form of the login."""
        return self.post("/console/login", {"token": token} | fields)

    def _ask(self, path: str, method: str, headers: Mapping[str, str], pieces: Iterable[bytes] = (b"",)) -> Answer:
        where, _, query = path.partition("?")
        cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        fields = {"host": self.host} | cookie | self._headers | dict(headers)
        fields = {name.replace("_", "-"): value for name, value in fields.items() if value}
        answer = asyncio.run(asked(self.app, where, query, method=method, headers=fields, pieces=pieces))
        self.set_cookie = answer.headers.get("set-cookie", "")
        for name, morsel in SimpleCookie(self.set_cookie).items():
            self.cookies[name] = morsel.value
        return answer


def text_of(answer: Answer) -> str:
    """Return what a page shows, without its tags."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", answer.body.decode(), flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())
