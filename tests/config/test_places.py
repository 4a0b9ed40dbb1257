"""Every key's line is where it stands, whatever stands around it."""

import json
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.places import DEPTH_LIMIT, Place, TooDeepError, json_places, toml_places

Path = tuple[str | int, ...]

NAMES = st.text(alphabet="ab-_.# [{]}=,\"'\\\u00e9\u2603\t", max_size=4)
SCALARS = st.sampled_from(
    [
        "1",
        "-0.5e3",
        "true",
        "1979-05-27 07:32:00Z",
        "07:32:00",
        '""',
        "''",
        r'"a \" # [ { = \\"',
        "'a # \" ] } \\'",
        '"""one line"""',
        '"""\n[not.a.header]\nkey = 1\n"""',
        r'"""quotes \""" inside""""',
        '"""two more"""""',
        '"""a\\\n   b "" c"""',
        "'''\nkey = 'x'\n#'''",
        "'''two more'''''",
    ]
)
BLANKS = st.sampled_from(["", " ", "\t", "\n", "\n\n", "# key = 1\n", ' # [a]\n  # """\n'])
GAPS = st.sampled_from(["", " ", "\t "])


class Writer:
    """Writes a document and counts its lines on the way."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.expected: dict[Path, int] = {}
        self._names = 0

    @property
    def line(self) -> int:
        """The line that is being written."""
        return self.text.count("\n") + 1

    def put(self, *texts: str) -> None:
        """Write."""
        self.text += "".join(texts)

    def name(self) -> str:
        """Draw a name that no other has."""
        self._names += 1
        return f"{self.draw(NAMES)}{self._names}"

    def note(self, *path: str | int) -> None:
        """The key at `path` stands here, if it did not stand somewhere before."""
        self.expected.setdefault(path, self.line)


class TomlWriter(Writer):
    """Writes TOML 1.0."""

    def key(self, name: str) -> str:
        """Spell a key in one of the ways that TOML has for it."""
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
        forms = [quoted, quoted.replace("\u2603", "\\u2603").replace("a", "\\u0061")]
        if "'" not in name:
            forms.append(f"'{name}'")
        if all(character.isascii() and (character.isalnum() or character in "-_") for character in name):
            forms.append(name)
        return str(self.draw(st.sampled_from(forms)))

    def dotted(self, path: Path) -> Path:
        """Write a key of one or two parts, and give the path it leads to."""
        for more in range(self.draw(st.integers(1, 2))):
            path = (*path, self.name())
            if more:
                self.put(self.draw(GAPS), ".", self.draw(GAPS))
            self.put(self.key(str(path[-1])))
            self.note(*path)
        return path

    def document(self) -> None:
        """Write statements, then tables with statements."""
        self.put(self.draw(BLANKS))
        self.statements(())
        for _ in range(self.draw(st.integers(0, 3))):
            self.put("[", self.draw(GAPS))
            path = self.dotted(())
            self.put(self.draw(GAPS), "]", self.draw(st.sampled_from(["\n", " # x\n"])), self.draw(BLANKS))
            self.statements(path)

    def statements(self, table: Path) -> None:
        """Write `key = value` lines, with comments and blanks around them."""
        for _ in range(self.draw(st.integers(0, 3))):
            self.put(self.draw(GAPS))
            path = self.dotted(table)
            self.put(self.draw(GAPS), "=", self.draw(GAPS))
            self.value(path, depth=0)
            self.put(self.draw(st.sampled_from(["\n", " \n", "# x = [\n"])), self.draw(BLANKS))

    def value(self, path: Path, depth: int) -> None:
        """Write a value of any kind."""
        kind = self.draw(st.sampled_from(["scalar", "scalar", "list", "table"] if depth < 3 else ["scalar"]))
        if kind == "scalar":
            self.put(self.draw(SCALARS))
        elif kind == "list":
            self.array(path, depth)
        else:
            self.inline(path, depth)

    def array(self, path: Path, depth: int) -> None:
        """Write a list, over several lines or on one."""
        self.put("[")
        for index in range(self.draw(st.integers(0, 3))):
            self.put("," if index else "", self.draw(BLANKS))
            self.note(*path, index)
            self.value((*path, index), depth + 1)
            self.put(self.draw(BLANKS))
        self.put(self.draw(BLANKS), "]")

    def inline(self, path: Path, depth: int) -> None:
        """Write an inline table; its own tokens stay on one line, as TOML 1.0 wants it."""
        self.put("{")
        for index in range(self.draw(st.integers(0, 2))):
            self.put("," if index else "", self.draw(GAPS))
            inner = self.dotted(path)
            self.put(self.draw(GAPS), "=", self.draw(GAPS))
            self.value(inner, depth + 1)
            self.put(self.draw(GAPS))
        self.put("}")


@st.composite
def toml_documents(draw: Any) -> tuple[str, dict[Path, int]]:
    writer = TomlWriter(draw)
    writer.document()
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    return writer.text.replace("\n", ends), writer.expected


class JsonWriter(Writer):
    """Writes JSON with white space anywhere."""

    def space(self) -> None:
        """Write white space, or none."""
        self.put(self.draw(st.sampled_from(["", " ", "\n", "\r\n\t", "\n\n"])))

    def value(self, path: Path, depth: int) -> None:
        """Write a value of any kind."""
        self.space()
        kind = self.draw(st.sampled_from(["scalar", "list", "table"] if depth < 4 else ["scalar"]))
        if path:
            self.note(*path)
        if kind == "scalar":
            self.put(self.draw(st.sampled_from(["1", "-2.5e3", "null", "true", '"a\\"{[,:\\\\"', '""'])))
        else:
            self.put("[" if kind == "list" else "{")
            for index in range(self.draw(st.integers(0, 3))):
                self.put("," if index else "")
                self.value((*path, index if kind == "list" else self.key(path)), depth + 1)
            self.space()
            self.put("]" if kind == "list" else "}")
        self.space()

    def key(self, table: Path) -> str:
        """Write a key and its colon."""
        self.space()
        name = self.name()
        self.note(*table, name)
        self.put(json.dumps(name, ensure_ascii=self.draw(st.booleans())))
        self.space()
        self.put(":")
        return name


@st.composite
def json_documents(draw: Any) -> tuple[str, dict[Path, int]]:
    writer = JsonWriter(draw)
    writer.value((), depth=0)
    return writer.text, writer.expected


def keys_of(place: Place, path: Path = ()) -> set[Path]:
    """Give the paths of all keys that a place knows."""
    found: set[Path] = set()
    for key, inner in place.inner.items():
        found |= keys_of(inner, (*path, key)) | ({(*path, key)} if isinstance(key, str) else set())
    return found


def check(root: Place, expected: dict[Path, int]) -> None:
    for path, line in expected.items():
        place = root
        for part in path:
            place = place.at(part)
        assert (path, place.line) == (path, line)
    assert keys_of(root) == {path for path in expected if isinstance(path[-1], str)}


@given(toml_documents())
def test_toml(document: tuple[str, dict[Path, int]]) -> None:
    """Every key and list item of a TOML document stands on the line that is given for it, and no other key is found."""
    text, expected = document
    tomli.loads(text)
    check(toml_places(text), expected)


@given(json_documents())
def test_json(document: tuple[str, dict[Path, int]]) -> None:
    """Every key and list item of a JSON text stands on the line that is given for it, and no other key is found."""
    text, expected = document
    json.loads(text)
    root, repeats = json_places(text)
    check(root, expected)
    assert repeats == []


def test_a_header_outweighs_what_implied_its_table() -> None:
    """A table stands where its own header is, also when a header further up needed it first."""
    root = toml_places('["a"."b"]\nx = 1\n\n["a"]\ny = 2\n')
    assert root.inner["a"].line == 4
    assert root.inner["a"].inner["b"].line == 1
    assert root.inner["a"].inner["y"].line == 5


def test_json_repeats() -> None:
    """A key that stands twice in one object is found with its path and both lines, whatever the spelling of the two."""
    _, repeats = json_places('{"a": 1,\n"b": [1, {"c": 1,\n "\\u0063": 2}],\n"a": {"a": 3}}')
    assert [(repeat.path, repeat.first, repeat.second) for repeat in repeats] == [(("b", 1, "c"), 2, 3), (("a",), 1, 4)]


@pytest.mark.parametrize("opening", ["[", '{"a":', "[{"])
def test_depth_json(opening: str) -> None:
    """Nesting beyond the limit is an error at the line where the limit is passed, however deep it goes on."""
    with pytest.raises(TooDeepError) as caught:
        json_places("\n\n" + opening * 1000)
    assert caught.value.lineno == 3


@pytest.mark.parametrize(("closing", "deep"), [("]" * DEPTH_LIMIT, False), ("]" * (DEPTH_LIMIT + 1), True)])
def test_depth_toml(closing: str, *, deep: bool) -> None:
    """The limit itself is still allowed."""
    text = f"\na = {closing.replace(']', '[')}{closing}\nb = 1\n"
    if deep:
        with pytest.raises(TooDeepError):
            toml_places(text)
    else:
        assert toml_places(text).inner["b"].line == 3
