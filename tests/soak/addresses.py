"""Random recipient addresses by an external host, and where Postfix sends what it accepted.

Owns making the addresses and the count. Never sends a message on.
"""

import random
import re
import time
from collections.abc import Iterator, Sequence

import idna
from msgspec import Struct

from tests.mta.client import EXTERNAL, Connection, Peer
from tests.mta.house import House, house
from tests.mta.mails import OOB, ORDINARY
from tests.mta.processes import wait_until
from tests.mta.tricks import LONG, TRICKS

DOMAINS = """\
["open.example"]
relay_to = true
["bücher.example"]
relay_to = true
["groß.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenRelay"
["drop.example"]
log_oob = "LogThenDrop"
log_arf = "LogThenDrop"
"""
SETTINGS = """\
recipient_limit = 2000
[limits]
record_bytes_per_byte = 0
reports_per_second = 1000000
rejection_records_per_second = 1000000
"""
RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24")
INSIDER = Peer(address="192.168.1.7:4444")

# Where mail may go on to, by content.
CONTENTS = {
    ORDINARY: {"open.example", "xn--bcher-kva.example", "xn--gro-7ka.example"},
    OOB: {"open.example", "xn--bcher-kva.example", "xn--gro-7ka.example", "bounce.example"},
}

# error(8) logs its next hop as the reason, and that is the recipient's domain as Postfix resolved it.
_TO_NOWHERE = {
    "relay_transport": "nowhere",
    "default_transport": "nowhere",
    "local_transport": "nowhere",
    "smtpd_error_sleep_time": "0s",
    "smtpd_soft_error_limit": "1000000",
    "smtpd_hard_error_limit": "1000000",
    "smtpd_junk_command_limit": "1000000",
}
# smtpd rejects recipients of a transport that is called error. This one only has another name.
_NOWHERE = "nowhere unix - - n - - error -n error"

CONFIGURATIONS = {
    "default": {},
    "no rewriting": {"allow_percent_hack": "no", "swap_bangpath": "no", "resolve_dequoted_address": "no"},
    "delimiter, strict": {"recipient_delimiter": "+-=", "strict_rfc821_envelopes": "yes", "resolve_dequoted_address": "no"},
    "no SMTPUTF8, append_dot_mydomain": {"smtputf8_enable": "no", "append_dot_mydomain": "yes", "recipient_delimiter": "%"},
}

_OURS = (
    "open.example",
    "open.example",
    "bounce.example",
    "drop.example",
    "bücher.example",
    "xn--bcher-kva.example",
    "groß.example",
    "GROẞ.example",
    "xn--gro-7ka.example",
)
_EVIL = ("evil.example", "gross.example", "bucher.example", "[192.0.2.1]", "mx.example", "localhost", "example", "ëvil.example")
_TOKENS = (
    *(
        "@",
        "@",
        "%",
        "!",
        ":",
        ",",
        ";",
        '"',
        "\\",
        "(",
        ")",
        "<",
        ">",
        "[",
        "]",
        ".",
        "..",
        " ",
        "\t",
        "=",
        "+",
        "-",
        "#",
        "/",
    ),
    *("\x00", "\x01", "\x7f", "\u00ad", "\u200b", "\u202e", "\ufeff", "。", "．", "＠", "％", "！", "ß", "ẞ", "ı", "İ", "K"),
    *("\udcff", "\udc80", "user", "postmaster", "a", "%40", "=40", "::", "@[", "IPv6:", "xn--", "localhost", "{o}", "{e}"),
)
_LOOKALIKES = {"e": "еｅé", "o": "οоｏ0", "n": "ｎ", "p": "р", "x": "х", ".": "。．｡", "@": "＠", "%": "％", "a": "а"}

# One transaction; their replies fit into the socket's buffers.
_WINDOW = 50


class Fired(Struct, frozen=True, kw_only=True):
    """How many addresses were sent and accepted at RCPT, how many of those went on, and each that went where it may not."""

    addresses: int
    accepted: int
    went_on: int
    wrong: list[str]


