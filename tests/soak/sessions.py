"""Random SMTP sessions, judged by the policy itself: `sidecar explain` for the state that the transcript says.

Owns making the sessions and the comparison. Never knows the policy.
"""

import json
import random
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from msgspec import Struct, field

from tests import ROOT, preloaded
from tests.mta.client import Connection, Peer
from tests.mta.house import House, house
from tests.mta.logins import logins
from tests.mta.mails import ARF, BOTH, OOB, ORDINARY
from tests.mta.places import private_directory
from tests.mta.sendmail import make_certificate
from tests.soak.transcript import Kind, Message, Step, Transcript, grouped, with_login

DOMAINS = """\
["open.example"]
relay_to = true
["bounce.example"]
log_oob = "LogThenDrop"
["keep.example"]
log_oob = "LogThenRelay"
["fbl.example"]
log_arf = "LogThenRelay"
["send.example"]
relay_from = ["198.51.100.0/24", "2001:db8:1::/48"]
["auth.example"]
relay_from_authz = ["daniel"]
[listener."10.1.1.1:2525"."open.example"]
relay_to = false
[listener."[2001:db8::25]:25"."only.example"]
relay_to = true
"""
RELAY_HOSTS = ("127.0.0.1", "192.168.1.0/24")
SETTINGS = """\
[limits]
record_bytes_per_byte = 0
reports_per_second = 1000000
rejection_records_per_second = 1000000
[listener."10.1.1.1:587"]
relay_hosts = ["172.16.0.0/12"]
"""
CONTENTS = {"oob": OOB, "arf": ARF, "both": BOTH, "mail": ORDINARY, "unparsable": OOB.replace(b"Action", b"Axtion")}

TLSMGR = "tlsmgr unix - - n 1000? 1 tlsmgr"

_ADDRESSES = ("203.0.113.9", "192.168.1.7", "198.51.100.7", "172.16.0.9", "[2001:db8:1::7]", "[2001:db8:9::7]", "127.0.0.1")
_LISTENERS = ("10.1.1.1:25", "10.1.1.1:587", "10.1.1.1:2525", "[2001:db8::25]:25")
_LOGINS = (None, None, None, "daniel", "eve")
_SENDERS = ("", "", "a@send.example", "a@auth.example", "a@peer.example.net", "A@SEND.Example")
_RECIPIENT_DOMAINS = (
    *("open.example", "bounce.example", "keep.example", "fbl.example", "only.example", "OPEN.example", "Keep.Example"),
    *("elsewhere.example", "send.example", "auth.example", "sub.open.example"),
)
_OTHERS = ("NOOP", "VRFY x@open.example", "HELP", "BOGUS", "MAIL FROM:<a@send.example", "RCPT TO:", "BDAT x", "HELO", "RSET x")


class Judged(Struct, kw_only=True):
    """What many sessions came to.

    `changes` counts XCLIENT, STARTTLS and AUTH after the first message of a session; `broken_off` the sessions that the MTA
    ended; `wrong` is every difference to what the policy says.
    """

    sessions: int = 0
    messages: int = 0
    recipients: int = 0
    accepted: int = 0
    delivered: int = 0
    deferred: int = 0
    unjudged: int = 0
    changes: int = 0
    broken_off: int = 0
    wrong: list[str] = field(default_factory=list)


def attack(number: int, *, seed: int, engine: str = "direct", seconds: float = 600, policy: str = DOMAINS) -> Judged:
    """Hold so many random sessions, or for `seconds`, and compare every reply and every delivery with the policy.

    `policy` is what the sessions are judged by; the sidecar has `DOMAINS`.
    """
    source = random.Random(f"{seed} sessions")  # noqa: S311 - repeatable
    judged = Judged()
    with _home(engine) as home:
        began, messages, unjudged = time.monotonic(), list[Message](), set[str]()
        while judged.sessions < number and time.monotonic() < began + seconds:
            transcript = Transcript()
            steps = _session(source, judged.sessions)
            try:
                _hold(home, grouped(steps, [source.random() < 0.4 for _ in steps]), transcript)
            except (OSError, smtplib.SMTPException):
                judged.broken_off += 1
            messages += transcript.messages
            unjudged.update(address.partition("@")[0] for address in transcript.unjudged)
            judged.wrong += transcript.wrong
            judged.changes += transcript.changes
            judged.sessions += 1
        delivered = {recipient.partition("@")[0] for recipient in home.delivered()}
        # `explain` reads the files, and the sidecar does not before it is told to.
        home.sidecar.write_domains(policy)
        _judge(home, messages, delivered, unjudged, judged)
    return judged


