"""One milter connection without I/O: packets in any pieces, what may come when, and what goes back."""

import struct
import tracemalloc
from typing import Any

import milter
import pytest

from sidecar.daemon.milter.context import WAITING
from sidecar.daemon.milter.conversation import Conversation, Steps
from sidecar.daemon.milter.negotiation import Step
from sidecar.daemon.milter.packets import PAYLOAD_LIMIT, MalformedError, packet

ALL_STEPS = 0x1FFFFF
OFFER = packet(b"O", struct.pack("!III", 6, 0x1FF, ALL_STEPS))
CONNECT = packet(b"C", b"peer.example\0" + b"4" + struct.pack("!H", 4444) + b"203.0.113.9\0")
GO_ON, ACCEPT = packet(b"c"), packet(b"a")
# What is agreed on here: HELO and header fields are not answered.
SILENT = milter.P_NR_HELO | milter.P_NR_HDR
ENVELOPE = packet(b"M", b"<a@b>\0") + packet(b"R", b"<c@d>\0") + packet(b"T")
CONTENT = packet(b"L", b"Subject\0 hello\0") + packet(b"N") + packet(b"B", b"body\r\n")
MESSAGE = ENVELOPE + CONTENT + packet(b"E")


class Callbacks:
    """Callbacks that note what they are given, and answer as `codes` say, else CONTINUE or, in the end, ACCEPT."""

    def __init__(self, codes: dict[Step, int] | None = None) -> None:
        self.codes = {Step.END_OF_MESSAGE: milter.ACCEPT, Step.HELO: milter.NOREPLY, Step.HEADER: milter.NOREPLY} | (
            codes or {}
        )
        self.called: list[tuple[str, bytes]] = []
        self.sizes: list[int] = []
        self.steps = Steps({step: self._callback(step) for step in Step}, self._negotiate)

    def _negotiate(self, context: Conversation, offer: list[int]) -> int:
        context.setpriv(self)
        context.setsymlist(0, "i")
        offer[:] = [milter.DELRCPT, SILENT, 0, 0]
        return int(milter.CONTINUE)

    def _callback(self, step: Step) -> Any:
        def callback(context: Conversation, payload: bytes) -> int:
            assert context.getpriv() is self
            self.called.append((step.name, payload))
            return int(self.codes.get(step, milter.CONTINUE))

        def fields(context: Conversation, payloads: list[bytes], size: int) -> int:
            self.sizes.append(size)
            for payload in payloads:
                callback(context, payload)
            return int(self.codes.get(step, milter.CONTINUE))

        if step is Step.HEADER:
            return fields

        return callback

    def names(self) -> list[str]:
        """Return the steps whose callbacks were called."""
        return [name for name, _ in self.called]


def begin(callbacks: Callbacks) -> Conversation:
    """Begin a conversation; what waits is resumed by the test itself."""
    return Conversation(callbacks.steps, lambda _: None)


def play(callbacks: Callbacks, *pieces: bytes) -> bytes:
    """Feed a conversation these pieces and give all that goes back."""
    conversation = begin(callbacks)
    answered = b""
    for piece in pieces:
        take(conversation, piece)
        answered += b"".join(conversation.output)
        conversation.output.clear()
    conversation.close()
    return answered


def take(conversation: Conversation, piece: bytes) -> None:
    """Feed a conversation one piece, and let it handle all of it."""
    conversation.receive(piece)
    while conversation.more:
        conversation.receive(b"")


AGREED = packet(b"O", struct.pack("!III", 6, milter.DELRCPT, SILENT) + struct.pack("!I", 0) + b"i\0")
ALL = OFFER + CONNECT + packet(b"H", b"me\0") + MESSAGE + packet(b"Q")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, len(ALL)])
def test_pieces_of_any_size_make_the_same_conversation(size: int) -> None:
    callbacks = Callbacks()
    pieces = [ALL[at : at + size] for at in range(0, len(ALL), size)]
    answers = GO_ON * 6 + ACCEPT  # CONNECT, MAIL, RCPT, DATA, the end of the headers, the body, and the message
    assert play(callbacks, *pieces) == AGREED + answers
    steps = ["CONNECT", "HELO", "MAIL", "RCPT", "DATA", "HEADER", "END_OF_HEADERS", "BODY", "END_OF_MESSAGE", "CLOSE"]
    assert callbacks.names() == steps
    assert ("HEADER", b"Subject\0 hello\0") in callbacks.called


