"""What a session does with verified, unverified and forged reports, at RCPT and at the end of the message."""

from typing import Any

import pytest
from msgspec.structs import asdict, replace

from sidecar.core.names import network_of
from sidecar.core.proof import address
from sidecar.core.session import Quota, Session, World
from sidecar.core.session.verdicts import Outcome
from sidecar.core.settings.proof import VerifyRule, VerifySettings
from sidecar.core.settings.values import LimitSettings, Where
from tests.building import entry, settings
from tests.core.proof.making import MAIL, NOW, SENDER, bounce, complaint, dkim_field, keys, prvs, secret, traced
from tests.core.session.driving import PLAIN, RELAY_HOST, content, envelope, hello, play, rules

JO = "jo@remote.example"
TOKEN = address.tagged(SENDER, secret(), NOW)
OTHER = address.tagged("news@other.example", secret(), NOW)
OLD = address.tagged(SENDER, secret(), NOW - 40 * 86400)
BATV = prvs()
SIGNED = dkim_field(MAIL) + MAIL
TRUE = bounce(traced(SIGNED), JO)
FORGED = bounce(MAIL, JO)
PLACE = Where(file="sidecar.toml", line=9, key="verify.unverified")
DOMAINS = (
    entry("bounce.sender.example", log_oob="LogThenDrop"),
    entry("keep.example", log_oob="LogThenRelay", log_arf="LogThenDrop"),
    entry("open.example", relay_to=True, log_oob="LogThenDrop"),
    entry("other.example", log_oob="LogThenDrop"),
)
BOTH = VerifyRule(unverified="reject", requires_token=True, places={"unverified": PLACE, "address": PLACE})
REFUSED = "550 5.7.1 this report does not prove that it is about mail sent from here"
REQUIRED = "550 5.7.1 this address accepts only bounces of mail sent from here"


def rule(unverified: Any) -> VerifyRule:
    return VerifyRule(unverified=unverified, places={"unverified": PLACE})


def section(unverified: Any = "accept", **domains: VerifyRule) -> VerifySettings:
    """Return a section with the keys of the tests."""
    names = {name.replace("_", "."): own for name, own in domains.items()}
    return VerifySettings(**asdict(keys()), rule=rule(unverified), domains=names)


def run(
    verify: VerifySettings | None,
    *recipients: str,
    report: bytes | None = TRUE,
    peer: object = "203.0.113.9",
    quota: Quota | None = None,
    now: float = NOW,
    **more: Any,
) -> list[Outcome]:
    """Return all outcomes of a message; without a report it ends at RCPT."""
    made = rules(settings(DOMAINS, relay_hosts=["127.0.0.1"], verify=verify, **more))
    numbers = iter(range(1, 1000))
    world = World(clock=lambda: now, new_id=lambda: f"00000000-0000-0000-0000-{next(numbers):012}", node_id="n")
    it = Session(rules=lambda: made, world=world, quota=quota)
    return play(it, [*hello(peer), *envelope(recipients), *(() if report is None else content(report))])


def reply(outcome: Outcome) -> str:
    return str(getattr(outcome.verdict, "reply", type(outcome.verdict).__name__))


@pytest.mark.parametrize(
    ("recipient", "report", "level", "methods"),
    [
        (TOKEN, TRUE, "recipient", ("dkim", "header", "address")),
        (SENDER, TRUE, "recipient", ("dkim", "header")),
        (BATV, FORGED, "message", ("address",)),
        (TOKEN, FORGED, "message", ("address",)),
        (SENDER, bounce(traced(SIGNED), "else@remote.example"), "message", ("dkim", "header")),
        (SENDER, FORGED, "none", ()),
        (OLD, FORGED, "none", ()),
        (OTHER.replace("other.example", "bounce.sender.example"), FORGED, "none", ()),
    ],
)
def test_levels(recipient: str, report: bytes, level: str, methods: tuple[str, ...]) -> None:
    """Records have the level and the methods that held, and the address as it came. A Reception is about the message only."""
    received, failed = run(section(), recipient, report=report)[-1].records
    assert (failed.meta["verified"], failed.meta["verified_by"]) == (level, methods)
    assert (failed.sender, received.recipient, received.queue) == (recipient, recipient, "bounce.sender.example")
    assert ("proof" in failed.meta) == (level != "recipient")
    kinds = {one.partition(":")[0] for one in failed.meta.get("verified_ids", ())}
    assert kinds == {"message" if one in {"dkim", "header"} else "address" for one in methods}
    assert "verified_ids" not in received.meta
    assert received.meta["verified"] == ("message" if level == "recipient" else level)
    assert "proof" not in received.meta