@contextmanager
def _home(engine: str) -> Iterator[House]:
    with private_directory() as certificate, logins() as accounts:
        make_certificate(certificate)
        settings = {
            **accounts,
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": f"{certificate}/certificate.pem",
            "smtpd_tls_key_file": f"{certificate}/key.pem",
            # Every peer that XCLIENT makes of the client may change again.
            "smtpd_authorized_xclient_hosts": "0.0.0.0/0, [::]/0",
            "smtpd_error_sleep_time": "0s",
            "smtpd_soft_error_limit": "1000",
            "smtpd_hard_error_limit": "1000",
        }
        with house(
            domains=DOMAINS, relay_hosts=RELAY_HOSTS, settings=SETTINGS, engine=engine, postfix=settings, services=[TLSMGR]
        ) as home:
            yield home


# --- making a session


def _session(source: random.Random, number: int) -> list[Step]:
    steps = [Step(kind=Kind.EHLO, text="localhost"), _xclient(source)]
    for position in range(source.randint(3, 9)):
        name = f"s{number}m{position}"
        if source.random() < 0.6:
            steps += _message(source, name)
        elif source.random() < 0.2:
            # STARTTLS resets the session; what that does to a login of XCLIENT is for the MTA alone to say.
            steps += [_xclient(source, login=None), Step(kind=Kind.STARTTLS)]
        else:
            steps += source.choice(([_xclient(source)], [_auth(source)], [_ehlo(source)], [Step(kind=Kind.RSET)]))
        if source.random() < 0.5:
            steps.append(_ehlo(source))
    return steps


def _message(source: random.Random, name: str) -> list[Step]:
    recipients = [f"{name}r{number}@{source.choice(_RECIPIENT_DOMAINS)}" for number in range(source.randint(1, 4))]
    steps = [Step(kind=Kind.MAIL, text=source.choice(_SENDERS)), *(Step(kind=Kind.RCPT, text=one) for one in recipients)]
    content = source.choice(list(CONTENTS))
    end = (
        _chunks(source, content)
        if source.random() < 0.4
        else [
            Step(kind=Kind.DATA),
            Step(kind=Kind.CONTENT, text=content, data=_stuffed(CONTENTS[content])),
        ]
    )
    steps += end
    if source.random() < 0.25:
        # Something in the midst of it: before any step of the message, but never between DATA and its content.
        place = source.choice([index for index, step in enumerate(steps) if step.kind is not Kind.CONTENT])
        steps.insert(
            place, source.choice((_ehlo(source), Step(kind=Kind.RSET), _xclient(source), _auth(source), _other(source)))
        )
    if source.random() < 0.3:
        # Clients reset after BDAT fails, and some always.
        steps.append(Step(kind=Kind.RSET))
    return steps


def _chunks(source: random.Random, content: str) -> list[Step]:
    data = CONTENTS[content].replace(b"\n", b"\r\n")
    cuts = sorted(source.randrange(len(data)) for _ in range(source.randrange(4)))
    pieces = [data[first:last] for first, last in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [
        Step(kind=Kind.LAST_CHUNK if number == len(pieces) else Kind.CHUNK, text=content, data=piece)
        for number, piece in enumerate(pieces, start=1)
    ]


def _xclient(source: random.Random, **changes: str | None) -> Step:
    peer = Peer(address=f"{source.choice(_ADDRESSES)}:{source.randint(1025, 65535)}", listener=source.choice(_LISTENERS))
    return Step(kind=Kind.XCLIENT, peer=with_login(peer, changes.get("login", source.choice(_LOGINS))))


def _auth(source: random.Random) -> Step:
    return Step(kind=Kind.AUTH, text=source.choice(("daniel", "eve")))


def _ehlo(source: random.Random) -> Step:
    return Step(kind=Kind.EHLO, text=source.choice(("peer.example.net", "mx.remote.example", "open.example", "daniel")))


def _other(source: random.Random) -> Step:
    return Step(kind=Kind.OTHER, text=source.choice(_OTHERS))


def _stuffed(content: bytes) -> bytes:
    return b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in content.splitlines())


