"""Records of any form become rows: cut to a size, with nothing that the database or the words cannot have; no fault."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sidecar.journal.index import Search, open_index
from sidecar.journal.index.row import LAST_TIME, SECOND, Row, row_of
from sidecar.journal.index.words import words_of
from tests.journal.index.records import BEGIN, indexed, read_journal, record, write_segment

BIDI = "\u202emoc.elpmaxe\u202c\u2066"
LONE = b'{"type":"Rejection","sender":"a\\ud800b@x.test","meta":{"why":"\\udfff is no relay host"},"timestamp":1790000000}'


def row(**values: Any) -> Row:
    found = row_of(json.dumps(record(**values)).encode(), 0)
    assert found is not None
    return found


def test_hostile_texts() -> None:
    assert len(row(meta_why="x" * 10_000).reason) == 1024
    assert row(meta_why=BIDI).reason == BIDI  # pages show such characters in a visible form
    assert row(sender="a\nb@x.test", recipient=["c\0d@x.test", "", "e@x.test"]).addresses == (
        "a\ufffdb@x.test",
        "c\ufffdd@x.test",
        "e@x.test",
    )
    assert len(row(recipient=[f"{number}@x.test" for number in range(5000)]).recipients) == 100
    assert row(peer_address={"name": "x" * 5000, "addr": "y" * 5000}).peer_name == "x" * 255
    found = row_of(LONE, 0)
    assert found is not None
    assert (found.sender, found.reason) == ("a\ufffdb@x.test", "\ufffd is no relay host")


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        ({"timestamp": 10**30}, "time", 7),
        ({"timestamp": -1}, "time", 7),
        ({"timestamp": 2.5}, "time", 7),
        ({"timestamp": LAST_TIME // SECOND + 1}, "time", 7),
        ({"event_time": 5}, "time", BEGIN * SECOND),
        ({"event_time": "2026-09-21T13:00:00.\u0661\u0661\u0661\u0661\u0661\u0661Z"}, "time", BEGIN * SECOND),
        ({"meta": []}, "disposition", ""),
        ({"meta": {"why": 5, "count": -3, "queue_id": ["x"]}}, "count", 1),
        ({"meta_count": 10**40}, "count", 10**9),
        ({"recipient": {"a": 1}}, "recipients", ()),
        ({"peer_address": {"name": None, "addr": 1}}, "peer", ""),
        ({"peer_address": {"name": "x", "addr": "::FFFF:192.0.2.1"}}, "peer", "192.0.2.1"),
        ({"peer_address": {"name": "x", "addr": "2001:DB8::0:1"}}, "peer", "2001:db8::1"),
        ({"feedback_report": {"original_rcpto_to": "x", "feedback_type": 3, "reporting_mta": []}}, "reporter", ""),
        ({"feedback_report": {"original_rcpto_to": ["<A@X.test>"]}}, "reported", ("A@x.test",)),
        ({"session_id": 7}, "session_id", ""),
        ({"meta_original": {"message_id": " <1@x.test> "}}, "original_id", "1@x.test"),
        ({"kind": "OOB", "response": {"code": 550, "content": "5.1.1 gone"}}, "reason", "550 5.1.1 gone"),
    ],
)
def test_wrong_values(values: dict[str, Any], field: str, expected: object) -> None:
    """A value of a wrong type is missing; the others of the record stay."""
    found = row_of(json.dumps(record(**values)).encode(), 7)
    assert found is not None
    assert getattr(found, field) == expected
    assert found.sender == "a@sender.example"


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b'{"type":5}', b"null", b"[" * 9999, b'{"type":"x","size":' + b"9" * 5000 + b"}"]
)
def test_no_records(line: bytes) -> None:
    assert row_of(line, 0) is None


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("why", "name", "addr", "code", "x")), inner),
    max_leaves=6,
)


@examples(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted(record())), ANY, max_size=5), text=st.text(max_size=40))
def test_any_record_is_stored(tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], text: str) -> None:
    """What is read from the database is the row, and all of its words find it."""
    line = json.dumps({**record(meta_why=text, sender=text), **changes}).encode()
    made = row_of(line, BEGIN * SECOND)
    if made is None:
        assert not isinstance(changes.get("type", ""), str)
        return
    assert all(word.isprintable() or not word.isascii() for word in words_of(made).split(" "))
    own = indexed(tmp_path_factory.mktemp("index"), age=10**10)
    write_segment(own, 1, [line])
    read_journal(own, now=BEGIN, tidies=False)
    with closing(open_index(own)) as index:
        (found,) = index.search(Search(), limit=10).rows
        assert {name: getattr(found, name) for name in Row.__struct_fields__} == {
            name: getattr(made, name) for name in Row.__struct_fields__
        } | {"time": found.time}
        for address in made.addresses:
            assert address != address.strip() or index.search(Search(address=address), limit=1).rows


def test_a_hostile_record_ends_nothing(tmp_path: Path) -> None:
    """The records after it are in the index."""
    own = indexed(tmp_path, age=10**10)
    lines = [LONE, b"[" * 100_000, b"\xff\xfe", b'{"type":"Rejection","sender":"\xff"}', json.dumps(record(id="last")).encode()]
    write_segment(own, 1, lines)
    read_journal(own)
    with closing(open_index(own)) as index:
        found = {one.sender for one in index.search(Search(), limit=10).rows}
    assert found == {"a@sender.example", "a\ufffdb@x.test", "\ufffd"}
