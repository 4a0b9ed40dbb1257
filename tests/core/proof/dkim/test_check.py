"""Our DKIM signature in a returned message: what is verified, what a change breaks, and which recipients are proved."""

import re

import pytest

from sidecar.core.proof.dkim.check import check_dkim
from sidecar.core.proof.head import Returned, fields
from sidecar.core.proof.values import Case, Checked
from sidecar.core.reports.original import head_of
from sidecar.core.settings.keys import Keys, PublicKey
from tests.core.proof.making import DAY, MAIL, NOW, dkim_field, ed_key, keys, pem, public_key

REPORTED = ("jo@remote.example",)


def check(message: str | bytes, *reported: str, **changes: object) -> Checked:
    values = {"keys": keys(), "now": NOW, "reported": reported or REPORTED} | changes
    return check_dkim(Returned(message, fields(head_of(message))), Case(**values))  # type: ignore[arg-type]


def signed(message: str = MAIL, **tags: str) -> str:
    return dkim_field(message, **tags) + message


@pytest.mark.parametrize("kind", ["rsa", "ed"])
@pytest.mark.parametrize(
    "form", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple", "relaxed", "simple", ""]
)
def test_forms(form: str, kind: str) -> None:
    """Each canonical form, with each kind of key, as text and as bytes."""
    message = MAIL.replace("week\nDate", "week,\n\tas  always \t\nDate").replace("happened.", "happened. \t\n\n a  b\n\n\n")
    whole = dkim_field(message, kind, c=form) + message
    for spelled in (whole, whole.encode()):
        found = check(spelled)
        assert found.holds, found.why
        assert (found.recipients, found.body, found.domain) == (REPORTED, "whole", "sender.example")


@pytest.mark.parametrize(
    ("change", "body"),
    [
        (lambda message: message, "whole"),
        (lambda message: message + "\n\n\n", "whole"),
        (lambda message: message.rstrip("\n"), "whole"),
        (lambda message: message.rstrip("\n") + " \t", "whole"),
        (lambda message: message.replace("Nothing ", "Nothing \t "), "whole"),
        (lambda message: message.partition("\n\n")[0], "absent"),
        (lambda message: message.partition("\n\n")[0] + "\n\n\n", "absent"),
        (lambda message: message.replace("happened.", ""), "differs"),
        (lambda message: message.replace("Nothing", "Something"), "differs"),
        (lambda message: message + "More.\n", "differs"),
        (lambda message: message + "x" * 1024 * 1024, "unchecked"),
        (lambda message: message.replace("Subject: The news", "subject :\n\t The\n news"), "whole"),
        (lambda message: "\n\n" + message, "whole"),
        (lambda message: "Received: from a by b\n" + message, "whole"),
        (lambda message: "To: victim@remote.example\nSubject: other\n" + message, "whole"),
        (lambda message: message.replace("\n\n", "\nX-Spam: no\n\n", 1), "whole"),
        (lambda message: "DKIM-Signature: v=1; d=other.example; s=x; b=AAAA\n" + message, "whole"),
        (lambda message: "DKIM-Signature: not a list\n" + message, "whole"),
    ],
)
def test_changes_of_mailers(change: object, body: str) -> None:
    """What mailers do to returned mail leaves the header section proved; the body is judged by itself."""
    assert callable(change)
    found = check(change(signed()))
    assert found.holds, found.why
    assert (found.recipients, found.body) == (REPORTED, body)
    assert check(change(signed()), "victim@remote.example").recipients == ()
    assert found.identity == check(signed()).identity


