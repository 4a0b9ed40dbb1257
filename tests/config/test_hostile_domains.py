"""Listener domains files with any text in them: one line of a finding for what is wrong, in linear time."""

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.config import Reading
from sidecar.config.domains import Nodes, read_domains
from sidecar.config.files import UnreadableError, parsed
from sidecar.config.findings import Findings
from sidecar.core.names import normal_domain

TOML_LINES = [
    '["a.com"]',
    '["b.com"]',
    '["A.com."]',
    '["*.b\u00fccher.example"] # comment',
    "['c.com']",
    ' ["d.com"]',
    '["a b"]',
    '[""]',
    '["u@b.a.com"]',
    'relay_from = ["any"]',
    'ttl = "soon"',
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
    [
        True,
        False,
        "LogThenDrop",
        "x",
        1,
        None,
        ["10.0.0.0/8"],
        ["::1", "10/8"],
        ["any", None],
        [],
        {},
        {"a": 1},
        "{",
        "}",
        '": {"',
        "\u00e9",
    ]
)
TABLES = st.dictionaries(
    st.sampled_from(["log_oob", "log_arf", "relay_to", "relay_from", "relay_from_authz", "ttl", "x"]), VALUES, max_size=3
)
GOOD = st.sampled_from([{"log_oob": True}, {"relay_from": ["10.0.0.0/8"], "log_arf": "LogThenDrop"}, {"ttl": 5}, {}])
NAMES = st.sampled_from(
    [
        "a.com",
        "B.com",
        "*",
        "\u00e9.com",
        "0",
        "1",
        "listener",
        "a b",
        "10.0.0.1:25",
        "[::1]:25",
        "\n",
        "{",
        "",
        "u@x.a.com",
        "/*",
        "//",
        "#",
        "\0",
        "a" * 64,
        "a." * 130,
    ]
)
FLAT = st.dictionaries(NAMES, GOOD | TABLES | VALUES, max_size=4)
JSON_VALUES = st.one_of(
    FLAT, st.dictionaries(st.just("listener") | NAMES, st.dictionaries(NAMES, FLAT | VALUES, max_size=2)), VALUES
)
JSON = st.builds(
    lambda values, indent, separators: json.dumps(values, indent=indent, separators=separators, ensure_ascii=False),
    JSON_VALUES,
    st.sampled_from([None, 0, 2]),
    st.sampled_from([None, (",", ":"), (" ,\n", ": "), (",", " :\n "), (", // }\n", ":/* {\n*/"), (",#\n", ":")]),
)


def read(text: str, *, is_json: bool) -> bool:
    """Read a text as settings do; return True if it has no error. Every error names a line that the text has."""
    findings = Findings()
    try:
        document = parsed(text, "d.x", is_json=is_json)
    except UnreadableError as error:
        assert error.line in range(1, text.count("\n") + 2)  # noqa: PT017 - most texts raise nothing
        return False
    entries = read_domains(document, findings)
    lines = [one.line for one in (*findings.errors, *findings.warnings()) if one.line is not None]
    lines += [one.where(key).line for domains in entries.values() for one in domains.values() for key in one.steps]
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)
    return not findings.errors


@given(TOML)
def test_toml(text: str) -> None:
    read(text, is_json=False)


@given(JSON)
@example('{"a.com": {}, "a.com": {}}')
@example('{"a.com": {"log_oob": true, "log_oob": true}}')
@example('{"listener": {"[::1]:25": {"a.com": {}}}, "listener": {"[::1]:26": {"a.com": {}}}}')
@example('{"listener": {"[::1]:25": {"a.com": {}}, "[::1]:25": {"b.com": {}}}, "0": 0}')
@example('{"x": ":{}", "a.com": {}}')
@example('{"{": "{", "a": {}}')
@example('{"0": true, "a": {}}')
@example('{"a.com": {},}')
@example('{"a.com": {} "b.com": {}}')
@example('[{"a.com": {}}]')
@example('{"a.com": {"relay_from_authz": ["}"]}}')
@example('{"a.com": {"relay_from_authz": ["a\\"b"]}}')
def test_json(text: str) -> None:
    read(text, is_json=True)


