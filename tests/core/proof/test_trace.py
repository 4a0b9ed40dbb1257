"""The trace header: what mailers do to a returned message does not break it, and no other host can make or move one."""

import re
from email import message_from_string

import pytest

from sidecar.core.proof import trace
from sidecar.core.proof.values import Checked
from sidecar.core.reports.original import head_of
from sidecar.core.settings.keys import Keys
from tests.core.proof.making import DAY, MAIL, NOW, SENDER, check_trace, keys, secret, traced


def check(message: str, reported: tuple[str, ...] = ("jo@remote.example",), *, sender: str | None = SENDER) -> Checked:
    return check_trace(head_of(message), sender, reported, keys())


def value() -> str:
    found = re.search(rf"{trace.NAME}: (\S+)", traced())
    assert found is not None
    return found[1]


def reordered(message: str) -> str:
    head, _, body = message.partition("\n\n")
    return "\n".join(sorted(re.findall(r"(?m)^\S.*(?:\n[ \t].*)*", head))) + "\n\n" + body


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message,
        lambda message: message.replace(value(), value()[:30] + "\n\t" + value()[30:]),
        lambda message: message.replace(value(), value().replace(".", " . ")),
        lambda message: message.replace(value(), value().upper()),
        lambda message: message.replace("<week-17@", "<week-17@\n "),
        lambda message: message.replace("Message-ID:", "message-id :\n"),
        reordered,
        lambda message: f"Received: from a by b\n{message}",
        lambda message: message.partition("\n\n")[0],
        lambda message: message[:-9],
        lambda message: message.replace("jo@", "redacted@").replace("news@", "redacted@"),
        lambda message: message.replace("Subject: The news of the week", "Subject: [redacted]"),
        lambda message: message.replace(trace.NAME, trace.FEEDBACK_ID),
        lambda message: f"{trace.NAME}: something else\n{message}",
        lambda message: f"{trace.NAME}: {value()[::-1]}\n{message}",
    ],
)
def test_survives(change: object) -> None:
    """Folding, order, new fields, a body cut off, redacted addresses, and a false trace header beside it."""
    assert callable(change)
    found = check(change(traced()))
    assert found.holds, found.why
    assert found.recipients == ("jo@remote.example",)
    assert found.identity == check(traced()).identity


def test_spellings() -> None:
    """Hosts change the case of addresses, and the envelope sender comes back with its token."""
    assert check(traced(), ("JO@Remote.EXAMPLE",)).recipients == ("JO@Remote.EXAMPLE",)
    assert check(traced(sender="News@Bounce.sender.example")).holds
    assert check(traced(sender="news+bv20787aaaaaaaaaaaaaaaa@bounce.sender.example")).holds
    assert check(traced(), sender="prvs=0788abcdef=news@bounce.sender.example").holds


def test_levels() -> None:
    """Another recipient, or none of one, leaves a proof of the message alone."""
    for recipients in ((), ("jo@remote.example", "al@remote.example")):
        found = check(traced(recipients=recipients))
        assert (found.holds, found.recipients) == (True, ())
    found = check(traced(), ("al@remote.example", "jo@remote.example", "x@remote.example"))
    assert found.recipients == ("jo@remote.example",)
    assert check(traced(), ()).recipients == ()


def test_sender() -> None:
    """A bounce comes back to the envelope sender of the message; a complaint goes elsewhere."""
    found = check(traced(), sender="news@bounce.other.example")
    assert "another envelope sender" in found.why
    assert not found.holds
    assert check(traced(), sender=None).holds


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda message: message.replace("week-17", "week-18"), "its MAC does not match"),
        (lambda message: message.replace("20788", "20789"), "its MAC does not match"),
        (lambda message: message.replace(value(), value().rpartition(".")[0]), "its MAC does not match"),
        (
            lambda message: message.replace(value(), f"{value()[:24]}{value()[-16:]}.{value()[24:40]}"),
            "its MAC does not match",
        ),
        (lambda message: message.replace(value(), value() + value()[-17:]), "is not readable"),
        (lambda message: message.replace(value(), value()[:23]), "is not readable"),
        (lambda message: message.replace(value(), ""), "is not readable"),
        (lambda message: message.replace(value(), "é" * 9), "is not readable"),
        (lambda message: message.replace(f" {secret().id}", " zz"), "no secret has its key id"),
        (lambda message: message.replace("Message-ID", "X-Message-ID"), "exactly one Message-ID"),
        (lambda message: f"Message-ID: <other@x>\n{message}", "exactly one Message-ID"),
        (lambda message: f"Message-ID: <week-17@sender.example>\n{message}", "exactly one Message-ID"),
        (lambda message: message.replace("<week-17@sender.example>", "x" * 1000), "exactly one Message-ID"),
        (lambda message: f"{trace.NAME}: x\n{trace.NAME}: y\n{message}", "is not readable"),
        (lambda _: MAIL, "has no X-Sidecar-Trace"),
        (lambda _: "", "has no X-Sidecar-Trace"),
    ],
)
def test_forged(change: object, why: str) -> None:
    """No part can be changed, left out or exchanged; a second Message-ID leaves open which one is meant."""
    assert callable(change)
    found = check(change(traced()))
    assert not found.holds
    assert why in found.why


def test_another_message() -> None:
    """The MACs of one message do not fit another one's, and those for the recipient only that."""
    other = trace.trace(secret(), NOW, message_id="<other@sender.example>", sender=SENDER, recipients=["jo@remote.example"])
    assert other is not None
    assert not set(value().split(".")) & set(other.split("."))
    assert not check(traced().replace(value(), value()[:40] + other[40:])).holds


def test_age_and_keys() -> None:
    head = head_of(traced())
    assert "older than 30 days" in check_trace(head, SENDER, (), keys(), NOW + 32 * DAY).why
    assert "in the future" in check_trace(head, SENDER, (), keys(), NOW - 2 * DAY).why
    assert check_trace(b"", None, (), Keys()).why == "there are no secrets"


@pytest.mark.parametrize("message_id", ["", " \r\n", "x" * 999])
def test_no_trace(message_id: str) -> None:
    """Without a Message-ID there is nothing that names the message."""
    assert trace.trace(secret(), NOW, message_id=message_id, sender="", recipients=()) is None


def test_value_fits_a_line() -> None:
    """The header is no longer than a line, and every mail library reads it."""
    assert message_from_string(traced())[trace.NAME] == value()
    assert len(f"{trace.NAME}: {value()}") < 78
