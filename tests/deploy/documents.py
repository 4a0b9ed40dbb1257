"""The documents: README.md, deploy/docs and the guides beside it, parsed as Markdown.

Owns their list, and finding headings, tables, links and fenced blocks in them. Never judges them.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec import Struct

from tests import ROOT

FOLDER = ROOT / "deploy/docs"
_MARKDOWN = MarkdownIt("commonmark").enable("table")


class Fence(Struct, frozen=True, kw_only=True):
    """A fenced block: its language, the words behind that, its text, and its first line in the document."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int
    section: str


class Link(Struct, frozen=True, kw_only=True):
    """A link and where it leads, as written."""

    text: str
    target: str


class Table(Struct, frozen=True, kw_only=True):
    """A table below a heading: the cells of each row as Markdown."""

    section: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Document:
    """One document, by its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()

    @cached_property
    def tokens(self) -> Sequence[Token]:
        """All tokens of markdown-it."""
        return _MARKDOWN.parse(self.text)

    @cached_property
    def headings(self) -> tuple[str, ...]:
        """The headings, in order."""
        return tuple(after.content for token, after in pairwise(self.tokens) if token.type == "heading_open")

    @property
    def anchors(self) -> set[str]:
        """What a link can name after `#`, in GitHub's spelling."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in self.headings}

    def fences(self) -> Iterator[Fence]:
        """Return each fenced block."""
        for section, token in self._sections():
            if token.type in {"fence", "code_block"}:
                language, *words = token.info.split() or [""]
                assert token.map is not None
                yield Fence(language=language, words=tuple(words), text=token.content, line=token.map[0] + 1, section=section)

    def codes(self) -> Iterator[str]:
        """Return each piece of code inside text."""
        for token in self.tokens:
            yield from (child.content for child in token.children or () if child.type == "code_inline")

    def links(self) -> Iterator[Link]:
        """Return each link."""
        for token in self.tokens:
            for index, child in enumerate(token.children or ()):
                if child.type == "link_open":
                    assert token.children is not None
                    yield Link(text=token.children[index + 1].content, target=str(child.attrs["href"]))

    def tables(self) -> Iterator[Table]:
        """Return each table."""
        rows: list[list[str]] = []
        for section, token in self._sections():
            if token.type == "table_open":
                rows = []
            elif token.type == "tr_open":
                rows.append([])
            elif token.type == "inline" and token.level >= _CELL_LEVEL and rows:
                rows[-1].append(token.content)
            elif token.type == "table_close":
                yield Table(section=section, head=tuple(rows[0]), rows=tuple(map(tuple, rows[1:])))
                rows = []

    def _sections(self) -> Iterator[tuple[str, Token]]:
        """Return each token with the last heading above it."""
        section, is_heading = "", False
        for token in self.tokens:
            if is_heading:
                section = token.content
            is_heading = token.type == "heading_open"
            yield section, token


_CELL_LEVEL = 4
"""The nesting of a cell's text: table, head or body, row, cell."""


RUNNERS = {
    "source": "in a clone of the repository: its targets of make are checked",
    "install": "the installation, in the Debian of the packages' tests",
    "machine": "in that Debian, in order, with the files that the document shows",
    "pipx": "in that Debian, without the package: see test_pipx in tests/packages/installed.py",
    "postfix-settings": "in that Debian: postconf must know the names, and Postfix must start with the values",
    "upgrade": "in that Debian, from a package with a lower version",
    "rollback": "in that Debian, back to that package",
    "kumomta": "beside a stand-in for a node, by tests/kumomta/test_guide.py",
    "fleet": "with a real NATS server and two nodes, by tests/fleet/policy/test_guide.py",
    "personal-data": "on a real journal and list, by tests/deploy/test_personal_data.py",
    "sendmail": "on Debian's sendmail.mc in a folder of its own, by tests/deploy/test_sendmail_recipe.py",
    "maddy": "beside a real maddy, with stand-ins for systemd's commands, by tests/interop/maddy_scenarios.py",
    "docker": "compose.yaml is checked, and the commands inside the containers are run with the settings of deploy/docker",
}
"""What follows `sh` in a fenced block of commands, and where a test runs it.

A `console` block has a command behind `$` and its output, and is run in a folder with the files that the document shows. A
block with the name of a file behind its language is that file, or with `append` the end of it.
"""

LANGUAGES = {"sh", "console", "toml", "json", "lua", "text"}


def documents() -> list[Document]:
    """Return README.md, those of the folders of deploy, and all documents of deploy/docs."""
    guides = [path for path in sorted(ROOT.glob("deploy/*/README.md")) if path.parent != FOLDER]
    return [Document(path) for path in (ROOT / "README.md", *guides, *sorted(FOLDER.glob("*.md")))]
