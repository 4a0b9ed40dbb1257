"""Records in, figures out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.commands.stats.collector import Collector
from sidecar.commands.stats.summary import Ranking, Summary
from sidecar.core.records import decode
from sidecar.core.text import rfc3339

NOON = 1_795_348_800  # 2026-11-22T12:00:00Z
STATUS = {"class": 5, "subject": 1, "detail": 1}
REJECTION = "no listener domain matches {}; {} is not in relay_hosts (sidecar.toml:1 relay_hosts)"


def record(kind: str = "Rejection", **fields: Any) -> bytes:
    """Write a record as a log has it; `addr` and `name` are its peer's."""
    peer = {"name": fields.pop("name", "helo.example"), "addr": fields.pop("addr", "203.0.113.9")}
    whole = {"type": kind, "recipient": "x@a.example", "timestamp": NOON, "peer_address": peer} | fields
    return json.dumps(whole).encode()


def summed(*lines: bytes, since: float | None = None, until: float | None = None) -> Summary:
    collector = Collector(since, until)
    for line in lines:
        collector.add(decode(line))
    return collector.summary()


def names(ranking: Ranking) -> dict[str, int]:
    return {entry.name: entry.count for entry in ranking.top}


def test_one_reason_for_many_peers() -> None:
    """Refusals that differ in peer and domain alone have one reason, with the rule; another rule is another reason."""
    lines = [
        record(addr=addr, recipient=f"x@{domain}", meta={"why": REJECTION.format(domain, addr)})
        for addr, domain in (("203.0.113.9", "a.example"), ("198.51.100.1", "b.example"), ("2001:db8::1", "sidecar.toml"))
    ]
    lines.append(record(meta={"why": REJECTION.format("a.example", "203.0.113.9").replace("toml:1", "toml:2")}))
    assert [(entry.type, entry.name, entry.count) for entry in summed(*lines).reasons.top] == [
        ("Rejection", REJECTION.format("<domain>", "<ip>"), 3),
        ("Rejection", REJECTION.format("<domain>", "<ip>").replace("toml:1", "toml:2"), 1),
    ]


def test_a_message_to_several_recipients_counts_once() -> None:
    """Each recipient has a record; the message and its bytes count once. Older records have all recipients in one."""
    meta = {"message_id": "m", "disposition": "relayed"}
    summary = summed(
        *[record("Reception", id=f"m{number}", recipient=f"{number}@a.example", size=1000, meta=meta) for number in range(3)],
        record("OOB", id="m0", meta=meta, created=NOON),
        record("Reception", id="old", recipient=["x@b.example", "y@b.example"], size=100, meta={"disposition": "relayed"}),
        record("Rejection", id="", meta={"disposition": "rejected_at_rcpt"}),
    )
    assert (summary.records, summary.messages, summary.bytes_received) == (6, 2, 1100)
    assert names(summary.dispositions) == {"relayed": 4, "rejected_at_rcpt": 1}


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (
            "Rejection",
            {"response": {"code": 550, "content": "not permitted for 203.0.113.9:4444"}},
            "550 not permitted for <ip>",
        ),
        (
            "OOB",
            {"meta": {"why": "a bounce"}, "response": {"code": 550, "content": "no user x@b.example"}},
            "550 no user <address>",
        ),
        ("Bounce", {"response": {"code": 550, "enhanced_code": STATUS, "content": "no"}}, "550 5.1.1 no"),
        ("Bounce", {"response": {"code": 550, "enhanced_code": STATUS, "content": "5.1.1 no"}}, "550 5.1.1 no"),
        ("Reception", {"meta": {"why": 7}, "response": {"code": 250}}, "250"),
        (
            "Suppression",
            {"meta": {"why": "root added the address to the suppression list: x"}},
            "root added the address to the suppression list: x",
        ),
        ("Reception", {}, "(unknown)"),
    ],
)
def test_reason_of_other_records(kind: str, fields: dict[str, Any], reason: str) -> None:
    """Without meta.why, and for mail that was not delivered, the reason is the answer of the MTA."""
    assert names(summed(record(kind, **fields)).reasons) == {reason: 1}


def test_dispositions() -> None:
    """They are counted once for a message: not again for its OOB records, and not where a record has none of the words."""
    dropped, many = {"disposition": "logged_and_dropped"}, {"disposition": "rejected_at_rcpt", "count": 7}
    lines = [
        record("Reception", meta=dropped),
        record("OOB", meta=dropped),
        record("Rejection", meta=many),
        record("Reception", meta={"disposition": "eaten"}),
        record("Reception", meta={"disposition": ["relayed"]}),
        record("Delivery"),
    ]
    assert names(summed(*lines).dispositions) == {"logged_and_dropped": 1, "rejected_at_rcpt": 7}


