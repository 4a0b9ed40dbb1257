"""Which messages are signed, with what, and when the verdict on them is given."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.proof import address, trace
from sidecar.core.session.events import Data, Fields
from sidecar.core.session.signing import Signing
from sidecar.core.session.verdicts import Accept, Continue, Discard, Outcome
from sidecar.core.settings.proof import SignSettings, VerifySettings
from tests.building import entry, settings
from tests.core.proof.making import check_trace, secret
from tests.core.session.driving import EXTERNAL, NOON, OOB, RELAY_HOST, content, envelope, hello, play, session

SECRET, OLD = secret(b"the-secret-of-the-tests-is-no-secret"), secret(b"another-secret-of-the-tests-is-none-too")
VERIFY = VerifySettings(secrets=(SECRET, OLD))
DOMAINS = [
    entry("inbound.test", relay_to=True),
    entry("bounce.test", log_oob="LogThenDrop"),
    entry("submit.test", relay_from=["203.0.113.0/24"]),
    entry("login.test", relay_from_authz=["daniel"]),
]
SENDER, JO = "news@our.test", "jo@remote.test"
MESSAGE = b"Message-ID: <1@our.test>\r\nSubject: hello\r\n\r\nJust a letter.\r\n"
NAMES = st.binary() | st.sampled_from([b"Message-ID", b"X-Sidecar-Trace", b"CFBL-Address", b"message-id"])
HEADER = SignSettings(header=True)
ALL = SignSettings(header=True, address=True, cfbl_address="fbl@our.test", domains=("our.test", "*.our.test"))


def deliver(
    sign: SignSettings | None,
    *recipients: str,
    message: bytes = MESSAGE,
    sender: str = SENDER,
    peer: object = RELAY_HOST,
    **more: Any,
) -> list[Outcome]:
    """Return the outcomes of a message from DATA on."""
    it = session(settings(DOMAINS, sign=sign, verify=VERIFY))
    play(it, [*hello(peer), *envelope(recipients or [JO], sender=sender, **more)])
    return play(it, content(message))


def verdict(*arguments: Any, **more: Any) -> Accept:
    found = deliver(*arguments, **more)[-1].verdict
    assert isinstance(found, Accept)
    return found


def trace_of(*recipients: str, sender: str = SENDER) -> str:
    made = trace.trace(SECRET, NOON, message_id="<1@our.test>", sender=sender, recipients=recipients)
    assert made is not None
    return made


def test_all_proofs() -> None:
    """The first secret makes them; a report about the message proves its recipient."""
    value = trace_of(JO)
    assert verdict(ALL) == Accept(
        fields=((trace.NAME, value), ("CFBL-Address", "fbl@our.test; report=arf"), ("CFBL-Feedback-ID", value)),
        sender=address.tagged(SENDER, SECRET, NOON),
    )
    head = f"{trace.NAME}: {value}\nMessage-ID: <1@our.test>".encode()
    tagged = address.tagged(SENDER, SECRET, NOON)
    proved = check_trace(head, tagged, (JO,), VERIFY, NOON)
    assert (proved.holds, proved.recipients) == (True, (JO,))
    assert address.check_address(tagged, VERIFY, NOON).holds


def test_the_verdict_is_given_at_the_end() -> None:
    """Without [sign] the mail is accepted at DATA; a signed message is recorded as a whole one."""
    (early,) = deliver(None)
    assert early.records[0].meta["decided"] == "data"
    *before, last = deliver(HEADER)
    assert {type(outcome.verdict) for outcome in before} == {Continue}
    assert [record.type for record in last.records] == ["Reception"]
    assert last.records[0].size == len(MESSAGE)
    assert "decided" not in last.records[0].meta


@pytest.mark.parametrize(
    ("sender", "sign", "is_signed"),
    [
        (SENDER, HEADER, True),
        ("", HEADER, True),
        ("x@else.test", HEADER, True),
        (SENDER, ALL, True),
        ("x@OUR.Test", ALL, True),
        ("x@deep.sub.our.test", ALL, True),
        ("x@notour.test", ALL, False),
        ("x@else.test", ALL, False),
        ("", ALL, False),
        ("x", ALL, False),
    ],
)
def test_domains(sender: str, sign: SignSettings, is_signed: bool) -> None:
    """`domains` name the senders that are signed; other mail is accepted at DATA, as without [sign]."""
    outcomes = deliver(sign, sender=sender)
    last = outcomes[-1].verdict
    assert isinstance(last, Accept)
    assert (bool(last.fields), len(outcomes) == 1) == (is_signed, not is_signed)


@pytest.mark.parametrize(
    ("peer", "sender", "authz_id", "recipient", "is_signed"),
    [
        (RELAY_HOST, SENDER, None, JO, True),
        (EXTERNAL, "x@submit.test", None, JO, True),
        (EXTERNAL, "x@login.test", "daniel", JO, True),
        (EXTERNAL, "x@remote.test", None, "y@inbound.test", False),
        (EXTERNAL, "x@login.test", "another", "y@inbound.test", False),
    ],
)
def test_only_outbound_mail_is_signed(
    peer: object,
    sender: str,
    authz_id: str | None,
    recipient: str,
    is_signed: bool,
) -> None:
    """It comes from relay hosts, and from peers that may relay for the sender's domain: never from other external hosts."""
    assert bool(verdict(HEADER, recipient, peer=peer, sender=sender, authz_id=authz_id).fields) == is_signed


