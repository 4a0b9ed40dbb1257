"""A file that cannot be read says which, where and why; it never raises anything but that."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import files
from sidecar.config.files import UnreadableError, read_document

DEEP = 100_000


@pytest.mark.parametrize(
    ("name", "content", "line", "text"),
    [
        ("a.toml", b"a = 1\nb = \xff\n", 2, "The byte 0xff is not UTF-8."),
        ("a.toml", b"a = 1\n\n# \xe9\n", 3, "The byte 0xe9 is not UTF-8."),
        ("a.json", b"{\n/* {}", 2, "This comment has no end."),
        ("a.json", b'// caf\xe9\n{"a": "\xe9"}', 1, "The byte 0xe9 is not UTF-8."),
        ("a.toml", b"a = 1\n# \x00\n", 2, "The file has a NUL byte."),
        ("a.toml", "a = 1\n".encode("utf-16"), 1, "The file has a NUL byte."),
        ("a.toml", b"a = 1\nb == 2\n", 2, "This is not TOML: Invalid value."),
        ("a.toml", b"a = 1\r\nb == 2\r\n", 2, "This is not TOML: Invalid value."),
        ("a.toml", b'["a.com"]\n["b.com"]\n["a.com"]\n', 3, 'The table ["a.com"] is in the file twice.'),
        ("a.toml", b"[a.b]\n[a]\nb.c = 1\n", 3, "The table [a.b] is in the file twice."),
        ("a.toml", b"[a]\n[b]\n[a\nc = 1\n", 3, "The name of this table has no end."),
        ("a.toml", b"a = 1\na = 2\n", 2, "This key or table is in the file twice."),
        ("a.toml", b'["\\u001b"]\n["\\u001b"]\n', 2, 'The table ["\\u001b"] is in the file twice.'),
        ("a.json", b'{"a": 1,\n "b" 2}', 2, "This is not JSON: Expecting ':' delimiter."),
        ("a.json", b'{"a": 1}\n\n}', 3, "This is not JSON: Extra data."),
        ("a.json", b"", 1, "This is not JSON: Expecting value."),
        ("a.json", b'{"a', 1, "This is not JSON: Unterminated string starting."),
        ("a.json", b'{"a": "\n"}', 1, "This is not JSON: Invalid control character."),
        ("a.json", b"[1]", 1, "a list is not a table."),
        ("a.json", b'\n{"a":\n' + b"[" * DEEP, 3, "tables or lists are nested more than 64 levels deep."),
        ("a.json", b"\n" + b'{"a":' * DEEP, 2, "tables or lists are nested more than 64 levels deep."),
        ("a.json", b'{"a":\n' + b"[" * 99 + b"]" * 99 + b"}", 2, "tables or lists are nested more than 64 levels deep."),
        ("a.toml", b"b = 1\na = " + b"[" * DEEP, 2, "tables or lists are nested more than 64 levels deep."),
        ("a.toml", b"b = 1\na = " + b"{a=" * DEEP, 2, "tables or lists are nested more than 64 levels deep."),
        ("a.toml", b"b = 1\n" + b"a." * DEEP + b"a = 1", 2, "tables or lists are nested more than 64 levels deep."),
        ("a.toml", b"b = 1\n[" + b"a." * 99 + b"a]", 2, "tables or lists are nested more than 64 levels deep."),
        ("a.toml", b"b = 1\na = " + b"9" * 5000, 2, "A number here has thousands of digits."),
        ("a.json", b'{"a": 1,\n"b": ' + b"9" * 5000 + b"}", 2, "A number here has thousands of digits."),
    ],
    ids=lambda value: value[:40] if isinstance(value, (str, bytes)) else str(value),
)
def test_bad_content(tmp_path: Path, name: str, content: bytes, line: int, text: str) -> None:
    """What is wrong with a file's content is found with its line."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        read_document(path, name)
    assert (caught.value.line, caught.value.text) == (line, text)


def test_unopenable(tmp_path: Path) -> None:
    """A file that is missing, or none, is refused at once and by name."""
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "fifo.toml")
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(files.SIZE_LIMIT + 1)
    for name, text in {
        "missing.toml": 'The file "missing.toml" does not exist.',
        "folder.toml": 'The file "folder.toml" is a directory.',
        "fifo.toml": 'The file "fifo.toml" is not a regular file.',
        "huge.toml": 'The file "huge.toml" has 1.0 GiB.',
        "missing.toml/a.toml": 'The file "missing.toml/a.toml" does not exist.',
        "huge.toml/a.toml": 'The file "huge.toml/a.toml" cannot be read: Not a directory.',
        "\0.toml": 'The file "\\u0000.toml" cannot be read: embedded null byte.',
        "x" * 300: f'The file "{"x" * 60}..." cannot be read: File name too long.',
    }.items():
        with pytest.raises(UnreadableError) as caught:
            read_document(tmp_path / name, name)
        assert (caught.value.line, caught.value.text) == (None, text)


def test_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this user may not read says so."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableError, match="has no permission to read"):
        read_document(tmp_path / "a.toml", "a.toml")


@given(
    st.binary(max_size=200) | st.text(alphabet="[]{}\".,='\\\n# a1", max_size=60).map(str.encode),
    st.sampled_from(["toml", "json"]),
)
def test_anything(tmp_path_factory: pytest.TempPathFactory, content: bytes, form: str) -> None:
    """Whatever stands in a file, it is a document with places or one UnreadableError with a line."""
    path = tmp_path_factory.getbasetemp() / f"any.{form}"
    path.write_bytes(content)
    line = None
    try:
        document = read_document(path, path.name)
    except UnreadableError as error:
        line = error.line
    else:
        assert document.values.keys() == document.place.inner.keys()
        line = 1
    assert line in range(1, content.count(b"\n") + content.count(b"\r") + 2)
