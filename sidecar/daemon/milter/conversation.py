"""One milter connection without I/O: an MTA's bytes in, answers out, and in between the callbacks that libmilter would call.

Owns the order of packets, and what is kept of a connection. Never reads a socket, and never decides about mail.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from sidecar.daemon.milter import packets
from sidecar.daemon.milter.context import ACCEPT, CONTINUE, DISCARD, NOREPLY, REJECT, SKIP, TEMPFAIL, WAITING
from sidecar.daemon.milter.negotiation import (
    MACRO_KEYS,
    P_NR_BODY,
    P_NR_CONN,
    P_NR_DATA,
    P_NR_EOH,
    P_NR_HDR,
    P_NR_HELO,
    P_NR_MAIL,
    P_NR_RCPT,
    Step,
)
from sidecar.daemon.milter.packets import HEAD, LETTERS, PAYLOAD_LIMIT, MalformedError, packet

Callback = Callable[..., int]
Finish = Callable[[], int]
"""Returns the code of a callback that has returned WAITING, or raises; called once, by the thread of the connection."""

_CONTINUING = {CONTINUE, NOREPLY, SKIP}
_REJECTIONS = {REJECT, TEMPFAIL}
_ANSWERS = {
    CONTINUE: packet(b"c"),
    ACCEPT: packet(b"a"),
    DISCARD: packet(b"d"),
    REJECT: packet(b"r"),
    TEMPFAIL: packet(b"t"),
}
_CONNECT, _MAIL, _HEADER, _BODY = (LETTERS[step] for step in (Step.CONNECT, Step.MAIL, Step.HEADER, Step.BODY))
_OF_CONNECTION = frozenset({_CONNECT, LETTERS[Step.HELO]})
_OF_MESSAGE = frozenset({_MAIL, LETTERS[Step.RCPT], LETTERS[Step.DATA], packets.END_OF_MESSAGE})
_KEYS = {spelling.decode(): key for spelling, key in MACRO_KEYS.items()}
# Stages whose macros are not used; Postfix sends some before every header field.
_UNREAD = frozenset(LETTERS[step][0] for step in (Step.HEADER, Step.END_OF_HEADERS, Step.BODY))
# Packets handled before the caller looks at the clock. A message has some thirty; one of a recipient can take 0.2 ms.
_AT_ONCE = range(16)
# The letter, and the payload.
_LENGTH_LIMIT = PAYLOAD_LIMIT + 1
# The least size of a packet with a Content-Type.
_SHORT = len(b"LContent-Type\0\0")
# Never answered. The other packets are, except for the steps that were agreed on.
_NEVER = frozenset({LETTERS[Step.ABORT], packets.QUIT, packets.QUIT_BUT_STAY, packets.OFFER, packets.MACROS})
# The steps that an MTA can leave unanswered, and its bit for that.
_UNANSWERED_BITS = {
    _CONNECT: P_NR_CONN,
    LETTERS[Step.HELO]: P_NR_HELO,
    _MAIL: P_NR_MAIL,
    LETTERS[Step.RCPT]: P_NR_RCPT,
    LETTERS[Step.DATA]: P_NR_DATA,
    LETTERS[Step.HEADER]: P_NR_HDR,
    LETTERS[Step.END_OF_HEADERS]: P_NR_EOH,
    _BODY: P_NR_BODY,
}


class Conversation:
    """What libmilter calls a context. Pass what arrives to `receive`; send `output`, packets for the MTA, and clear it.

    After a callback that has returned WAITING, `waiting` is set: its answer needs the disk or another thread. Only `resume` may
    be called then, with the code of the Finish that `resume_later` gets. When `over`, nothing more follows. In the end call
    `close`. Raises MalformedError, after which only `close` may be called. `wanted` is the size of the next packet, if known.

    One call handles a few packets. While there is `more`, and nothing is waiting, pass an empty piece to `receive` to continue.
    """

    __slots__ = (
        "_asked", "_at", "_has_message", "_has_peer", "_kept", "_of_connection", "_of_message", "_reply", "_rest", "_short",
        "_silent", "_steps", "_table", "_unread", "more", "output", "over", "resume_later", "waiting", "wanted",
    )  # fmt: skip

    def __init__(self, steps: "Steps", resume_later: Callable[[Finish], None]) -> None:
        self.output: list[bytes] = []
        self.over = False
        self.resume_later = resume_later
        # The letter of the packet whose answer is waited for; empty if there is none.
        self.waiting = b""
        self._steps = steps
        self._table = steps.before_offer
        self._silent = _NEVER
        self._asked: list[tuple[int, str]] = []
        self._has_peer = False
        self._has_message = False
        self._of_connection: dict[bytes, bytes] = {}
        self._of_message: dict[bytes, bytes] = {}
        self._reply: bytes | None = None
        self._kept: object = None
        self._rest: bytes | bytearray | None = None
        self._at = 0
        self.more = False
        # Header fields of packets shorter than this are left out.
        self._short = 0
        # The last macros that are not used. Postfix sends the same ones before each field.
        self._unread = b""
        self.wanted = 0

    # --- what callbacks use (see Context)

    def getpriv(self) -> Any:  # noqa: ANN401 - the adapter knows what it is
        """Return what `setpriv` kept, or None."""
        return self._kept

    def setpriv(self, kept: object, /) -> object:
        """Keep one object for this connection, and return the one kept before."""
        before, self._kept = self._kept, kept
        return before

    def setsymlist(self, stage: int, names: str, /) -> None:
        """Ask for these macros at a stage; only while negotiating."""
        self._asked.append((stage, names))

    def getsymval(self, name: str, /) -> str | None:
        """Return the last value of a macro. Raise UnicodeDecodeError if it is not UTF-8."""
        wanted = _KEYS.get(name, b"")
        value = self._of_message.get(wanted, self._of_connection.get(wanted))
        return None if value is None else value.decode()

    def setreply(self, code: str, enhanced: str, text: str, /) -> None:
        """Set the SMTP reply of the next REJECT or TEMPFAIL; `%` is written `%%`."""
        self._reply = packet(b"y", f"{code} {enhanced} {text}".encode("ascii") + b"\0")

    def delrcpt(self, recipient: str, /) -> None:
        """Remove a recipient from the envelope."""
        self.output.append(packet(b"-", recipient.encode() + b"\0"))

    def addheader(self, name: str, value: str, index: int, /) -> None:
        """Insert a header field before the one with this index."""
        self.output.append(packet(b"i", packets.header_field(name, value, index)))

    def chgfrom(self, sender: str, /) -> None:
        """Change the envelope sender."""
        self.output.append(packet(b"e", sender.encode() + b"\0"))

    # --- the MTA's side

    def receive(self, data: bytes) -> None:
        """Handle what the MTA sent, in pieces of any size."""
        self.more = False
        if self._rest is not None:
            self._rest += data
            if len(self._rest) - self._at < self.wanted:
                return
            data = bytes(self._rest)
        at, self._at = self._at, 0
        self._handle_packets(data, at)

    def resume(self, code: int) -> None:
        """Answer what was waiting, and continue with what arrived meanwhile."""
        letter, self.waiting = self.waiting, b""
        if letter not in self._silent:
            self._complete(letter, code)
        self.receive(b"")

    def fail(self) -> None:
        """After an exception: tempfail what the MTA waits for or asks next, and be over."""
        self.output.append(_ANSWERS[TEMPFAIL])
        self.waiting = b""
        self.over = True

    def close(self) -> None:
        """End the session, if one has begun. May be called again."""
        if self._has_peer:
            self._has_peer = False
            self._steps.close(self, b"")

    def _handle_packets(self, data: bytes, at: int) -> None:
        """Handle some whole packets from an offset on, until one must wait for its answer."""
        size, self.wanted = len(data), HEAD.size
        for _ in _AT_ONCE:
            if size - at < HEAD.size or self.waiting or self.over:
                break
            length, letter = HEAD.unpack_from(data, at)
            if not 0 < length <= _LENGTH_LIMIT:
                raise MalformedError(f"packet {letter!r} has {length} bytes")
            payload_at, end = at + HEAD.size, at + HEAD.size - 1 + length
            if end > size:
                self.wanted = end - at
                break
            if letter == packets.MACROS and length > 1 and data[payload_at] in _UNREAD:
                self._unread = data[at:end]
                at = end
                continue
            callback = self._table.get(letter)
            if callback is None:
                raise MalformedError(f"packet {letter!r} is not allowed here")
            if letter == _HEADER:
                at = self._handle_fields(data, at)
                continue
            code = callback(self, data[payload_at:end])
            if letter not in self._silent or code == WAITING:
                self._complete(letter, code)
            at = end
        else:
            self.more = at < size
        if self.more:
            self._rest, self._at = data, at
        else:
            self._rest = bytearray(data[at:]) if at < size else None

    def _complete(self, letter: bytes, code: int) -> None:
        """Answer a packet with the code of its callback, or wait for that."""
        if code == WAITING:
            self.waiting = letter
            return
        self._answer(CONTINUE if code == NOREPLY else code)
        if letter == packets.END_OF_MESSAGE:
            self._forget_message()

    def _handle_fields(self, data: bytes, at: int) -> int:
        """Handle all header fields from `at` on together, and return the offset of their end. The first is whole.

        A message can have a quarter of a million fields, so each of them costs as little as possible.
        """
        payloads: list[bytes] = []
        total = length = 0
        size, short, macros, unpack, start = len(data), self._short, self._unread, HEAD.unpack_from, HEAD.size
        while size - at >= start:
            length, letter = unpack(data, at)
            if letter == _HEADER and 0 < length < short:
                at += 4 + length
                total += length
                if data.startswith(macros, at):
                    at += len(macros)
                continue
            end = at + 4 + length
            if end > size or not 0 < length <= _LENGTH_LIMIT:
                break
            if letter == _HEADER:
                total += length
                payloads.append(data[at + start : end])
            elif letter != packets.MACROS or length == 1 or data[at + start] not in _UNREAD:
                break
            at = end
        if at > size:  # the last one is not complete yet
            at -= 4 + length
            total -= length
        # The letter and two NULs have as many bytes as the colon and the line end in the message.
        self._pass_on_fields(payloads, total)
        return at

    def _pass_on_fields(self, payloads: list[bytes], size: int) -> None:
        code = self._table[_HEADER](self, payloads, size)
        if _HEADER not in self._silent:
            for _ in payloads:
                self._answer(CONTINUE if code in _CONTINUING else code)
        elif code == SKIP:
            self._short = _SHORT

    def _answer(self, code: int) -> None:
        reply, self._reply = self._reply, None
        self.output.append(reply if reply is not None and code in _REJECTIONS else _ANSWERS[code])

    # --- packets that are no plain step; each handler returns a code as callbacks do

    def _negotiate(self, payload: bytes) -> int:
        offer = packets.offer(payload)
        # Both engines pass the MTA's offer to the callback, which changes it in place into the answer.
        numbers = [offer.actions, offer.steps, 0, 0]
        self._steps.negotiate(self, numbers)
        answer, self._silent = _agreed(offer.version, numbers[0] & offer.actions, numbers[1] & offer.steps, tuple(self._asked))
        self.output.append(answer)
        self._table = self._steps.after_offer
        return NOREPLY

    def _begin_connection(self, payload: bytes) -> int:
        if self._has_peer:
            raise MalformedError("CONNECT: there is a peer already")
        self._has_peer = True
        self._of_message = {}
        return self._steps.connect(self, payload)

    def _keep_macros(self, payload: bytes) -> int:
        stage = payload[:1]
        if stage == _MAIL:  # they precede the message that they belong to, so the last message is over
            self._abort_message()
            self._of_message = packets.macros(payload)
        elif stage in _OF_MESSAGE:
            if self._has_message:  # otherwise they would count for the next one
                self._of_message.update(packets.macros(payload))
        elif stage in _OF_CONNECTION:
            self._of_connection.update(packets.macros(payload))
        return NOREPLY

    def _ignore_macros(self, _payload: bytes) -> int:
        """Keep no macro sent before the offer: none was asked for yet."""
        return NOREPLY

    def _end_message(self, payload: bytes) -> int:
        if payload:  # the last piece of the body can be part of it
            self._table[_BODY](self, payload)
        return self._steps.end_of_message(self, b"")

    def _begin_message(self, payload: bytes) -> int:
        self._abort_message()
        self._has_message = True
        self._short = 0
        return self._steps.mail(self, payload)

    def _abort_message(self) -> None:
        """End an unfinished message: Sendmail does not report RSET."""
        if self._has_message:
            self._forget_message()
            self._steps.abort(self, b"")

    def _begin_helo(self, payload: bytes) -> int:
        self._abort_message()
        return self._steps.helo(self, payload)

    def _abort(self, _payload: bytes) -> int:
        self._abort_message()
        self._forget_message()
        return NOREPLY

    def _forget_message(self) -> None:
        self._has_message = False
        self._short = 0
        self._of_message = {}

    def _end_connection(self, _payload: bytes) -> int:
        """End the SMTP connection: another one follows, on the terms agreed on."""
        self.close()
        self._forget_message()
        self._of_connection = {}
        return NOREPLY

    def _quit(self, _payload: bytes) -> int:
        self.over = True
        return NOREPLY

    def _continue(self, _payload: bytes) -> int:
        """Leave an unknown SMTP command to the MTA."""
        return CONTINUE

    # The handler of each letter before and after the offer; a missing one is a protocol error.
    BEFORE_OFFER: ClassVar[dict[bytes, Callback]] = {
        packets.OFFER: _negotiate,
        packets.MACROS: _ignore_macros,
        packets.QUIT: _quit,
    }
    AFTER_OFFER: ClassVar[dict[bytes, Callback]] = {
        _CONNECT: _begin_connection,
        LETTERS[Step.HELO]: _begin_helo,
        _MAIL: _begin_message,
        packets.MACROS: _keep_macros,
        packets.END_OF_MESSAGE: _end_message,
        LETTERS[Step.ABORT]: _abort,
        packets.QUIT_BUT_STAY: _end_connection,
        packets.QUIT: _quit,
        packets.UNKNOWN: _continue,
    }


@lru_cache(maxsize=64)  # an MTA offers the same for each of its connections
def _agreed(version: int, actions: int, steps: int, asked: tuple[tuple[int, str], ...]) -> tuple[bytes, frozenset[bytes]]:
    """Return the answer to an offer, and the letters that are not answered after it."""
    silent = _NEVER | {letter for letter, bit in _UNANSWERED_BITS.items() if steps & bit}
    return packets.agreement(version, actions, steps, asked), silent


class Steps:
    """The callbacks of a process, as its conversations call them."""

    def __init__(self, callbacks: Mapping[Step, Callback], negotiate: Callback) -> None:
        self.negotiate = negotiate
        self.connect = callbacks[Step.CONNECT]
        self.helo = callbacks[Step.HELO]
        self.mail = callbacks[Step.MAIL]
        self.end_of_message = callbacks[Step.END_OF_MESSAGE]
        self.abort = callbacks[Step.ABORT]
        self.close = callbacks[Step.CLOSE]
        plain = {LETTERS[step]: callback for step, callback in callbacks.items() if step in LETTERS}
        self.before_offer = Conversation.BEFORE_OFFER
        self.after_offer = plain | Conversation.AFTER_OFFER
