"""The pages of the suppression list, with a real journal, database and process of the list (as a thread)."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.daemon.http import suppression as paths
from tests.daemon.http.console.visiting import Visitor, app_of, text_of
from tests.daemon.http.test_access import READER
from tests.daemon.http.test_suppression import DAYS, Served
from tests.mta.processes import wait_until
from tests.suppression.journals import write_segment
from tests.suppression.records import feedback

LIST, A = "/console/suppression", "a@example.com"
ADDRESS, ADD, REMOVE = f"{LIST}/address?address=", f"{LIST}/add", f"{LIST}/remove"
HOSTILE = "<b>\u202ex"


class Console(Served):
    """A list with pages, and an operator who has logged in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.app = app_of(self.settings, suppressed=self.service)
        self.operator, self.reader = Visitor(self.app), Visitor(self.app)
        self.operator.log_in()
        self.reader.log_in(READER)


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    one = Console(tmp_path)
    write_segment(one.settings, 0, [feedback(A, day=DAYS - 5)])
    one.start()
    try:
        wait_until(lambda: "On the list" in text_of(one.reader.get(ADDRESS + A)), "the list is served")
        yield one
    finally:
        one.stop()
        one.app.close()


def test_adding_and_removing_with_a_record_of_who(console: Console) -> None:
    answer = console.operator.send(ADD, LIST, address="B@Example.com", reason="asked by phone", expires="2090-01-02")
    assert (answer.status, answer.headers["location"]) == (303, f"{LIST}/address?address=b%40example.com")
    shown = text_of(console.reader.get(answer.headers["location"]))
    assert "Reason asked by phone Source manual" in shown
    assert "Until 2090-01-02 00:00:00 UTC" in shown
    assert "b@example.com asked by phone manual" in text_of(console.reader.get(LIST))
    answer = console.operator.send(REMOVE, LIST, address=A, reason="mailbox fixed")
    assert "Not on the list" in text_of(console.reader.get(answer.headers["location"]))
    made = [(one["recipient"], one["meta"]["action"], one["meta"]["by"]) for one in console.records()]
    assert made == [("b@example.com", "add", "operator in the console"), (A, "remove", "operator in the console")]


def test_a_change_of_someone_else_is_not_lost(console: Console) -> None:
    """The form has the tag of the entry that it showed."""
    page = console.operator.get(ADDRESS + A).body.decode()
    tag = re.search(r'name="tag" value="([^"]*)"', page)
    assert tag is not None
    seen = tag[1].replace("&#34;", '"')
    console.operator.send(REMOVE, LIST, address=A, reason="by another one")
    console.operator.send(ADD, LIST, address=A, reason="by another one")
    answer = console.operator.send(REMOVE, LIST, address=A, reason="fixed", tag=seen)
    assert (answer.status, "The entry has changed since" in text_of(answer)) == (412, True)
    answer = console.operator.send(ADD, LIST, address=A, reason="again")
    assert (answer.status, "on the list already" in text_of(answer)) == (412, True)
    assert len(console.records()) == 2


def test_a_reader_changes_nothing(console: Console) -> None:
    assert b"<form" in console.reader.get(LIST).body
    assert f'action="{ADD}"'.encode() not in console.reader.get(LIST).body
    assert b'name="reason" required' not in console.reader.get(ADDRESS + A).body
    for path in (ADD, REMOVE):
        answer = console.reader.send(path, LIST, address=A, reason="x")
        assert (answer.status, "operator" in text_of(answer)) == (403, True)
    assert not console.records()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"address": "b@example.com", "reason": ""}, "Write a reason"),
        ({"address": "b@example.com", "reason": "a\u202eb"}, "Write a reason"),
        ({"address": "b@example.com", "reason": "x", "expires": "2001-01-01"}, "is over"),
        ({"address": "b@example.com", "reason": "x", "expires": "soon"}, "cannot be read"),
        ({"address": "nonsense", "reason": "x", "expires": "2090-01-02"}, "is no address"),
        ({"reason": "x"}, "is no address"),
    ],
)
def test_a_wrong_form_changes_nothing(console: Console, fields: dict[str, str], sentence: str) -> None:
    """The form appears again, with what was typed."""
    answer = console.operator.send(ADD, LIST, **fields)
    assert (answer.status, sentence in text_of(answer)) == (400, True)
    typed = dict(re.findall(r'<input id="a-\w+" name="(\w+)" value="([^"]*)"', answer.body.decode()))
    assert typed == {"address": "", "reason": "", "expires": ""} | fields
    assert not console.records()


def test_a_change_that_waits(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the list is away: the change is recorded, and the page says that it is not in force."""
    monkeypatch.setattr(paths, "IN_FORCE_SECONDS", 0.1)
    console.stop()
    answer = console.operator.send(REMOVE, LIST, address=A, reason="fixed")
    shown = text_of(console.operator.get(answer.headers["location"]))
    assert "not in force yet" in shown
    assert len(console.records()) == 1


def test_pages_and_filters(console: Console) -> None:
    write_segment(console.settings, 1, [feedback(f"{number:03}@many.example", day=DAYS - 2) for number in range(250)])
    wait_until(lambda: "249@many.example" in text_of(console.reader.get(f"{LIST}?prefix=249")), "all are listed")
    path, seen = f"{LIST}?domain=many.example", list[str]()
    while path:
        body = console.reader.get(path).body.decode()
        seen += re.findall(r"(\d{3}@many\.example)</a>", body)
        following = re.search(r'href="([^"#]+)#entries">Next', body)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == [f"{number:03}@many.example" for number in range(250)]
    assert "No entry fits." in text_of(console.reader.get(f"{LIST}?reason=nothing"))
    assert console.reader.get(f"{LIST}/address").status == 400
    for query in (f"prefix={HOSTILE}", f"domain={HOSTILE}", f"reason={HOSTILE}"):
        assert "<b>" not in console.reader.get(f"{LIST}?{query}").body.decode()


def test_without_a_list_the_page_says_so() -> None:
    visitor = Visitor()
    visitor.log_in()
    assert "The settings have no [suppression] ." in text_of(visitor.get(LIST))
    assert visitor.get(ADDRESS + A).status == 404
