"""The evaluator: an envelope of a record gets the answers of a session, and nothing else drives a session offline."""

import ast
from uuid import uuid4

from hypothesis import event, given
from hypothesis import settings as tries
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.evaluate.envelope import Envelope, MessageKind
from sidecar.core.evaluate.evaluator import Evaluator, deciding, explanation_of
from sidecar.core.evaluate.explanation import Question
from sidecar.core.names import plain_address
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.values import ANY_LISTENER
from tests import ROOT
from tests.core.evaluate.recorded.worlds import ADDRESSES, LISTENER, LOGINS, PEERS, SENDERS, configurations
from tests.core.session.driving import ARF, BROKEN, NOON, OOB, PLAIN

MESSAGES: dict[MessageKind, bytes] = {"oob": OOB, "arf": ARF, "unreadable": BROKEN, "other": PLAIN}


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    return Envelope(
        peer=plain_address(draw(st.sampled_from(PEERS))),
        listener=draw(st.sampled_from([ANY_LISTENER, LISTENER])),
        authz_id=draw(st.none() | st.sampled_from(LOGINS)),
        sender=draw(st.sampled_from(SENDERS)),
        recipients=tuple(draw(st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3))),
        kind=draw(st.sampled_from([*MESSAGES, "unknown"])),
    )


@given(configurations(), envelopes())
@tries(max_examples=600, deadline=None)
def test_a_session_answers_the_same(under: Settings, envelope: Envelope) -> None:
    """At connect, for each recipient and for the message: actions, replies, modes and reasons are those of a session."""
    evaluator = Evaluator(under)
    question = Question(
        peer=str(envelope.peer),
        listener=None if envelope.listener == ANY_LISTENER else envelope.listener,
        auth=envelope.authz_id,
        sender=envelope.sender,
        to=list(envelope.recipients),
    )
    played = evaluator.explain(question, MESSAGES.get(envelope.kind), clock=lambda: NOON, new_id=uuid4)
    judged = evaluator.judge(envelope)
    described = explanation_of(envelope, judged)
    event(judged.outcome)
    assert described.connect == played.connect
    assert described.recipients == played.recipients
    assert deciding(judged)
    if envelope.kind != "unknown":
        assert described.message == replace(played.message, records=[])


@given(configurations(), envelopes())
@tries(max_examples=300, deadline=None)
def test_unknown_content(under: Settings, envelope: Envelope) -> None:
    """If a record does not contain what the message was, the outcome is that of a message of some kind."""
    evaluator = Evaluator(under)

    def outcome(kind: MessageKind) -> str:
        return evaluator.judge(replace(envelope, kind=kind)).outcome

    known = {outcome("oob"), outcome("arf"), outcome("other")}
    unknown = outcome("unknown")
    assert unknown in known or (unknown == "content_unknown" and {"rejected_at_end"} < known)


def test_nothing_else_drives_a_session_offline() -> None:
    """Besides the daemon, which serves real connections, only the evaluator makes a session or asks it."""
    folder = ROOT / "sidecar"
    own = (folder / "core" / "evaluate", folder / "core" / "session", folder / "core" / "policy", folder / "daemon")
    # The relay domains for the MTA are read from the policy, without a question.
    allowed = {folder / "core" / "open_domains.py"}
    for module in folder.rglob("*.py"):
        if module in allowed or any(map(module.is_relative_to, own)):
            continue
        calls = [node.func for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not names & {"Session", "Policy", "compile_policy"}, module
