"""Hindsight asks what a session asks: the same envelope has the same answers, however it is put."""

from hypothesis import event, given
from hypothesis import settings as tries
from hypothesis import strategies as st

from sidecar.commands.explain.parts import connect_part, message_part, recipient_parts
from sidecar.core.evaluate.envelope import Envelope, Kind
from sidecar.core.evaluate.explain import Question, explain
from sidecar.core.evaluate.judgement import deciding, judge
from sidecar.core.names import plain_address
from sidecar.core.policy import compile_policy
from sidecar.core.settings.values import ANY_LISTENER, Settings
from tests.commands.explain.worlds import ADDRESSES, LISTENER, LOGINS, PEERS, SENDERS, configurations
from tests.core.session.driving import ARF, BROKEN, OOB, PLAIN, world

MESSAGES: dict[Kind, bytes] = {"oob": OOB, "arf": ARF, "unreadable": BROKEN, "other": PLAIN}


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
    policy = compile_policy(under)
    question = Question(
        peer=str(envelope.peer),
        listener=None if envelope.listener == ANY_LISTENER else envelope.listener,
        auth=envelope.authz_id,
        sender=envelope.sender,
        to=list(envelope.recipients),
    )
    played = explain(question, MESSAGES.get(envelope.kind), policy=policy, settings=under, world=world())
    judged = judge(
        envelope,
        policy,
        refuse_at_connect=under.refuse_at_connect,
        quarantine=under.unreadable_reports == "quarantine",
    )
    event(judged.outcome)
    assert connect_part(envelope, judged) == played.connect
    assert recipient_parts(envelope, judged) == played.recipients
    assert deciding(judged)
    if envelope.kind != "unknown":
        message, told = message_part(judged), played.message
        assert (message.action, message.reply, message.report) == (told.action, told.reply, told.report)
        assert (message.relayed, message.dropped) == (told.relayed, told.dropped)


@given(configurations(), envelopes())
@tries(max_examples=300, deadline=None)
def test_what_is_unknown_is_one_of_what_it_could_be(under: Settings, envelope: Envelope) -> None:
    """Where a record does not tell what the message was, the outcome is true of a message of some kind."""
    policy = compile_policy(under)

    def outcome(kind: Kind) -> str:
        asked = Envelope(
            peer=envelope.peer,
            listener=envelope.listener,
            authz_id=envelope.authz_id,
            sender=envelope.sender,
            recipients=envelope.recipients,
            kind=kind,
        )
        return judge(asked, policy, refuse_at_connect=under.refuse_at_connect).outcome

    known = {outcome("oob"), outcome("arf"), outcome("other")}
    unknown = outcome("unknown")
    assert unknown in known or (unknown == "content_unknown" and {"rejected_at_end"} < known)
