"""Which reports suppress an address, and for how long."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.settings.suppression import SUPPRESSION_RULES, SuppressionRule
from sidecar.suppression.reading import MemoryList, Reader, Uncounted, normal_key
from sidecar.suppression.rules import Event, ListEntry, Ruleset, differences
from tests.suppression.records import BEGIN, DAY, change, feedback, logged, oob

A = "a@example.net"


def listed(
    records: list[dict[str, Any]], *, day: float = 20, trust: Any = "any", rules: Any = SUPPRESSION_RULES
) -> dict[str, str]:
    """Return the reason of each address on the list, and for how many days from its beginning."""
    simulation = MemoryList(Reader(rules, trust=trust))
    for record in records:
        simulation.add(logged(record))
    entries = simulation.entries(int(BEGIN + day * DAY))
    return {
        address: f"{one.reason} {(one.expires - BEGIN) // DAY if one.expires else 'never'}" for address, one in entries.items()
    }


def full(days: list[float]) -> list[dict[str, Any]]:
    return [oob(A, "QuotaIssues", day=day) for day in days]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([feedback(A)], "abuse never"),
        ([feedback(A, kind="Fraud")], "fraud never"),
        ([feedback(A, kind="virus")], "virus never"),
        ([oob(A, "InvalidRecipient", day=3)], "InvalidRecipient 183"),
        ([oob(A, "BadDomain")], "BadDomain 180"),
        ([oob(A, "BadDomain"), oob(A, "BadDomain", day=5)], "BadDomain 185"),
        ([oob(A, "BadDomain"), feedback(A, day=1)], "abuse never"),
        # Five reports on three days within fourteen.
        (full([0, 0.1, 1, 2, 2.1]), "QuotaIssues 32"),
        (full([0, 0.1, 1, 1.1]), None),
        (full([0, 0.1, 1, 1.1, 1.2]), None),
        (full([0, 1, 2, 3, 14.5]), None),
        (full([0, 1, 2, 3, 13.5]), "QuotaIssues 43"),
        ([*full([0, 1, 2, 3]), oob(A, "InactiveMailbox", day=4)], "InactiveMailbox 34"),
        # Hundreds of one day do not hide those of the days before.
        (full([0, 1, *(2 + n / 1000 for n in range(300))]), "QuotaIssues 32"),
        # A report that is read again, or names its recipient for several envelope recipients, is one report.
        ([oob(A, "QuotaIssues", message="m", day=0)] * 5, None),
        ([oob(A, one, message=str(day), day=day) for day in (0, 1, 2) for one in ("QuotaIssues", "InactiveMailbox")], None),
        # These say nothing about the mailbox.
        ([oob(A, one) for one in ("PolicyRelated", "SpamBlock", "SpamContent", "RoutingErrors", "Uncategorized")], None),
        ([feedback(A, kind=one) for one in ("not-spam", "auth-failure", "dmarc", "Not-Spam", "other")], None),
        (
            [{**oob(A, "InvalidRecipient"), "type": kind} for kind in ("Bounce", "Delayed", "TransientFailure", "Reception")],
            None,
        ),
    ],
)
def test_default_rules(records: list[dict[str, Any]], expected: str | None) -> None:
    assert listed(records) == ({} if expected is None else {A: expected})


def test_expiry() -> None:
    """An entry ends at its time, and with all that is kept of the address."""
    records = [oob(A, "InvalidRecipient")]
    assert listed(records, day=179.9)
    assert not listed(records, day=180)
    rules = Ruleset(SUPPRESSION_RULES)
    event = Event(time=BEGIN * 1_000_000, id="m", word="InvalidRecipient")
    assert rules.kept([event], BEGIN + 193 * DAY) == {event}
    assert not rules.kept([event], BEGIN + 194 * DAY)


@pytest.mark.parametrize(
    ("trust", "verified", "counts"),
    [
        ("any", None, True),
        ("any", "none", True),
        ("message", None, False),
        ("message", "none", False),
        ("message", "message", True),
        ("message", "recipient", True),
        ("recipient", None, False),
        ("recipient", "message", False),
        ("recipient", "recipient", True),
        ("recipient", 7, False),
        ("message", "any", False),
    ],
)
def test_trust(trust: str, verified: object, counts: bool) -> None:
    """A report without `meta.verified` has no proof."""
    record = feedback(A) if verified is None else feedback(A, verified=verified)
    assert bool(listed([record], trust=trust)) == counts


def test_the_address() -> None:
    """One address of one person, or none."""
    reader = Reader(SUPPRESSION_RULES)
    assert reader.read(logged(feedback("A@EXAMPLE.net", "<a@example.net>"))) != Uncounted.SEVERAL_RECIPIENTS
    assert reader.read(logged(feedback(A, "b@example.net"))) is Uncounted.SEVERAL_RECIPIENTS
    assert reader.read(logged(feedback())) is Uncounted.NO_ADDRESS
    assert reader.read(logged(oob("", "BadDomain"))) is Uncounted.NO_ADDRESS
    assert reader.read(logged({**oob(A, "BadDomain"), "recipient": [A, "b@example.net"]})) is Uncounted.SEVERAL_RECIPIENTS
    assert reader.read(logged(oob(A, "SpamBlock"))) is Uncounted.NO_RULE
    assert reader.read(logged({**oob(A, "BadDomain"), "created": 10**30, "timestamp": 0})) is Uncounted.NOT_READABLE
    assert (
        reader.read(logged({**feedback(), "feedback_report": {"feedback_type": 7, "original_rcpto_to": "x"}}))
        is Uncounted.NO_RULE
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("User@EXAMPLE.COM", "user@example.com"),
        ("u@m\u00fcnch.example", "u@xn--mnch-0ra.example"),
        ("\u00dcser@example.com", "\u00fcser@example.com"),
        ("U\u0308ser@example.com", "\u00fcser@example.com"),
        ("\u0430@example.com", "\u0430@example.com"),  # a Cyrillic letter is another address
        ('"a b"@example.com', '"a b"@example.com'),
        ("u@[192.0.2.1]", "u@[192.0.2.1]"),
        ("<@relay.example:u@example.com>", "u@example.com"),
        ("u@" + "x" * 4096, None),
        ("u" * 4096 + "@example.com", None),
        ("u\x1b[2J@example.com", None),
        ("u\u202e@example.com", None),
        ("u\u3164@example.com", None),
        ("u@a..b", None),
        ("@example.com", None),
        ("postmaster", None),
        ("", None),
        ("\udcff@example.com", None),
    ],
)
def test_normal_key(text: str, key: str | None) -> None:
    """One form for each address; what is too long or has control characters is none."""
    assert normal_key(text) == key


def test_changes_by_hand() -> None:
    """A removal cancels what was before it, and nothing after it."""
    add = change(A, "add", day=1, reason="a request")
    assert listed([add]) == {A: "a request never"}
    assert listed([change(A, "add", reason="x", expires=BEGIN + 5 * DAY)], day=4) == {A: "x 5"}
    assert not listed([change(A, "add", reason="x", expires=BEGIN + 5 * DAY)], day=5)
    assert not listed([feedback(A), add, change(A, "remove", day=2)])
    assert listed([feedback(A), change(A, "remove", day=2), feedback(A, day=3)]) == {A: "abuse never"}
    assert not listed([change(A, "remove", day=3), feedback(A, day=2)])
    for wrong in ({"action": "drop"}, {"time": "x"}, {"time": 10**30}, {"expires": -1}, {"expires": 10**30}, {"expires": "x"}):
        record = change(A, "add")
        reader = Reader(SUPPRESSION_RULES)
        assert reader.read(logged({**record, "meta": {**record["meta"], **wrong}})) is Uncounted.NOT_READABLE


def test_first_rule_counts() -> None:
    rules = (SuppressionRule(when=("BadDomain",), expire=DAY), SuppressionRule(when=("BadDomain", "abuse")))
    assert listed([oob(A, "BadDomain")], day=0.5, rules=rules) == {A: "BadDomain 1"}
    assert listed([feedback(A)], rules=rules) == {A: "abuse never"}
    assert listed([feedback(A, kind="not-spam")], rules=(SuppressionRule(when=("not-spam",)),)) == {}


def test_differences() -> None:
    one, two = (ListEntry(reason=reason, source="reports", since=1, expires=0) for reason in ("abuse", "fraud"))
    found = [
        (change.address, change.old, change.new) for change in differences({"a": one, "b": one, "c": one}, {"b": two, "c": one})
    ]
    assert found == [("a", one, None), ("b", one, two)]


WORDS = ("abuse", "InvalidRecipient", "QuotaIssues", "InactiveMailbox", "SpamBlock")
TIMES = st.integers(0, 60).map(lambda quarter: (BEGIN + quarter * DAY // 4) * 1_000_000)
IDS = st.sampled_from("abcdefgh")
EVENTS = st.one_of(
    st.builds(Event, time=TIMES, id=IDS, word=st.sampled_from(WORDS)),
    st.builds(Event, time=TIMES, id=IDS, kind=st.just("remove"), word=st.just("")),
    st.builds(Event, time=TIMES, id=IDS, kind=st.just("add"), word=st.just("x"), expires=st.sampled_from([0, BEGIN + 9 * DAY])),
)


@settings(deadline=None, max_examples=300)
@given(events=st.lists(EVENTS, max_size=40), order=st.randoms(use_true_random=False), pieces=st.integers(1, 5))
def test_order_does_not_matter(events: list[Event], order: Any, pieces: int) -> None:
    """In any order, in pieces and read twice, the same events are kept, and the same entry follows."""
    rules, now = Ruleset(SUPPRESSION_RULES), BEGIN + 20 * DAY
    shuffled = [*events, *events[:5]]
    order.shuffle(shuffled)
    kept: set[Event] = set()
    for start in range(0, len(shuffled), pieces):
        kept = rules.kept(kept | {*shuffled[start : start + pieces]}, now)
    whole = rules.kept(events, now)
    assert kept == whole
    assert rules.entry(kept, now) == rules.entry(sorted(whole, reverse=True), now)
