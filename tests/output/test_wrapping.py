"""Lines and columns for a width: words stay whole."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sidecar.output.terminal import TextTable, plain
from sidecar.output.wrapping import fit_columns, wrap_line

LONG = "a-very-long-subdomain-label-of-a-customer.bounces.mail.marketing-department.example.com"
IDN = "bücher-und-zeitschriften.例え.テスト.example"


@pytest.mark.parametrize(
    ("text", "options", "lines"),
    [
        ("two words", {}, ["two words"]),
        ("two more words here", {}, ["two more", "words here"]),
        ("two more words here", {"indent": 2}, ["two more", "  words", "  here"]),
        ("  two more words", {"indent": 4}, ["  two more", "    words"]),
        ("words here", {"start": 5, "indent": 2}, ["words", "  here"]),
        ("words here", {"start": 7, "indent": 2}, ["", "  words", "  here"]),
        ("mail.example.com is", {}, ["mail.", "example.", "com is"]),
        ("name@mail.example", {}, ["name@mail.", "example"]),
        ("/etc/sidecar/a.toml:3", {}, ["/etc/", "sidecar/a.", "toml:3"]),
        ("x abcdefghijklmn", {"indent": 1}, ["x", " abcdefghi", " jklmn"]),
        ("例え.テスト.a", {}, ["例え.", "テスト.a"]),
        ("", {}, [""]),
    ],
)
def test_wrap_line(text: str, options: dict[str, int], lines: list[str]) -> None:
    """Ten columns: a line ends between words, else behind a part of a name, and inside a part only if that is wider."""
    assert wrap_line(text, 10, **options) == lines


@given(st.text(st.sampled_from("ab. @例")), st.integers(6, 40), st.integers(0, 3), st.integers(0, 50))
def test_nothing_is_lost(text: str, width: int, indent: int, start: int) -> None:
    """No line is too wide, and the lines together have all characters except spaces."""
    first, *others = wrap_line(text, width, indent=indent, start=start)
    assert "".join((first, *others)).replace(" ", "") == text.replace(" ", "")
    assert not first.strip() or start + cell_len(first) <= width
    assert all(cell_len(line) <= width for line in others)


@pytest.mark.parametrize(
    ("columns", "width", "widths"),
    [
        ([["short"], ["two words"]], 40, [5, 9]),
        ([["short"], ["some words more"]], 15, [5, 10]),
        ([["rejected at the end"], ["a.example.com"]], 21, [8, 13]),
        ([["1,234,567"], ["mail.example.com"]], 18, [9, 9]),
        ([["1,234,567"], ["abcdefghijklmnopqrstuvwxyz"]], 19, [9, 10]),
        ([["a" * 9], ["b" * 9], ["c" * 9]], 2, [1, 1, 1]),
    ],
)
def test_fit_columns(columns: list[list[str]], width: int, widths: list[int]) -> None:
    """A column of short texts keeps its width; the widest columns are narrower."""
    assert fit_columns(columns, width) == widths


@given(st.lists(st.lists(st.text(st.sampled_from("ab. ")), min_size=1, max_size=3), min_size=1, max_size=5), st.integers(5, 60))
def test_columns_use_the_width(columns: list[list[str]], width: int) -> None:
    """All columns together never have more than the width, and no column has less than its texts if there is room."""
    widths = fit_columns(columns, width)
    natural = [max(map(cell_len, texts)) for texts in columns]
    assert sum(widths) == min(width, sum(natural))
    assert all(have <= want for have, want in zip(widths, natural, strict=True))


def shown(table: TextTable, width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    screen.print(table)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def test_a_table_breaks_no_word_at_80_columns() -> None:
    """Long domain names, IDNs and reasons: a line of a cell ends with a word, or with a label of a name."""
    reason = f'no relay_to for {LONG} (listener_domains.toml:3 "{IDN}".log_oob), and the sender is not permitted'
    table = TextTable("domain", "reason", "messages#", "rejected#")
    for domain in (LONG, IDN, "x.example"):
        table.add_row(plain(domain), plain(reason), "1,234,567", "89")
    lines = shown(table, 80)
    assert max(map(cell_len, lines)) <= 80
    assert re.split(r"\s{2,}", lines[0]) == ["domain", "reason", "messages", "rejected"]
    labels = set(re.split(r"[ .@/:]+", f"{LONG} {IDN} {reason} x.example 1,234,567 89"))
    # `a-very-...` is wider than its column.
    pieces = {piece for line in lines[1:] for piece in re.split(r"[ .@/:]+", line) if piece} - labels
    assert all(piece in LONG or piece.strip('"') in LONG for piece in pieces)


def test_a_table_with_room() -> None:
    """With room each row is one line, numbers are at the right, and no line ends with a blank."""
    table = TextTable("count#", "name", headed=False)
    table.add_row("7", plain("\x1b[2J"))
    table.add_row("12", "others")
    table.add_row("12", "")
    assert shown(table, 80) == [" 7  \\u001b[2J", "12  others", "12"]
