"""Raw packets to both engines: every order, length and option mask. Both answer alike; tables here have the exceptions.

Owns the packets. Each conversation is sent at once and read to its end, so that a missing answer shows as well. The page
`deploy/DIFFERENCES.md` has the tables in words.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.mta.places import private_directory
from tests.wire.client import ACTIONS, STEPS, TIMEOUT
from tests.wire.program import scripted

ENGINES = ("libmilter", "direct")


def packet(letter: bytes, payload: bytes = b"") -> bytes:
    """Return one packet."""
    return struct.pack("!I", len(payload) + 1) + letter + payload


def offer(version: int = 6, actions: int = ACTIONS, steps: int = STEPS) -> bytes:
    """Return an MTA's offer."""
    return packet(b"O", struct.pack("!III", version, actions, steps))


OFFER = offer()
CONNECT = packet(b"C", b"peer.example\x004\x11\x5c203.0.113.9\0")
HELO, MAIL, RCPT, DATA = packet(b"H", b"me\0"), packet(b"M", b"<a@b>\0"), packet(b"R", b"<c@d>\0"), packet(b"T")
FIELD, EOH, BODY, END = packet(b"L", b"Subject\0 hello\0"), packet(b"N"), packet(b"B", b"text\r\n"), packet(b"E")
ABORT, UNKNOWN, NEXT, QUIT = packet(b"A"), packet(b"U", b"XYZZY\0"), packet(b"K"), packet(b"Q")
MACROS = packet(b"D", b"Mi\x004Q\0{auth_authen}\0daniel\0")
WAY = [OFFER, CONNECT, HELO, MAIL, RCPT, DATA, FIELD, EOH, BODY, END]
"""A whole message."""
LETTERS = [*WAY, ABORT, UNKNOWN, MACROS, NEXT, QUIT, packet(b"Z")]
PROBE = MAIL + RCPT + DATA + EOH + BODY + END
KNOWN = packet(b"M", b"<Rcpt=Known>\0") + RCPT
REMOVAL = packet(b"M", b"<EndOfMessage=Without>\0") + RCPT + DATA + EOH + END
ENDED = "a connection is ended that does not speak the milter protocol"

# Each packet after the first 0, 1, 2... packets of WAY, and another message after it. "." is the same answer; "x": the direct
# engine ends the connection, and libmilter ignores the packet; "+": libmilter ignores what follows a TEMPFAIL, and the direct
# engine answers TEMPFAIL again.
ORDER = [
    "OCHMRTLNBEAUDKQZ",
    "+xxxxxxxxxxxxx..",
    "x.++++++++++++..",
    "xx..xxxxxx...x..",
    "xx..xxxxxx...x..",
    "xx...xxxxx...x..",
    "xx......xx...x..",
    "xx..xx..xx...x..",
    "xx..xx..xx...x..",
    "xx..xxxx.....x..",
    "xx..xxxx.....x..",
    "xx..xxxxxx...x..",
]

