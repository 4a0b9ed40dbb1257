"""The proof of a whole report: its level for each recipient, the methods, and the identity for counting it once."""

import hmac

import pytest

from sidecar.core.proof.address import tagged
from sidecar.core.proof.verify import reported_recipients, verify
from sidecar.core.reports.reading import read
from sidecar.core.settings.keys import Keys
from tests.core.proof.making import MAIL, NOW, SENDER, bounce, complaint, dkim_field, keys, prvs, secret, traced, verified

JO, AL, OTHER = "jo@remote.example", "al@remote.example", "victim@remote.example"
TOKEN = tagged(SENDER, secret(), NOW)


def forged_traces() -> str:
    """Return a message with trace headers whose key id and day are right."""
    token = traced().partition(": ")[2][:7]
    return "".join(f"X-Sidecar-Trace: {token}{one * 16}.{one * 16}\n" for one in "abcd") + MAIL


SIGNED = dkim_field(MAIL) + MAIL


@pytest.mark.parametrize(
    ("report", "recipient", "reported", "level", "methods"),
    [
        (bounce(SIGNED, JO), TOKEN, JO, "recipient", ("dkim", "address")),
        (bounce(traced(), JO), TOKEN, JO, "recipient", ("header", "address")),
        (bounce(traced(SIGNED), JO), SENDER, JO, "recipient", ("dkim", "header")),
        (bounce(SIGNED, OTHER), SENDER, OTHER, "message", ("dkim",)),
        (bounce(traced(), OTHER), SENDER, OTHER, "message", ("header",)),
        (bounce(SIGNED), SENDER, "", "message", ("dkim",)),
        (bounce(MAIL, JO), TOKEN, JO, "message", ("address",)),
        (bounce(MAIL, JO), SENDER, JO, "none", ()),
        (bounce("", JO), SENDER, JO, "none", ()),
        (bounce(traced(), JO), "news@bounce.other.example", JO, "none", ()),
        (complaint(traced(), f"Original-Rcpt-To: {JO}\n"), "fbl@sender.example", JO, "recipient", ("header",)),
        (complaint(SIGNED, "Original-Rcpt-To: <redacted>\n"), "fbl@sender.example", "redacted", "message", ("dkim",)),
    ],
)
def test_level(report: bytes, recipient: str, reported: str, level: str, methods: tuple[str, ...]) -> None:
    found = verified(report, recipient)
    proof = found.proof(*filter(None, [reported]))
    assert (proof.verified, proof.verified_by) == (level, methods)
    assert bool(proof.verified_ids) == (level != "none")
    assert found.why.count(": ") >= 3
    assert found.why.isprintable()


def test_each_recipient() -> None:
    """Each reported recipient has its own level; together they have the lowest."""
    found = verified(bounce(SIGNED, JO, OTHER, AL))
    assert [found.proof(one).verified for one in (JO, OTHER, AL)] == ["recipient", "message", "recipient"]
    assert found.proof(JO, AL).verified == "recipient"
    assert found.proof(JO, OTHER).verified == "message"
    assert found.proof().verified == "message"
    assert found.proof("").verified == "message"
    both = verified(bounce(traced(SIGNED, (OTHER,)), JO, OTHER))
    assert [len(one.recipients) for one in both.methods[:2]] == [1, 1]
    assert both.proof(JO, OTHER).verified == "recipient"


def test_ids() -> None:
    """Whatever is taken off a true report, one of its ids stays; of a token only the id of the token."""
    report = verified(bounce(traced(SIGNED), JO), TOKEN).proof(JO)
    less = [bounce(traced(), JO), bounce(SIGNED, JO), bounce(traced(SIGNED).partition("\n\n")[0], JO)]
    assert all(set(verified(one).proof(JO).verified_ids) & set(report.verified_ids) for one in less)
    assert [one.partition(":")[0] for one in report.verified_ids] == ["message", "address"]
    assert {len(one.partition(":")[2]) for one in report.verified_ids} == {32}
    assert len({*verified(bounce(MAIL, JO), prvs("x" * 40 + SENDER)).proof(JO).verified_ids, *report.verified_ids}) == 3
    unnamed = dkim_field(MAIL, h="from:to:date") + MAIL
    both = verified(bounce(traced(unnamed), JO)).proof(JO)
    assert len(both.verified_ids) == 2
    assert verified(bounce(unnamed, JO)).proof(JO).verified_ids[0] in both.verified_ids
    assert verified(bounce(MAIL, JO), TOKEN).proof(JO).verified_ids == report.verified_ids[1:]
    other = MAIL.replace("week-17", "week-18")
    assert verified(bounce(dkim_field(other) + other, JO)).proof(JO).verified_ids != report.verified_ids