def attack(name: str, number: int, *, seed: int, engine: str = "direct", peer: Peer = EXTERNAL, seconds: float = 600) -> Fired:
    """Fire so many addresses at a Postfix of that configuration, half with mail and half with a bounce, or for `seconds`."""
    source = random.Random(f"{seed} {name}")  # noqa: S311 - repeatable
    settings = {**_TO_NOWHERE, **CONFIGURATIONS[name]}
    parameters = [""] if settings.get("smtputf8_enable") == "no" else ["", " SMTPUTF8"]
    fired, accepted, went, wrong = 0, 0, 0, list[str]()
    with house(
        domains=DOMAINS, relay_hosts=RELAY_HOSTS, settings=SETTINGS, engine=engine, postfix=settings, services=[_NOWHERE]
    ) as home:
        for content, allowed in CONTENTS.items():
            deadline = time.monotonic() + seconds / len(CONTENTS)
            queue_ids: set[str] = set()
            before = home.postfix.log.stat().st_size if home.postfix.log.exists() else 0
            with home.connect(peer) as connection:
                for _ in range(number // len(CONTENTS) // _WINDOW):
                    if time.monotonic() > deadline:
                        break
                    fired += _WINDOW
                    addresses = [address(source) for _ in range(_WINDOW)]
                    accepted += _transaction(connection, addresses, content, queue_ids, source, parameters)
            for recipient, hop in _sent_on(home, before, queue_ids):
                went += 1
                if not {asked_domain(recipient.rpartition("@")[2]), asked_domain(hop)} <= allowed:
                    wrong.append(f"{name}: {recipient} by {hop}")
    return Fired(addresses=fired, accepted=accepted, went_on=went, wrong=wrong)


def address(source: random.Random) -> str:
    """Return the argument of a RCPT command. Bytes that are not UTF-8 are surrogate escapes."""
    if source.random() < 0.1:
        text = f"<{''.join(source.choices(_TOKENS, k=source.randint(1, 9)))}>"
    else:
        text = source.choice(TRICKS)
        if source.random() < 0.3:
            text = text.replace("user", source.choice(TRICKS).strip("<>"), 1)
    if source.random() < 0.4:
        # Most of the others are rejected at RCPT.
        text = f"{text.rpartition('@')[0]}@{{o}}>"
    for _ in range(min(int(source.expovariate(1)), 5)):
        text = _mutated(text, source)
    for mark, names in (("{o}", _OURS), ("{e}", _EVIL)):
        while mark in text:
            text = text.replace(mark, _spelled(source.choice(names), source), 1)
    # A line end would be another command.
    return text.replace("~", LONG).replace("\r", " ").replace("\n", " ")


def _mutated(text: str, source: random.Random) -> str:
    first = source.randrange(len(text) + 1)
    last = min(len(text), first + source.randint(1, 8))
    match source.randrange(5):
        case 0:
            return text[:first] + source.choice(_TOKENS) + text[first:]
        case 1:
            return text[:first] + text[last:]
        case 2:
            return text[:last] + text[first:]
        case 3:
            return text[:first] + "".join(source.choice(_LOOKALIKES.get(c, c)) for c in text[first:last]) + text[last:]
        case _:
            return text[:first] + text[first:last].swapcase() + text[last:]


def _spelled(domain: str, source: random.Random) -> str:
    """Return a name in one of the ways in which an MTA, or a careless reader, takes it for the same."""
    match source.randrange(10):
        case 0:
            return domain.upper()
        case 1:
            return f"{domain}."
        case 2:
            return f"sub.{domain}"
        case 3:
            return "".join(source.choice((c, c.upper())) for c in domain)
        case 4:
            return domain.replace(".", source.choice("。．｡"))
        case _:
            return domain


def _transaction(
    connection: Connection,
    addresses: Sequence[str],
    content: bytes,
    queue_ids: set[str],
    source: random.Random,
    parameters: Sequence[str],
) -> int:
    """Send one message to all addresses, pipelined; note its queue id; return how many were accepted."""
    mail = f"MAIL FROM:<>{source.choice(parameters)}"
    lines = [mail, *(f"RCPT TO:{one}" for one in addresses)]
    connection.write("".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape"))
    replies = [connection.reply() for _ in lines]
    assert replies[0].code == 250, replies[0]
    accepted = sum(reply.code == 250 for reply in replies[1:])
    if not accepted:
        connection.say("RSET")
        return 0
    end = connection.content(content)
    if end.code == 250:
        queue_ids.add(end.text.rpartition(" ")[2])
    return accepted


def _sent_on(home: House, before: int, queue_ids: set[str]) -> Iterator[tuple[str, str]]:
    """Wait until Postfix is done with these messages; yield (recipient, next hop) of all that it would send on."""

    def log() -> str:
        return home.postfix.log.read_bytes()[before:].decode("utf-8", "replace") if queue_ids else ""

    def unfinished() -> set[str]:
        return queue_ids - set(re.findall(r": (\w+): (?:removed|milter-discard)", log()))

    wait_until(lambda: not unfinished(), "Postfix is done with all messages", seconds=600)
    yield from re.findall(r"(?m): to=<(.*?)>, (?:orig_to=<.*>, )?relay=.*status=\w+ \((.*)\)$", log())


def asked_domain(name: str) -> str:
    """Return the name that Postfix would ask the DNS for: ICU's reading (UTS 46, non-transitional) as an A-label."""
    # ICU before 76 reads the capital sharp s as `ss`.
    name = name.strip("\u200b").lower().rstrip(".") if name.isascii() else name.replace("ẞ", "ss").rstrip(".")
    try:
        return idna.encode(name, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        return name
