"""Reading what is asked: a query string or a JSON body in, a typed question out, or a sentence that says what is wrong.

Owns the shape of questions. Never reads a file that somebody names.
"""

import binascii
from base64 import b64decode
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from starlette.datastructures import QueryParams

from sidecar.core.evaluate.explanation import Question
from sidecar.core.policy.address import ADDRESS_LIMIT
from sidecar.core.text import listed, quoted
from sidecar.daemon.http.answers import Refusal
from sidecar.daemon.http.patterns import BASE64, LISTENER, PEER

# As many recipients as `recipient_limit` lets a message have, as a rule.
_MOST_RECIPIENTS = 1000

_Name = Annotated[str, Meta(max_length=ADDRESS_LIMIT)]
# The patterns are for whoever reads the document: msgspec checks none of them, the service does.
_Peer = Annotated[_Name, Meta(description="Who connects, IP or IP:port.", extra_json_schema={"pattern": PEER})]
_Listener = Annotated[_Name, Meta(description="The MTA's own end, IP:port.", extra_json_schema={"pattern": LISTENER})]
_Base64 = Annotated[
    str,
    Meta(
        description="The message, not along with message_text.",
        extra_json_schema={"contentEncoding": "base64", "pattern": BASE64},
    ),
]


class DomainQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What KumoMTA's event get_listener_domain tells: a domain, the listener, and of the connection who is asking for what.

    `peer` and `authz_id` change nothing in the answer: KumoMTA applies relay_from itself.
    """

    domain: Annotated[_Name, Meta(description="The sender's or the recipient's domain; empty for the null sender.")]
    listener: _Listener | None = None
    peer: _Peer | None = None
    authz_id: Annotated[_Name, Meta(description="Who the peer proved to be. Changes nothing in the answer.")] | None = None


class ExplainQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """Who would send what to whom, as in `sidecar explain --batch`; but the message comes along, as text or as base64."""

    peer: _Peer
    listener: _Listener | None = None
    helo: _Name | None = None
    auth: Annotated[_Name, Meta(description="Who the peer proved to be (SMTP AUTH).")] | None = None
    sender: Annotated[_Name, Meta(description="The envelope sender; empty for the null sender.")]
    to: Annotated[list[_Name], Meta(max_length=_MOST_RECIPIENTS)]
    message_text: Annotated[str, Meta(description="The whole message, where it is UTF-8.")] | None = None
    message_base64: _Base64 | None = None

    def envelope(self) -> Question:
        """Give the question without the message."""
        return Question(peer=self.peer, listener=self.listener, helo=self.helo, auth=self.auth, sender=self.sender, to=self.to)

    def message(self) -> bytes | None:
        """Give the message. Raises ValueError."""
        if self.message_text is not None and self.message_base64 is not None:
            raise ValueError("message_text and message_base64 do not go together: send one of the two")
        if self.message_text is not None:
            return self.message_text.encode()
        try:
            return None if self.message_base64 is None else b64decode(self.message_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"message_base64 is no base64: {error}") from error


_EXPLAIN = msgspec.json.Decoder(ExplainQuestion)
_A_PATH = "unknown field `message`"


def read_domain_question(query: QueryParams) -> DomainQuestion:
    """Read a query string. Raises Refusal."""
    known = [field.name for field in msgspec.structs.fields(DomainQuestion)]
    taken: dict[str, str] = {}
    for name, value in query.multi_items():
        if name not in known:
            raise Refusal(400, f"{quoted(name)} is not a parameter here; known are {listed(known)}.")
        if name in taken:
            raise Refusal(400, f"{name} is given more than once: give it once.")
        taken[name] = value
    if "domain" not in taken:
        raise Refusal(400, "domain is missing: name the domain to look up; it is empty for the null sender.")
    try:
        return msgspec.convert(taken, DomainQuestion)
    except msgspec.ValidationError as error:
        raise Refusal(400, f"The question cannot be read: {error}.") from error


def read_explain_question(body: bytes) -> ExplainQuestion:
    """Read a JSON body. Raises Refusal."""
    try:
        return _EXPLAIN.decode(body)
    except (ValueError, RecursionError) as error:
        if _A_PATH in str(error):
            sentence = "No file is read here: send the message itself, as message_text or message_base64."
            raise Refusal(400, sentence) from error
        raise Refusal(400, f"The body is no question: {error}.") from error