def test_without_the_section() -> None:
    """Nothing is verified, and records are as before."""
    found = run(None, TOKEN)[-1]
    assert found.verified is None
    assert not {"verified", "verified_by", "verified_ids", "proof", "reporter"} & {*found.records[1].meta}


def test_feedback() -> None:
    """A Feedback record has the proof for the recipients that it names; the reporter is named for what it is worth."""
    report = b"Authentication-Results: mx.example; dkim=pass header.d=provider.example\n" + complaint(
        traced(SIGNED), f"Original-Rcpt-To: {JO}\n"
    )
    verify = replace(section(), authserv_ids=("mx.example",))
    (record,) = run(verify, "fbl@keep.example", report=report)[-1].records
    assert (record.type, record.meta["verified"], record.meta["verified_by"]) == ("Feedback", "recipient", ("dkim", "header"))
    assert record.meta["reporter"].dkim == ("provider.example",)
    assert len(record.meta["verified_ids"]) == 1
    (record,) = run(verify, "fbl@keep.example", report=complaint(MAIL))[-1].records
    assert (record.meta["verified"], "reporter" in record.meta) == ("none", False)


@pytest.mark.parametrize(
    ("unverified", "recipients", "report", "expected", "dispositions"),
    [
        ("accept", [SENDER], FORGED, "Discard", ["logged_and_dropped", "logged_and_dropped"]),
        ("reject", [SENDER], FORGED, REFUSED, ["rejected_at_end"]),
        ("quarantine", [SENDER], FORGED, "Discard", ["quarantined"]),
        ("reject", [SENDER], TRUE, "Discard", ["logged_and_dropped", "logged_and_dropped"]),
        ("reject", [TOKEN], FORGED, "Discard", ["logged_and_dropped", "logged_and_dropped"]),
        # A relayed report needs a proof too, also where all mail is relayed.
        ("reject", ["b@keep.example"], FORGED, REFUSED, ["rejected_at_end"]),
        ("reject", ["b@open.example"], FORGED, REFUSED, ["rejected_at_end"]),
        ("quarantine", ["b@open.example"], FORGED, "Discard", ["quarantined"]),
        # Other mail is judged as before.
        ("reject", ["b@open.example"], PLAIN, "Accept", ["relayed"]),
        ("reject", [SENDER], PLAIN, "550 5.7.1 relaying not permitted", ["rejected_at_end"]),
        # A recipient whose domain does not log bounces gets one as any other mail.
        ("reject", ["b@keep.example"], complaint(MAIL), REFUSED, ["rejected_at_end"]),
        # One recipient has a token, the other one does not get the report.
        ("reject", [SENDER, TOKEN], FORGED, "Discard", ["dropped", "logged_and_dropped", "logged_and_dropped"]),
    ],
)
def test_unverified(unverified: str, recipients: list[str], report: bytes, expected: str, dispositions: list[str]) -> None:
    """Each recipient has the rule of its domain; a message that is accepted for none is rejected or quarantined."""
    found = run(section(unverified), *recipients, report=report)[-1]
    assert reply(found) == expected
    assert [record.meta["disposition"] for record in found.records] == dispositions
    if found.unparsable is not None:
        assert found.unparsable.record.meta["verified"] == "none"
        assert found.records[0].meta["read_as"] == "rfc3464"


@pytest.mark.parametrize(("peer", "expected"), [("203.0.113.9", REFUSED), (RELAY_HOST, REFUSED)])
def test_rejection(peer: object, expected: str) -> None:
    """The reply is the same for all reasons, and for relay hosts; the record has the rule and the reason."""
    found = run(section("reject"), OLD, report=FORGED, peer=peer)[-1]
    assert reply(found) == expected
    (record,) = found.records
    assert (record.type, record.meta["verified"], record.meta["verified_by"]) == ("Rejection", "none", ())
    assert "rejects a bounce report that proves nothing (sidecar.toml:9 verify.unverified)" in record.meta["why"]
    assert "older than 30 days" in record.meta["proof"]
    assert record.meta["read_as"] == "rfc3464"


