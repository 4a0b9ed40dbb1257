"""Recorded envelopes put to two configurations."""

from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.config.diff.rules import changes
from sidecar.config.diff.values import Count, Side, Verdicts
from sidecar.config.diff.verdicts import Questions, Replay
from sidecar.core.evaluate.envelope import Envelope
from sidecar.core.policy import Because
from sidecar.core.proof import address
from sidecar.core.records import Logged, PeerAddress
from sidecar.core.settings.proof import VerifyRule, VerifySettings
from sidecar.core.settings.suppression import SuppressionSettings
from sidecar.core.settings.values import ANY_LISTENER
from tests.building import MODES, entry
from tests.config.diff.sides import side
from tests.core.proof.making import NOW, secret

EXTERNAL = "203.0.113.9"
OTHER = "10.1.1.1:25"


def record(recipient: str | list[str], type: str = "Reception", **more: Any) -> Logged:  # noqa: A002 - the field's name
    """Make a record of a stranger's mail."""
    fields: dict[str, Any] = {"sender": "s@b.example", "id": "1", "event_time": "2026-08-01T12:00:00Z"} | more
    peer = PeerAddress(name="h", addr=fields.pop("peer", EXTERNAL))
    return Logged(type=type, recipient=recipient, peer_address=peer, **fields)


def replayed(old: Side, new: Side, records: Iterable[Logged]) -> Verdicts:
    replay = Replay(old, new)
    for one in records:
        replay.add(one)
    return replay.verdicts()


def groups(verdicts: Verdicts) -> list[tuple[str, str, str, str, int]]:
    return [
        (
            group.effect,
            group.what,
            group.old_disposition or group.undecided or "",
            group.new_disposition or group.undecided or "",
            group.count,
        )
        for group in verdicts.groups
    ]


REPORTS = entry("a.com", log_oob="LogThenDrop")
REJECT = VerifySettings(rule=VerifyRule(unverified="reject"))
REQUIRE = VerifySettings(domains={"a.com": VerifyRule(requires_token=True)})
UNVERIFIED = {"verified": "none", "disposition": "logged_and_dropped", "why": "x"}
OPEN = entry("a.com", relay_to=True)
OTHERS = entry("other.com", relay_to=True)


@pytest.mark.parametrize(
    ("old", "new", "made", "expected"),
    [
        ([], [], record("x@a.com"), []),
        ([OTHERS], [OTHERS, OPEN], record("x@a.com"), [("opens", "newly_accepted", "rejected_at_rcpt", "relayed", 1)]),
        ([OTHERS, OPEN], [OTHERS], record("x@a.com"), [("closes", "newly_rejected", "relayed", "rejected_at_rcpt", 1)]),
        (
            *([OTHERS], [OTHERS, REPORTS], record("x@a.com")),
            [("opens", "newly_accepted", "rejected_at_rcpt", "content_unknown", 1)],
        ),
        ([OPEN], [REPORTS], record("x@a.com"), [("closes", "newly_rejected", "relayed", "content_unknown", 1)]),
        ([REPORTS], [OPEN], record("x@a.com"), [("opens", "newly_accepted", "content_unknown", "relayed", 1)]),
        ([REPORTS], [entry("a.com", log_oob="LogThenRelay")], record("o@y.com", "OOB", sender="x@a.com"), [
            ("opens", "delivery_changed", "logged_and_dropped", "logged_and_relayed", 1),
        ]),
        # Rejected as before, only later: that is no difference worth the alarm.
        ([], [OTHERS], record("x@a.com"), [("neither", "rejected_elsewhere", "rejected_at_connect", "rejected_at_rcpt", 1)]),
        (
            *([], [OTHERS], record("", "Rejection")),
            [("neither", "rejected_elsewhere", "rejected_at_connect", "recipients_unknown", 1)],
        ),
        # A flood's rejections are one record, and count as what they were.
        ([], [OTHERS], record("", "Rejection", id="", meta={"count": 70}), [
            ("neither", "rejected_elsewhere", "rejected_at_connect", "recipients_unknown", 70),
        ]),
    ],
)  # fmt: skip
def test_outcomes(old: list[Any], new: list[Any], made: Logged, expected: list[tuple[str, str, str, str, int]]) -> None:
    """An envelope that is decided otherwise is told with both outcomes, and whether it gets further by that."""
    verdicts = replayed(side(*old), side(*new), [made])
    assert groups(verdicts) == expected
    assert verdicts.envelopes == made.count
    assert verdicts.differ == sum(count for *_, what, _, _, count in expected if what != "rejected_elsewhere")