def test_an_mta_that_cannot_do_without_an_answer_gets_one() -> None:
    """Where it did not offer to go without, a step that has none is answered CONTINUE, or it would wait for ever."""
    callbacks = Callbacks()
    offer = packet(b"O", struct.pack("!III", 4, 0x3F, 0x3FF & ~milter.P_NR_HDR))
    answered = play(callbacks, offer, CONNECT, packet(b"H", b"me\0"), ENVELOPE + packet(b"L", b"Subject\0hello\0"))
    assert answered[5:17] == struct.pack("!III", 4, milter.DELRCPT, 0)
    assert answered.endswith(GO_ON * 6)


NOISE = packet(b"D", b"Li\x004ABC\0")
FIELD, SHORT = packet(b"L", b"Content-Type\0 x\0"), packet(b"L", b"a\0 b\0")


@pytest.mark.parametrize("noise", [b"", NOISE])
def test_fields_that_arrive_together_are_passed_on_together(noise: bytes) -> None:
    """With what they have in the message: each a colon and a line end beside its name and its value."""
    callbacks = Callbacks()
    play(callbacks, OFFER + CONNECT + ENVELOPE + (noise + SHORT) * 3, noise + FIELD + noise + packet(b"N"))
    assert callbacks.sizes == [3 * len(b"a: b\r\n"), len(b"Content-Type: x\r\n")]
    assert callbacks.names()[-6:] == ["HEADER"] * 4 + ["END_OF_HEADERS", "CLOSE"]


@pytest.mark.parametrize("noise", [b"", NOISE])
@pytest.mark.parametrize("cut", range(1, len(NOISE + SHORT)))
def test_short_fields_are_left_out_when_enough_were_called(noise: bytes, cut: int) -> None:
    """Wherever the packets are cut; a field that may be a Content-Type is passed on, and the next message is not affected."""
    callbacks = Callbacks({Step.HEADER: milter.SKIP})
    begin, fields = OFFER + CONNECT + ENVELOPE + noise + SHORT, (noise + SHORT) * 2 + noise + FIELD + (noise + SHORT) * 2
    rest = noise + packet(b"N") + packet(b"E") + MESSAGE
    pieces = [begin, *(fields[at : at + cut] for at in range(0, len(fields), cut)), rest]
    assert play(callbacks, *pieces) == AGREED + GO_ON * 5 + ACCEPT + GO_ON * 5 + ACCEPT
    assert [payload for name, payload in callbacks.called if name == "HEADER"] == [
        b"a\0 b\0", b"Content-Type\0 x\0", b"Subject\0 hello\0"
    ]  # fmt: skip
    assert sum(callbacks.sizes[:-1]) == 5 * len(b"a: b\r\n") + len(b"Content-Type: x\r\n")


def test_a_packet_that_is_too_long_among_fields() -> None:
    """It is none, wherever it is."""
    with pytest.raises(MalformedError):
        play(Callbacks(), OFFER + CONNECT + ENVELOPE + SHORT + packet(b"L", b"a\0" + b"b" * PAYLOAD_LIMIT + b"\0"))


@pytest.mark.parametrize("step", [Step.CONNECT, Step.RCPT, Step.DATA, Step.END_OF_HEADERS, Step.END_OF_MESSAGE])
def test_nothing_is_answered_before_an_answer_that_waits(step: Step) -> None:
    """What an MTA sends meanwhile waits as well, and is handled in its order."""
    callbacks = Callbacks({step: WAITING})
    conversation = begin(callbacks)
    take(conversation, OFFER + CONNECT + MESSAGE + MESSAGE + packet(b"H", b"me\0"))
    for code in (milter.CONTINUE, milter.ACCEPT):
        assert conversation.waiting
        assert callbacks.names()[-1] == step.name
        answered = len(conversation.output)
        conversation.resume(code)
        assert conversation.output[answered] == {milter.CONTINUE: GO_ON, milter.ACCEPT: ACCEPT}[code]
        while conversation.more:
            conversation.receive(b"")
        if step is Step.CONNECT:
            break
    assert not conversation.waiting
    assert callbacks.names().count("END_OF_MESSAGE") == 2
    assert callbacks.names()[-1] == "HELO"