# Packets of WAY with another payload or length: "x" and "+" as above, but libmilter also ends the connection where it has "+".
LENGTHS = {
    ("C", "203.0.113.9\0x\0"): "x",  # it reads the address to the first NUL
    ("M", "a word without its end"): "x",  # it drops the word
    ("R", "a word without its end"): "x",
    ("H", "nothing"): "+",
    ("B", "nothing"): "+",
    ("T", 2**32 - 1): "x",  # it reads no payload
    ("N", 2**32 - 1): "x",
    ("E", 2**32 - 1): "x",
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with private_directory() as directory, ExitStack() as stack:
        for engine in ENGINES:
            stack.enter_context(scripted(directory, engine, engine))
        yield directory


def answers(folder: Path, engine: str, stream: bytes) -> list[bytes]:
    """Send all of it at once, and return each packet that comes back until the milter hangs up."""
    with socket.socket(socket.AF_UNIX) as mta:
        mta.settimeout(TIMEOUT)
        mta.connect(f"{folder}/{engine}")
        got = b""
        try:
            mta.sendall(stream)
            mta.shutdown(socket.SHUT_WR)
            while piece := mta.recv(65536):
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    packets = []
    while got:
        (length,) = struct.unpack_from("!I", got)
        packets.append(got[4 : 4 + length])
        got = got[4 + length :]
    return packets


def compare(folder: Path, stream: bytes) -> str:
    """Return "." if both engines answer alike, "x" if the direct engine answers less, "+" if it answers more, otherwise "?"."""
    libmilter, direct = (answers(folder, engine, stream) for engine in ENGINES)
    if libmilter == direct:
        return "."
    if libmilter[: len(direct)] == direct:
        return "x"
    return "+" if direct[: len(libmilter)] == libmilter else "?"


def test_every_order(folder: Path) -> None:
    """A packet out of order ends the connection, with one line in the log that names it."""
    log = folder / "direct.log"
    before = log.read_text().count(ENDED)
    assert "".join(chr(letter[4]) for letter in LETTERS) == ORDER[0]
    found = [
        "".join(compare(folder, b"".join(WAY[:number]) + letter + PROBE) for letter in LETTERS)
        for number in range(len(WAY) + 1)
    ]
    assert found == ORDER[1:]
    lines = [line for line in log.read_text().splitlines() if ENDED in line][before:]
    ended = sum(row.count("x") for row in found) + len(found)  # and the packets that neither knows
    # Some of them end at the packet after the first one, which is out of order then.
    assert len(lines) == ended
    assert any("RCPT: Rcpt is not allowed in state OPEN" in line for line in lines)
    assert any("packet b'Z' is not allowed here" in line for line in lines)


def variants(letter: str, payload: bytes) -> Iterator[tuple[str | int, bytes]]:
    """Yield names, and the packet with other payloads and lengths."""
    code = letter.encode()
    yield "nothing", packet(code)
    for end in range(1, len(payload)):
        yield f"{end} bytes", packet(code, payload[:end])
    yield "two ends", packet(code, payload + b"\0")
    yield "a word without its end", packet(code, payload + b"x")
    yield ("203.0.113.9\0x\0" if letter == "C" else "a word more"), packet(code, payload + b"x\0")
    for size in (65_535, 65_536, 65_537, 2**31 - 1, 2**31, 2**32 - 1):
        yield size, struct.pack("!I", size) + code + b"x" * min(size - 1, 65_536)
    yield "no letter", bytes(4)


def test_every_length(folder: Path) -> None:
    found = {}
    for number, whole in enumerate(WAY):
        letter = chr(whole[4])
        for name, variant in variants(letter, whole[5:]):
            relation = compare(folder, b"".join(WAY[:number]) + variant + b"".join(WAY[number + 1 :]))
            if relation != ".":
                found[letter, name] = relation
    assert found == LENGTHS


def test_every_option_mask(folder: Path) -> None:
    """Each bit alone, and all but one; and each version. An answer that was not agreed on is never missing, or too many."""
    actions = [0, *(1 << bit for bit in range(10)), *(ACTIONS & ~(1 << bit) for bit in range(9))]
    steps = [0, *(1 << bit for bit in range(32)), *(STEPS & ~(1 << bit) for bit in range(21))]
    offers = [
        *(offer(version=version) for version in range(9)),
        *(offer(actions=mask) for mask in actions),
        *(offer(steps=mask) for mask in steps),
    ]
    for one in offers:
        assert compare(folder, one + b"".join(WAY[1:]) + REMOVAL) == ".", one


def test_actions_of_version_1(folder: Path) -> None:
    """Libmilter makes these of an offer without any action, so it removes no recipient then; the direct engine knows better."""
    libmilter, direct = (answers(folder, engine, offer(actions=0x0F) + CONNECT + REMOVAL)[-2:] for engine in ENGINES)
    assert libmilter[-1].startswith(b"y451 4.3.5 ")
    assert direct == [b"-<c@d>\0", b"a"]


def test_the_last_piece_of_a_body_with_the_end(folder: Path) -> None:
    """It is passed on, and the end is answered."""
    for engine in ENGINES:
        assert answers(folder, engine, b"".join(WAY[:8]) + packet(b"E", b"the rest"))[-1] == b"a"


def test_a_field_name_that_is_no_text(folder: Path) -> None:
    """Libmilter's binding cannot pass it on: the message is answered 451, and other connections do not notice."""
    name = packet(b"L", b"X-\xff\0 x\0")
    begin = OFFER + CONNECT + MAIL + RCPT
    for engine, answer in (("libmilter", b"y451 4.3.0 "), ("direct", b"c")):
        for fields in (DATA + FIELD + name + FIELD, DATA + name, name):
            assert answers(folder, engine, begin + fields + EOH)[-1].startswith(answer)
        assert answers(folder, engine, begin + DATA + FIELD + EOH + BODY + END)[-1] == b"a"


@pytest.mark.parametrize("name", [b"{auth_authen}", b"auth_authen"])
def test_a_message_without_an_identity(folder: Path, name: bytes) -> None:
    """No one is logged in, whoever sent the last message. If not a single macro is sent, libmilter keeps the last ones."""
    user, other, none = packet(b"D", b"M" + name + b"\0daniel\0"), packet(b"D", b"Mi\x004Q\0"), packet(b"D", b"M")
    for engine, kept in (("libmilter", "ccc"), ("direct", "ycy")):
        stream = OFFER + CONNECT + b"".join([KNOWN, user, KNOWN, other, KNOWN, user, KNOWN, KNOWN, user, KNOWN, none, KNOWN])
        letters = "".join(chr(answer[0]) for answer in answers(folder, engine, stream))
        assert letters == "Oc" + "ycyc" + kept


def _macros(stage: bytes, *words: bytes) -> bytes:
    return packet(b"D", stage + b"".join(word + b"\0" for word in words))


@pytest.mark.parametrize(
    ("packets", "answer"),
    [
        (_macros(b"M", b"auth_authen", b"", b"{auth_authen}", b"daniel") + KNOWN, "c"),
        (_macros(b"M", b"auth_authen", b"daniel", b"{auth_authen}", b"") + KNOWN, "y"),
        (_macros(b"M", b"{auth_authen}", b"", b"auth_authen", b"daniel") + KNOWN, "y"),
        # Those of another message, or of none.
        (_macros(b"R", b"{auth_authen}", b"daniel") + KNOWN, "y"),
        (MAIL + RCPT + DATA + EOH + END + _macros(b"E", b"{auth_authen}", b"daniel") + KNOWN, "y"),
        (_macros(b"M", b"{auth_authen}", b"\xff") + KNOWN, "y"),
        (_macros(b"M", b"{auth_authen}", b"daniel", b"i", b"\xff") + KNOWN, "c"),
    ],
)
def test_whose_identity_counts(folder: Path, packets: bytes, answer: str) -> None:
    """The one of this message; of two spellings the one with braces. No name of a user or a message is a fault of ours."""
    for engine in ENGINES:
        log = folder / f"{engine}.log"
        before = log.read_text().count("an unexpected fault")
        assert chr(answers(folder, engine, OFFER + CONNECT + packets)[-1][0]) == answer
        assert log.read_text().count("an unexpected fault") == before


def test_macros_before_the_peer(folder: Path) -> None:
    """They belong to no message."""
    for engine in ENGINES:
        stream = OFFER + _macros(b"M", b"{auth_authen}", b"daniel") + CONNECT + KNOWN
        assert chr(answers(folder, engine, stream)[-1][0]) == "y"


@pytest.mark.parametrize(
    ("packets", "libmilter", "direct"),
    [
        # An address with a scope, a name of the peer that is not UTF-8, and of HELO.
        (packet(b"C", b"x\x006\x11\x5cfe80::1%eth0\0") + MAIL + RCPT, "O", "Occ"),
        (packet(b"C", b"\xff\x004\x11\x5c203.0.113.9\0") + MAIL + RCPT, "Ocy", "Occ"),
        (CONNECT + packet(b"H", b"\xff\0") + MAIL + RCPT, "Occ", "Occ"),
        # The peer of the next connection makes the session raise; libmilter does not look at it.
        (CONNECT + MAIL + RCPT + NEXT + packet(b"C", b"x\x004\x11\x5c203.0.113.66\0") + MAIL + RCPT, "Occc", "Occyy"),
        # The user twice in one list, and in the list of the first HELO only.
        (CONNECT + _macros(b"M", b"{auth_authen}", b"daniel", b"{auth_authen}", b"") + KNOWN, "Occ", "Ocy"),
        (CONNECT + _macros(b"H", b"{auth_authen}", b"daniel") + HELO + _macros(b"H", b"x", b"y") + HELO + KNOWN, "Ocy", "Occ"),
        # A macro without a value. libmilter reads memory at random, and its worker can crash.
        (CONNECT + packet(b"D", b"M{auth_authen}\0") + MAIL + RCPT, None, "Occ"),
    ],
)
def test_packets_that_the_engines_answer_differently(folder: Path, packets: bytes, libmilter: str | None, direct: str) -> None:
    for engine, letters in (("libmilter", libmilter), ("direct", direct)):
        if letters is not None:
            assert "".join(chr(answer[0]) for answer in answers(folder, engine, OFFER + packets)) == letters


def test_a_capability_that_lacks_is_logged_once(folder: Path) -> None:
    """And not for each message."""
    for engine in ENGINES:
        for _ in range(3):
            answer = answers(folder, engine, offer(actions=0) + CONNECT + REMOVAL * 2)[-1]
            assert answer == b"y451 4.3.5 the mail server here lacks what this message needs; try again later\0"
        assert (folder / f"{engine}.log").read_text().count("(SMFIF_DELRCPT)") == 1


@pytest.mark.parametrize("name", [b"{daemon_name}", b"daemon_name"])
def test_an_mta_that_cannot_discard(folder: Path, name: bytes) -> None:
    """It would reject the message instead, and its records would say that it was accepted."""
    begin, macros = offer(actions=0x21, steps=0), packet(b"D", b"C" + name + b"\0maddy\0")
    discarded = packet(b"M", b"<EndOfMessage=Discard>\0") + RCPT + DATA + EOH + END
    for engine in ENGINES:
        assert answers(folder, engine, begin + macros + CONNECT + discarded)[-1].startswith(b"y451 4.3.5 ")
        assert answers(folder, engine, begin + CONNECT + discarded)[-1] == b"d"
        assert (folder / f"{engine}.log").read_text().count("maddy, cannot discard") == 1
