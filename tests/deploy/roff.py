"""Text and Markdown as roff, for the man pages (man(7)).

Owns the escapes, and which requests stand for headings, paragraphs, lists, tables and code. Never knows what a page says.
"""

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap

from markdown_it.token import Token

_FONTS = {"strong_open": r"\fB", "strong_close": r"\fR", "em_open": r"\fI", "em_close": r"\fR"}
_WIDTH = 76


def escape(text: str) -> str:
    r"""Escape text for roff, with hyphens and quotes that can be copied."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    text = text.replace("^", r"\(ha").replace("~", r"\(ti").replace('"', r"\(dq")
    return re.sub(r"^\.", r"\\&.", text)


def folded(text: str) -> Iterator[str]:
    """Return plain text in short lines."""
    yield from map(escape, wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False))


def from_markdown(tokens: Sequence[Token]) -> Iterator[str]:
    """Return the lines of a document without its title: paragraphs, headings, lists, code, and tables as tagged lists."""
    page = _Page()
    for token in tokens:
        yield from page.lines(token)


class _Page:
    """What the tokens before this one have opened."""

    def __init__(self) -> None:
        self._tag = ""
        self._head: list[str] = []
        self._cells: list[str] = []

    def lines(self, token: Token) -> Iterator[str]:
        """Return the lines of one token."""
        match token.type:
            case "list_item_open":
                yield r".IP \(bu 2"
            case "fence":
                yield from (".RS 4", ".nf", *map(escape, token.content.splitlines()), ".fi", ".RE")
            case "inline":
                yield from self._text(token)
            case "tr_close" if self._tag == "th":
                self._head, self._cells = self._cells, []
            case "tr_close":
                yield from _row(self._head, self._cells)
                self._cells = []
            case kind:
                assert kind in _SILENT, kind
                self._tag = token.tag if kind.endswith("_open") else self._tag
                if kind == "paragraph_open" and token.level == 0:
                    yield ".PP"

    def _text(self, token: Token) -> Iterator[str]:
        match self._tag:
            case "th" | "td":
                self._cells.append(_inline(token))
            case "h1":
                pass  # the name of the page
            case "h2":
                yield f".SH {escape(token.content.upper())}"
            case _:
                yield from _wrapped(_inline(token))


_SILENT = {
    f"{name}_{end}"
    for name in ("heading", "paragraph", "bullet_list", "list_item", "table", "thead", "tbody", "tr", "th", "td")
    for end in ("open", "close")
}


def _row(head: Sequence[str], cells: Sequence[str]) -> Iterator[str]:
    """Return a row as a tagged paragraph: name, description, and what stands in the columns between."""
    name, *between, text = cells
    yield from (".TP", name)
    yield from _wrapped(text)
    if between:
        yield ".br"
        yield from _wrapped(" ".join(f"{key.capitalize()}: {value}." for key, value in zip(head[1:], between, strict=False)))


def _wrapped(text: str) -> Iterator[str]:
    for line in wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield re.sub(r"^([.'])", r"\\&\1", line)


def _inline(token: Token) -> str:
    """Return text with its fonts; code is bold, as the names of man pages are."""
    parts = []
    for child in token.children or ():
        if child.type == "code_inline":
            parts.append(rf"\fB{escape(child.content)}\fR")
        elif child.type == "text":
            parts.append(escape(child.content))
        elif child.type == "softbreak":
            parts.append(" ")
        else:
            parts.append(_FONTS.get(child.type, ""))
    return "".join(parts)