def test_a_new_relay_host() -> None:
    """A peer that was rejected at connect and is a relay host now is newly accepted, though its recipients are not known."""
    verdicts = replayed(side(), side(relay_hosts=["203.0.113.0/24"]), [record("", "Rejection")])
    assert groups(verdicts) == [("opens", "newly_accepted", "rejected_at_connect", "relayed", 1)]


def test_records_of_one_message() -> None:
    """An OOB record says what the Reception of its id was, and is no envelope of its own."""
    records = [record("x@a.com", sender=""), *[record(f"{n}@y.com", "OOB", sender="x@a.com") for n in range(3)]]
    verdicts = replayed(side(REPORTS), side(entry("a.com", log_oob="LogThenRelay")), records)
    assert (verdicts.records, verdicts.envelopes) == (4, 1)
    assert groups(verdicts) == [("opens", "delivery_changed", "logged_and_dropped", "logged_and_relayed", 1)]


def test_records_far_apart() -> None:
    """Of one that comes after thousands of others nothing is known any more, and it counts for itself."""
    records = [
        record("x@a.com"),
        *[record("x@b.com", id=f"b{n}") for n in range(5000)],
        record("o@y.com", "OOB", sender="x@a.com"),
    ]
    verdicts = replayed(side(REPORTS), side(REPORTS), records)
    assert (verdicts.records, verdicts.envelopes, verdicts.groups) == (5002, 5002, ())


def test_recipients_are_judged_each() -> None:
    """An envelope with many recipients is one envelope, and what differs for any of them is told."""
    old, new = side(OTHERS), side(OTHERS, OPEN, entry("c.com", relay_to=True))
    verdicts = replayed(old, new, [record(["x@other.com", "x@a.com", "y@a.com", "x@c.com"])])
    assert (verdicts.envelopes, verdicts.differ, verdicts.newly_accepted) == (1, 1, 1)
    assert [(group.count, group.new_rule and group.new_rule.key) for group in verdicts.groups] == [
        (1, '"a.com".relay_to'),
        (1, '"c.com".relay_to'),
    ]


def test_the_gravest_counts_for_the_envelope() -> None:
    """Where one recipient is newly accepted and another newly rejected, the envelope counts as newly accepted."""
    verdicts = replayed(side(OTHERS), side(OPEN), [record(["x@other.com", "x@a.com"])])
    assert (verdicts.differ, verdicts.newly_accepted, verdicts.newly_rejected) == (1, 1, 0)
    assert len(verdicts.groups) == 2


def test_the_records_of_one_message() -> None:
    """They are one envelope of all its recipients: KumoMTA's have one id, ours one `meta.message_id`."""
    verdicts = replayed(side(OTHERS), side(OTHERS, OPEN), [record("x@a.com"), record("y@a.com"), record("x@a.com")])
    assert (verdicts.envelopes, verdicts.newly_accepted) == (1, 1)
    assert [(group.count, [count.count for count in group.domains]) for group in verdicts.groups] == [(1, [1])]
    ours = [record(f"{name}@a.com", id=f"id-{name}", meta={"message_id": "m"}) for name in "xyz"]
    verdicts = replayed(side(OTHERS), side(OTHERS, OPEN), ours)
    assert (verdicts.records, verdicts.envelopes, verdicts.newly_accepted) == (3, 1, 1)


def test_a_group() -> None:
    """A group names the rules of both sides, the peers and domains most concerned, and an example."""
    records = [record(f"x{n}@a.com", id=str(n), peer=f"203.0.113.{n % 3}") for n in range(10)]
    (group,) = replayed(side(OTHERS), side(OTHERS, REPORTS), records).groups
    assert group.new_rule == Because(
        file="domains.toml", line=2, key='"a.com".log_oob', value="LogThenDrop",
        text="a.com accepts bounce reports from any host, logs them and drops them",
    )  # fmt: skip
    assert group.old_rule == Because(text="no listener domain matches a.com")
    assert group.peers == tuple(Count(name=f"203.0.113.{n}", count=c) for n, c in ((0, 4), (1, 3), (2, 3)))
    assert group.domains == (Count(name="a.com", count=10),)
    example = group.example
    assert (example.id, example.peer, example.sender, example.recipient) == ("0", "203.0.113.0", "s@b.example", "x0@a.com")


