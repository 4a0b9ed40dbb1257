"""Files of many alike tables: the values, the places and the findings are those of the parser of whole files."""

from pathlib import Path

import pytest
import tomli
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config import alike, files
from sidecar.config.alike import alike_tables
from sidecar.config.places import Place, toml_places
from tests.config.helpers import load_files

SIMPLE_HEADERS = [
    '["a.example"]',
    '["b.example"]',
    '["*"] \t',
    '[""]',
    '["é"] # a comment',
    '[listener."*"."a.example"]',
    '[listener."192.0.2.1:25"."a.example"]',
]
OTHER_HEADERS = [
    *('["listener"]', '["listener"] #', "[listener]", '["listener"."x"."y"]', '[listener."x"]', "[a]", "[a.b]", "['c']"),
    *('[ "d" ]', ' ["e"]', '[["f"]]', '["g"].x', '["\\u0061.example"]', '["a.example"]\r', '["a"] # \x01', '["\x7f"]'),
]
SIMPLE_BODIES = [
    "relay_to = true",
    "log_oob = true\nlog_arf = true",
    "",
    "# a comment",
    "relay_from = [\n  '10.0.0.0/8',\n  'x',\n]",
    "ttl = 5\nunknown = 1",
    "a.b = 1",
]
OTHER_BODIES = [
    *("x = [\n[1],\n]", "x = [\n  [1],\n]", "x = '''\n[\"b.example\"]\n'''", "x = '''\n[", "'''", "]", " [h]"),
    *("relay_to = 1\nrelay_to = 1", "relay_to", "x = {a = 1}", "relay_to = true\r"),
]
SIMPLE = st.tuples(st.sampled_from(SIMPLE_HEADERS), st.sampled_from(SIMPLE_BODIES)).map("\n".join)
TABLES = st.tuples(st.sampled_from(SIMPLE_HEADERS + OTHER_HEADERS), st.sampled_from(SIMPLE_BODIES + OTHER_BODIES)).map(
    "\n".join
)
TEXTS = st.builds(
    lambda before, tables, end: "\n".join([*before, *tables]) + end,
    st.lists(st.sampled_from(SIMPLE_BODIES + OTHER_BODIES), max_size=1),
    st.lists(SIMPLE, max_size=4, unique=True) | st.lists(SIMPLE | TABLES, max_size=4),
    st.sampled_from(["", "\n", "\n\n"]),
)


def lines(place: Place) -> tuple[int, dict[str | int, object]]:
    return place.line, {key: lines(place.at(key)) for key in place.inner}


@given(TEXTS)
@example('["a"]\n\n# x\n["b"]\nrelay_from = [\n "x",\n ["y"]]')
@example('[listener."x"."a"]\na = [[\n1,\n2]]\n["c"]\na = [[\n1,\n2]]')
def test_as_the_parser_of_whole_files(text: str) -> None:
    """The result is what the parser makes of the whole text, or None."""
    if (found := alike_tables(text)) is not None:
        values, place = found
        assert list(values.items()) == list(tomli.loads(text).items())
        assert lines(place) == lines(toml_places(text))


@given(st.lists(SIMPLE, min_size=1, unique_by=lambda table: table.partition("\n")[0]))
def test_files_of_simple_tables(tables: list[str]) -> None:
    """The usual files are not left to the parser of whole files."""
    assert alike_tables("\n".join(tables)) is not None


@given(TEXTS)
def test_the_same_findings(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Settings, errors and warnings are the same as without this module, with their lines."""
    folder = tmp_path_factory.getbasetemp()
    found = load_files(folder, {"d.toml": text})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "alike_tables", lambda _: None)
        whole = load_files(folder, {"d.toml": text})
    assert (whole.settings, whole.problems) == (found.settings, found.problems)


def test_each_body_is_parsed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of many domains has few bodies, and only these are parsed."""
    parsed: list[str] = []

    def places(text: str) -> Place:
        parsed.append(text)
        return toml_places(text)

    monkeypatch.setattr(alike, "toml_places", places)
    bodies = ["relay_to = true\n\n", "log_oob = true\nlog_arf = true\n"]
    text = "# ours\n" + "".join(f'["{number}.example"]\n{bodies[number % 2]}' for number in range(1000))
    loaded = load_files(tmp_path, {"d.toml": text})
    assert parsed == ["# ours\n", *bodies]
    assert loaded.settings is not None
    assert [entry.where("").line for entry in loaded.settings.domains] == [
        number for number, line in enumerate(text.splitlines(), 1) if line.startswith("[")
    ]


def test_many_faults_in_one_table(tmp_path: Path) -> None:
    """Each item has its line, and the time grows with their number only."""
    wrong = 20_000
    loaded = load_files(tmp_path, {"d.toml": '["a.example"]\nrelay_from = [\n' + "1,\n" * wrong + "]\n"})
    assert [problem.line for problem in loaded.problems] == list(range(3, wrong + 3))
