"""Which reports suppress an address, and for how long."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.settings.suppression import SUPPRESSION_RULES, SuppressionRule
from sidecar.suppression.reading import MemoryList, Reader, Uncounted, normal_key
from sidecar.suppression.rules import MICROSECONDS, NEVER, Event, Ruleset
from tests.suppression.records import BEGIN, DAY, change, feedback, logged, oob

A = "a@example.net"
RULES = Ruleset(SUPPRESSION_RULES, proof_age=30 * DAY)


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


def proved(*reports: tuple[float, str], word: str = "QuotaIssues") -> list[dict[str, Any]]:
    """Return reports by the day, each a message of its own, with the ids of its proofs: m1 of a message, t1 of a token."""
    kinds = {"m": "message:", "t": "address:"}
    return [oob(A, word, day=day, verified_ids=[kinds[one[0]] + one for one in ids.split()]) for day, ids in reports]


THREE_DAYS = (0, 0.1, 1, 1.1, 2)


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        # The same true report five times on three days, and five different ones.
        ([(day, "m1") for day in THREE_DAYS], None),
        ([(day, f"m{number}") for number, day in enumerate(THREE_DAYS)], "QuotaIssues 32"),
        # A repeat without one of the proofs, with others between.
        ([(0, "m1 m2 t1"), (0.1, "m1"), (0.5, "m3"), (1, "m2"), (1.1, "m2 t1"), (2, "t1")], None),
        # Two proofs of one message that only a later report connects.
        ([(0, "m1"), (0.1, "m2"), (1, "m3"), (1.1, "m4"), (2, "m5"), (3, "m1 m2")], None),
        # All messages of a day have one token.
        ([(0, "m1 t1"), (0.1, "m2 t1"), (1, "m3 t2"), (1.1, "m4 t2"), (2, "m5 t3")], "QuotaIssues 32"),
        # The token alone counts once, and not where a report with it names its message.
        ([(0, "t1"), (0.1, "t1"), (1, "t1"), (1.1, "t1"), (2, "t1")], None),
        ([(0, "t1"), (0.1, "t2"), (1, "t3"), (1.1, "t4"), (2, "t5")], "QuotaIssues 32"),
        ([(0, "t1"), (0.1, "t2"), (1, "t3"), (1.1, "t4"), (2, "t5"), (3, "m1 t1")], "QuotaIssues 33"),
        ([(0, "t1"), (0.1, "t2"), (1, "t3"), (1.1, "t4"), (2, "t5"), (15, "m1 t1")], None),
        # Hundreds of repeats do not hide those that count.
        ([(2 + n / 1000, "m1") for n in range(300)] + [(day, f"m{n}") for n, day in enumerate(THREE_DAYS)], "QuotaIssues 32"),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_repeats(reports: list[tuple[float, str]], expected: str | None, backwards: bool) -> None:
    """A true report counts once, as the earliest one, whatever order and proofs its repeats have."""
    records = proved(*reports)
    assert listed(records[::-1] if backwards else records) == ({} if expected is None else {A: expected})


def test_repeat_of_another_kind() -> None:
    """What a repeat says does not matter, nor that the report was removed; another address has its own reports."""
    first = proved((0, "m1"))
    assert not listed(first + proved((1, "m1"), word="InvalidRecipient"))
    assert listed(proved((1, "m1")) + proved((0, "m1"), word="InvalidRecipient")) == {A: "InvalidRecipient 180"}
    both = [{**one, "meta": {**one["meta"], "message_id": "m"}} for one in first + proved((0, "m1"), word="InvalidRecipient")]
    assert listed(both) == {A: "InvalidRecipient 180"}
    invalid = proved((0, "m1"), word="InvalidRecipient")
    assert not listed([*invalid, change(A, "remove", day=1), *proved((2, "m1"), word="InvalidRecipient")])
    other = {**invalid[0], "recipient": "b@example.net"}
    assert listed([*invalid, other]) == {A: "InvalidRecipient 180", "b@example.net": "InvalidRecipient 180"}


def test_bounce_and_complaint() -> None:
    """A forged bounce, or a true one, does not hide the complaint about the same message. Complaints repeat each other."""
    complaints = [feedback(A, day=day, verified_ids=["message:m1"]) for day in (1, 2, 3)]
    assert listed(proved((0, "m1")) + complaints) == {A: "abuse never"}
    rules = (SuppressionRule(when=("abuse", "QuotaIssues"), count=3),)
    assert not listed(proved((0, "m1")) + complaints, rules=rules)
    assert listed(proved((0, "m1"), (0.1, "m2")) + complaints, rules=rules) == {A: "abuse never"}


def test_ids_of_other_programs() -> None:
    """Of any list some ids count, and what is too long or not readable has a hash; none of them counts as another one."""
    reader = Reader(SUPPRESSION_RULES)
    hostile: list[Any] = ["x" * 10**6, "a\nb", "a", "b", "", 7, None, {}, "\udcff", *map(str, range(10**5))]
    said = reader.read(logged(oob(A, "BadDomain", verified_ids=hostile)))
    assert not isinstance(said, Uncounted)
    assert said is not None
    ids = said.event.verified_ids
    assert len(ids) == 7
    assert max(map(len, ids)) <= 64
    assert all(one.isascii() and one.isprintable() for one in ids)
    for wrong in ("message:a", {"message:a": 1}, 7, None):
        said = reader.read(logged(oob(A, "BadDomain", verified_ids=wrong)))
        assert not isinstance(said, Uncounted | None)
        assert not said.event.verified_ids


def test_expiry() -> None:
    """An entry ends at its time, and with all that is kept of the address."""
    records = [oob(A, "InvalidRecipient")]
    assert listed(records, day=179.9)
    assert not listed(records, day=180)
    event = Event(time=BEGIN * 1_000_000, id="m", word="InvalidRecipient")
    assert RULES.kept([event], BEGIN + 193 * DAY) == {event}
    assert not RULES.kept([event], BEGIN + 194 * DAY)
    # A proof can be used again until it is too old, and then it is not in the entry any more.
    proved = replace(event, verified_ids=("message:m",))
    assert RULES.kept([proved], BEGIN + 225 * DAY) == {proved}
    assert not RULES.kept([proved], BEGIN + 226 * DAY)


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
        ('"User"@example.com', "user@example.com"),
        ('"\\u.\\\u00dc"@example.com', "u.\u00fc@example.com"),
        ('"a\\ \\"\\\\b"@example.com', '"a \\"\\\\b"@example.com'),
        ('"a@b"@example.com', '"a@b"@example.com'),
        ('"a..b"@example.com', '"a..b"@example.com'),
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


WORDS = ("abuse", "InvalidRecipient", "QuotaIssues", "InactiveMailbox", "SpamBlock")
TIMES = st.integers(0, 60).map(lambda quarter: (BEGIN + quarter * DAY // 4) * 1_000_000)
IDS = st.sampled_from("abcdefgh")
MESSAGES = st.lists(st.sampled_from([f"message:{one}" for one in "abcd"]), max_size=2)
TOKENS = st.lists(st.sampled_from(["address:a", "address:b"]), max_size=1)
REPORTS = st.builds(
    Event,
    time=TIMES,
    id=IDS,
    word=st.sampled_from(WORDS),
    verified_ids=st.builds(lambda some, one: tuple(sorted({*some, *one})), MESSAGES, TOKENS),
)
OTHERS = st.one_of(
    st.builds(Event, time=TIMES, id=IDS, word=st.sampled_from(WORDS)),
    st.builds(Event, time=TIMES, id=IDS, kind=st.just("remove"), word=st.just("")),
    st.builds(Event, time=TIMES, id=IDS, kind=st.just("add"), word=st.just("x"), expires=st.sampled_from([0, BEGIN + 9 * DAY])),
)
EVENTS = st.one_of(REPORTS, OTHERS)


@settings(deadline=None, max_examples=300)
@given(events=st.lists(EVENTS, max_size=40), order=st.randoms(use_true_random=False), pieces=st.integers(1, 5))
def test_order_does_not_matter(events: list[Event], order: Any, pieces: int) -> None:
    """In any order, in pieces and read twice, the same events are kept, and the same entry follows."""
    now = BEGIN + 20 * DAY
    shuffled = [*events, *events[:5]]
    order.shuffle(shuffled)
    kept: set[Event] = set()
    for start in range(0, len(shuffled), pieces):
        kept = RULES.kept(kept | {*shuffled[start : start + pieces]}, now)
    whole = RULES.kept(events, now)
    assert kept == whole
    assert RULES.entry(kept, now) == RULES.entry(sorted(whole, reverse=True), now)


def model(events: list[Event]) -> set[tuple[int, str, str]]:
    """Return time, id and word of the reports that count: slow, and without anything that is kept."""
    rule_words = {word for rule in SUPPRESSION_RULES for word in rule.when}
    reports = sorted({one for one in events if one.kind == "report" and one.word in rule_words})
    ids = [{*one.verified_ids} for one in reports]
    messages = [{one for one in own if one.startswith("message:")} for own in ids]
    group = list(range(len(reports)))
    for _ in reports:
        for a, b in combinations(range(len(reports)), 2):
            if messages[a] & messages[b] or (not messages[a] and not messages[b] and ids[a] and ids[a] == ids[b]):
                group[a] = group[b] = min(group[a], group[b])
    named = set().union(*(own for own, some in zip(ids, messages, strict=True) if some))
    removed = max((one.time for one in events if one.kind == "remove"), default=-1)
    return {
        (one.time, one.id, one.word)
        for number, one in enumerate(reports)
        if (one.time, one.id) == (reports[group[number]].time, reports[group[number]].id)
        and not (ids[number] and not messages[number] and ids[number] & named)
        and one.time > removed
    }


@settings(deadline=None, max_examples=300)
@given(events=st.lists(EVENTS, max_size=25))
def test_what_counts(events: list[Event]) -> None:
    """Each message counts once: the same as in a model that compares all reports with each other."""
    few = [one for one in events if one.verified_ids or one.kind == "remove"]
    removed = max((one.time for one in few if one.kind == "remove"), default=-1)
    counting = {one for one in RULES.kept(few, BEGIN + 20 * DAY) if one.kind == "report" and one.time > removed}
    assert {(one.time, one.id, one.word) for one in counting} == model(few)


SHORT = Ruleset(
    (
        SuppressionRule(when=("abuse",)),
        SuppressionRule(when=("InvalidRecipient",), within=DAY, expire=2 * DAY),
        SuppressionRule(when=("QuotaIssues",), count=3, days=2, within=3 * DAY, expire=2 * DAY),
    ),
    proof_age=3 * DAY,
)
# A proof is valid for some days: its reports are of this time.
SHORT_REPORTS = st.builds(
    lambda number, quarter, id_, word: Event(
        time=(BEGIN + number * 3 * DAY + quarter * DAY // 4) * 1_000_000, id=id_, word=word, verified_ids=(f"message:{number}",)
    ),
    st.integers(0, 3),
    st.integers(0, 16),
    IDS,
    st.sampled_from(WORDS[:3]),
)


@settings(deadline=None, max_examples=100)
@given(
    events=st.lists(st.one_of(SHORT_REPORTS, OTHERS), max_size=25), delays=st.lists(st.integers(0, 8), min_size=25, max_size=25)
)
def test_over_time(events: list[Event], delays: list[int]) -> None:
    """The list that was kept while time went on is the one that is made of all events; reading them again changes nothing."""
    read = sorted((one.time // 1_000_000 + delay * DAY // 8, one) for one, delay in zip(events, delays, strict=False))
    kept: set[Event] = set()
    for now, event in read:
        kept = SHORT.kept(kept | {event}, now)
    now = max((now for now, _ in read), default=BEGIN) + DAY
    kept = SHORT.kept(kept, now)
    assert SHORT.entry(kept, now) == SHORT.entry(SHORT.kept(events, now), now)
    assert SHORT.entry(SHORT.kept(kept | set(events), now), now) == SHORT.entry(kept, now)


def test_bounded() -> None:
    """A million repeats need no space, and an address with many proved reports a day has a limit."""
    now, kept = BEGIN + 20 * DAY, set[Event]()
    for number in range(4_000):
        repeat = Event(time=(BEGIN + number) * 1_000_000, id=f"{number}", word="abuse", verified_ids=("message:a", "address:b"))
        kept = RULES.kept(kept | {repeat}, now)
    assert len(kept) == 1
    many = [
        Event(time=(BEGIN + number) * 1_000_000, id=f"{number}", word="QuotaIssues", verified_ids=(f"message:{number}",))
        for number in range(4_000)
    ]
    assert len(RULES.kept(many, now)) == 105


@given(order=st.permutations(range(23)))
@settings(max_examples=20)
def test_the_addition_that_lasts_longest_is_kept(order: list[int]) -> None:
    """However many shorter ones follow it, and in any order."""
    forever = Event(time=BEGIN * MICROSECONDS, id="0", kind="add", word="asked by phone")
    shorter = [
        replace(forever, time=forever.time + number, id=str(number), expires=BEGIN + DAY + number) for number in range(1, 23)
    ]
    kept: set[Event] = set()
    for number in order:
        kept = RULES.kept({*kept, (forever, *shorter)[number]}, BEGIN)
    assert kept == {forever, *shorter[-20:]}
    entry = RULES.entry(kept, BEGIN)
    assert entry is not None
    assert (entry.expires, entry.reason) == (NEVER, "asked by phone")