def test_a_step_that_is_not_answered_can_wait_too() -> None:
    """As a rejection at connect, which is recorded there and given at RCPT."""
    callbacks = Callbacks({Step.HELO: WAITING})
    conversation = begin(callbacks)
    take(conversation, OFFER + CONNECT + packet(b"H", b"me\0") + packet(b"M", b"<a@b>\0"))
    assert callbacks.names()[-1] == "HELO"
    answered = len(conversation.output)
    conversation.resume(milter.TEMPFAIL)
    assert conversation.output[answered:] == [GO_ON]
    assert callbacks.names()[-1] == "MAIL"


def test_the_last_piece_of_a_body_may_come_with_the_end() -> None:
    callbacks = Callbacks()
    play(callbacks, OFFER + CONNECT + ENVELOPE + packet(b"N") + packet(b"E", b"the rest"))
    assert callbacks.called[-3:] == [("BODY", b"the rest"), ("END_OF_MESSAGE", b""), ("CLOSE", b"")]


def test_a_message_that_another_one_follows_is_given_up() -> None:
    """Sendmail does not report RSET: the next MAIL does, or its macros, which stay, or EHLO. Abort is called once."""
    callbacks = Callbacks()
    conversation = begin(callbacks)
    conversation.receive(OFFER + CONNECT + ENVELOPE + packet(b"D", b"Mi\0second\0") + packet(b"M", b"<>\0"))
    assert callbacks.names()[-2:] == ["ABORT", "MAIL"]
    assert conversation.getsymval("i") == "second"
    conversation.receive(packet(b"A") + packet(b"A") + packet(b"M", b"<>\0"))
    assert callbacks.names()[-3:] == ["MAIL", "ABORT", "MAIL"]
    conversation.receive(packet(b"R", b"<c@d>\0") + packet(b"T") + packet(b"H", b"me\0"))
    assert callbacks.names()[-3:] == ["DATA", "ABORT", "HELO"]


@pytest.mark.parametrize("code", [milter.REJECT, milter.TEMPFAIL])
def test_a_reply_goes_with_its_refusal_and_no_other(code: int) -> None:
    """Once given it is gone; a refusal without one has the plain letter."""
    callbacks = Callbacks({Step.MAIL: code, Step.RCPT: milter.CONTINUE, Step.DATA: code})
    conversation = begin(callbacks)
    conversation.receive(OFFER + CONNECT)
    conversation.output.clear()
    conversation.setreply("550", "5.7.1", "no %% way")
    conversation.receive(packet(b"M", b"<>\0") + packet(b"R", b"<a@b>\0") + packet(b"T"))
    letter = b"r" if code == milter.REJECT else b"t"
    assert conversation.output == [packet(b"y", b"550 5.7.1 no %% way\0"), GO_ON, packet(letter)]


def test_recipients_are_taken_off_before_the_answer() -> None:
    conversation = begin(Callbacks({Step.END_OF_MESSAGE: WAITING}))
    take(conversation, OFFER + CONNECT + MESSAGE)
    conversation.output.clear()
    assert conversation.waiting
    conversation.delrcpt("<grün@d>")
    conversation.resume(milter.ACCEPT)
    assert conversation.output == [packet(b"-", "<grün@d>\0".encode()), ACCEPT]


# --- macros