def test_reported_recipients() -> None:
    """They are those of the records: Original-Recipient before Final-Recipient, each once, no empty one."""
    original = b"Original-Recipient: rfc822;Old@remote.example\nFinal-Recipient"
    report = bounce(SIGNED, JO, JO).replace(b"Final-Recipient", original, 1)
    assert reported_recipients(read(report)) == ("Old@remote.example", JO)
    assert reported_recipients(read(bounce(SIGNED))) == ()
    assert reported_recipients(read(b"")) == ()
    assert reported_recipients(read(bounce(SIGNED, "Jo@Remote.Example"))) == ("Jo@remote.example",)


def test_both_reports() -> None:
    """A report that is also a bounce is bound to its recipient as any bounce."""
    both = bounce(traced(), JO).replace(b"report-type=delivery-status", b"report-type=feedback-report")
    feedback = b"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: a\nVersion: 1\n\n--b\n"
    both = both.replace(b"--b\n", feedback, 1)
    reading = read(both)
    assert reading.arf is not None
    assert reading.oob is not None
    assert verified(both, "fbl@other.example").proof(JO).verified == "none"


def test_reporter() -> None:
    """Who sent the report is named, and proves nothing about the mail."""
    known = Keys(secrets=keys().secrets, authserv_ids=("mx.sender.example",))
    report = b"Authentication-Results: mx.sender.example; dkim=pass header.d=provider.example\n" + bounce(MAIL, JO)
    found = verified(report, SENDER, known)
    assert found.reporter is not None
    assert found.reporter.dkim == ("provider.example",)
    assert found.proof(JO).verified == "none"
    assert verified(report).reporter is None


def test_no_keys() -> None:
    """Without keys nothing is proved, and each method says so."""
    found = verified(bounce(traced(SIGNED), JO), TOKEN, Keys())
    assert found.proof(JO).verified == "none"
    assert found.why == "dkim: there are no public keys; header: there are no secrets; address: there are no secrets"


def test_deferred() -> None:
    """A caller can defer the checks that cost much, and learns that the result is not known. Others are never asked for."""
    report = bounce(traced(SIGNED), JO)
    found = verify(read(report), recipients=[SENDER], report=report, keys=keys(), now=NOW, admits=lambda: False)[SENDER]
    assert (found.proof(JO).verified_by, found.deferred) == (("header",), True)
    assert [one.result for one in found.methods] == ["invalid", "valid", "absent"]
    other = bounce(traced(SIGNED.replace("d=sender", "d=other")), JO)
    found = verify(read(other), recipients=[SENDER], report=other, keys=keys(), now=NOW, admits=lambda: False)[SENDER]
    assert (found.deferred, found.methods[0].result) == (False, "absent")


def test_many_envelope_recipients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each envelope recipient has its own result, and the signature is checked once for all of them."""
    checked: list[bytes] = []
    monkeypatch.setattr("sidecar.core.proof.dkim.check._verifies", lambda _, __, text: checked.append(text))
    report = bounce(traced(SIGNED), JO)
    recipients = [SENDER, TOKEN, "news@bounce.other.example"]
    found = verify(read(report), recipients=recipients, report=report, keys=keys(), now=NOW)
    methods = [found[one].proof(JO).verified_by for one in recipients]
    assert methods == [("header",), ("header", "address"), ()]
    assert len(checked) == 1


@pytest.mark.parametrize(("original", "macs"), [(traced()[::-1], 0), (forged_traces(), 2), (traced(), 1001)])
def test_a_thousand_recipients(monkeypatch: pytest.MonkeyPatch, original: str, macs: int) -> None:
    """The trace headers are checked once, those of ours with one MAC for each sender; equal results are one value."""
    made: list[bytes] = []
    digest = hmac.digest

    def counted(key: bytes, text: bytes, name: str) -> bytes:
        made.append(text)
        return digest(key, text, name)

    monkeypatch.setattr(hmac, "digest", counted)
    report = bounce(original, JO)
    recipients = [f"b{number}@bounce.sender.example" for number in range(1000)]
    found = verify(read(report), recipients=recipients, report=report, keys=keys(), now=NOW)
    assert len(made) == macs
    assert len({id(one) for one in found.values()}) == 1


def test_text_bounce() -> None:
    """The returned message of a bounce in text form is checked as well."""
    report = (
        "From: MAILER-DAEMON@mx.remote.example\nSubject: failure notice\n\n"
        "Hi. This is the qmail-send program at mx.remote.example.\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\n\n"
        f"<{JO}>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n--- Below this line is a copy of the message.\n\n{SIGNED}"
    ).encode()
    assert read(report, null_sender=True).read_as == "text:qmail"
    assert verified(report).proof(JO).verified == "recipient"