def test_length() -> None:
    """With `l=` the beginning of a body is signed, and the rest is not."""
    length = str(len("Nothing happened.\r\n"))
    assert check(signed(l=length)).body == "whole"
    assert check(signed(l=length) + "More.\n").body == "part"
    assert check(signed(l="3") + "x").body == "part"
    assert check(signed(l="3").replace("Nothing", "nothing")).body == "differs"
    assert check(signed(l="99")).body == "differs"
    assert check(signed(l="x", bh="AAAA")).why.endswith("its l=, t= or x= is no number")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda message: message.replace("jo@remote", "victim@remote"), "does not match the header section"),
        (lambda message: message.replace("Subject: The", "Subject: the"), "does not match the header section"),
        (lambda message: message.replace("week-17", "week-18"), "does not match the header section"),
        (lambda message: message.replace("Subject", "X-Subject"), "does not match the header section"),
        (lambda message: message.replace("\n\n", "\nTo: victim@remote.example\n\n", 1), "does not match the header section"),
        (lambda message: message.replace("h=from:to:cc", "h=from:cc"), "does not match the header section"),
        (lambda message: message.replace("t=", "x=9999999999; t="), "does not match the header section"),
        (lambda message: message.replace("bh=", "bh=!"), "its b= or bh= is not base64"),
        (lambda message: message.replace("; b=", "; b=AAAA"), "does not match the header section"),
        (lambda message: re.sub("; b=.*", "; b=AAAA", message), "does not match the header section"),
        (lambda message: re.sub("; b=.*", "; b=", message), "it has no b="),
        (lambda message: re.sub("; b=.*", "; b=é", message), "its b= or bh= is not base64"),
        (lambda message: message.replace("v=1", "v=2"), "its v= is '2', not 1"),
        (lambda message: message.replace("c=relaxed", "c=loose"), "its c= has another form"),
        (lambda message: message.replace("relaxed/relaxed", "relaxed/"), "its c= has another form"),
        (lambda message: message.replace("a=rsa-sha256", "a=rsa-sha1"), "its a= is not rsa-sha256"),
        (lambda message: message.replace("a=rsa-sha256", "a=ed25519-sha256"), "its a= is not rsa-sha256"),
        (lambda message: message.replace("s=rsa", "s=ed"), "its a= is not ed25519-sha256"),
        (lambda message: message.replace("s=rsa", "s=none"), "is of a key of ours"),
        (lambda message: message.replace("d=sender", "d=other"), "is of a key of ours"),
        (lambda message: message.replace("v=1;", "v=1; v=1;"), "it is no list of tags, or has one twice"),
        (lambda message: message.replace("v=1;", "v=1; d=other.example;"), "is of a key of ours"),
        (lambda message: message.replace("t=1", "d=other.example; t=1"), "it is no list of tags, or has one twice"),
        (lambda message: message.replace("v=1;", "v=1; ;"), "it is no list of tags, or has one twice"),
        (lambda message: message.replace("v=1;", f"v=1; z={'x' * 9000};"), "is of a key of ours"),
        (lambda message: message.replace("h=from:", "h="), "its h= does not have From"),
        (lambda message: message.replace("h=from:", "h=from:" + "x:" * 200), "its h= has more than 200 names"),
        (lambda message: message.replace("t=1", "i=@other.example; t=1"), "its i= is not in the domain of its d="),
        (lambda message: message.replace("t=1", "i=@xsender.example; t=1"), "its i= is not in the domain of its d="),
        (lambda message: message.replace("t=1", "t=1 1"), "its l=, t= or x= is no number"),
        (lambda _: MAIL, "has no DKIM signature"),
        (lambda _: "", "has no DKIM signature"),
    ],
)
def test_forged(change: object, why: str) -> None:
    """No signed field, and no tag, can be changed; each fault has its sentence."""
    assert callable(change)
    found = check(change(signed()))
    assert not found.holds
    assert why in found.why
    assert (found.recipients, found.identity, found.body) == ((), "", None)


@pytest.mark.parametrize(
    ("tags", "now", "why"),
    [
        ({}, NOW - 1800 - 600, None),
        ({}, NOW - 1800 - 601, "it is of the future"),
        ({}, NOW - 1800 + 30 * DAY + 600, None),
        ({}, NOW - 1800 + 30 * DAY + 601, "older than 30 days"),
        ({"x": str(NOW)}, NOW + 600, None),
        ({"x": str(NOW)}, NOW + 601, "it has expired (x=)"),
        ({"t": ""}, NOW, None),
        ({"t": ""}, NOW - 1800 - 601, "it is of the future"),
        ({"t": ""}, NOW + 31 * DAY, "older than 30 days"),
        ({"t": "", "h": "from:to"}, NOW, "it has no t=, and no Date is signed"),
        ({"t": "1"}, NOW, "it is of 1970-01-01T00:00:01Z, and older than 30 days"),
        ({"t": "999999999999"}, NOW, "it is of the future"),
    ],
)
def test_age(tags: dict[str, str], now: int, why: str | None) -> None:
    """The time of signing, or else the signed Date, is neither too old nor in the future; a clock can be ten minutes wrong."""
    found = check(signed(**tags), now=now)
    assert found.holds == (why is None), found.why
    assert (why or "") in found.why


@pytest.mark.parametrize("date", ["never", "Tue, 01 Dec 0001 00:30:00 +2359", "Tue, 01 Dec 26 00:30:00\n +0000\nDate: x"])
def test_unusable_date(date: str) -> None:
    message = MAIL.replace("Tue, 01 Dec 2026 00:30:00 +0000", date)
    assert not check(signed(message, t="", h="from:date:date:to")).holds