def test_a_record_that_stands_for_many() -> None:
    """Refusals that were counted into one record count as many, under the reason of the first of them."""
    why = REJECTION.format("a.example", "203.0.113.9")
    many = f"41 more rejections of this peer in about a second, counted instead of recorded one by one; the first: {why}"
    summary = summed(record(meta={"why": why}), record(recipient="", meta={"why": many, "count": 41}))
    assert (summary.records, summary.count) == (2, 42)
    assert names(summary.reasons) == {REJECTION.format("<domain>", "<ip>"): 42}
    assert names(summary.peers) == {"203.0.113.9": 42}
    assert names(summary.recipient_domains) == {"a.example": 1}


def test_who_is_counted_where() -> None:
    """Peers sent mail to us; a bounced domain receives none; reporters have names."""
    summary = summed(
        record("Reception", recipient="x@bounce.example", size=1000),
        record("OOB", sender="x@bounce.example", recipient="gone@B.example.", name="mx.b.example", size=0, created=NOON),
        record("OOB", recipient="gone@b.example", name="", bounce_classification="InvalidRecipient", created=NOON),
        record("Feedback", size=500, feedback_report={"feedback_type": "abuse", "reporting_mta": {"name": "fbl.c.example"}}),
        record("Feedback", feedback_report={"feedback_type": "fraud", "reporting_mta": None, "user_agent": "Looper/1.0"}),
        record("Feedback", feedback_report={"feedback_type": 7, "reporting_mta": {"name": 7}}),
        record("Delivery", addr="192.0.2.77", recipient=["a@d.example", "b@d.example", "c@e.example"], size=9999),
        record("Rejection", recipient="postmaster", bounce_classification="Uncategorized"),
        record("Rejection", recipient="", bounce_classification="SpamBlock"),
    )
    assert names(summary.types) == {"Feedback": 3, "OOB": 2, "Rejection": 2, "Reception": 1, "Delivery": 1}
    assert names(summary.peers) == {"203.0.113.9": 8}
    assert names(summary.networks) == {"203.0.113.0/24": 8}
    assert summary.bytes_received == 1500
    assert names(summary.bounced_domains) == {"b.example": 2}
    domains = {"a.example": 3, "bounce.example": 1, "d.example": 1, "e.example": 1, "(no domain)": 1}
    assert names(summary.recipient_domains) == domains
    assert names(summary.reporting_mtas) == {"mx.b.example": 1, "(unknown)": 2, "fbl.c.example": 1, "Looper/1.0": 1}
    assert names(summary.bounce_classes) == {"Uncategorized": 1, "InvalidRecipient": 1}
    assert names(summary.rejection_classes) == {"SpamBlock": 1}
    assert names(summary.feedback_types) == {"abuse": 1, "fraud": 1, "(unknown)": 1}


@pytest.mark.parametrize(
    ("addresses", "networks"),
    [
        (["192.0.2.1", "192.0.2.254", "192.0.3.1"], {"192.0.2.0/24": 2, "192.0.3.0/24": 1}),
        (["2001:db8::1", "2001:db8:0:0:ffff::", "2001:db8:0:1::"], {"2001:db8::/64": 2, "2001:db8:0:1::/64": 1}),
        (["", "unix:/run/x", "1.2.3"], {"(unknown)": 1, "unix:/run/x": 1, "1.2.3": 1}),
    ],
)
def test_networks(addresses: list[str], networks: dict[str, int]) -> None:
    """Peers are put together by the network that usually has one owner."""
    assert names(summed(*(record(addr=addr) for addr in addresses)).networks) == networks


def test_range() -> None:
    """The range includes its beginning, not its end. Other records are counted, and show how far the log reaches."""
    lines = [record(timestamp=NOON + minute * 60) for minute in range(-10, 10)] + [record(timestamp=0)]
    summary = summed(*lines, since=NOON - 60, until=NOON + 120)
    assert (summary.records, summary.outside, summary.untimed) == (3, 17, 1)
    assert (summary.since, summary.first) == (rfc3339(int(NOON - 60)), rfc3339(int(NOON - 60)))
    assert (summary.until, summary.last) == (rfc3339(int(NOON + 120)), rfc3339(int(NOON + 60)))
    assert (summary.log_first, summary.log_last) == (rfc3339(int(NOON - 600)), rfc3339(int(NOON + 540)))
    assert summed(*lines).records == 21
    assert summed(*lines, since=NOON + 9999).timeline is None


