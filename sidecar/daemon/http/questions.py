"""Questions: a query string or a JSON body to a typed question or an error, and the answer of a plan's policy to it.

Never reads a file that a client names.
"""

import binascii
import time
from base64 import b64decode
from typing import Annotated, Final, TypeVar
from uuid import uuid4

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from sidecar.core.evaluate.evaluator import Evaluator
from sidecar.core.evaluate.explanation import Explanation, Question
from sidecar.core.names import NO_DOMAIN, UNLISTED, normal_domain, normal_listener, split_endpoint
from sidecar.core.networks import texts
from sidecar.core.policy.address import ADDRESS_LIMIT, domain_of, without_route
from sidecar.core.proof.address import check_address
from sidecar.core.proof.sign import Signed, sign
from sidecar.core.proof.trace import MESSAGE_ID_LIMIT
from sidecar.core.session.replies import ADDRESS_REQUIRED
from sidecar.core.session.suppressing import SuppressionList
from sidecar.core.settings.values import ANY_LISTENER
from sidecar.core.text import listed, quoted
from sidecar.daemon.http.answers import ListenerDomain, TokenRequirement
from sidecar.daemon.process.plan import Plan

# A usual `recipient_limit`.
MOST_RECIPIENTS: Final = 1000

# For readers of the OpenAPI document. The program itself uses `sidecar.core.names`.
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_GROUP: Final = "[0-9A-Fa-f]{1,4}"
# RFC 4291 section 2.2: eight groups; or fewer, with `::`; or an IPv4 address at the end.
_SHORTENED: Final = (
    f"{'' if before else ':'}(?:{_GROUP}:){{{before}}}:(?:{_GROUP}(?::{_GROUP}){{0,{6 - before}}})?" for before in range(7)
)
_IPV6: Final = "|".join((f"(?:{_GROUP}:){{7}}(?:{_GROUP}|:)", *_SHORTENED, f"::(?:[Ff]{{4}}:)?{_IPV4}"))
_PORT: Final = "(?:[0-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
LISTENER: Final = rf"^(?:{_IPV4}|\[(?:{_IPV6})\]):{_PORT}$"
PEER: Final = rf"^(?:{_IPV4}(?::{_PORT})?|\[(?:{_IPV6})\](?::{_PORT})?|{_IPV6})$"
_BASE64: Final = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"

_Name = Annotated[str, Meta(max_length=ADDRESS_LIMIT)]
_Peer = Annotated[_Name, Meta(description="The connecting host, IP or IP:port.", extra_json_schema={"pattern": PEER})]
_Listener = Annotated[_Name, Meta(description="The MTA's own end, IP:port.", extra_json_schema={"pattern": LISTENER})]
_Text = Annotated[str, Meta(description="The complete message, if it is UTF-8.")]
_Encoded = Annotated[
    str,
    Meta(
        description="The complete message; not together with message_text.",
        extra_json_schema={"contentEncoding": "base64", "pattern": _BASE64},
    ),
]


class DomainQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of KumoMTA's event get_listener_domain: a domain, the listener, and facts about the connection.

    `peer` and `authz_id` do not change the answer: KumoMTA itself applies relay_from.
    """

    domain: Annotated[_Name, Meta(description="The sender's or the recipient's domain; empty for the null sender.")]
    listener: _Listener | UnsetType = UNSET
    peer: _Peer | UnsetType = UNSET
    authz_id: (
        Annotated[_Name, Meta(description="The name that the peer has proved. Does not change the answer.")] | UnsetType
    ) = UNSET


class RecipientQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipient, with its token if it has one."""

    address: Annotated[_Name, Meta(description="The address of RCPT TO, without angle brackets.")]


class ExplainQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """Peer, sender and recipients, as in `sidecar explain --batch`, and the message itself, as text or as base64."""

    peer: _Peer
    listener: _Listener | None = None
    helo: _Name | None = None
    auth: Annotated[_Name, Meta(description="The name that the peer has proved (SMTP AUTH).")] | None = None
    sender: Annotated[_Name, Meta(description="The envelope sender; empty for the null sender.")]
    to: Annotated[list[_Name], Meta(max_length=MOST_RECIPIENTS)]
    message_text: _Text | None = None
    message_base64: _Encoded | None = None

    def envelope(self) -> Question:
        """Return the question without the message."""
        return Question(peer=self.peer, listener=self.listener, helo=self.helo, auth=self.auth, sender=self.sender, to=self.to)

    def message(self) -> bytes | None:
        """Return the message. Raises ValueError."""
        if self.message_text is not None and self.message_base64 is not None:
            raise ValueError("message_text and message_base64 do not go together: send one of the two")
        if self.message_text is not None:
            return self.message_text.encode()
        try:
            return None if self.message_base64 is None else b64decode(self.message_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"message_base64 is not base64: {error}") from error


class SignQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of an application: its envelope sender, and for the trace header its Message-ID and all its recipients."""

    sender: Annotated[_Name, Meta(description="The envelope sender, which gets a token.")]
    message_id: Annotated[str, Meta(max_length=MESSAGE_ID_LIMIT, description="The Message-ID, with its brackets.")] | None = (
        None
    )
    recipients: Annotated[list[_Name], Meta(max_length=MOST_RECIPIENTS)] = []


T = TypeVar("T", bound=Struct)
_A_PATH = "unknown field `message`"


def read_query(query: QueryParams, kind: type[T], **needed: str) -> T:
    """Read a query string: known parameters, each once. `needed` has what to do if one is missing. Raise HTTPException."""
    known = [field.name for field in msgspec.structs.fields(kind)]
    found: dict[str, str] = {}
    for name, value in query.multi_items():
        if name not in known:
            raise HTTPException(400, f"{quoted(name)} is not a parameter here; known are {listed(known)}.")
        if name in found:
            raise HTTPException(400, f"{name} is given more than once: give it once.")
        found[name] = value
    for name, fix in needed.items():
        if name not in found:
            raise HTTPException(400, f"{name} is missing: {fix}.")
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise HTTPException(400, f"The question cannot be read: {error}.") from error


def read_body(body: bytes, kind: type[T], fault: str = "is not a question") -> T:
    """Read a JSON body. Raise HTTPException; `fault` says that it is none of this kind."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"The body {fault}: {error}.") from error


def read_explain_question(body: bytes) -> ExplainQuestion:
    """Read a JSON body. Raise HTTPException."""
    try:
        return read_body(body, ExplainQuestion)
    except HTTPException as error:
        if _A_PATH in error.detail:
            error.detail = "No file is read here: send the message itself, as message_text or message_base64."
        raise


# --- the answers


class NoListenerError(ValueError):
    """The answer depends on the listener, and the question has none."""


def find_listener_domain(plan: Plan, question: DomainQuestion) -> ListenerDomain | None:
    """Return the entry of a domain. Raises ValueError, with one sentence, if the question cannot be answered.

    As in an address, a text that is not a domain name finds the entry "*", and "" the entry "".
    """
    if question.peer is not UNSET:
        split_endpoint(question.peer)
    if question.listener is not UNSET:
        listener = normal_listener(question.listener)
    elif plan.policy.depends_on_listener:
        # The milter tempfails here. To use the rules of another listener would be a guess.
        raise NoListenerError("some rules hold on one listener only: name the listener")
    else:
        listener = ANY_LISTENER
    entry = plan.policy.lookup(listener, (normal_domain(question.domain) or UNLISTED) if question.domain else NO_DOMAIN)
    return (
        None
        if entry is None
        else ListenerDomain(
            relay_to=entry.relay_to,
            relay_from=texts(entry.relay_from),
            relay_from_authz=list(entry.relay_from_authz),
            log_oob=entry.log_oob,
            log_arf=entry.log_arf,
        )
    )


def find_recipient(plan: Plan, question: RecipientQuestion) -> TokenRequirement:
    """Return whether a recipient needs an address token, and the reply if it has no valid one."""
    verify, mailbox = plan.settings.verify, without_route(question.address)
    if verify is None or not verify.rule_of(domain_of(mailbox)).requires_token:
        return TokenRequirement(address="optional")
    holds = check_address(mailbox, verify, time.time()).holds
    return TokenRequirement(address="required", reply=None if holds else str(ADDRESS_REQUIRED))


def sign_message(plan: Plan, question: SignQuestion) -> Signed:
    """Return the proofs of a message. Raise ValueError if there is no secret."""
    verify = plan.settings.verify
    if verify is None or not verify.secrets:
        raise ValueError("the settings have no secret; write secret_files below [verify]")
    return sign(
        verify.secrets[0],
        time.time(),
        sender=question.sender,
        message_id=question.message_id,
        recipients=question.recipients,
    )


def explain_question(plan: Plan, question: ExplainQuestion, known: SuppressionList | None = None) -> Explanation:
    """Return what would happen; recipients are looked up in `known`.

    Raise ValueError, with one sentence, for unreadable addresses and messages.
    """
    evaluator = Evaluator(plan.settings, policy=plan.policy, node_id=plan.node_id, suppression=known)
    return evaluator.explain(question.envelope(), question.message(), clock=time.time, new_id=uuid4)