def test_strict_key() -> None:
    """`t=s` in the record forbids subdomains in `i=`."""
    loose = public_key("rsa._domainkey.sender.example", pem(ed_key()))
    strict = PublicKey(selector="ed", domain="sender.example", algorithm=loose.algorithm, der=loose.der, strict=True)
    known = Keys(dkim={("ed", "sender.example"): strict})
    assert check(dkim_field(MAIL, "ed") + MAIL, keys=known).holds
    assert check(dkim_field(MAIL, "ed", i="x@sender.example") + MAIL, keys=known).holds
    assert "no subdomain" in check(dkim_field(MAIL, "ed", i="@a.sender.example") + MAIL, keys=known).why


@pytest.mark.parametrize(
    ("to", "proved"),
    [
        ("Jo@Remote.Example", True),
        ("<jo@remote.example>", True),
        ("al@x.example, Jo <jo@remote.example> (work)", True),
        ("friends: al@x.example, <jo@remote.example>;", True),
        ("(jo) jo@remote.example (home)", True),
        ("al@x.example\nCc: jo@remote.example", True),
        # Names beside an address are text that others can choose.
        ('"jo@remote.example" <al@x.example>', False),
        ("jo@remote.example <al@x.example>", False),
        ('"x, jo@remote.example, y" <al@x.example>', False),
        ('"x\\", jo@remote.example" <al@x.example>', False),
        ("(jo@remote.example) al@x.example", False),
        ("<jo@remote.example> <al@x.example>", False),
        ("<jo@remote.example", False),
        ('"jo@remote.example', False),
        ("xjo@remote.example", False),
        ("jo@remote.example.org", False),
        ("undisclosed-recipients:;", False),
        ("", False),
    ],
)
def test_addressees(to: str, proved: bool) -> None:
    """The address of a signed To or Cc is proved, and nothing else in it."""
    message = re.sub("To: .*", f"To: {to}", MAIL)
    found = check(signed(message))
    assert found.holds
    assert bool(found.recipients) == proved


def test_unsigned_addressees() -> None:
    """A To that is not in `h=` proves nothing; of two, only the signed one counts."""
    assert check(signed(h="from:cc:date")).recipients == ()
    assert check("To: victim@remote.example\n" + signed(), "victim@remote.example").recipients == ()


def test_spliced() -> None:
    """Two signatures are never combined: each proves what it signs itself."""
    other = MAIL.replace("jo@remote", "victim@remote").replace("week-17", "week-18")
    spliced = dkim_field(other, h="from:subject:date") + dkim_field(other) + MAIL
    found = check(spliced, "victim@remote.example")
    assert (found.holds, found.recipients) == (True, ())
    assert not check(dkim_field(other) + MAIL).holds


def test_signed_signatures() -> None:
    """`h=` can name DKIM-Signature: the others are signed, and never the field itself."""
    first = signed()
    assert check(dkim_field(first, "ed", h="from:dkim-signature") + first).holds
    assert check(signed(h="from:to:dkim-signature")).recipients == REPORTED


def test_better_signature() -> None:
    """The signature that proves a recipient counts, although another one stands below it."""
    found = check(dkim_field(MAIL, "ed") + dkim_field(MAIL, h="from:date") + MAIL)
    assert (found.recipients, "ed._domainkey" in found.why) == (REPORTED, True)


def test_limit() -> None:
    """A report cannot buy more checks than the limit, with whatever signatures."""
    broken = dkim_field(MAIL.replace("week", "day"))
    assert check(broken * 9 + signed()).holds
    assert check(dkim_field(MAIL) + broken + MAIL).holds
    found = check(dkim_field(MAIL) + broken * 2 + MAIL)
    assert (found.holds, found.recipients) == (False, ())
    assert not check(signed(), admits=lambda: False).holds
    foreign = "DKIM-Signature: v=1; d=other.example; s=x; b=AAAA\n"
    assert check(dkim_field(MAIL) + foreign * 4 + MAIL).holds
    assert not check(dkim_field(MAIL) + foreign * 5 + MAIL).holds


def test_identity() -> None:
    """It is that of the signed Message-ID, or else of all that is signed; no change that keeps the signature changes it."""
    assert check(signed()).identity == check(signed(h="from:message-id", c="simple")).identity
    unnamed = signed(h="from:to:date")
    assert check(unnamed).identity != check(signed()).identity
    refolded = unnamed.replace("; d=", ";\n d=").replace("; b=", "; b=\n ").replace("week-17", "other")
    assert check(refolded).holds
    assert check(refolded).identity == check(unnamed).identity


def test_no_keys() -> None:
    assert check(signed(), keys=Keys()).why == "there are no public keys"
