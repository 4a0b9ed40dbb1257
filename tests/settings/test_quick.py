"""The quick reader and the exact one agree on every file, or the quick one leaves it alone."""

import json
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.config import Loaded, Reading
from sidecar.config.domains import read_domains
from sidecar.config.files import Text, parsed
from sidecar.config.quick import quick_draft
from sidecar.config.warnings.findings import Findings
from sidecar.core.settings.values import Problem
from tests.settings.test_domains import ERRORS, SAMPLE

TOML_LINES = [
    '["a.com"]',
    '["b.com"]',
    '["A.com."]',
    '["*.b\u00fccher.example"] # comment',
    "['c.com']",
    ' ["d.com"]',
    '["a b"]',
    '["*"]\t',
    '["listener"]',
    '["e.com"].x',
    '[["f.com"]]',
    '["[192.0.2.1]"]',
    '[listener."10.0.0.1:25"."a.com"]',
    '[listener."[0::1]:25"."a.com"]',
    '[listener."[::1]:25"."a.com"]',
    '[listener."*"."a.com"]',
    '[listener."mx"."a.com"]',
    '[listener."10.0.0.1:25"]',
    "log_oob = true",
    'log_arf = "LogThenDrop" # why',
    "relay_to = false",
    'relay_from = [\n  "10.0.0.0/8",\n\n  "::1"]',
    'relay_from = ["10/8"]',
    'relay_from_authz = ["""\n["x.com"]\n""", "y"]',
    'relay_from_authz = ["daniel"]',
    'ttl = "5 minutes"',
    "ttl = true",
    "x.y = 1",
    '"b.com".relay_to = true',
    "# comment \u00e9",
    "",
    '"""',
    "log_oob = true\r",
    "\x01",
]
TOML = st.lists(st.sampled_from(TOML_LINES), max_size=9).map("\n".join)

VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [True, False, "LogThenDrop", "x", 1, None, ["10.0.0.0/8"], ["::1", "10/8"], {}, {"a": 1}, "{", "}", '": {"', "\u00e9"]
)
TABLES = st.dictionaries(
    st.sampled_from(["log_oob", "log_arf", "relay_to", "relay_from", "relay_from_authz", "ttl", "x"]), VALUES, max_size=3
)
GOOD = st.sampled_from([{"log_oob": True}, {"relay_from": ["10.0.0.0/8"], "log_arf": "LogThenDrop"}, {"ttl": 5}, {}])
NAMES = st.sampled_from(
    ["a.com", "B.com", "*", "\u00e9.com", "0", "1", "listener", "a b", "10.0.0.1:25", "[::1]:25", "\n", "{"]
)
FLAT = st.dictionaries(NAMES, GOOD | TABLES | VALUES, max_size=4)
JSON_VALUES = st.one_of(
    FLAT, st.dictionaries(st.just("listener") | NAMES, st.dictionaries(NAMES, FLAT | VALUES, max_size=2)), VALUES
)
JSON = st.builds(
    lambda values, indent, separators: json.dumps(values, indent=indent, separators=separators, ensure_ascii=False),
    JSON_VALUES,
    st.sampled_from([None, 0, 2]),
    st.sampled_from([None, (",", ":"), (" ,\n", ": "), (",", " :\n ")]),
)


def reading(text: str, *, is_json: bool) -> Text:
    return Text(file="d.x", digest="", text=text, is_json=is_json)


def agree(text: str, *, is_json: bool) -> bool:
    """Compare both readers; tell whether the quick one gave something."""
    quick_findings, exact_findings = Findings(), Findings()
    draft = quick_draft(text, "d.x", quick_findings, is_json=is_json)
    if draft is None:
        assert not quick_findings.warnings()
        return False
    problems: list[Problem] = []
    exact = read_domains(parsed(reading(text, is_json=is_json)), problems, exact_findings)
    assert not problems
    assert list(draft.table()) == list(exact.table())
    assert quick_findings.warnings() == exact_findings.warnings()
    return True


@given(TOML)
@example("\n".join(TOML_LINES[:2]))
def test_toml(text: str) -> None:
    """Where the quick reader takes a TOML file, it has no fault, and entries, lines, paths and warnings are the exact one's."""
    agree(text, is_json=False)