@given(JSON, st.integers(0, 200), st.sampled_from([*'{}[]",:\\ \n#/', "/*", "*/", "//", "listener", '"0": 0', ""]))
def test_damaged_json(text: str, at: int, what: str) -> None:
    """A character too many or too few is a finding, or none, but never an exception."""
    for damaged in (text[:at] + what + text[at:], text[:at] + text[at + 1 :]):
        read(damaged, is_json=True)


@given(TOML, st.integers(0, 200), st.sampled_from([*"[]\"'#=\\ \n\r", '"""', ""]))
def test_damaged_toml(text: str, at: int, what: str) -> None:
    for damaged in (text[:at] + what + text[at:], text[:at] + text[at + 1 :]):
        read(damaged, is_json=False)


@pytest.mark.parametrize("indent", [None, 0, 4])
def test_json_of_any_layout(indent: int | None) -> None:
    """With and without listeners, in any order, on one line or on many."""
    table = {"relay_from": ["10.0.0.0/24"], "log_oob": True, "ttl": 5}
    flat = {"a.com": table, "*": {"relay_to": False}, "B.com": {}}
    for values in (
        flat,
        {"listener": {"[::1]:25": flat, "10.0.0.1:25": flat}, **flat},
        {**flat, "listener": {"[::1]:25": flat}},
    ):
        assert read(json.dumps(values, indent=indent), is_json=True)


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize(
    "piece",
    [
        "/*",
        "*/",
        "//",
        "/",
        "#",
        '"\\',
        '"a":/*b*/',
        '"',
        "{",
        '"a":{',
        '["a"]\n',
        "[",
        '"a" ',
        "\n",
        '"a":"b",',
        '"a"\n:\n',
        "a.",
        "a=[\n",
    ],
)
def test_hostile_text_takes_linear_time(piece: str, is_json: bool) -> None:
    def spent(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.process_time()
        read(text, is_json=is_json)
        return time.process_time() - began

    assert spent(200_000) < 5.0 + 20 * spent(20_000)


@settings(deadline=None)  # files are written
@given(st.lists(TOML, min_size=1, max_size=3), JSON)
def test_settings_of_any_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str], more: str) -> None:
    """Several files merged are settings or errors, and the domains of settings are those of the files."""
    folder = tmp_path_factory.getbasetemp() / "hostile"
    folder.mkdir(exist_ok=True)
    names = [*(f"{number}.toml" for number in range(len(texts))), "more.json"]
    for name, text in zip(names, [*texts, more], strict=True):
        (folder / name).write_text(text, encoding="utf-8", newline="")
    (folder / "sidecar.toml").write_text(f"listener_domains = {json.dumps(names)}\n", encoding="utf-8")
    one = Reading(folder / "sidecar.toml", environ={})
    loaded = one.loaded
    assert (loaded.settings is None) == any(problem.level == "error" for problem in loaded.problems)
    one.warnings()
    if loaded.settings is not None:
        files = {file for entry in loaded.settings.domains for file, _ in entry.steps.values()}
        assert files <= set(names)


def test_only_the_nearest_parent_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of no address with a hundred labels costs no more steps than one with two."""
    read: list[str] = []

    def counting(name: str) -> str | None:
        read.append(name)
        return normal_domain(name)

    monkeypatch.setattr("sidecar.config.domains.normal_domain", counting)
    text = json.dumps({"u@b." + "a." * 120 + "test": {"log_oob": True}})
    nodes: Nodes = {}
    read_domains(parsed(text, "d.json", is_json=True), Findings(), nodes)
    assert [len(found) for found in nodes.values()] == [1]
    assert len(read) < 10