@pytest.mark.parametrize("timestamp", [-62_135_596_800, 0, 32_503_679_999, 10**30])
def test_the_time_of_a_bounce_is_when_it_came(timestamp: int) -> None:
    """What a report says of its last attempt, in whichever year, puts its record nowhere else."""
    summary = summed(record("OOB", timestamp=timestamp, created=NOON))
    assert (summary.first, summary.untimed) == (rfc3339(int(NOON)), 0)


def test_hostile_variety() -> None:
    """With any number of names from external hosts, the figures need little memory, and say how exact they are."""
    collector = Collector()
    for number in range(50_000):
        addr = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        fields = {"type": f"T{number}", "bounce_classification": f"{number}" * 100}
        collector.add(decode(record(**fields, addr=addr, recipient=f"x@d{number}.example", timestamp=number * 86400 + 1)))
    summary = collector.summary()
    assert names(summary.types) == {"(other)": 50_000}
    assert summary.recipient_domains.total == 50_000
    assert summary.recipient_domains.shortfall > 0
    assert summary.recipient_domains.others == 50_000 - sum(entry.count for entry in summary.recipient_domains.top)
    assert max(len(entry.name) for entry in summary.bounce_classes.top) == 255
    assert summary.timeline is not None
    assert len(summary.timeline.series["(other)"]) <= 120


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("timestamp", "created", "recipient", "size", "response", "feedback_report", "meta", "bounce_classification")
KINDS = ("OOB", "Feedback", "Rejection", "Bounce")


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), VALUES), VALUES)
def test_any_record(kind: str, fields: dict[str, Any], value: Any) -> None:
    """Any JSON is counted or is a ValueError; a record that is counted is in every total that it belongs to."""
    whole = {
        "type": kind,
        "timestamp": NOON,
        "meta": {"why": value, "count": value},
        "feedback_report": {"feedback_type": value},
    }
    try:
        one = decode(json.dumps(whole | fields).encode())
    except ValueError:
        return
    collector = Collector()
    collector.add(one)
    summary = collector.summary()
    assert summary.types.total == summary.reasons.total == summary.count > 0


@pytest.mark.parametrize("line", [b"", b"7", b'"x"', b"{}", b'{"type":7}', b'{"type":"OOB","meta":' + b'{"a":' * 100_000])
def test_no_record(line: bytes) -> None:
    """What is no record is a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        decode(line)


def test_order() -> None:
    """Names are in the order of their counts, and names of one count in alphabetical order."""
    names = [f"{letter}.example" for letter in "hbgcfaed"]
    lines = [record("Delivery", recipient=[f"x@{name}" for name in names]), record("Delivery", recipient="x@g.example")]
    ranking = [entry.name for entry in summed(*lines).recipient_domains.top]
    assert ranking == ["g.example", *sorted(set(names) - {"g.example"})]
    reasons = [("Delivery", "b"), ("Bounce", "b"), ("OOB", "a")]
    lines = [record(kind, response={"code": 250, "content": text}) for kind, text in reasons]
    found = [(entry.name, entry.type) for entry in summed(*lines).reasons.top]
    assert found == [("250 a", "OOB"), ("250 b", "Bounce"), ("250 b", "Delivery")]


def test_first() -> None:
    """A shorter ranking has the same total, and what it leaves out is with the others."""
    lines = [record(addr=f"192.0.2.{number % 7}") for number in range(100)]
    ranking = summed(*lines).peers
    for number in range(9):
        shown = ranking.first(number)
        assert len(shown.top) == min(number, 7)
        assert sum(entry.count for entry in shown.top) + shown.others == shown.total == 100


def test_proofs() -> None:
    """Reports count by what they prove and by which methods; the Reception of a bounce report does not count again."""
    proof = "dkim: there are no public keys; address: the token of the recipient is not valid: it is of 2026-10-22"
    both = {"verified": "recipient", "verified_by": ["dkim", "header"], "disposition": "logged_and_dropped"}
    none = {"verified": "none", "verified_by": [], "proof": proof}
    summary = summed(
        record("Reception", meta=both | {"verified": "message"}),
        record("OOB", meta=both),
        record("Feedback", meta=both),
        record("OOB", meta=none | {"disposition": "logged_and_dropped"}),
        record("Rejection", meta=none | {"disposition": "rejected_at_end", "proof": proof.replace("10-22", "10-23")}),
        record("Reception", meta=none | {"disposition": "quarantined"}),
        record("OOB", meta={"verified": {}, "verified_by": 1, "proof": []}),
        record("OOB", meta={"why": "from before"}),
    )
    assert names(summary.proofs) == {"none": 3, "recipient (dkim, header)": 2, "{}": 1}
    shaped = proof.replace("2026-10-22", "<number>")
    assert names(summary.unproved) == {shaped: 3}