def test_unlike_rules_are_bounded() -> None:
    """However many rules decide otherwise, there is an end to the groups; every envelope is counted all the same."""
    many = [entry(f"a{n}.com", relay_to=True) for n in range(1500)]
    verdicts = replayed(side(OTHERS), side(OTHERS, *many), [record(f"x@a{n}.com", id=str(n)) for n in range(1500)])
    assert (len(verdicts.groups), verdicts.newly_accepted) == (1001, 1500)
    assert sum(group.count for group in verdicts.groups) == 1500
    assert verdicts.groups[0].new_rule is None
    assert verdicts.groups[0].count == 500


def test_what_is_no_envelope() -> None:
    """Records of mail that went out, records without a peer, and lines that are none are counted apart."""
    replay = Replay(side(), side())
    replay.add(record("x@a.com", "Delivery"))
    replay.add(Logged(type="Reception", recipient="x@a.com"))
    replay.add(None)
    for number in range(100):
        replay.add(record("x@a.com", f"Type{number}"))
    verdicts = replay.verdicts()
    assert (verdicts.records, verdicts.envelopes, verdicts.unreadable) == (102, 0, 1)
    assert verdicts.passed_over["Delivery"] == 1
    assert verdicts.passed_over["Reception"] == 1
    assert sum(verdicts.passed_over.values()) == 102
    assert len(verdicts.passed_over) == 51


@pytest.mark.parametrize(
    ("meta", "entries", "unknown"),
    [
        ({}, [entry("a.com", OTHER, relay_to=True)], 1),
        ({"listener": OTHER}, [entry("a.com", OTHER, relay_to=True)], 0),
        ({}, [OPEN], 0),
    ],
)
def test_an_unknown_listener(meta: dict[str, str], entries: list[Any], unknown: int) -> None:
    """Where rules depend on the listener and the record does not tell it, that is counted."""
    assert replayed(side(), side(*entries), [record("x@a.com", meta=meta)]).unknown_listener == unknown


DOMAINS = st.sampled_from(["a.com", "x.a.com", "y.x.a.com", "*.a.com", "b.com", "*"])
NETWORKS = st.lists(st.sampled_from(["203.0.113.0/24", "203.0.113.9", "10.0.0.0/8"]), max_size=2, unique=True)
ENTRIES = st.builds(
    entry,
    DOMAINS,
    st.sampled_from([ANY_LISTENER, OTHER]),
    relay_to=st.booleans(),
    relay_from=NETWORKS,
    relay_from_authz=st.lists(st.just("daniel"), max_size=1),
    log_oob=st.sampled_from([*MODES]),
    log_arf=st.sampled_from([*MODES]),
)
SIDES = st.builds(
    lambda entries, hosts, own, early: side(
        *entries, relay_hosts=hosts, listener_relay_hosts={OTHER: own} if own else {}, reject_at_connect=early
    ),
    st.lists(ENTRIES, max_size=4, unique_by=lambda made: (made.listener, made.domain)),
    NETWORKS,
    NETWORKS,
    st.booleans(),
)
ADDRESSES = st.sampled_from(
    ["u@a.com", "u@x.a.com", "u@y.x.a.com", "u@b.com", "u@z.net", "postmaster", "u", "", "u@[192.0.2.1]"]
)
ENVELOPES = st.builds(
    Envelope,
    peer=st.sampled_from(["203.0.113.9", "203.0.113.10", "10.1.2.3", "2001:db8::1"]).map(ip_address),
    listener=st.sampled_from([OTHER, "10.2.2.2:25"]),
    authz_id=st.sampled_from([None, "daniel", "eve"]),
    sender=ADDRESSES,
    recipients=st.lists(ADDRESSES, max_size=1).map(tuple),
    kind=st.sampled_from(["oob", "arf", "other", "unknown"]),
)


@given(SIDES, SIDES, st.lists(ENVELOPES, max_size=10))
def test_no_verdict_differs_without_a_change(old: Side, new: Side, envelopes: list[Envelope]) -> None:
    """Whatever is newly accepted, some change of the rules was told to open; nothing is decided otherwise without a change."""
    told = list(changes(old, new))
    questions = Questions(old, new)
    for envelope in envelopes:
        difference = questions.ask(envelope)
        assert difference is None or told
        # Reports of relay hosts go on where no domain takes them out: what closes for strangers lets these get further.
        if difference is not None and difference.what == "newly_accepted":
            assert any(change.effect == "opens" for change in told)


def asked(recipient: str = "u@a.com", sender: str = "", authz_id: str | None = None, **more: Any) -> Envelope:
    fields: dict[str, Any] = {"peer": ip_address(EXTERNAL), "listener": OTHER, "kind": "oob"} | more
    return Envelope(sender=sender, recipients=(recipient,), authz_id=authz_id, **fields)