# --- holding it


def _hold(home: House, groups: Sequence[Sequence[Step]], transcript: Transcript) -> None:
    with closing(Connection(home.postfix.port, Peer())) as connection:
        content_wanted = False
        for group in groups:
            steps = [step for step in group if step.kind is not Kind.CONTENT or content_wanted]
            connection.write(b"".join(step.written() for step in steps))
            for step in steps:
                code = connection.reply().code
                transcript.note(step, code)
                if step.kind is Kind.STARTTLS and code == 220:
                    connection.wrap()
                content_wanted = step.kind is Kind.DATA and code == 354


# --- judging it


def _judge(home: House, messages: Sequence[Message], delivered: set[str], unjudged: set[str], judged: Judged) -> None:
    judged.messages, judged.delivered, judged.unjudged = len(messages), len(delivered), len(unjudged)
    allowed: set[str] = set()
    for message, answer in zip(messages, _explained(home, messages), strict=True):
        judged.wrong += _differences(message, answer, judged)
        if message.end == 250:
            allowed.update(address.partition("@")[0] for address in answer["message"]["relayed"])
    judged.wrong += [f"delivered against the policy: {name}" for name in sorted(delivered - allowed - unjudged)]
    judged.wrong += [f"accepted and not delivered: {name}" for name in sorted(allowed - delivered)]


def _explained(home: House, messages: Sequence[Message]) -> Iterator[Mapping[str, Any]]:
    """Ask the program itself about each message; recipients that were deferred are not in the question."""
    folder = home.sidecar.directory
    for name, content in CONTENTS.items():
        (folder / f"{name}.eml").write_bytes(content)
    questions = [
        {
            "peer": message.peer.address,
            "listener": message.peer.listener,
            "from": message.sender,
            "to": [address for address, code in message.recipients if not 400 <= code < 500],
            **({"helo": message.helo} if message.helo is not None else {}),
            **({"auth": message.login} if message.login is not None else {}),
            **({"message": f"{message.content}.eml"} if message.end is not None else {}),
        }
        for message in messages
    ]
    (folder / "questions.jsonl").write_text("".join(f"{json.dumps(question)}\n" for question in questions))
    command = [sys.executable, "-m", "sidecar", "explain", "--config", str(home.sidecar.config), "--batch"]
    ran = preloaded.run([*command, str(folder / "questions.jsonl")], stdout=subprocess.PIPE, check=True, cwd=ROOT)
    yield from map(json.loads, ran.stdout.splitlines())


def _differences(message: Message, answer: Mapping[str, Any], judged: Judged) -> Iterator[str]:
    about = f"{message.peer.address} on {message.peer.listener} as {message.login}, from <{message.sender}>"
    asked = [(address, code) for address, code in message.recipients if not 400 <= code < 500]
    judged.recipients += len(message.recipients)
    judged.deferred += len(message.recipients) - len(asked) + (message.end is not None and 400 <= message.end < 500)
    for (address, code), part in zip(asked, answer["recipients"], strict=True):
        judged.accepted += code == 250
        if (code == 250) != (part["action"] == "accept"):
            yield f"{about} to <{address}>: {code}, and the policy says {part['action']}"
    action = answer["message"]["action"]
    if message.end is not None and message.end // 100 != 4 and (message.end == 250) != (action in {"accept", "discard"}):
        yield f"{about}, {message.content} to {asked}: {message.end}, and the policy says {action}"
