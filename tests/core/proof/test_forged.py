"""Forged reports: variations by a host that has mail of ours, and none is verified beyond what the documents say.

Eve got one message of ours, an old one, one from another of our domains, and one that was sent to several. She writes reports
about the address of a victim. What she can do is in the document `forged-reports.md`, Who can do what.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

import pytest
from msgspec import Struct

from sidecar.core.proof import address, trace
from sidecar.core.proof.values import Proof
from tests.core.proof.making import DAY, MAIL, NOW, SENDER, bounce, complaint, dkim_field, secret, traced, verified

EVE, VICTIM = "eve@remote.example", "victim@remote.example"
LEVELS: Final = ("none", "message", "recipient")
NUMBER: Final = 1000 * int(os.environ.get("SEARCH_FACTOR", "1"))
"""`make fuzz` runs ten times as many."""


def mail(number: int, to: str = EVE) -> str:
    """Return a message of ours as it was before it was signed."""
    return re.sub("To: .*", f"To: {to}", MAIL).replace("week-17", f"week-{number}")


def ours(number: int, to: str = EVE, *, kind: str = "rsa", at: int = NOW, sender: str = SENDER) -> str:
    """Return a message of ours, signed and with its trace header."""
    message = mail(number, to)
    values = {"message_id": f"<week-{number}@sender.example>", "sender": sender}
    whole = traced(message, (to,), **values)
    if at != NOW:
        whole = re.sub(r"X-Sidecar-Trace: \S+", f"X-Sidecar-Trace: {_old_trace(number, to, at)}", whole)
    return dkim_field(message, kind, t=str(at - 1800)) + whole


def _old_trace(number: int, to: str, at: int) -> str:
    return str(trace.trace(secret(), at, message_id=f"<week-{number}@sender.example>", sender=SENDER, recipients=[to]))


TRUE = {kind: ours(17, kind=kind) for kind in ("rsa", "ed")}
OTHER = ours(18)
OLD = ours(16, at=NOW - 40 * DAY)
MANY = dkim_field(mail(19, f"{EVE}, list@remote.example")) + traced(
    mail(19, f"{EVE}, list@remote.example"), (EVE, "list@remote.example"), message_id="<week-19@sender.example>"
)
TOKEN = address.tagged(SENDER, secret(), NOW)
OLD_TOKEN = address.tagged(SENDER, secret(), NOW - 40 * DAY)


class Forgery(Struct, frozen=True, kw_only=True):
    """A forged report: what it says, where it is sent, and the level that it can have for its reported recipient."""

    original: str
    recipient: str = SENDER
    reported: str = VICTIM
    at_most: str = "none"


def _field(message: str, name: str) -> str:
    found = re.search(rf"(?m)^{name}:.*\n(?:[ \t].*\n)*", message)
    assert found is not None
    return found[0]


def _without(message: str, *names: str) -> str:
    for name in names:
        message = message.replace(_field(message, name), "", 1)
    return message


def copied(random: Random, true: str) -> Forgery:
    """The true message, with another recipient in the report."""
    noise = f"X-Noise: {random.random()}\n"
    original = random.choice([true, noise + true, true.partition("\n\n")[0], MANY, true + noise])
    return Forgery(original=original, recipient=random.choice([SENDER, TOKEN]), at_most="message")


def other_addressee(random: Random, true: str) -> Forgery:
    """The victim in To, above, below or instead of the signed one."""
    line = f"{random.choice(['To', 'to', 'Cc', 'TO '])}: {random.choice(['', 'Victim '])}<{VICTIM}>\n"
    changed = [
        true.replace(EVE, VICTIM),
        line + true,
        true.replace("Subject:", f"{line}Subject:"),
        true.replace("\n\n", f"\n{line}\n", 1),
    ]
    return Forgery(original=random.choice(changed), at_most="message")


def other_message(random: Random, true: str) -> Forgery:
    """A signature or trace header of ours on another message."""
    message = mail(random.randrange(1000, 9999), VICTIM)
    parts = [_field(true, "DKIM-Signature"), _field(true, "X-Sidecar-Trace"), _field(OTHER, "X-Sidecar-Trace")]
    random.shuffle(parts)
    return Forgery(original="".join(parts[: random.randrange(1, 4)]) + message)


def spliced(random: Random, true: str) -> Forgery:
    """Fields of two messages of ours in one."""
    names = ["From", "To", "Subject", "Date", "Message-ID", "X-Sidecar-Trace", "DKIM-Signature"]
    picked = "".join(_field(random.choice([true, OTHER]), name) for name in names)
    extra = "".join(_field(random.choice([true, OTHER, OLD]), name) for name in random.sample(names, 2))
    lines = [*re.findall(r"(?m)^\S.*\n(?:[ \t].*\n)*", picked + extra)]
    random.shuffle(lines)
    return Forgery(original="".join(lines) + f"Cc: {VICTIM}\n\nbody\n", at_most="message")


def old(random: Random, _: str) -> Forgery:
    """A message, or a token, of ours that is too old."""
    reported = random.choice([EVE, VICTIM])
    return Forgery(
        original=f"X-Noise: {random.random()}\n{OLD}", recipient=random.choice([SENDER, OLD_TOKEN]), reported=reported
    )


def other_domain(random: Random, true: str) -> Forgery:
    """A token and a trace header of one domain of ours at another."""
    domain = random.choice(["bounce.other.example", "sender.example", "x.bounce.sender.example", "BOUNCE.SENDER.EXAMPLE.x"])
    original = _without(true, "DKIM-Signature")
    return Forgery(original=original, recipient=f"{TOKEN.rpartition('@')[0]}@{domain}", reported=random.choice([EVE, VICTIM]))


def other_tag(random: Random, true: str) -> Forgery:
    """A changed character in a token, trace header or signature, and nothing else that proves."""
    name = random.choice(["address", "X-Sidecar-Trace", "DKIM-Signature"])
    if name == "address":
        at = random.randrange(len("news+"), len(TOKEN.rpartition("@")[0]))
        return Forgery(original=mail(17), recipient=_changed(random, TOKEN, at), reported=EVE)
    other = {"DKIM-Signature": "X-Sidecar-Trace", "X-Sidecar-Trace": "DKIM-Signature"}[name]
    message = _without(true, other)
    field = _field(message, name)
    start = field.index(" b=") + 4 if name == "DKIM-Signature" else len("X-Sidecar-Trace: ")
    at = message.index(field) + random.randrange(start, len(field.rstrip("=\n")) - 2)
    return Forgery(original=_changed(random, message, at), reported=EVE)


def changed_field(random: Random, true: str) -> Forgery:
    """A changed character in a signed field, without the trace header."""
    message = _without(true, "X-Sidecar-Trace")
    start = message.index("From: ") + len("From: ")
    visible = [at for at in range(start, message.index("\n\n")) if message[at].isalnum()]
    return Forgery(original=_changed(random, message, random.choice(visible)), reported=EVE)


def two_messages(random: Random, true: str) -> Forgery:
    """A second Message-ID or trace header: which message is meant stays open."""
    extra = random.choice([f"Message-ID: <{random.random()}@x.example>\n", _field(OTHER, "Message-ID")])
    original = _without(true, "DKIM-Signature")
    return Forgery(original=random.choice([extra + original, original.replace("Subject:", f"{extra}Subject:")]), reported=EVE)


def changed_body(random: Random, true: str) -> Forgery:
    """Her own true report with another body: a proof of her own address, which counts once."""
    return Forgery(original=f"{true.partition(chr(10) * 2)[0]}\n\nBuy {random.random()}\n", reported=EVE, at_most="recipient")


def _changed(random: Random, text: str, at: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return text[:at] + random.choice([one for one in letters if one != text[at].lower()]) + text[at + 1 :]


KINDS: Final[tuple[Callable[[Random, str], Forgery], ...]] = (
    copied, other_addressee, other_message, spliced, old, other_domain, other_tag, changed_field, two_messages, changed_body,
)  # fmt: skip


def level(forgery: Forgery, *, is_complaint: bool) -> tuple[Proof, str | None]:
    """Return the proof of a forged report, and what is said about its body."""
    fields = f"Original-Rcpt-To: {forgery.reported}\n"
    report = complaint(forgery.original, fields) if is_complaint else bounce(forgery.original, forgery.reported)
    found = verified(report, forgery.recipient)
    return found.proof(forgery.reported), found.methods[0].body


@pytest.mark.hypothesis
def test_forged() -> None:
    """None of the forged reports has a higher level than it can have; her own address counts once, whatever she changes."""
    random = Random(17)  # noqa: S311 - the same variations in each run
    beyond: Counter[str] = Counter()
    true, _ = level(Forgery(original=TRUE["rsa"], reported=EVE), is_complaint=False)
    assert true.verified == "recipient"
    for number in range(NUMBER):
        make = KINDS[number % len(KINDS)]
        forgery = make(random, TRUE[random.choice(("rsa", "ed"))] if number % 5 else TRUE["rsa"])
        proof, body = level(forgery, is_complaint=make in {copied, other_addressee, spliced} and number % 4 == 0)
        if LEVELS.index(proof.verified) > LEVELS.index(forgery.at_most) or (make is changed_body and body == "whole"):
            beyond[make.__name__] += 1
        if make is changed_body and not set(proof.verified_ids) <= set(true.verified_ids):
            beyond["identity"] += 1
    assert beyond == {}


def test_forgeries_are_close() -> None:
    """Without its one change each kind of forgery is proved: the test above can fail."""
    for true in TRUE.values():
        assert level(Forgery(original=true, reported=EVE), is_complaint=False)[0].verified_by == ("dkim", "header")
        assert (
            level(Forgery(original=_without(true, "X-Sidecar-Trace"), reported=EVE), is_complaint=False)[0].verified
            == "recipient"
        )
        assert (
            level(Forgery(original=_without(true, "DKIM-Signature"), reported=EVE), is_complaint=False)[0].verified
            == "recipient"
        )
        assert level(Forgery(original=mail(17), recipient=TOKEN), is_complaint=False)[0].verified == "message"
    random = Random(1)  # noqa: S311 - the same variations in each run
    for make in (copied, other_addressee, spliced):
        levels = {level(make(random, TRUE["rsa"]), is_complaint=False)[0].verified for _ in range(60)}
        assert "message" in levels


def test_sender_of_choice() -> None:
    """A user of ours who chooses the envelope sender gets a token that names anyone in its VERP form. The document says so."""
    token = address.tagged(SENDER.replace("@", f"+{VICTIM.replace('@', '=')}@"), secret(), NOW)
    proof, _ = level(Forgery(original=mail(17), recipient=token), is_complaint=False)
    assert (proof.verified, proof.verified_by) == ("recipient", ("address",))


@pytest.mark.parametrize(("names", "identities"), [("from:to:message-id", 1), ("from:to", 3)])
def test_proofs_one_by_one(names: str, identities: int) -> None:
    """If DKIM signs the Message-ID, each proof of a message has the same identity; otherwise each has its own."""
    message = mail(17)
    parts = [*(dkim_field(message, kind, h=names) + message for kind in ("rsa", "ed")), traced(message, (EVE,))]
    proofs = [level(Forgery(original=one, reported=EVE), is_complaint=False)[0] for one in parts]
    assert [one.verified for one in proofs] == ["recipient"] * 3
    assert len({identity for one in proofs for identity in one.verified_ids}) == identities