SENDER: dict[str, Any] = {"sender": "s@from.com", "kind": "other"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (asked(), asked("u%b.com@a.com")),
        (asked(), asked('"u@b.com"@a.com')),
        (asked(), asked("u\ufffd@a.com")),
        (asked(), asked("u@a\u3164.com")),
        (asked(), asked("u@b.com")),
        (asked(), asked(kind="arf")),
        (asked(), asked(listener="10.2.2.2:25")),
        (asked(**SENDER), asked(authz_id="daniel", **SENDER)),
        (asked(**SENDER), asked(peer=ip_address("10.0.0.1"), **SENDER)),
        (asked(authz_id="daniel", kind="other"), asked(authz_id="daniel", **SENDER)),
    ],
)
def test_an_answer_serves_only_its_question(first: Envelope, second: Envelope) -> None:
    """What was said of one envelope is said of another only if it would be said anyway."""
    old = side(entry("a.com", log_oob="LogThenDrop"))
    new = side(
        entry("a.com", log_oob="LogThenRelay"),
        entry("a.com", OTHER, log_oob="LogThenRelay", log_arf="LogThenDrop"),
        entry("from.com", relay_from_authz=["daniel"], relay_from=["10.0.0.0/8"]),
    )
    questions = Questions(old, new)
    assert questions.ask(first) == Questions(old, new).ask(first)
    assert questions.ask(second) == Questions(old, new).ask(second) != questions.ask(first)


@pytest.mark.parametrize(
    ("old", "new", "meta", "expected"),
    [
        (None, REJECT, UNVERIFIED, [("closes", "newly_rejected", "logged_and_dropped", "rejected_at_end", 1)]),
        (REJECT, None, UNVERIFIED, [("opens", "newly_accepted", "rejected_at_end", "logged_and_dropped", 1)]),
        (None, REJECT, UNVERIFIED | {"verified": "message"}, []),
        (None, REJECT, {"why": "x"}, [("closes", "newly_rejected", "logged_and_dropped", "proof_unknown", 1)]),
        (None, REQUIRE, UNVERIFIED, [("closes", "newly_rejected", "logged_and_dropped", "rejected_at_rcpt", 1)]),
    ],
)
def test_verify(
    old: VerifySettings | None, new: VerifySettings | None, meta: dict[str, Any], expected: list[tuple[str, str, str, str, int]]
) -> None:
    """A recorded report is decided by what it proved; without that it is not decided."""
    made = record("o@y.com", "OOB", sender="x@a.com", meta=meta)
    assert groups(replayed(side(REPORTS, verify=old), side(REPORTS, verify=new), [made])) == expected


def test_tokens_of_one_domain() -> None:
    """Recipients of one domain are judged one by one where a token matters, as of the time of their records."""
    keys = VerifySettings(secrets=(secret(),), domains={"a.com": VerifyRule(requires_token=True)})
    token = address.tagged("x@a.com", secret(), NOW)
    records = [
        record("o@y.com", "OOB", sender=sender, created=created, id=str(number), meta=UNVERIFIED)
        for number, (sender, created) in enumerate([("x@a.com", NOW), (token, NOW), (token, NOW + 90 * 86400)])
    ]
    found = replayed(side(REPORTS), side(REPORTS, verify=keys), records)
    assert (found.envelopes, found.newly_rejected, found.differ) == (3, 2, 2)


SUPPRESSED = {"reason": "BOUNCE", "source": "manual", "since": "2026-08-01T12:00:00Z", "expires": None}


@pytest.mark.parametrize("listed_first", [True, False])
def test_each_recipient_has_its_own_entry_in_the_suppression_list(listed_first: bool) -> None:
    """Other recipients in its domain, and of its message, are decided without it."""
    settings = SuppressionSettings(database=Path("/list.db"))
    hosts = {"relay_hosts": [EXTERNAL]}
    old, new = (side(**hosts, suppression=replace(settings, check=check)) for check in ("log", "reject"))
    listed = record("l@a.com", meta={"message_id": "1", "suppressed": SUPPRESSED})
    both = [listed, record("x@a.com", meta={"message_id": "1"})]
    others = [record(f"{n}@a.com", meta={"message_id": f"{n}"}) for n in range(2, 5)]
    verdicts = replayed(old, new, [*(both if listed_first else both[::-1]), *others])
    assert groups(verdicts) == [("closes", "newly_rejected", "relayed", "rejected_at_rcpt", 1)]
    assert verdicts.groups[0].example.recipient == "l@a.com"
    assert (verdicts.envelopes, verdicts.differ) == (4, 1)