@pytest.mark.parametrize(
    "sender",
    [
        "",
        address.tagged(SENDER, OLD, NOON),
        "prvs=679539c0d2=bounce@our.test",
        "SRS0=abc=de=other.test=jo@our.test",
        f"{'x' * 41}@our.test",
        '"a b"@our.test',
    ],
)
def test_senders_that_stay(sender: str) -> None:
    """The null sender, tagged senders, and those without place for a token."""
    domains = () if not sender else ALL.domains
    found = verdict(SignSettings(header=True, address=True, domains=domains), sender=sender)
    assert (found.sender, [name for name, _ in found.fields]) == (None, [trace.NAME])
    assert found.fields[0][1] == trace_of(JO, sender=sender)


def test_the_trace_names_one_recipient_only() -> None:
    """That of the envelope to which the message is relayed."""
    assert verdict(HEADER, JO, "al@remote.test").fields == ((trace.NAME, trace_of()),)
    message = OOB.replace(b"Subject", b"Message-ID: <1@our.test>\r\nSubject", 1)
    found = verdict(HEADER, JO, "b@bounce.test", message=message)
    assert found == Accept(without=("<b@bounce.test>",), fields=((trace.NAME, trace_of(JO)),))


def test_a_report_that_is_dropped_is_not_signed() -> None:
    assert deliver(HEADER, "b@bounce.test", message=OOB)[-1].verdict == Discard()


@pytest.mark.parametrize(
    "head",
    [
        b"Subject: no id\r\n",
        b"Message-ID: <1@our.test>\r\nMESSAGE-id: <2@our.test>\r\n",
        b"Message-ID: <1@our.test>\r\nMessage-ID:\r\n",
        b"Message-ID: " + b"x" * 999 + b"\r\n",
    ],
)
def test_no_trace_without_one_message_id(head: bytes) -> None:
    """It could not be checked. The other proofs are made."""
    found = verdict(ALL, message=head + b"\r\nbody\r\n")
    assert [name for name, _ in found.fields] == ["CFBL-Address"]
    assert found.sender == address.tagged(SENDER, SECRET, NOON)


@pytest.mark.parametrize("identifier", [b"<\xff\xfe@our.test>", "<ü@our.test>".encode(), b"<1@our.test>"])
def test_any_encoding(identifier: bytes) -> None:
    """A trace holds for a Message-ID that is not UTF-8, and for no other one."""
    ((_, value),) = verdict(HEADER, message=b"Message-ID: %b\r\n\r\nbody\r\n" % identifier).fields
    for one in (identifier, b"<\xff\xff@our.test>"):
        checked = check_trace(b"Message-ID: %b\nX-Sidecar-Trace: %b" % (one, value.encode()), SENDER, (JO,), VERIFY, NOON)
        assert (checked.recipients == (JO,)) == (one == identifier)


def test_what_is_there_is_not_added_again() -> None:
    """A message that passes two of our hosts gets one trace; the address for complaints of an application stays."""
    head = f"X-sidecar-trace:\r\n\t{trace_of(JO)}\r\ncfbl-ADDRESS: x@our.test; report=arf\r\n".encode()
    assert verdict(ALL, message=head + MESSAGE).fields == ()
    other = trace_of(JO, sender="another@our.test")
    assert verdict(HEADER, message=f"X-Sidecar-Trace: {other}\r\n".encode() + MESSAGE).fields == ((trace.NAME, trace_of(JO)),)


def test_no_field_of_a_signed_message_is_left_out() -> None:
    """The engine leaves short fields out after ENOUGH, and a Message-ID can be short."""
    it = session(settings(DOMAINS, sign=HEADER, verify=VERIFY))
    play(it, [*hello(RELAY_HOST), *envelope([JO], sender=SENDER), Data()])
    outcome = it.handle(Fields(fields=[(b"X", b"y")] * 2000, size=10_000))
    assert outcome.verdict == Continue()
    assert outcome is it.handle(Fields(fields=[(b"Message-ID", b"a")], size=15))


@given(
    sender=st.text() | st.from_regex(r"[^@]{0,80}@[^@]{0,300}"), fields=st.lists(st.tuples(NAMES, st.binary())), to=st.text()
)
def test_any_message_is_signed_or_left(sender: str, fields: list[tuple[bytes, bytes]], to: str) -> None:
    """An exception would defer the message for ever. New fields are one line, and a new local part has at most 64 octets."""
    signing = Signing(SignSettings(address=True, cfbl_address="fbl@our.test"), SECRET)
    signing.add(fields)
    found = signing.sign(Accept(), sender=sender, recipients=[to], now=NOON)
    assert all(value.isascii() and value.isprintable() for _, value in found.fields)
    assert found.sender is None or len(found.sender.rpartition("@")[0].encode()) <= 64


def test_memory_is_bounded() -> None:
    """A message can have any number of fields that matter here."""
    signing = Signing(HEADER, SECRET)
    tracemalloc.start()
    try:
        for number in range(10_000):
            signing.add([(b"Message-ID", b"<%d@our.test>" % number), (b"X-Sidecar-Trace", b"%0100d" % number)])
            signing.add([(b"X-Sidecar-Trace", b"%01000d" % number)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 50_000
    assert signing.sign(Accept(), sender=SENDER, recipients=[JO], now=NOON).fields == ()
