"""The page of a question: what would happen to a message, and why."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sidecar.core.evaluate.explanation import Explanation
from sidecar.core.evaluate.proofs import proof_words
from sidecar.core.names import normal_listener, split_endpoint
from sidecar.core.policy.address import ADDRESS_LIMIT
from sidecar.daemon.http.console.forms import Form
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.questions import MOST_RECIPIENTS, ExplainQuestion

EXPLAIN: Final = "/console/explain"
_NAMES: Final = ("peer", "listener", "helo", "auth", "from", "to")
_WORDS: Final = {"helo": "HELO name", "auth": "login", "from": "envelope sender"}


class ExplainPage:
    """The form, and the answer below it. A question without a message has an address that can be sent to others."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._parts = parts
        self.views: Mapping[str, View] = {EXPLAIN: self.show}
        self.forms = {EXPLAIN: FormView(answer=self.ask, role="reader")}

    async def show(self, request: Request) -> Response:
        """Answer the question of the address, if there is one."""
        asked = {name: request.query_params.get(name, "").strip() for name in _NAMES}
        return await self._answer(request, asked, None)

    async def ask(self, request: Request, form: Form) -> Response:
        """Answer the question of the form."""
        asked = {name: form.get(name) for name in _NAMES}
        message = form.files.get("file") or form.text("message").encode()
        if not message:
            given = {name: value for name, value in asked.items() if value or name == "from"}
            return RedirectResponse(f"{EXPLAIN}?{urlencode(given)}", 303)
        return await self._answer(request, asked, message)

    async def _answer(self, request: Request, asked: Mapping[str, str], message: bytes | None) -> Response:
        found, fault, status = None, None, 200
        if asked["peer"]:
            try:
                question = _question(asked, message)
                found = await self._parts.explainer.do(lambda: self._parts.explain(question))
            except ValueError as error:
                fault, status = f"The question cannot be answered: {error}.", 400
        text = None if message is None else message.decode("utf-8", "replace")
        return self._frame.show(
            request, "explain.html", status, asked=asked, found=found, fault=fault, proof=_proof(found), message=text
        )


def _question(asked: Mapping[str, str], message: bytes | None) -> ExplainQuestion:
    """Return the question. Raise ValueError."""
    recipients = asked["to"].replace(",", " ").split()
    _check(asked, recipients)
    values: dict[str, object] = {name: value for name, value in asked.items() if value}
    values |= {"from": asked["from"].removeprefix("<").removesuffix(">"), "to": recipients}
    if message is not None:
        values["message_base64"] = b64encode(message).decode()
    return msgspec.convert(values, ExplainQuestion)


def _check(asked: Mapping[str, str], recipients: list[str]) -> None:
    """Raise ValueError, with the name of the field, for what no question can have."""
    if len(recipients) > MOST_RECIPIENTS:
        raise ValueError(f"there are more than {MOST_RECIPIENTS:,} recipients")
    single = {f"the {_WORDS.get(name, name)}": asked[name] for name in _NAMES if name != "to"}
    for words, value in (*single.items(), *(("a recipient", one) for one in recipients)):
        if len(value) > ADDRESS_LIMIT:
            raise ValueError(f"{words} has more than {ADDRESS_LIMIT:,} characters")
    for name, parse, example in (("peer", split_endpoint, "203.0.113.9"), ("listener", normal_listener, "10.1.1.1:25")):
        try:
            parse(asked[name] or example)
        except ValueError as error:
            raise ValueError(f"the {name} is wrong: {error}; write it as {example}") from error


def _proof(found: Explanation | None) -> list[str]:
    return [] if found is None or found.message.verification is UNSET else proof_words(found.message.verification)