@given(JSON)
@example('{"a.com": {}, "a.com": {}}')
@example('{"a.com": {"log_oob": true, "log_oob": true}}')
@example('{"listener": {"[::1]:25": {"a.com": {}}}, "listener": {"[::1]:26": {"a.com": {}}}}')
@example('{"listener": {"[::1]:25": {"a.com": {}}, "[::1]:25": {"b.com": {}}}, "0": 0}')
@example('{"x": ":{}", "a.com": {}}')
@example('{"{": "{", "a": {}}')
@example('{"0": true, "a": {}}')
@example('{"0": "0", "a": {}}')
@example('{"a.com": {},}')
@example('{"a.com": {} "b.com": {}}')
@example('{"a.com": {}} x')
@example('[{"a.com": {}}]')
@example('{"a.com": {"relay_from_authz": ["}"]}}')
@example('{"a.com": {"relay_from_authz": ["a\\"b"]}}')
def test_json(text: str) -> None:
    """Likewise for JSON."""
    agree(text, is_json=True)


@given(JSON, st.integers(0, 200), st.sampled_from([*'{}[]",:\\ \n', "listener", '"0": 0', ""]))
def test_damaged_json(text: str, at: int, what: str) -> None:
    """A character too many or too few makes no difference."""
    for damaged in (text[:at] + what + text[at:], text[:at] + text[at + 1 :]):
        try:
            parsed(reading(damaged, is_json=True))
        except Exception:  # noqa: BLE001 - whatever the exact reader has to say of it
            assert quick_draft(damaged, "d.x", Findings(), is_json=True) is None
        else:
            agree(damaged, is_json=True)


@given(TOML, st.integers(0, 200), st.sampled_from([*"[]\"'#=\\ \n\r", '"""', ""]))
def test_damaged_toml(text: str, at: int, what: str) -> None:
    for damaged in (text[:at] + what + text[at:], text[:at] + text[at + 1 :]):
        try:
            parsed(reading(damaged, is_json=False))
        except Exception:  # noqa: BLE001 - whatever the exact reader has to say of it
            assert quick_draft(damaged, "d.x", Findings(), is_json=False) is None
        else:
            agree(damaged, is_json=False)


@pytest.mark.parametrize(
    "text",
    [
        SAMPLE,
        '# head\n\n["B\u00fccher.de"]\nrelay_to = true\n["A.com"]\nttl = 3\n',
        '["a.com"]\r\nlog_oob = true\r\n["b.com"] # x\r\n',
        '["a.com"]',
    ],
)
def test_usual_toml_is_read_quickly(text: str) -> None:
    assert agree(text, is_json=False)


@pytest.mark.parametrize("indent", [None, 0, 4])
def test_usual_json_is_read_quickly(indent: int | None) -> None:
    """With and without listeners, in any order, in one line or many."""
    table = {"relay_from": ["10.0.0.0/24"], "log_oob": True, "ttl": 5}
    flat = {"a.com": table, "*": {"relay_to": False}, "B.com": {}}
    for values in (
        flat,
        {"listener": {"[::1]:25": flat, "10.0.0.1:25": flat}, **flat},
        {**flat, "listener": {"[::1]:25": flat}},
    ):
        assert agree(json.dumps(values, indent=indent), is_json=True)


@pytest.mark.parametrize(("text", "line", "key", "wrong", "mend"), ERRORS)
def test_faults_are_left_to_the_exact_reader(text: str, line: int, key: str, wrong: str, mend: str) -> None:  # noqa: ARG001 - the table has them
    assert quick_draft(text, "d.toml", Findings(), is_json=False) is None


@settings(deadline=None)  # files are written
@given(st.lists(TOML | st.just(SAMPLE), min_size=1, max_size=3), JSON)
def test_loading_is_the_same(tmp_path_factory: pytest.TempPathFactory, texts: list[str], more: str) -> None:
    """Settings, problems and warnings are those that loading without the quick reader gives, also of several files merged."""
    folder = tmp_path_factory.getbasetemp() / "same"
    folder.mkdir(exist_ok=True)
    names = [*(f"{number}.toml" for number in range(len(texts))), "more.json"]
    for name, text in zip(names, [*texts, more], strict=True):
        (folder / name).write_text(text, encoding="utf-8", newline="")
    (folder / "sidecar.toml").write_text(f"listener_domains = {json.dumps(names)}\n", encoding="utf-8")
    with_it = loaded(folder)
    with patch("sidecar.config.loading.quick_draft", lambda *_, **__: None):
        assert loaded(folder) == with_it


def loaded(folder: Path) -> tuple[Loaded, Any]:
    one = Reading(folder / "sidecar.toml", environ={})
    return one.loaded, one.warnings()


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("piece", ['"', "{", '"a":{', '["a"]\n', "[", '"a" ', "\n"])
def test_hostile_text_takes_linear_time(piece: str, is_json: bool) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    assert quick_draft(text, "d.x", Findings(), is_json=is_json) is None
    assert time.process_time() - began < 5.0