def test_domains() -> None:
    """The rule of a recipient's own domain counts, and that of a parent with a wildcard."""
    verify = section("accept", **{"*_sender_example": rule("reject")})
    assert reply(run(verify, SENDER, report=FORGED)[-1]) == REFUSED
    assert reply(run(verify, "b@other.example", report=FORGED)[-1]) == "Discard"


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        (TOKEN, "Continue"),
        (TOKEN.upper(), "Continue"),
        (BATV, "Continue"),
        (f"@relay.example:{TOKEN}", "Continue"),
        (SENDER, REQUIRED),
        (OLD, REQUIRED),
        (OTHER.replace("other.example", "bounce.sender.example"), REQUIRED),
        (TOKEN.replace("+pe", "+zz"), REQUIRED),
        ("news+@bounce.sender.example", REQUIRED),
        ("prvs=@bounce.sender.example", REQUIRED),
        ("postmaster@bounce.sender.example", REQUIRED),
        ("b@other.example", "Continue"),
        # A recipient that is not permitted anyway has the usual reply.
        (address.tagged("x@closed.example", secret(), NOW), "550 5.7.1 relaying not permitted for 203.0.113.9:4444"),
    ],
)
@pytest.mark.parametrize("peer", ["203.0.113.9", RELAY_HOST])
def test_address_required(recipient: str, expected: str, peer: object) -> None:
    """A domain that requires tokens rejects other recipients at RCPT, from every peer, and says the same to all."""
    verify = section(bounce_sender_example=BOTH, closed_example=BOTH)
    found = run(verify, recipient, report=None, peer=peer)[-1]
    if peer == RELAY_HOST and "not permitted" in expected:
        expected = "Continue"
    assert reply(found) == expected
    if expected == REQUIRED:
        (record,) = found.records
        assert (record.type, record.recipient) == ("Rejection", recipient)
        assert record.meta["why"].startswith("bounce.sender.example accepts only addresses with a token: ")
        assert record.meta["why"].endswith("(sidecar.toml:9 verify.unverified)")


def test_without_batv() -> None:
    """`batv = false` takes the tokens of BATV for none, at RCPT and at the end; others hold."""
    required = replace(section(bounce_sender_example=BOTH), batv=False)
    found = [reply(run(required, one, report=None)[-1]) for one in (TOKEN, BATV)]
    assert found == ["Continue", REQUIRED]
    proved = [run(replace(section("reject"), batv=batv), BATV, report=FORGED)[-1] for batv in (True, False)]
    assert [*map(reply, proved)] == ["Discard", REFUSED]


def test_rate_of_signatures() -> None:
    """Above the rate of a network a report with a signature of ours is tempfailed; others are not. Relay hosts have no rate."""
    quota = Quota(LimitSettings(signatures_per_second=1))  # in a burst ten
    replies = [reply(run(section("reject"), SENDER, quota=quota)[-1]) for _ in range(11)]
    busy = "451 4.7.1 too many reports from you at once; try again later"
    assert replies == ["Discard"] * 10 + [busy]
    (record,) = run(section("reject"), SENDER, quota=quota)[-1].records
    assert "limits.signatures_per_second, 1" in record.meta["why"]
    assert reply(run(section("reject"), TOKEN, report=FORGED, quota=quota)[-1]) == "Discard"
    assert reply(run(section("reject"), SENDER, quota=quota, peer=RELAY_HOST)[-1]) == "Discard"
    assert reply(run(section("reject"), SENDER, quota=quota, peer="203.0.113.10")[-1]) == "Discard"
    assert reply(run(section("reject"), SENDER, quota=quota, now=NOW + 1)[-1]) == "Discard"
    assert reply(run(None, SENDER, quota=quota)[-1]) == "Discard"


def test_compat() -> None:
    """With compat the rules of [verify] apply, too, and records have the proof in meta."""
    strict = TRUE.replace(b"MAILER-DAEMON@mx.remote.example", b"<mailer-daemon@mx.remote.example>")
    _, failed = run(section("reject"), SENDER, report=strict, compat="kumomta", text_bounces="reject")[-1].records
    assert failed.meta["verified"] == "recipient"
    forged = run(section("reject"), SENDER, report=FORGED, compat="kumomta", text_bounces="reject")[-1]
    assert reply(forged) == REFUSED
    assert "read_as" not in forged.records[-1].meta


def test_cost_of_many_recipients() -> None:
    """A report for many recipients that reports many failures has its signature checked once."""
    quota = Quota(LimitSettings(signatures_per_second=1))
    for _ in range(8):
        quota.admit_signature(network_of("203.0.113.9"), NOW)
    names = [address.tagged(SENDER, secret(), NOW - day * 86400) for day in range(20)]
    report = bounce(traced(SIGNED), JO, *(f"x{number}@remote.example" for number in range(20)))
    found = run(section(), *names, report=report, quota=quota)[-1]
    levels = [record.meta["verified"] for record in found.records if record.type == "OOB"]
    assert levels == ["recipient", *["message"] * 20] * 20
    assert quota.admit_signature(network_of("203.0.113.9"), NOW)
    assert not quota.admit_signature(network_of("203.0.113.9"), NOW)
