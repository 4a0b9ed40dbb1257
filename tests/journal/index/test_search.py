"""Searching: what the index finds is what a plain filter of the records finds, page by page, the newest first."""

import ipaddress
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sidecar.journal.index import Search, open_index
from sidecar.journal.index.index import Index
from tests.journal.index.records import BEGIN, indexed, read_journal, record, write_segment

TYPES = ("Rejection", "Reception", "OOB", "Feedback")
PEERS = ("192.0.2.1", "192.0.2.130", "192.0.3.1", "10.0.0.1", "2001:db8::1", "2001:db8:0:1::1", "2001:db9::1")
ADDRESSES = ("a@sender.example", "A.B@mail.sender.example", "c@recipient.example", "d!e@x.test", "d_e@x.test", "ü@x.test", "")
SESSIONS = ("0d9ad4d0-5d6c-4f0e-9f5e-6f2f4a0c0001", "0d9ad4d0-5d6c-4f0e-9f5e-6f2f4a0c0002")
MESSAGES = ("00112233445566778899aabbccddeeff", "00112233445566778899aabbccddee00")
WORDS = ("relay", "host", "listener_domains.toml", "mailbox", "unknown", "8.8.8.8", "Ärger")


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Return a record of a few values, so that searches find several."""
    kind, at = draw(st.sampled_from(TYPES)), draw(st.integers(0, 5000)) + draw(st.sampled_from((0.0, 0.25)))
    made = record(
        kind,
        at=at,
        sender=draw(st.sampled_from(ADDRESSES)),
        recipient=draw(st.one_of(st.sampled_from(ADDRESSES), st.lists(st.sampled_from(ADDRESSES[:5]), max_size=3))),
        peer_address={"name": draw(st.sampled_from(("mx1.example", "mx2.example"))), "addr": draw(st.sampled_from(PEERS))},
        session_id=draw(st.sampled_from(SESSIONS)),
        meta_why=" ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))),
        meta_disposition=draw(st.sampled_from(("rejected_at_rcpt", "relayed", "logged_and_dropped"))),
        meta_queue_id=draw(st.sampled_from(("4XyZ", "4xyy"))),
        meta_message_id=draw(st.sampled_from(MESSAGES)),
        bounce_classification=draw(st.sampled_from(("InvalidRecipient", "SpamBlock"))),
    )
    if kind == "Feedback":
        made["feedback_report"] = {
            "feedback_type": draw(st.sampled_from(("abuse", "fraud"))),
            "original_rcpto_to": ["z@x.test"],
        }
    return made


@st.composite
def searches(draw: st.DrawFn) -> Search:
    """Return a search with up to three conditions."""
    choices: dict[str, st.SearchStrategy[Any]] = {
        "types": st.lists(st.sampled_from(TYPES), min_size=1, max_size=2).map(tuple),
        "since": st.integers(BEGIN, BEGIN + 5000),
        "until": st.integers(BEGIN, BEGIN + 5000),
        "disposition": st.sampled_from(("rejected_at_rcpt", "relayed")),
        "peer_network": st.sampled_from(("192.0.2.0/24", "192.0.2.128/25", "192.0.2.1", "192.0.2.0/23", "2001:db8::/33",
                                         "2001:db8::/64", "2001:db8::/31", "0.0.0.0/0", "::/0", "10.0.0.0/7")),
        "domain": st.sampled_from(("sender.example", "mail.sender.example", "X.TEST", "recipient.example.", "example")),
        "address": st.sampled_from((*ADDRESSES[:-1], "z@x.test", "a.b@MAIL.sender.example")),
        "queue_id": st.sampled_from(("4XyZ", "4xyy", "none")),
        "message_id": st.sampled_from(MESSAGES),
        "session_id": st.sampled_from(SESSIONS),
        "text": st.sampled_from(("relay", "mailbox host", "Listener_Domains.toml", "8.8.8.8", "mx1.example", "ärger", "no")),
        "bounce_class": st.just("InvalidRecipient"),
        "feedback_type": st.just("abuse"),
    }  # fmt: skip
    names = draw(st.lists(st.sampled_from(sorted(choices)), max_size=3, unique=True))
    return Search(**{name: draw(choices[name]) for name in names})


def addresses(made: dict[str, Any]) -> list[str]:
    """Return all addresses of a record."""
    recipients = [made["recipient"]] if isinstance(made["recipient"], str) else made["recipient"]
    reported = (made["feedback_report"] or {}).get("original_rcpto_to", [])
    return [one for one in (made["sender"], *recipients, *reported) if one]


def words(made: dict[str, Any]) -> str:
    """Return the text that is searched."""
    reason = "550 5.7.1 relaying denied" if made["type"] == "OOB" else made["meta"]["why"]
    return f"{reason} {made['peer_address']['name']}".lower()


def note_times(segment: list[dict[str, Any]]) -> None:
    """Note when each record was made. An OOB record has the time of its message: it follows the record before it."""
    before = 0.0
    for made in segment:
        moment = made["timestamp"] + float(f"0.{made['event_time'][20:26]}")
        is_late = made["type"] == "OOB" and moment < before <= moment + 3600
        made["moment"] = before = before if is_late else moment


def is_below(address: str, domain: str) -> bool:
    own, domain = address.rpartition("@")[2].lower(), domain.lower().rstrip(".")
    return own == domain or ("." in domain and own.endswith(f".{domain}"))


CONDITIONS: dict[str, Callable[[dict[str, Any], Any], bool]] = {
    "types": lambda made, types: made["type"] in types,
    "since": lambda made, since: made["moment"] >= since,
    "until": lambda made, until: made["moment"] < until,
    "disposition": lambda made, word: made["meta"]["disposition"] == word,
    "peer_network": lambda made, text: ipaddress.ip_address(made["peer_address"]["addr"]) in ipaddress.ip_network(text),
    "domain": lambda made, domain: any(is_below(one, domain) for one in addresses(made)),
    "address": lambda made, address: address.lower() in map(str.lower, addresses(made)),
    "queue_id": lambda made, text: made["meta"]["queue_id"].lower() == text.lower(),
    "message_id": lambda made, text: made["meta"]["message_id"] == text,
    "session_id": lambda made, text: made["session_id"] == text,
    "text": lambda made, text: all(word in words(made).split() for word in text.lower().split()),
    "bounce_class": lambda made, word: made["type"] == "OOB" and made["bounce_classification"] == word,
    "feedback_type": lambda made, word: (made["feedback_report"] or {}).get("feedback_type") == word,
}


def filtered(all_records: list[dict[str, Any]], wanted: Search) -> list[dict[str, Any]]:
    """Return the records for which all conditions hold."""
    asked = [(name, getattr(wanted, name)) for name in CONDITIONS if getattr(wanted, name) not in {"", (), None}]
    return [made for made in all_records if all(CONDITIONS[name](made, value) for name, value in asked)]


def pages(index: Index, wanted: Search, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the records of all pages, as their lines in the journal."""
    before = None
    while True:
        page = index.search(wanted, limit=limit, before=before)
        assert page.complete
        assert len(page.rows) <= limit
        for row in page.rows:
            found = index.record(row.key)
            assert found is not None
            assert found.line is not None
            assert found.row == row
            yield json.loads(found.line)
        if page.before is None:
            return
        before = page.before


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    made=st.lists(records(), max_size=30),
    wanted=st.lists(searches(), min_size=8, max_size=8),
    limit=st.integers(1, 40),
    cut=st.integers(0, 30),
)
def test_the_index_finds_what_a_filter_finds(
    tmp_path_factory: pytest.TempPathFactory, made: list[dict[str, Any]], wanted: list[Search], limit: int, cut: int
) -> None:
    """The records are in two segments, which are read one after the other."""
    own = indexed(tmp_path_factory.mktemp("index"))
    numbered = [{**one, "n": number} for number, one in enumerate(made)]
    for part in (numbered[:cut], numbered[cut:]):
        note_times(part)
    write_segment(own, 2, numbered[:cut])
    write_segment(own, 1, numbered[cut:])
    read_journal(own)
    with closing(open_index(own)) as index:
        for search in wanted:
            found = [*pages(index, search, limit)]
            assert sorted(one["n"] for one in found) == [one["n"] for one in filtered(numbered, search)]
            moments = [numbered[one["n"]]["moment"] for one in found]
            assert moments == sorted(moments, reverse=True)