def test_macros_are_of_the_connection_or_of_the_message() -> None:
    """A message's own are gone with it, however it ended: one message's identity is not another's."""
    conversation = begin(Callbacks())
    conversation.receive(OFFER + packet(b"D", b"C{daemon_addr}\x0010.1.1.1\0i\0first\0") + CONNECT)
    assert conversation.getsymval("{daemon_addr}") == "10.1.1.1"
    assert conversation.getsymval("i") == "first"
    conversation.receive(packet(b"D", b"M{auth_authen}\0daniel\0i\0second\0") + packet(b"M", b"<>\0"))
    conversation.receive(packet(b"D", b"Ri\0third\0") + packet(b"D", b"Li\0nobody reads this\0"))
    assert (conversation.getsymval("i"), conversation.getsymval("{auth_authen}")) == ("third", "daniel")
    conversation.receive(packet(b"A"))
    assert (conversation.getsymval("i"), conversation.getsymval("{auth_authen}")) == ("first", None)
    conversation.receive(packet(b"D", b"M{auth_authen}\0daniel\0"))
    take(conversation, MESSAGE)
    assert conversation.getsymval("{auth_authen}") is None
    assert conversation.getsymval("{daemon_addr}") == "10.1.1.1"


def test_a_new_message_has_none_of_the_last_ones_macros() -> None:
    conversation = begin(Callbacks())
    conversation.receive(OFFER + CONNECT + packet(b"D", b"M{auth_authen}\0daniel\0") + packet(b"M", b"<>\0"))
    conversation.receive(packet(b"D", b"Mi\0x\0"))
    assert conversation.getsymval("{auth_authen}") is None


def test_a_message_without_macros_has_none_of_the_last_ones() -> None:
    """However that ended, here by an answer before its content: no one is accepted by the identity of another message."""
    conversation = begin(Callbacks({Step.DATA: milter.ACCEPT}))
    conversation.receive(OFFER + CONNECT + packet(b"D", b"M{auth_authen}\0daniel\0") + ENVELOPE)
    assert conversation.getsymval("{auth_authen}") == "daniel"
    conversation.receive(packet(b"M", b"<>\0"))
    assert conversation.getsymval("{auth_authen}") is None


def test_macros_that_were_not_asked_for_are_not_kept() -> None:
    """Nor those before the offer, nor a value that is too long: a connection's macros have a few kilobytes at most."""
    conversation = begin(Callbacks())
    tracemalloc.start()
    try:
        conversation.receive(packet(b"D", b"Ci\0early\0"))
        conversation.receive(OFFER + CONNECT)
        assert conversation.getsymval("i") is None
        before, _ = tracemalloc.get_traced_memory()
        for stage in b"CHMRT":
            for number in range(99):
                conversation.receive(packet(b"D", b"%cname%d\0%s\0" % (stage, number, b"x" * 65_000)))
            for name in (b"i", b"{i}", b"{auth_authen}", b"auth_authen", b"{daemon_addr}", b"{daemon_port}", b"{if_addr}"):
                conversation.receive(packet(b"D", b"%c%s\0%s\0" % (stage, name, b"x" * 1024)))
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
    assert conversation.getsymval("i") == "x" * 1024


def test_a_macro_that_is_too_long_is_not_told() -> None:
    """A part of an identity would be another identity."""
    conversation = begin(Callbacks())
    conversation.receive(OFFER + CONNECT)
    conversation.receive(packet(b"D", b"M{auth_authen}\0%s\0i\0x\0" % (b"daniel" * 171)) + packet(b"M", b"<>\0"))
    assert (conversation.getsymval("{auth_authen}"), conversation.getsymval("i")) == (None, "x")


def test_braces_around_the_name_of_a_macro_say_nothing() -> None:
    """Some MTAs leave them out, and `i` is `{i}` to libmilter too."""
    conversation = begin(Callbacks())
    conversation.receive(OFFER + packet(b"D", b"Cdaemon_addr\x0010.1.1.1\0{i}\0first\0") + CONNECT)
    assert conversation.getsymval("{daemon_addr}") == "10.1.1.1"
    assert conversation.getsymval("i") == "first"


def test_a_few_packets_are_taken_at_once() -> None:
    """The caller may do something else between them; the rest waits, in order, and is no more than what came."""
    callbacks = Callbacks()
    conversation = begin(callbacks)
    conversation.receive(OFFER + CONNECT + packet(b"M", b"<>\0") + b"".join(packet(b"R", b"<%d@b>\0" % n) for n in range(40)))
    called = [len(callbacks.called)]
    while conversation.more:
        conversation.receive(b"")
        called.append(len(callbacks.called))
    assert called == [15, 31, 42]
    assert [payload for name, payload in callbacks.called if name == "RCPT"] == [b"<%d@b>\0" % n for n in range(40)]
    # Behind the last of them stands the head of one that is not whole, and whose rest comes later.
    pieces = packet(b"R", b"<x@b>\0") * 16 + packet(b"R", b"<y@b>\0")
    take(conversation, pieces[:-9])
    assert callbacks.called[-1] == ("RCPT", b"<x@b>\0")
    take(conversation, pieces[-9:])
    assert callbacks.called[-1] == ("RCPT", b"<y@b>\0")


@pytest.mark.parametrize("payload", [b"", b"M", b"L", b"Mi\0", b"Z", b"M\0\0"])
def test_macros_that_are_none_are_no_fault(payload: bytes) -> None:
    conversation = begin(Callbacks())
    conversation.receive(OFFER + CONNECT + packet(b"D", payload))
    assert conversation.getsymval("i") is None


def test_a_macro_that_is_no_text_raises() -> None:
    """As pymilter's does; whoever asks for it knows."""
    conversation = begin(Callbacks())
    conversation.receive(OFFER + packet(b"D", b"C{daemon_addr}\0\xff\0"))
    with pytest.raises(UnicodeDecodeError):
        conversation.getsymval("{daemon_addr}")


# --- the order of packets


def test_one_connection_after_the_other_on_the_same_terms() -> None:
    """An MTA may keep the milter connection for its next SMTP connection: nothing of the first is left then."""
    callbacks = Callbacks()
    conversation = begin(callbacks)
    conversation.receive(OFFER + packet(b"D", b"C{daemon_addr}\x0010.1.1.1\0") + CONNECT + ENVELOPE + packet(b"K"))
    assert callbacks.names()[-1] == "CLOSE"
    assert conversation.getsymval("{daemon_addr}") is None
    assert conversation.getpriv() is callbacks
    conversation.receive(CONNECT + ENVELOPE)
    assert callbacks.names()[-4:] == ["CONNECT", "MAIL", "RCPT", "DATA"]
    conversation.close()
    conversation.close()
    assert callbacks.names().count("CLOSE") == 2


def test_quit_is_the_end() -> None:
    callbacks = Callbacks()
    conversation = begin(callbacks)
    conversation.receive(OFFER + CONNECT + packet(b"Q") + ENVELOPE)
    assert conversation.over
    assert callbacks.names() == ["CONNECT"]


def test_an_unknown_smtp_command_is_the_mtas_to_refuse() -> None:
    assert play(Callbacks(), OFFER + CONNECT + packet(b"U", b"XYZZY\0")) == AGREED + GO_ON * 2


@pytest.mark.parametrize(
    "packets",
    [
        MESSAGE,
        CONNECT,
        packet(b"A"),
        packet(b"Z"),
        OFFER + packet(b"Z"),
        OFFER + OFFER,
        OFFER + CONNECT + CONNECT,
        packet(b"O", b"xy"),
        packet(b"O", struct.pack("!III", 1, 0, 0)),
        OFFER + packet(b"D", b"Mi\0x"),
        b"\0\0\0\0O",
        OFFER + b"\xff\xff\xff\xffB",
        OFFER + packet(b"B", b"x" * (PAYLOAD_LIMIT + 1)),
        b"GET / HTTP/1.1\r\n",
    ],
)
def test_what_no_mta_says_ends_the_connection(packets: bytes) -> None:
    """And nothing is called of it: no step before an offer, no second offer, no second peer, no packet out of bounds."""
    with pytest.raises(MalformedError):
        begin(Callbacks()).receive(packets)


def test_the_largest_packet_is_taken_in_linear_time() -> None:
    """Byte by byte it is put together once, not once for each byte."""
    callbacks = Callbacks()
    body = packet(b"B", b"x" * PAYLOAD_LIMIT)
    play(callbacks, OFFER + CONNECT + ENVELOPE + packet(b"N"), *(body[at : at + 1] for at in range(len(body))))
    assert ("BODY", b"x" * PAYLOAD_LIMIT) in callbacks.called
